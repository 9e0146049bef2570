"""Clocks and time grids.

A *clock* maps time t ∈ [0, T] to the integrated rate τ(t) at which a constant-coefficient process runs; a *grid* lists
the times a sampler visits, from T down to its last time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Clock", "LinearRate", "UnitRate", "log_noise_grid", "uniform_grid"]


@dataclass(frozen=True)
class Clock:
    """An increasing map t → τ(t) with τ(0) = 0, its rate dτ/dt, and its inverse."""

    def __call__(self, t: Tensor) -> Tensor:
        """Integrated rate τ(t)."""
        raise NotImplementedError

    def rate(self, t: Tensor) -> Tensor:
        """dτ/dt at t."""
        raise NotImplementedError

    def inverse(self, tau: Tensor) -> Tensor:
        """The t with τ(t) = tau."""
        raise NotImplementedError


@dataclass(frozen=True)
class UnitRate(Clock):
    """τ(t) = t."""

    def __call__(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def rate(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def inverse(self, tau: Tensor) -> Tensor:
        """tau."""
        return tau


@dataclass(frozen=True)
class LinearRate(Clock):
    """Rate b(t) = low + t (high − low) on [0, 1]; τ(t) = low·t + (high − low) t²/2."""

    low: float = 0.1
    high: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"expected 0 < low <= high, got low={self.low}, high={self.high}")

    def __call__(self, t: Tensor) -> Tensor:
        """Integrated rate."""
        return self.low * t + 0.5 * (self.high - self.low) * t.square()

    def rate(self, t: Tensor) -> Tensor:
        """Instantaneous rate."""
        return self.low + (self.high - self.low) * t

    def inverse(self, tau: Tensor) -> Tensor:
        """Positive root of the quadratic, written so that high = low is not special."""
        return 2 * tau / (self.low + torch.sqrt(self.low**2 + 2 * (self.high - self.low) * tau))


def uniform_grid(horizon: float, steps: int, *, last: float = 0.0) -> Tensor:
    """Times T = t_0 > … > t_steps = last, equally spaced, float64."""
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {steps}")
    return torch.linspace(horizon, last, steps + 1, dtype=torch.float64)


def log_noise_grid(time_of_noise: Callable[[Tensor], Tensor], *, lowest: float, highest: float, steps: int) -> Tensor:
    """Times at which the noise-to-signal ratio ρ = s²/m² falls geometrically from ``highest`` to ``lowest``.

    Args:
        time_of_noise: the inverse of ρ(t) for the mode of reference.
        lowest: last ratio, > 0.
        highest: first ratio.
        steps: number of intervals.

    Returns:
        (steps + 1,) float64 times, decreasing.
    """
    if not 0 < lowest < highest:
        raise ValueError(f"expected 0 < lowest < highest, got {lowest} and {highest}")
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {steps}")
    rho = torch.linspace(math.log(highest), math.log(lowest), steps + 1, dtype=torch.float64).exp()
    return time_of_noise(rho)
