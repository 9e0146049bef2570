"""Structured smoothing with constant coefficients: Gaussian processes that are diagonal in the cosines.

    dX = (ν L − ½) X du + η K dW,    u = ∫ b dt,

with L the five-point stencil (its symbol is −λ, λ = 4 − 2cos(πp/H) − 2cos(πq/W)) and K a filter that makes the noise
alike over a length ℓ. Every mode is a scalar process with, N(u) = ∫_0^u ν,

    m(u) = exp(−u/2 − λ N(u)),    s²(u) = k² ∫_0^u exp(−(u − w) − 2λ (N(u) − N(w))) η(w)² dw.

Noise that is not smoothed once it is there (``white``) has s²(u) = k² ∫_0^u exp(−(u − w)) η(w)² dw instead, alike in
all modes where ℓ = 0: that is blurring diffusion (Hoogeboom & Salimans 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from genodiff.core.bases import Basis
from genodiff.core.cosines import CosineBasis
from genodiff.core.processes import Diffusion, Transition
from genodiff.core.schedules import Clock, LinearRate

__all__ = [
    "BlurringDiffusion",
    "ModalDiffusion",
    "Ramp",
    "SmoothingDiffusion",
    "correlated_spectrum",
    "legendre",
    "stencil_symbol",
]


def stencil_symbol(shape: Sequence[int], *, dtype: torch.dtype = torch.float64) -> Tensor:
    """λ_pq = 4 − 2cos(πp/H) − 2cos(πq/W) of every mode of a :class:`CosineBasis`, (C·H·W,), in [0, 8)."""
    channels, height, width = shape
    p = 2 - 2 * torch.cos(torch.pi / height * torch.arange(height, dtype=torch.float64))
    q = 2 - 2 * torch.cos(torch.pi / width * torch.arange(width, dtype=torch.float64))
    return (p.unsqueeze(1) + q).expand(channels, height, width).flatten().to(dtype)


def correlated_spectrum(shape: Sequence[int], length: float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """k of K = Q diag(k) Qᵀ ∝ (1 − ℓ² L)⁻¹, (C·H·W,): noise alike over ℓ pixels, of variance 1 on average (Whittle).

    Raises:
        ValueError: a negative length.
    """
    if not length >= 0:
        raise ValueError(f"the length of correlation must be >= 0 pixels, got {length}")
    k = 1 / (1 + length**2 * stencil_symbol(shape))
    return (k * k.square().mean().rsqrt()).to(dtype)


@lru_cache(maxsize=16)
def legendre(nodes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gauss–Legendre nodes in (0, 1) and weights that sum to 1."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return tuple((0.5 * (x + 1)).tolist()), tuple((0.5 * w).tolist())


@dataclass(frozen=True)
class Ramp:
    """A coefficient that goes from ``first`` at u = 0 to ``last``, last + (first − last) e^{−u/scale}.

    Attributes:
        first: value at 0.
        last: limit for large u.
        scale: the u by which it is 63 % of the way, > 0.
    """

    first: float
    last: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0 or not all(map(math.isfinite, (self.first, self.last))):
            raise ValueError(f"expected finite values and a scale > 0, got {self}")

    def __call__(self, u: Tensor) -> Tensor:
        """Value at u."""
        return self.last + (self.first - self.last) * torch.exp(-u / self.scale)

    def integral(self, u: Tensor) -> Tensor:
        """∫_0^u."""
        return self.last * u - (self.first - self.last) * self.scale * torch.expm1(-u / self.scale)


class ModalDiffusion(Diffusion):
    """A process given by log m(t) and s²(t) of every mode; that it is Markov gives its transitions and its SDE.

    X_t | X_s has m_{t|s} = m_t/m_s and s²_{t|s} = s_t² − m_{t|s}² s_s²; drift and noise per unit of t are ∂_t log m and
    ∂_t s² − 2 s² ∂_t log m.
    """

    basis: Basis
    mean: Tensor

    def log_mean(self, t: Tensor) -> Tensor:
        """log m(t), (..., d)."""
        raise NotImplementedError

    def log_mean_rate(self, t: Tensor) -> Tensor:
        """∂_t log m(t), (..., d)."""
        raise NotImplementedError

    def noise_rate(self, t: Tensor) -> Tensor:
        """∂_t s² − 2 s² ∂_t log m, (..., d): the variance that each mode gains per unit of t."""
        raise NotImplementedError

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """m(t), (..., d)."""
        return self.log_mean(t).exp()

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """The law of X_t given X_s for s ≤ t."""
        m = (self.log_mean(t) - self.log_mean(s)).exp()
        variance = self.variance(t) - m.square() * self.variance(s)
        return Transition(self.basis, self.mean, m, variance.clamp_min(0.0))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """∂_t log m applied to x, shape of x."""
        return self.basis.synthesis(self.log_mean_rate(t) * self.basis.analysis(x - self.mean))

    def diffused(self, v: Tensor, t: Tensor) -> Tensor:
        """The noise per unit of t applied to v, shape of v."""
        return self.basis.synthesis(self.noise_rate(t) * self.basis.analysis(v))

    def start(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from N(mean, s²(T)), (n, d), where sampling begins: what is left of m(T) is not in it."""
        dtype, device = self.mean.dtype, self.mean.device
        noise = torch.randn(n, self.dim, generator=generator, dtype=dtype, device=device)
        deviation = self.variance(torch.tensor(self.horizon, dtype=dtype, device=device)).sqrt()
        return self.mean + self.basis.synthesis(deviation * noise)


def _cosine_process(process: Diffusion, shape: Sequence[int], dtype: torch.dtype) -> None:
    process.basis = CosineBasis(shape, dtype=dtype)
    process.register_buffer("mean", torch.zeros(process.basis.dim, dtype=dtype))


_NODES = 40


class SmoothingDiffusion(ModalDiffusion):
    """Smoothing and noise with constant coefficients.

    Args:
        shape: (C, H, W).
        nu: smoothing ν(u) ≥ 0 in pixels² per unit of u.
        eta: noise amplitude η(u) > 0; with η = 1 the mode without smoothing ends with variance 1.
        length: ℓ in pixels, over which the noise is alike; 0 for white noise.
        white: the noise, once there, is not smoothed.
        clock: t → u.
        horizon: T.
        dtype: type of the transform.
    """

    symbol: Tensor
    power: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        nu: Ramp,
        eta: Ramp | None = None,
        length: float = 0.0,
        white: bool = False,
        clock: Clock | None = None,
        horizon: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.nu, self.eta, self.white = nu, Ramp(1.0, 1.0) if eta is None else eta, white
        if min(nu.first, nu.last) < 0 or min(self.eta.first, self.eta.last) <= 0:
            raise ValueError(f"smoothing must be >= 0 and noise > 0, got nu={nu}, eta={self.eta}")
        self.clock, self.horizon = LinearRate() if clock is None else clock, horizon
        _cosine_process(self, shape, dtype)
        self.register_buffer("symbol", stencil_symbol(shape, dtype=dtype))
        self.register_buffer("power", correlated_spectrum(shape, length, dtype=dtype).square())

    def log_mean(self, t: Tensor) -> Tensor:
        """−u/2 − λ N(u), (..., d)."""
        u = self.clock(t).unsqueeze(-1)
        return -0.5 * u - self.symbol * self.nu.integral(u)

    def log_mean_rate(self, t: Tensor) -> Tensor:
        """−b (½ + λ ν), (..., d)."""
        u = self.clock(t).unsqueeze(-1)
        return -self.clock.rate(t).unsqueeze(-1) * (0.5 + self.symbol * self.nu(u))

    def noise_rate(self, t: Tensor) -> Tensor:
        """b η² k²; noise that resists the smoothing has to gain what smoothing takes, 2 b λ ν s² more; (..., d)."""
        u, b = self.clock(t).unsqueeze(-1), self.clock.rate(t).unsqueeze(-1)
        gain = b * self.eta(u).square() * self.power
        return gain + 2 * b * self.symbol * self.nu(u) * self.variance(t) if self.white else gain

    def variance(self, t: Tensor) -> Tensor:
        """s²(t), (..., d)."""
        return self._noise(torch.zeros_like(t), t, smoothed=not self.white)

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """The law of X_t given X_s for s ≤ t: noise gathered from s on, without a difference where it is smoothed."""
        if self.white:
            return super().transition(s, t)
        m = (self.log_mean(t) - self.log_mean(s)).exp()
        return Transition(self.basis, self.mean, m, self._noise(s, t, smoothed=True))

    def _noise(self, s: Tensor, t: Tensor, *, smoothed: bool) -> Tensor:
        """k² ∫_s^t exp(−(u − w) − 2λ (N(u) − N(w))) η² dw by quadrature.

        What survives is the noise of the last 1/(1 + 2λν): with w = u − (u − u_s) x³ the nodes crowd there.
        """
        u, start = (self.clock(v).unsqueeze(-1) for v in torch.broadcast_tensors(t, s))
        symbol = self.symbol if smoothed else torch.zeros_like(self.symbol[:1])
        x, weight = (torch.tensor(v, dtype=u.dtype, device=u.device).unsqueeze(-1) for v in legendre(_NODES))
        age = (u - start).unsqueeze(-1) * x**3  # (..., nodes, 1)
        w = u.unsqueeze(-1) - age
        damped = torch.exp(-age - 2 * symbol * (self.nu.integral(u.unsqueeze(-1)) - self.nu.integral(w)))
        density = 3 * x.square() * weight * self.eta(w).square()
        return self.power * (u - start) * (density.mT @ damped).squeeze(-2)

    def noise_ratio(self, t: Tensor, *, rate: float = -0.5) -> Tensor:
        """ρ = e^u − 1 at t: what noise of η = 1 is to a mode that is not smoothed; ``rate`` does not matter."""
        return torch.expm1(self.clock(t))

    def time_of_noise(self, rho: Tensor, *, rate: float = -0.5) -> Tensor:
        """The inverse of :meth:`noise_ratio`."""
        return self.clock.inverse(torch.log1p(rho))


class BlurringDiffusion(ModalDiffusion):
    """Heat dissipation with variance preserving white noise (Hoogeboom & Salimans 2023), t ∈ [0, 1].

    m = cos(φ) [(1 − d) e^{−λ σ_B²/2} + d],    s² = sin²(φ),    σ_B = width · sin²(πt/2),

    with φ rising from arctan e^{−r/2} to arctan e^{r/2}, r the range of the log signal-to-noise ratio, and λ the
    continuous symbol π² (p²/H² + q²/W²).

    Args:
        shape: (C, H, W).
        width: blur at t = 1, a standard deviation in pixels, ≥ 0; 0 is the variance preserving cosine schedule.
        floor: d, the share of a mode that no blur takes, in (0, 1).
        log_range: r > 0.
        dtype: type of the transform.
    """

    symbol: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: float = 10.0,
        floor: float = 1e-3,
        log_range: float = 10.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not width >= 0 or not 0 < floor < 1 or not log_range > 0:
            raise ValueError(f"width >= 0, 0 < floor < 1, log_range > 0, got {width}, {floor}, {log_range}")
        self.width, self.floor, self.horizon = width, floor, 1.0
        self.first = math.atan(math.exp(-0.5 * log_range))
        self.speed = math.pi / 2 - 2 * self.first
        _cosine_process(self, shape, dtype)
        _, height, wide = shape
        p = torch.pi / height * torch.arange(height, dtype=torch.float64)
        q = torch.pi / wide * torch.arange(wide, dtype=torch.float64)
        self.register_buffer("symbol", (p.square().unsqueeze(1) + q.square()).expand(*shape).flatten().to(dtype))

    def _angle(self, t: Tensor) -> Tensor:
        # At t = 0 itself there is no noise, as in every process here; the schedule begins just above it.
        return torch.where(t == 0, 0.0, self.first + self.speed * t).unsqueeze(-1)

    def _blur(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """σ_B²/2 and its derivative by t, (..., 1)."""
        angle = 0.5 * torch.pi * t.unsqueeze(-1)
        sine = angle.sin()
        return 0.5 * self.width**2 * sine**4, torch.pi * self.width**2 * sine**3 * angle.cos()

    def _damping(self, t: Tensor) -> Tensor:
        return (1 - self.floor) * torch.exp(-self.symbol * self._blur(t)[0]) + self.floor

    def log_mean(self, t: Tensor) -> Tensor:
        """log m(t), (..., d)."""
        return self._angle(t).cos().log() + self._damping(t).log()

    def log_mean_rate(self, t: Tensor) -> Tensor:
        """∂_t log m(t), (..., d)."""
        damping = self._damping(t)
        return -self.speed * self._angle(t).tan() - self.symbol * self._blur(t)[1] * (damping - self.floor) / damping

    def variance(self, t: Tensor) -> Tensor:
        """sin²(φ) in all modes, (..., d)."""
        return self._angle(t).sin().square() * torch.ones_like(self.symbol)

    def noise_rate(self, t: Tensor) -> Tensor:
        """2 s (∂_t s − s ∂_t log m), (..., d)."""
        angle = self._angle(t)
        return 2 * self.speed * angle.sin() * angle.cos() - 2 * self.variance(t) * self.log_mean_rate(t)

    def noise_ratio(self, t: Tensor, *, rate: float = 0.0) -> Tensor:
        """tan²(φ), of the mode that no blur touches; ``rate`` does not matter."""
        return self._angle(t).squeeze(-1).tan().square()

    def time_of_noise(self, rho: Tensor, *, rate: float = 0.0) -> Tensor:
        """The inverse of :meth:`noise_ratio`."""
        return (rho.sqrt().atan() - self.first) / self.speed
