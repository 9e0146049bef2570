"""Noise in two subspaces of a small oblique basis, and exact denoisers on it, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genodiff.core.bases import PCA
from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.knots import KnotSchedule, NoiseSchedule, karras_schedule
from genodiff.core.subspaces import SubspaceDiffusion
from tests.core.helpers import DOUBLE, generator, orthogonal

LOWEST, HIGHEST = 1e-4, 25.0


def knots(
    subspaces: int = 2, *, seed: int = 3, spread: float = 0.7, horizon: float = 2.0, count: int = 8
) -> KnotSchedule:
    """Karras schedules moved apart at random."""
    schedule = karras_schedule(subspaces, knots=count, horizon=horizon, lowest=LOWEST, highest=HIGHEST)
    with torch.no_grad():
        schedule.offset += spread * torch.randn(schedule.offset.shape, generator=generator(seed), dtype=DOUBLE)
    return schedule


def split_process(dim: int = 2, *, schedule: NoiseSchedule | None = None) -> SubspaceDiffusion:
    """The first half of the modes in subspace 0, the others in subspace 1."""
    subspace = (torch.arange(dim) >= dim / 2).long()
    return SubspaceDiffusion(PCA(orthogonal(dim, seed=2)), subspace, knots() if schedule is None else schedule)


def exact(
    process: SubspaceDiffusion, *, components: int = 2, variance: Tensor | float = 0.3
) -> GaussianMixtureDenoiser:
    """The posterior mean of a mixture a few standard deviations wide; of one centred Gaussian with one component."""
    angle = torch.arange(components, dtype=DOUBLE) * 2 * math.pi / components + 0.4
    means = torch.zeros(components, process.dim, dtype=DOUBLE)
    if components > 1:
        means[:, 0], means[:, 1] = 1.2 * angle.cos(), 1.2 * angle.sin()
    spectrum = torch.as_tensor(variance, dtype=DOUBLE).expand(process.dim)
    weights = torch.arange(1, components + 1, dtype=DOUBLE)
    return GaussianMixtureDenoiser(GaussianMixture(process, weights=weights, means=means, variance=spectrum))


def uniform_times(n: int, horizon: float = 2.0, *, seed: int = 9) -> Tensor:
    return horizon * (torch.arange(n, dtype=DOUBLE) + torch.rand(n, generator=generator(seed), dtype=DOUBLE)) / n
