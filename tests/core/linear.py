"""Gaussian data under small flexible processes: exact scores, expectations and integrals over time, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genodiff.core.bases import PCA, Identity
from genodiff.core.denoisers import Denoiser
from genodiff.core.flexible import FlexibleDiffusion, dense_flexible, flexible, fp_noise
from genodiff.core.langevin import LangevinDiffusion
from tests.core.helpers import DOUBLE, generator, normal, orthogonal


def shaped(process: FlexibleDiffusion, *, spread: float = 0.5, seed: int = 7) -> FlexibleDiffusion:
    """The process with its parameters moved from 0 at random."""
    with torch.no_grad():
        for p in process.parameters():
            p += spread * torch.randn(p.shape, generator=generator(seed), dtype=p.dtype)
    return process


def processes() -> dict[str, FlexibleDiffusion]:
    """One of every kind, with a mean off the origin."""
    return {
        "noise": shaped(fp_noise(PCA(orthogonal(2)), mean=normal(2))),
        "blocks": shaped(flexible(PCA(orthogonal(4)), size=2, order=torch.tensor([0, 2, 3, 1]), mean=normal(4))),
        "dense": shaped(dense_flexible(3, mean=normal(3), dtype=DOUBLE)),
        "vp": flexible(Identity(2, dtype=DOUBLE), learn=()),
        "langevin": LangevinDiffusion(1, mean=normal(1), dtype=DOUBLE),
    }


class Silent(nn.Module):
    """A network that always answers the same."""

    def __init__(self, value: float = 0.0, *, width: int | None = None) -> None:
        super().__init__()
        self.value, self.width = value, width

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return torch.full_like(x[:, : self.width], self.value)


class GaussianScore(Denoiser):
    """The score of x_0 ~ N(μ, covariance), −Σ_t⁻¹ (x − μ) with Σ_t = Φ S Φᵀ + C."""

    process: FlexibleDiffusion

    def __init__(self, process: FlexibleDiffusion, covariance: Tensor) -> None:
        super().__init__()
        self.process, self.covariance = process, covariance

    def marginal(self, t: Tensor) -> Tensor:
        """Σ_t, (..., d, d)."""
        forward = self.process.transition(torch.zeros_like(t), t)
        phi, c = (_dense(self.process, blocks) for blocks in (forward.phi, forward.covariance))
        return phi @ self.covariance @ phi.mT + c

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        return -torch.linalg.solve(self.marginal(t), (x_t - self.process.mean).unsqueeze(-1)).squeeze(-1)


def _dense(process: FlexibleDiffusion, blocks: Tensor) -> Tensor:
    """The matrix (..., d, d) in the coordinates of x that blocks (..., n, k, k) stand for."""
    group, unit = process.grouping, torch.eye(process.dim, dtype=DOUBLE)
    columns = group.split(process.basis.analysis(unit))  # (d, n, k), one unit vector a row
    moved = torch.einsum("...nij,dnj->...dni", blocks, columns)
    return process.basis.synthesis(group.join(moved)).mT


def covariance(dim: int) -> Tensor:
    a = normal(dim, dim, seed=3)
    return 0.3 * a @ a.T + 0.2 * torch.eye(dim, dtype=DOUBLE)


def cubature(n: int) -> Tensor:
    """2n points (2n, n) of equal weight with the first moments of N(0, I): quadratics are averaged exactly."""
    unit = math.sqrt(n) * torch.eye(n, dtype=DOUBLE)
    return torch.cat([unit, -unit])


def over_time(f: Callable[[Tensor], Tensor], process: FlexibleDiffusion, *, epsilon: float, nodes: int = 96) -> Tensor:
    """∫_ε^T f(t) dt by Gauss–Legendre quadrature in log B; f maps times (n,) to values (n,)."""
    x, w = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(nodes))
    ends = process.clock(torch.tensor([epsilon, process.horizon], dtype=DOUBLE)).log()
    middle, half = ends.mean(), 0.5 * (ends[1] - ends[0])
    b = (middle + half * x).exp()
    t = process.clock.inverse(b)
    return half * (w * b / process.clock.rate(t) * f(t)).sum()
