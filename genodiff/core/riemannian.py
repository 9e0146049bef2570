"""Flexible forward processes whose noise depends on the place, by simulation (FP eq. 9–11).

    dX = ½ b(t) [−R⁻¹(X) X − 2ωX + div R⁻¹(X)] dt + (b(t) R⁻¹(X))^{1/2} dW,    (div R⁻¹)_i = Σ_j ∂_j R⁻¹_ij,

in the sense of Itô. N(0, I) is its stationary law for every positive definite R⁻¹(x) and antisymmetric ω, but not
without the divergence, which makes up for noise that is stronger in one place than in another. The transition has no
closed form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genodiff.core.schedules import Clock, LinearRate

__all__ = ["Metric", "RiemannianDiffusion", "divergence"]

Metric = Callable[[Tensor], Tensor]
"""R⁻¹: points (B, d) to symmetric positive definite matrices (B, d, d), each from its own point alone."""


def divergence(metric: Metric, x: Tensor) -> Tensor:
    """Σ_j ∂_j R⁻¹_ij(x), (B, d), by automatic differentiation."""

    def of_one(point: Tensor) -> Tensor:
        return metric(point.unsqueeze(0)).squeeze(0)

    return torch.einsum("bijj->bi", torch.func.vmap(torch.func.jacrev(of_one))(x))


class RiemannianDiffusion(nn.Module):
    """A process with stationary law N(0, I) whose noise depends on the place.

    Args:
        metric: R⁻¹(x). A module is registered, with its parameters.
        omega: ω = −ωᵀ, (d, d).
        clock: t → B(t).
        horizon: T > 0.
    """

    omega: Tensor

    def __init__(self, metric: Metric, omega: Tensor, *, clock: Clock | None = None, horizon: float = 1.0) -> None:
        super().__init__()
        if omega.ndim != 2 or omega.shape[0] != omega.shape[1]:
            raise ValueError(f"ω must be a square matrix, got shape {tuple(omega.shape)}")
        if not torch.equal(omega, -omega.T):
            i, j = (omega != -omega.T).nonzero()[0].tolist()
            raise ValueError(f"ω is not antisymmetric: ω[{i}, {j}] = {omega[i, j]}, ω[{j}, {i}] = {omega[j, i]}")
        if not horizon > 0:
            raise ValueError(f"expected a horizon > 0, got {horizon}")
        self.metric, self.horizon = metric, horizon
        self.clock: Clock = LinearRate() if clock is None else clock
        self.register_buffer("omega", omega)

    @property
    def dim(self) -> int:
        """Dimension d of the state."""
        return len(self.omega)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """½ b [−R⁻¹(x) x − 2ωx + div R⁻¹(x)], (B, d) for t of shape () or (B,)."""
        pulled = torch.einsum("bij,bj->bi", self.metric(x), x)
        turned = x @ self.omega.T
        return self.clock.rate(t).unsqueeze(-1) * (0.5 * (divergence(self.metric, x) - pulled) - turned)

    def shaken(self, noise: Tensor, x: Tensor, t: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """L noise with L Lᵀ = b step R⁻¹(x): what standard normal noise adds over a short step, (B, d)."""
        root = torch.linalg.cholesky(self.metric(x))
        return (self.clock.rate(t) * step).sqrt().unsqueeze(-1) * torch.einsum("bij,bj->bi", root, noise)

    def simulate(self, x: Tensor, grid: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Carries points (B, d) through a rising grid of times by Euler–Maruyama steps; returns the last.

        Raises:
            ValueError: the times do not rise.
        """
        if (grid.diff() <= 0).any():
            raise ValueError(f"the grid of times must rise strictly, not so at {int((grid.diff() <= 0).nonzero()[0])}")
        for t, later in itertools.pairwise(grid.to(x)):
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + (later - t) * self.drift(x, t) + self.shaken(noise, x, t, later - t)
        return x
