r"""A masked (absorbing-state) discrete diffusion on the same network, beside the Gaussian one.

    python benchmarks/masked.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv \
        --region chr22:50200000-50450000 -o runs/masked

Forward, every allele of a haplotype is hidden with probability u, independently. The loss is that of MDLM (Sahoo et al.
2024) for the linear schedule, E_u[Σ_hidden cross-entropy / u] / sites with u uniform: a bound on −log p per allele.
Anchors, backgrounds, network, its features and its starting weights are those of :class:`GenotypeModel`: a revealed
allele is evidence without doubt, a hidden one is none, and the network's clock is the log odds of the hidden share in
the place of log noise. A sample reveals sites in random order, so many in every step that their hidden share falls by
a cosine.

Of the people whose row of the panel says ``train`` in the column ``split`` a quarter is set aside to judge by. Writes
``metrics.csv`` (every metric of every row, with its floor), ``levels.csv`` (held-out cross-entropy by hidden share) and
``masked.md``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import click
import numpy as np
import pandas as pd
import torch
from fidelity import li_stephens, people_of
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from genodiff.core.bases import Basis, BlockPCA
from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser, GaussianPosterior
from genodiff.core.losses import allele_cross_entropies
from genodiff.core.processes import Diffusion
from genodiff.evaluation.suite import evaluate_full
from genodiff.genotypes.backgrounds import Membership
from genodiff.genotypes.config import ModelConfig, preset
from genodiff.genotypes.denoiser import AlleleDenoiser, log_odds
from genodiff.genotypes.engine import AlleleProblem, CalibratedDenoiser, Engine, Rows, autocast
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.units import units_of
from genodiff.reproduce.page import markdown_table, number

_REVEALED = 30.0
"""Log odds of an allele that is seen."""

_LEAST = 0.01
"""Smallest hidden share that is trained on; the loss weighs its alleles by the inverse."""

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
SHOWN = {
    "af_mae": "AF MAE", "ld_decay_mae": "LD-decay MAE", "near_pair_r2_ratio": "near-pair ratio", "three_point_r":
    "three-point r", "aa_truth": "AA real", "aa_syn": "AA syn.", "c2st_auc": "C2ST", "f_is": "F_IS", "recall": "recall",
    "pca_w2": "PCA-W2", "privacy_loss": "privacy loss", "membership_auc": "membership AUC", "copied_run_mean":
    "copied run (sites)", "fit_s": "fit (s)", "sample_s": "sample (s)",
}  # fmt: skip

Base = Literal["anchors", "gaussian"]


class Masking(Diffusion):
    """A clock for hidden shares u: the odds u / (1 − u) stand where a diffusion has its noise-to-signal ratio."""

    def __init__(self, basis: Basis) -> None:
        super().__init__()
        self.basis = basis

    def noise_ratio(self, t: Tensor, *, rate: float) -> Tensor:
        """Odds of being hidden, shape of t; u = 1 counts as one site seen in two thousand."""
        u = t.clamp(5e-4, 1 - 5e-4)
        return u / (1 - u)


class RevealedBase(GaussianMixtureDenoiser):
    """What the anchor, and by choice the revealed alleles of an LD block, say of every site.

    In the words of :class:`GaussianPosterior`: a site's own evidence is h = ± 30 where it is revealed and 0 where it is
    not, with P = 0, and the cavity is what the others say. States are −1 and 1 where revealed, 0 where hidden.

    Args:
        prior: the anchors' mixture.
        kind: ``"anchors"`` for their frequencies, ``"gaussian"`` for the Gaussian within them given what is revealed.
        doubt: variance at which a revealed allele is known to the Gaussian.
    """

    def __init__(self, prior: GaussianMixture, *, kind: Base, doubt: float) -> None:
        super().__init__(prior)
        self.kind, self.doubt = kind, doubt
        self.process = Masking(prior.process.basis)

    def posterior(self, x_t: Tensor, t: Tensor, *, component: Tensor | None = None) -> GaussianPosterior:
        """Evidence and cavity of every site, where the anchor is known."""
        if component is None:
            raise ValueError("hidden alleles do not tell the anchor")
        mean = self.prior.means[component]
        others = mean if self.kind == "anchors" else self._given(x_t, mean)
        h = _REVEALED * x_t
        nothing = torch.zeros_like(h[:1])
        responsibility = F.one_hot(component, self.prior.n_components).to(h.dtype)
        return GaussianPosterior(others + h, h, nothing + 1, nothing, responsibility)

    def _given(self, x_t: Tensor, mean: Tensor) -> Tensor:
        """μ + S_R (S_RR + doubt)⁻¹ (x_R − μ_R) in every LD block, (B, d)."""
        found, basis = mean.clone(), self.process.basis
        assert isinstance(basis, BlockPCA)
        for q, (lo, hi) in zip(basis.blocks(), itertools.pairwise(basis.bounds), strict=True):
            s = (q * self.prior.modal_variance[lo:hi]) @ q.T
            seen = (x_t[:, lo:hi] != 0).float()
            away = ((x_t[:, lo:hi] + 1) / 2 - mean[:, lo:hi]) * seen
            # Rows in one order are solved at once.
            if bool((seen == seen[:1]).all()):
                at = seen[0].nonzero().squeeze(1)
                factor = torch.linalg.cholesky(s[at][:, at] + self.doubt * torch.eye(len(at)))
                found[:, lo:hi] += torch.cholesky_solve(away[:, at].T, factor).T @ s[at]
            else:
                a = s * seen.unsqueeze(1) * seen.unsqueeze(2) + torch.diag_embed(1 - seen + self.doubt * seen)
                found[:, lo:hi] += torch.cholesky_solve(away.unsqueeze(2), torch.linalg.cholesky(a)).squeeze(2) @ s
        return found


class MaskedDenoiser(AlleleDenoiser):
    """The denoiser of alleles, with states drawn independently given one path of backgrounds."""

    def states(self, logits: Tensor, t: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """States drawn site by site, (B, d)."""
        return torch.bernoulli(torch.sigmoid(logits.float()), generator=generator)


class _AsItIs(CalibratedDenoiser):
    """Log odds as the network gives them."""

    def _held(self, logits: Tensor, t: Tensor, component: Tensor) -> Tensor:
        return logits


class MaskedEngine(Engine):
    """The engine with hidden alleles in the place of noisy ones.

    Attributes:
        kind: base of the denoiser.
        together: draw the alleles of a step by one path of backgrounds per row.
        calibrated: hold the mean over a batch at that of its anchors; chance in what is revealed is then made up for by
            what is hidden.
        rows_alike: rows that share an order of sites.
    """

    together = True
    calibrated = False
    rows_alike = 128

    def __init__(self, *, kind: Base, **given: Any) -> None:
        self.kind = kind
        super().__init__(**given)

    def _denoiser(self, prior: GaussianMixture, *, first_site: int) -> AlleleDenoiser:
        return MaskedDenoiser(
            RevealedBase(prior, kind=self.kind, doubt=self.config.lowest_noise),
            self.network,
            ploidy=self.ploidy,
            backgrounds=list(self.backgrounds),  # type: ignore[arg-type]
            first_site=first_site,
        )

    def grid(self, steps: int | None = None) -> Tensor:
        """Hidden shares that training covers evenly, (steps + 1,)."""
        return torch.linspace(1, _LEAST, (steps or self.config.sampling_steps) + 1, dtype=torch.float64)

    @torch.no_grad()
    def sample(
        self,
        component: Tensor,
        conditions: tuple[Tensor, ...],
        *,
        generator: torch.Generator,
        steps: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """New states, int8 (n, d), for rows with given anchors and conditions."""
        sites, orders = self.process.dim, -(-len(component) // self.rows_alike)
        rank = torch.stack([torch.randperm(sites, generator=generator) for _ in range(orders)])
        rank = rank.repeat_interleave(self.rows_alike, 0)[: len(component)]
        x = torch.zeros(len(component), sites)
        shares = np.cos(np.pi / 2 * np.linspace(0, 1, (steps or self.config.sampling_steps) + 1)).round(12)
        denoiser = (CalibratedDenoiser if self.calibrated else _AsItIs)(self.denoiser, means=self.prior.means)
        given: dict[str, Any] = {"component": component, "conditions": conditions}
        with autocast(self.device, self.config.precision):
            for k, (u, v) in enumerate(itertools.pairwise(shares)):
                t = torch.tensor(u, dtype=x.dtype)
                if self.together:
                    drawn = denoiser.draw(x, t, generator=generator, **given)
                else:
                    drawn = self.denoiser.states(denoiser.logits(x, t, **given), t, generator=generator)
                now = (rank >= round(v * sites)) & (x == 0)
                x = torch.where(now, 2 * drawn - 1, x)
                if progress is not None:
                    progress(k)
        return (x > 0).to(torch.int8)


class MaskedProblem(AlleleProblem):
    """Cross-entropy of hidden alleles over their share, per allele: a bound on −log p, in nats per allele."""

    def _loss(
        self, rows: Rows, index: Tensor, t: Tensor, part: slice, run: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        _, denoiser, sites = self.engine.run_of(*run)
        # Drawn for the whole batch, as noise is.
        u = t.float().unsqueeze(1)
        hidden = (torch.rand(len(index), sites.stop - sites.start, generator=generator) < u)[part]
        index, u = index[part], u[part]
        states, component = rows.states_of(index, sites), rows.component[index]
        known = states >= 0
        x_0 = torch.where(known, states.float(), self.engine.prior.means[component][:, sites])
        x_t = torch.where(known & ~hidden, 2 * states.float() - 1, torch.zeros(()))
        with autocast(self.engine.device, self.engine.config.precision):
            conditions = tuple(c[index] for c in rows.conditions)
            leave_out = [Membership(x_0, m[index]) for m in rows.members] or None
            logits = denoiser.logits(x_t, u.squeeze(1), component=component, conditions=conditions, leave_out=leave_out)
        each = allele_cross_entropies(logits.float(), states) * (known & hidden) / u
        return each.sum() / known.sum()


class MaskedModel(GenotypeModel):
    """:class:`GenotypeModel` with another diffusion: anchors, backgrounds, ties, pairing and training loop are its own.

    ``kind`` is the base of the denoiser.
    """

    def __init__(self, config: ModelConfig, *, kind: Base) -> None:
        super().__init__(config)
        self.kind = kind

    def fit(self, *args: Any, **kwargs: Any) -> GenotypeModel:
        """Learns as :meth:`GenotypeModel.fit` does."""
        engine = partial(MaskedEngine, kind=self.kind)
        with mock.patch.multiple("genodiff.genotypes.model", Engine=engine, AlleleProblem=MaskedProblem):
            return super().fit(*args, **kwargs)

    def choose(self, **choices: Any) -> None:
        """Sets ``together`` and ``calibrated`` of the engine, and puts back what is not given."""
        for name, value in ({"together": True, "calibrated": False} | choices).items():
            setattr(self.engine, name, value)


ROWS: dict[str, tuple[int, dict[str, Any]]] = {
    "masked, 16 steps": (16, {}),
    "masked, 64 steps": (64, {}),
    "masked, 256 steps": (256, {}),
    "masked, 64 steps, site by site": (64, {"together": False}),
    "masked, 16 steps, calibrated": (16, {"calibrated": True}),
    "masked, 64 steps, calibrated": (64, {"calibrated": True}),
}
"""Ways to draw from the masked model: steps, and choices that are not the usual ones."""


@torch.no_grad()
def levels(model: MaskedModel, held_out: Tensor, learned: Tensor, position: NDArray[np.int64]) -> pd.DataFrame:
    """Cross-entropy of hidden alleles of held-out rows, nats per 1,000, by hidden share and by who says so."""
    denoiser = model.engine.denoiser
    component = torch.cdist(held_out, model.engine.prior.means).argmin(1)
    generator = torch.Generator().manual_seed(1)
    found = {}
    for u in tqdm(LEVELS, desc="levels"):
        hidden = torch.rand(held_out.shape, generator=generator) < u
        x_t, t = torch.where(hidden, torch.zeros(()), 2 * held_out - 1), torch.tensor(u)
        p = denoiser.base.posterior(x_t, t, component=component)
        seen, doubt = p.innovation, p.precision.expand_as(x_t)
        views = {"anchors": log_odds(model.engine.prior.means[component]), "base": log_odds(p.mean - seen)}
        for scale in denoiser.backgrounds:
            views[f"backgrounds_{scale.tile}"] = log_odds(scale(seen, doubt, anchor=component))
        views["model"] = denoiser.logits(x_t, t, component=component, conditions=(component,)).float()
        views["li_stephens"] = torch.logit(li_stephens(seen, doubt, learned, position), 1e-6)
        views["model_and_li_stephens"] = (views["model"] + views["li_stephens"]) / 2
        found[u] = {
            name: 1000 * float(F.binary_cross_entropy_with_logits(view[hidden], held_out[hidden]))
            for name, view in views.items()
        }
    return pd.DataFrame(found).T.rename_axis("hidden")


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--region", default="chr22:50200000-50450000", show_default=True)
@click.option("--base", "kind", type=click.Choice(["anchors", "gaussian"]), default="gaussian", show_default=True)
@click.option("--passes", default=12.0, show_default=True, help="Passes over the people.")
@click.option("--people", type=int, help="People to draw, if not as many as are learned from.")
@click.option("--seed", default=7, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    vcf: Path,
    *,
    panel: Path,
    output: Path,
    region: str,
    kind: Base,
    passes: float,
    people: int | None,
    seed: int,
    threads: int,
) -> None:
    """A masked discrete diffusion on the same network, beside the Gaussian one."""
    torch.set_num_threads(threads)
    train, holdout = people_of(vcf, panel, region, seed)
    config = replace(preset("balanced"), passes=passes)
    output.mkdir(parents=True, exist_ok=True)
    rows: dict[str, pd.Series] = {}

    def judge(name: str, model: GenotypeModel, fit_seconds: float, steps: int | None = None) -> None:
        began = time.perf_counter()
        drawn = model.sample(people, seed=seed, steps=steps, progress=True)
        cost = {"fit_s": fit_seconds, "sample_s": time.perf_counter() - began}
        frame = evaluate_full(drawn, train=train, holdout=holdout, seed=seed).frame.set_index("metric")
        rows["floor"] = frame["floor"]
        rows[name] = pd.concat([frame["value"], pd.Series(cost)])
        pd.DataFrame(rows).rename_axis("metric").to_csv(output / "metrics.csv", float_format="%.5g")
        click.echo(f"{name}: " + ", ".join(f"{k} {number(rows[name][m])}" for m, k in SHOWN.items()))

    gaussian, masked = GenotypeModel(config), MaskedModel(config, kind=kind)
    seconds = []
    for model in (gaussian, masked):
        began = time.perf_counter()
        model.fit(train, seed=seed, device="cpu", progress=True)
        seconds.append(time.perf_counter() - began)
    judge("Gaussian, 16 steps", gaussian, seconds[0])
    at = masked.meta.ties.drawn
    learned, held_out = (torch.from_numpy(units_of(t).states[:, at]).float() for t in (train, holdout))
    # Every eighth row, since the mosaic takes its time.
    entropy = levels(masked, held_out[::8], learned, train.sites["position"].to_numpy()[at])
    entropy.to_csv(output / "levels.csv", float_format="%.5g")
    bound = 1000 * masked.result.best_validation
    click.echo(f"{entropy.to_string(float_format=lambda v: f'{v:.4g}')}\nbound: {bound:.4g} nats per 1,000 alleles")
    for name, (steps, choices) in ROWS.items():
        masked.choose(**choices)
        judge(name, masked, seconds[1], steps)
    cells = [[name, *(number(float(row.get(m, np.nan))) for m in SHOWN)] for name, row in rows.items()]
    (output / "masked.md").write_text(markdown_table(["", *SHOWN.values()], cells) + "\n")


if __name__ == "__main__":
    main()
