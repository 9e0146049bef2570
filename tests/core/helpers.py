"""Small processes and mixtures in float64, and the dense matrices they stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from genodiff.core.bases import PCA
from genodiff.core.denoisers import GaussianMixture
from genodiff.core.processes import LinearDiffusion, gou

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=DOUBLE)


def orthogonal(dim: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(dim, dim, seed=seed))[0]


def small_gou(
    dim: int = 3, *, a: float = 0.2, b: float = 0.7, beta: float = 1.3, horizon: float = 2.0, seed: int = 0
) -> LinearDiffusion:
    """A geometry-aware process with an oblique basis, a centre off the origin and a falling spectrum."""
    spectrum = torch.linspace(3.0, 0.2, dim, dtype=DOUBLE)
    mean = normal(dim, seed=seed + 1)
    return gou(PCA(orthogonal(dim, seed)), mean=mean, spectrum=spectrum, a=a, b=b, beta=beta, horizon=horizon)


def mixture(process: LinearDiffusion, components: int = 2, *, seed: int = 5) -> GaussianMixture:
    """Components a few standard deviations apart, unequal weights, a shared oblique covariance."""
    return GaussianMixture(
        process,
        weights=torch.arange(1, components + 1, dtype=DOUBLE),
        means=2 * normal(components, process.dim, seed=seed),
        variance=torch.linspace(0.8, 0.1, process.dim, dtype=DOUBLE),
    )


def drift_matrix(process: LinearDiffusion) -> Tensor:
    """M = Q diag(c) Qᵀ."""
    q = process.basis.matrix()
    return (q * process.rates) @ q.T


def dense(process: LinearDiffusion, modal: Tensor) -> Tensor:
    """Q diag(v) Qᵀ."""
    q = process.basis.matrix()
    return (q * modal) @ q.T


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=DOUBLE)
