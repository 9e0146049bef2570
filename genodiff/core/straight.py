"""Flow matching along straight lines: x_t = (1 − t) x_0 + t ε, t ∈ [0, 1] (Lipman et al. 2023; Liu et al. 2023).

A Gaussian process like the others, with m = 1 − t and s² = t². Its probability flow has the velocity

    v(x, t) = E[ε − x_0 | x_t = x] = (x − D(x, t))/t,

which is what the network learns. It stays finite at t = 1, where the score and the drift of the SDE do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genodiff.core.bases import Identity
from genodiff.core.denoisers import Denoiser
from genodiff.core.processes import Diffusion, Transition

__all__ = ["StraightPath", "VelocityDenoiser", "velocity_matching"]


class StraightPath(Diffusion):
    """x_t = (1 − t) x_0 + t ε in d coordinates."""

    def __init__(self, dim: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.basis, self.horizon = Identity(dim, dtype=dtype), 1.0
        self.register_buffer("mean", torch.zeros(dim, dtype=dtype))

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """1 − t, (..., d)."""
        return (1 - t).unsqueeze(-1) * torch.ones_like(self.mean)

    def variance(self, t: Tensor) -> Tensor:
        """t², (..., d)."""
        return t.square().unsqueeze(-1) * torch.ones_like(self.mean)

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """X_t given X_s, s < 1: m = (1 − t)/(1 − s), variance t² − m² s² = (t − s)(t + s − 2ts)/(1 − s)²."""
        variance = (t - s) * (t + s - 2 * t * s) / (1 - s).square()
        wide = torch.ones_like(self.mean)
        return Transition(
            self.basis, self.mean, ((1 - t) / (1 - s)).unsqueeze(-1) * wide, variance.unsqueeze(-1) * wide
        )

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """−x/(1 − t), t < 1."""
        return -x / (1 - t).unsqueeze(-1)

    def diffused(self, v: Tensor, t: Tensor) -> Tensor:
        """2t/(1 − t) v, t < 1."""
        return (2 * t / (1 - t)).unsqueeze(-1) * v

    def noise_ratio(self, t: Tensor, *, rate: float = 0.0) -> Tensor:
        """(t/(1 − t))²; no mode contracts faster than another, so ``rate`` does not matter."""
        return (t / (1 - t)).square()

    def time_of_noise(self, rho: Tensor, *, rate: float = 0.0) -> Tensor:
        """√ρ/(1 + √ρ)."""
        return rho.sqrt() / (1 + rho.sqrt())

    def start(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from N(0, I), (n, d): the law at t = 1, exactly."""
        return torch.randn(n, self.dim, generator=generator, dtype=self.mean.dtype, device=self.mean.device)


_LEAST = 1e-4
"""Distance from 0 and 1 beyond which the level shown to a network stays as it is; the logarithm has no end there."""


class VelocityDenoiser(Denoiser):
    """A network that predicts the velocity, v = F(x_t, level) and D = x_t − t v.

    Args:
        process: the straight path.
        network: maps (B, *shape) and (B,) levels ¼ log(t/(1 − t)), those of other noise of equal
            signal-to-noise ratio, to (B, *shape). A condition is passed on by keyword.
        shape: what the network takes a vector for; (d,) if not given.
    """

    process: StraightPath

    def __init__(self, process: StraightPath, network: nn.Module, *, shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.process, self.network = process, network
        self.shape = (process.dim,) if shape is None else tuple(shape)

    def _field(self, x_t: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        level = 0.25 * self.process.log_noise(t.clamp(_LEAST, 1 - _LEAST)).expand(len(x_t))
        return self.network(x_t.unflatten(-1, self.shape), level.to(x_t.dtype), **condition).flatten(1)

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t] = x_t − t v, (B, d)."""
        return x_t - t.unsqueeze(-1) * self._field(x_t, t, condition)

    def velocity(self, x_t: Tensor, t: Tensor, *, score_share: float = 0.5, **condition: Any) -> Tensor:
        """The probability flow is the network itself; any other share of the score needs 0 < t < 1."""
        flow = self._field(x_t, t, condition)
        if score_share == 0.5:
            return flow
        score = -(x_t + (1 - t).unsqueeze(-1) * flow) / t.unsqueeze(-1)
        return flow + (0.5 - score_share) * self.process.diffused(score, t)


def velocity_matching(
    denoiser: VelocityDenoiser, x_0: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any
) -> Tensor:
    """E ‖v(x_t, t) − (ε − x_0)‖²/d, a scalar."""
    epsilon = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    x_t = torch.lerp(x_0, epsilon, t.to(x_0.dtype).unsqueeze(-1))
    return (denoiser.velocity(x_t, t, **condition) - (epsilon - x_0)).square().mean()
