"""Critically damped Langevin diffusion: the flexible process whose noise reaches the data through velocities only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genodiff.core.bases import Identity
from genodiff.core.flexible import BlockTransition, FlexibleDiffusion
from genodiff.core.rates import FixedRates
from genodiff.core.schedules import Clock

__all__ = ["LangevinDiffusion", "critically_damped"]


class LangevinDiffusion(FlexibleDiffusion):
    """Critically damped Langevin motion: only velocities are shaken, dx = b v dt, dv = −b (x + Γv) dt + (2Γb)^{1/2} dW.

    The state is (positions, velocities), (2d,). In the blocks (x_i, v_i) R⁻¹ = diag(0, 2Γ), ω = [[0, −1], [1, 0]], and
    Γ = 2 gives Φ = e^{−B} (I + B [[1, 1], [−1, −1]]) (FP §3.2, Appendix; Dockhorn et al. 2022).

    Args:
        dim: d, the number of positions.
        mean: of the positions, (d,); 0 if ``None``.
        velocity_variance: γ of the velocities at time 0, > 0.
        clock: t → B(t).
        horizon: T > 0.
        dtype: of the state.
    """

    FRICTION = 2.0

    def __init__(
        self,
        dim: int,
        *,
        mean: Tensor | None = None,
        velocity_variance: float = 0.04,
        clock: Clock | None = None,
        horizon: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if not velocity_variance > 0:
            raise ValueError(f"the variance of velocities must be positive, got {velocity_variance}")
        symmetric = torch.tensor([[0.0, 0.0], [0.0, 2 * self.FRICTION]], dtype=dtype).repeat(dim, 1, 1)
        skew = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=dtype).repeat(dim, 1, 1)
        positions = torch.arange(dim)
        centre = torch.zeros(dim, dtype=dtype) if mean is None else mean.to(dtype)
        super().__init__(
            Identity(2 * dim, dtype=dtype),
            FixedRates(symmetric, skew),
            mean=torch.cat([centre, torch.zeros_like(centre)]),
            clock=clock,
            horizon=horizon,
            order=torch.stack([positions, positions + dim], -1).flatten(),
        )
        self.positions, self.velocity_variance = dim, velocity_variance

    def position(self, state: Tensor) -> Tensor:
        """The positions (..., d) of a state (..., 2d)."""
        return state[..., : self.positions]

    def velocity(self, state: Tensor) -> Tensor:
        """The velocities (..., d) of a state (..., 2d)."""
        return state[..., self.positions :]

    def at_rest(self, x: Tensor) -> Tensor:
        """The state (..., 2d) of positions (..., d) without velocity."""
        return torch.cat([x, torch.zeros_like(x)], -1)

    def moving(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The state (..., 2d) of positions (..., d) with velocities drawn from N(0, γ)."""
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return torch.cat([x, math.sqrt(self.velocity_variance) * noise], -1)

    def from_positions(self, t: Tensor) -> BlockTransition:
        """The law of the state at t given :meth:`at_rest` of the positions at 0, velocities drawn from N(0, γ).

        C + Φ diag(0, γ) Φᵀ: the transition of hybrid score matching.
        """
        variance = torch.tensor([0.0, self.velocity_variance], dtype=self.mean.dtype, device=self.mean.device)
        return self._from_start(t).spread(variance)


def critically_damped(
    dim: int,
    *,
    mean: Tensor | None = None,
    gamma: float = 0.04,
    clock: Clock | None = None,
    horizon: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> LangevinDiffusion:
    """The critically damped Langevin process of d positions, with velocities of variance γ at time 0."""
    return LangevinDiffusion(dim, mean=mean, velocity_variance=gamma, clock=clock, horizon=horizon, dtype=dtype)
