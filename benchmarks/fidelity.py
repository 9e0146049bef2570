r"""Where synthetic haplotypes part from real ones: noise level by noise level, only people learned from.

    python benchmarks/fidelity.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv \
        --region chr22:50200000-50450000 -o runs/fidelity

Of the people whose row of the panel says ``train`` in the column ``split`` a quarter is set aside, the model is fitted
on the others, and four tables are written:

* ``levels``: cross-entropy of held-out alleles given their noisy haplotype, per noise-to-signal ratio ρ: the Gaussian
  base, every scale of backgrounds alone, the model, and, for comparison, the exact posterior of a Li–Stephens model
  whose states are all haplotypes learned from (64 rows, and the model on those).
* ``calibration``: expected over true number of minor alleles, by frequency, of the model on true noisy haplotypes.
* ``restart``: held-out haplotypes brought to ρ and sampled back from there. An exact model would leave every figure at
  that of real haplotypes; the first ρ at which it does not is where the model errs.
* ``metrics``: the usual ones, of the model drawn from the start.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from people import at_sites_of, sides
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from data_prep.filters import filter_table
from data_prep.readers import read_variants
from data_prep.splits import split_people
from data_prep.variants import VariantTable
from genodiff.core.processes import Diffusion
from genodiff.evaluation.distances import nearest
from genodiff.evaluation.suite import evaluate
from genodiff.genotypes.config import preset
from genodiff.genotypes.engine import SAMPLERS, CalibratedDenoiser, Engine, autocast
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.units import units_of

NOISE = (0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 16.0)
RESTARTS = (0.1, 0.2, 0.4, 1.6, 6.4, 16.0)
LAGS = (1, 5, 20)
FREQUENCIES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.51)
_ROWS = 128
_RATE = -0.5
_EFFECTIVE_SIZE = 15_000
_MISCOPY = 0.001


@dataclass(frozen=True)
class Study:
    """A fitted model, and the haplotypes it learned from and did not, at all sites, int8 (rows, sites)."""

    model: GenotypeModel
    learned: NDArray[np.int8]
    held_out: NDArray[np.int8]
    position: NDArray[np.int64]

    @property
    def engine(self) -> Engine:
        return self.model.engine

    def drawn(self, rows: NDArray[np.int8]) -> Tensor:
        """Rows at the sites the model draws, float."""
        return torch.from_numpy(rows[:, self.model.meta.ties.drawn]).float()

    def anchors(self, rows: Tensor) -> Tensor:
        """The nearest anchor of every row."""
        return torch.cdist(rows, self.engine.prior.means).argmin(1)


def noisy(process: Diffusion, x: Tensor, rho: float) -> tuple[Tensor, Tensor]:
    """Rows at the time at which the fastest mode has noise-to-signal ratio ρ, and that time."""
    t = process.time_of_noise(torch.tensor(rho, dtype=torch.float64), rate=_RATE)
    step = process.transition(torch.zeros(1), t.float().reshape(1))
    return step.sample(x, generator=torch.Generator().manual_seed(1))[0], t


def li_stephens(linear: Tensor, precision: Tensor, panel: Tensor, position: NDArray[np.int64]) -> Tensor:
    """Posterior mean of alleles (B, d) under a mosaic of the rows of ``panel`` (K, d), one cM per Mb."""
    k = len(panel)
    switch = -np.expm1(-np.diff(position) * 1e-8 * 4 * _EFFECTIVE_SIZE / k)
    odds = torch.exp((linear - 0.5 * precision).clamp(-30, 30))
    one, zero = (1 - _MISCOPY) * odds + _MISCOPY, 1 - _MISCOPY + _MISCOPY * odds
    largest = torch.maximum(one, zero)
    one_r, zero_r = one / largest, zero / largest
    ahead = torch.empty(panel.shape[1], len(linear), k)
    f = torch.full((len(linear), k), 1 / k)
    for j in range(panel.shape[1]):
        if j:
            f = (1 - switch[j - 1]) * f + switch[j - 1] / k
        f = f * torch.lerp(zero_r[:, j : j + 1], one_r[:, j : j + 1], panel[:, j])
        f = f / f.sum(1, keepdim=True)
        ahead[j] = f
    b, copied = torch.ones_like(f), torch.empty_like(linear)
    for j in range(panel.shape[1] - 1, -1, -1):
        joint = ahead[j] * b
        copied[:, j] = (joint @ panel[:, j]) / joint.sum(1)
        b = b * torch.lerp(zero_r[:, j : j + 1], one_r[:, j : j + 1], panel[:, j])
        b = b / b.sum(1, keepdim=True)
        if j:
            b = (1 - switch[j - 1]) * b + switch[j - 1] / k
    return copied * (1 - _MISCOPY) * odds / one + (1 - copied) * _MISCOPY * odds / zero


@torch.no_grad()
def levels(study: Study, *, mosaic_rows: int = 64) -> Iterator[tuple[pd.Series, pd.Series]]:
    """Per noise level: cross-entropies in nats per 1,000 alleles, and calibration by allele frequency."""
    engine = study.engine
    x_0 = study.drawn(study.held_out)
    component = study.anchors(x_0)
    panel = study.drawn(study.learned)
    position = study.position[study.model.meta.ties.drawn]
    common = panel.mean(0)
    flipped, maf = common > 0.5, torch.minimum(common, 1 - common)
    for rho in tqdm(NOISE, desc="levels"):
        x, t = noisy(engine.process, x_0, rho)
        views: dict[str, list[Tensor]] = {}
        for at in range(0, len(x), _ROWS):
            part = slice(at, at + _ROWS)
            given: dict[str, Any] = {"component": component[part], "conditions": (component[part],)}
            logits = engine.denoiser.logits(x[part], t.float(), **given)
            views.setdefault("model", []).append(logits.float())
            p = engine.denoiser.base.posterior(x[part], t.float(), component=component[part])
            h = p.innovation + p.precision * p.mean
            views.setdefault("base", []).append(torch.logit(p.mean.clamp(1e-3, 1 - 1e-3)))
            for scale in engine.denoiser.backgrounds:
                views.setdefault(f"backgrounds_{scale.tile}", []).append(
                    torch.logit(scale(h, p.precision).clamp(1e-5, 1 - 1e-5))
                )
            if at < mosaic_rows:
                few = slice(0, mosaic_rows)
                mosaic = li_stephens(h[few], p.precision.expand_as(h)[few], panel, position)
                views.setdefault("li_stephens", []).append(torch.logit(mosaic.clamp(1e-6, 1 - 1e-6)))
        found = {k: torch.cat(v) for k, v in views.items()}
        entropy = {
            k: 1000 * float(F.binary_cross_entropy_with_logits(v, x_0[: len(v)])) for k, v in sorted(found.items())
        }
        there = found["model"][: len(found["li_stephens"])]
        entropy["model_on_rows_of_li_stephens"] = 1000 * float(
            F.binary_cross_entropy_with_logits(there, x_0[: len(there)])
        )
        both = (there + found["li_stephens"]) / 2
        entropy["model_and_li_stephens"] = 1000 * float(F.binary_cross_entropy_with_logits(both, x_0[: len(both)]))
        expected = torch.sigmoid(found["model"])
        minor = [torch.where(flipped, 1 - v, v) for v in (expected, x_0)]
        ratio = {
            f"{lo:g}-{hi:g}": float(minor[0][:, chosen].sum() / minor[1][:, chosen].sum())
            for lo, hi in itertools.pairwise(FREQUENCIES)
            if bool((chosen := (maf >= lo) & (maf < hi)).any())
        }
        yield pd.Series(entropy, name=rho), pd.Series(ratio, name=rho)


def likeness(rows: NDArray[np.int8], study: Study) -> dict[str, float]:
    """How near rows lie to those learned from, and pairs of alleles at a lag that none of those has, per row."""
    learned = study.learned
    distance = nearest(rows, learned)
    out = {"nearest_mean": float(distance.mean()), "nearest_median": float(np.median(distance))}
    for lag in LAGS:
        known = 2 * learned[:, :-lag] + learned[:, lag:]
        seen = np.stack([(known == k).any(0) for k in range(4)])
        pairs = (2 * rows[:, :-lag] + rows[:, lag:]).astype(np.int64)
        out[f"new_pairs_{lag}"] = float((~np.take_along_axis(seen, pairs, 0)).sum(1).mean())
    return out


@torch.no_grad()
def restarts(study: Study) -> Iterator[dict[str, float]]:
    """Likeness of held-out haplotypes, and of what they become when sampled back from every noise level."""
    engine = study.engine
    yield {"rho": 0.0, **likeness(study.held_out, study)}
    x_0 = study.drawn(study.held_out)
    component = study.anchors(x_0)
    calibrated = CalibratedDenoiser(engine.denoiser, means=engine.prior.means)
    whole = engine.grid()
    for rho in tqdm(RESTARTS, desc="restart"):
        x, t = noisy(engine.process, x_0, rho)
        grid = torch.cat([t.reshape(1), whole[whole < t - 1e-9]])
        generator = torch.Generator().manual_seed(1)
        found = []
        with autocast(engine.device, engine.config.precision):
            for at in range(0, len(x), 4 * _ROWS):
                part = slice(at, at + 4 * _ROWS)
                given: dict[str, Any] = {"component": component[part], "conditions": (component[part],)}
                sampler = SAMPLERS[engine.config.sampler](calibrated)
                y = sampler.sample(x[part], grid, generator=generator, **given)
                found.append(calibrated.draw(y, grid[-1].to(y), generator=generator, **given).to(torch.int8))
        rows = study.model.meta.ties.expand(torch.cat(found).numpy(), ploidy=1, rng=np.random.default_rng(1))
        changed = float((rows != study.held_out).sum(1).mean())
        yield {"rho": rho, "steps": len(grid) - 1, "changed": changed, **likeness(rows, study)}


def people_of(vcf: Path, panel: Path, region: str, seed: int) -> tuple[VariantTable, VariantTable]:
    """Two parts of the people learned from: to fit on, and to judge by."""
    everybody, _ = read_variants(vcf, region=region, maf=0.004, max_missing=0.1, progress=False)
    table, _ = sides(everybody, panel)
    chosen, held = split_people(table, holdout=0.25, seed=seed)
    train, _ = filter_table(table.select(samples=chosen), maf=0.01, max_missing=0.1)
    return train, at_sites_of(table.select(samples=held), train)


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--region", default="chr22:50200000-50450000", show_default=True)
@click.option("--preset", "name", default="balanced", show_default=True)
@click.option("--width", type=int, help="Features per tile of the network, if not the preset's.")
@click.option("--passes", type=float, help="Passes over the people, if not the preset's.")
@click.option("--seed", default=7, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(
    vcf: Path,
    *,
    panel: Path,
    output: Path,
    region: str,
    name: str,
    width: int | None,
    passes: float | None,
    seed: int,
    threads: int,
) -> None:
    """Where synthetic haplotypes part from real ones."""
    torch.set_num_threads(threads)
    train, holdout = people_of(vcf, panel, region, seed)
    config = preset(name)
    config = replace(
        config,
        passes=passes or config.passes,
        network=replace(config.network, width=width or config.network.width),
    )
    model = GenotypeModel(config).fit(train, seed=seed, device="cpu", progress=True)
    learned, held_out = (units_of(table).states for table in (train, holdout))
    study = Study(model, learned, held_out, train.sites["position"].to_numpy())
    output.mkdir(parents=True, exist_ok=True)
    entropy, ratio = zip(*levels(study), strict=True)
    tables = {
        "levels": pd.DataFrame(entropy).rename_axis("rho"),
        "calibration": pd.DataFrame(ratio).rename_axis("rho"),
        "restart": pd.DataFrame(list(restarts(study))).set_index("rho"),
    }
    frame = evaluate(model.sample(seed=seed), train=train, holdout=holdout, seed=seed)
    tables["metrics"] = frame.set_index("metric")
    for kind, table in tables.items():
        table.to_csv(output / f"{kind}.csv", float_format="%.5g")
        click.echo(f"\n{kind}\n{table.to_string(float_format=lambda v: f'{v:.4g}')}")


if __name__ == "__main__":
    main()
