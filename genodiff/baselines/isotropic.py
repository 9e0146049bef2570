"""Diffusions to judge the structured drift by: plain networks as published, and everything but the drift.

- :class:`IsotropicPaper` is the isotropic DDPM of Taheri 2026 (§7): dosages, M = −½ I, a plain network, a standard
  normal start, Euler–Maruyama backwards.
- :class:`GouPaper` is that paper's own recipe with the same network and budget: drift from the principal components
  (eq. 2–4), start around anchors (eq. 12), Euler–Maruyama backwards (eq. 11).
- :class:`IsotropicTuned` is this project's model with a = 1: same network, base, anchors, sampler and budget, so that
  the drift alone differs.

The plain networks know nothing of alleles: their dosages are real numbers that are rounded to 0, 1 or 2 at the end.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data_prep.errors import InputError
from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff.baselines import summary_of
from genodiff.baselines.people import sample_names
from genodiff.core.bases import Identity, shrunk_eigh
from genodiff.core.denoisers import GaussianMixture, NoiseDenoiser, terminal
from genodiff.core.losses import VectorProblem
from genodiff.core.networks import MLP
from genodiff.core.processes import LinearDiffusion, gou_rates
from genodiff.core.samplers import EulerMaruyama
from genodiff.core.schedules import LinearRate, uniform_grid
from genodiff.core.training import TrainingConfig
from genodiff.core.training import train as fit
from genodiff.genotypes.config import Preset, preset
from genodiff.genotypes.model import GenotypeModel, resolve_device
from genodiff.genotypes.units import haplotypes_from

__all__ = ["GouPaper", "IsotropicPaper", "IsotropicTuned"]

_LAST_TIME = 1e-3
"""Where Euler–Maruyama stops, as a share of the horizon: the score is not defined at 0."""

_SAMPLE_ROWS = 2048

_FEWEST_PEOPLE = 10
"""A tenth of the people, one at least, judges the training and is not learned from."""


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _dosages(table: VariantTable) -> Tensor:
    """Dosages (people, sites) as real numbers, missing calls at the mean of their site.

    Raises:
        InputError: too few people to learn from, no site, or a site without any call, which has no mean.
    """
    if table.n_samples < _FEWEST_PEOPLE:
        raise InputError(f"{table.n_samples} people are too few to learn from: give at least {_FEWEST_PEOPLE}")
    if table.n_variants < 1:
        raise InputError("the table has no sites: relax the filters")
    called = table.dosage()
    silent = np.flatnonzero((called < 0).all(axis=0))
    if len(silent):
        first = table.sites.iloc[silent[0]]
        raise InputError(
            f"{len(silent):,} of {table.n_variants:,} sites have no call at all (first: "
            f"{first['contig']}:{first['position']}): leave them out with --max-missing"
        )
    dosage = np.where(called < 0, np.nan, called).astype(np.float32)
    return torch.from_numpy(np.where(np.isnan(dosage), np.nanmean(dosage, axis=0), dosage).astype(np.float32))


def _scale(x: Tensor) -> Tensor:
    """Root mean variance of the coordinates, ()."""
    return x.var(0).mean().sqrt().clamp_min(1e-6)


@dataclass(frozen=True)
class Modes:
    """Centre, scale, modes and contraction rates of a drift.

    Attributes:
        mean: μ, (d,).
        scale: one number that makes the mean variance of a coordinate 1, as is usual before a diffusion: noise of
            variance 1 then means the same for every data set.
        q: orthonormal modes in columns, (d, d); the coordinates themselves if ``None``.
        rates: c ≤ 0 per mode, (d,).
    """

    mean: Tensor
    scale: Tensor
    q: Tensor | None
    rates: Tensor

    def analysis(self, x: Tensor) -> Tensor:
        """Modal coordinates (n, d)."""
        y = (x - self.mean) / self.scale
        return y if self.q is None else y @ self.q

    def synthesis(self, z: Tensor) -> Tensor:
        """The vectors with these modal coordinates, (n, d)."""
        return self.mean + self.scale * (z if self.q is None else z @ self.q.T)


@dataclass(frozen=True)
class _Plain:
    """What the two published recipes share: a plain network, its training, and Euler–Maruyama."""

    steps: int = field(default=2000, metadata={"help": "Training steps."})
    batch: int = field(default=64, metadata={"help": "People per training step."})
    width: int = field(default=512, metadata={"help": "Units per layer of the network."})
    depth: int = field(default=3, metadata={"help": "Residual layers of the network."})
    sampling_steps: int = field(default=200, metadata={"help": "Steps of Euler–Maruyama."})

    def __post_init__(self) -> None:
        _at_least(0, steps=self.steps, depth=self.depth)
        _at_least(1, batch=self.batch, width=self.width, sampling_steps=self.sampling_steps)

    def _modes(self, x: Tensor) -> Modes:
        raise NotImplementedError

    def _start(self, process: LinearDiffusion, z: Tensor, *, seed: int) -> GaussianMixture | None:
        """The law to start from, in modal coordinates; a standard normal if ``None``."""
        raise NotImplementedError

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """New people: unphased, without labels, which a plain network does not know.

        Args:
            train: people to learn from.
            n: people to draw.
            seed: of everything random.
            genetic_map: not used.
            device: auto, cpu, cuda or mps.
            progress: show a bar.

        Raises:
            InputError: fewer than 10 people, no site, or a site without any call.
            ValueError: fewer than 1 person asked for.
        """
        place = resolve_device(device)
        x = _dosages(train).to(place)
        drawn = self.draw(x, n, seed=seed, progress=progress)
        dosage = drawn.round().clamp(0, 2).to(torch.int8).cpu().numpy()
        samples = pd.DataFrame(index=sample_names(n))
        unphased = np.zeros(dosage.shape, dtype=bool)
        return VariantTable(haplotypes_from(dosage, ploidy=2), train.sites, samples, unphased, train.header)

    def draw(self, x: Tensor, n: int, *, seed: int, progress: bool = False) -> Tensor:
        """Learns from vectors (people, d) and draws n new ones, (n, d), on the device of ``x``."""
        if n < 1:
            raise ValueError(f"at least 1 person must be asked for, got {n}")
        modes = self._modes(x)
        z = modes.analysis(x)
        # White noise looks the same in every orthonormal basis: in modal coordinates the process is diagonal for good,
        # and the data are turned once instead of at every step.
        process = LinearDiffusion(
            Identity(z.shape[1]), mean=torch.zeros(z.shape[1]), rates=modes.rates.cpu(), horizon=1.0, clock=LinearRate()
        ).to(x.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = MLP(process.dim, width=self.width, depth=self.depth)
        denoiser = NoiseDenoiser(process, network).to(x.device)
        grid = uniform_grid(process.horizon, self.sampling_steps, last=_LAST_TIME * process.horizon)
        order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed)).to(x.device)
        held = max(1, len(z) // 10)
        problem = VectorProblem(denoiser, z[order[held:]], z[order[:held]], grid=grid, batch=self.batch, seed=seed)
        config = TrainingConfig(steps=self.steps, batch=self.batch, learning_rate=1e-3, patience=100)
        fit(denoiser, problem, config, seed=seed, progress=progress)
        denoiser.eval()
        generator = torch.Generator(x.device).manual_seed(seed)
        start = self._start(process, z, seed=seed)
        parts = []
        for at in range(0, n, _SAMPLE_ROWS):
            rows = min(_SAMPLE_ROWS, n - at)
            if start is None:
                first = torch.randn(rows, process.dim, generator=generator, device=x.device)
            else:
                first, _ = start.sample(rows, generator=generator)
            parts.append(EulerMaruyama(denoiser).sample(first, grid, generator=generator))
        return modes.synthesis(torch.cat(parts))


@dataclass(frozen=True)
class IsotropicPaper(_Plain):
    """The isotropic DDPM as Taheri 2026 describes it: standard normal start, plain network."""

    name: ClassVar[str] = "isotropic-paper"
    summary: ClassVar[str] = summary_of(name)

    def _modes(self, x: Tensor) -> Modes:
        return Modes(x.mean(0), _scale(x), None, torch.full_like(x[0], -0.5))

    def _start(self, process: LinearDiffusion, z: Tensor, *, seed: int) -> None:
        return None


@dataclass(frozen=True)
class GouPaper(_Plain):
    """GOU by the paper's own recipe: structured drift and anchors, otherwise as :class:`IsotropicPaper`.

    The clock is the one of the isotropic process, so that modes without variance see the same noise. The paper leaves
    a, the number of anchors and the spread around them open; the spread is the one with the right second moment.
    """

    name: ClassVar[str] = "gou-paper"
    summary: ClassVar[str] = summary_of(name)

    a: float = field(default=0.2, metadata={"help": "Contraction of the leading mode, 0 < a ≤ 1; 1 is isotropic."})
    anchors: int = field(default=16, metadata={"help": "Number of k-means anchors."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.a <= 1:
            raise ValueError(f"a must lie in (0, 1], got {self.a}")
        _at_least(1, anchors=self.anchors)

    def _modes(self, x: Tensor) -> Modes:
        mean = x.mean(0)
        variance, q = shrunk_eigh((x - mean).cpu())
        return Modes(mean, _scale(x), q.to(x), gou_rates(variance.float(), a=self.a).to(x))

    def _start(self, process: LinearDiffusion, z: Tensor, *, seed: int) -> GaussianMixture:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        rows = z.cpu().numpy()
        distinct = len(np.unique(rows, axis=0))
        with warnings.catch_warnings():
            # Equal people may differ by rounding here: k-means then finds fewer clusters than it is asked for.
            warnings.simplefilter("ignore", ConvergenceWarning)
            clusters = KMeans(min(self.anchors, distinct), n_init=4, random_state=seed).fit(rows)
        # An anchor that is nobody's has no weight, which a mixture does not allow.
        occupied, labels = np.unique(clusters.labels_, return_inverse=True)
        points = torch.from_numpy(clusters.cluster_centers_[occupied]).to(z)
        member = torch.from_numpy(labels.astype(np.int64)).to(z.device)
        within = (z - points[member]).square().mean(0)
        weights = torch.bincount(member, minlength=len(points)) / len(z)
        return terminal(process, weights=weights, anchors=points, spectrum=within)


@dataclass(frozen=True)
class IsotropicTuned:
    """This project's model with the isotropic drift M = −½ I and all else equal."""

    name: ClassVar[str] = "isotropic-tuned"
    summary: ClassVar[str] = summary_of(name)

    preset: Preset = field(default="balanced", metadata={"help": "Length of training, as for fit."})
    steps: int | None = field(default=None, metadata={"help": "Training steps, instead of the preset's."})

    def __post_init__(self) -> None:
        preset(self.preset)  # raises for a name that is not known, before any data is read
        if self.steps is not None and self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """New people, phased and labelled as the model's are; the map is not used."""
        config = replace(preset(self.preset), a=1.0).with_steps(self.steps)
        model = GenotypeModel(config).fit(train, seed=seed, device=device, progress=progress)
        made = model.sample(n, seed=seed, progress=progress)
        return replace(made, samples=made.samples.set_axis(sample_names(n), axis=0))
