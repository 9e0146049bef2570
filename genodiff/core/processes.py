"""Linear diffusions and their Gaussian transitions, in closed form.

    dX = M (X − μ) dτ + √β dW(τ),    M = Q diag(c) Qᵀ,    τ = τ(t)

In modal coordinates z = Qᵀ(x − μ) every mode is a scalar Ornstein–Uhlenbeck process with

    m_i(t) = exp(c_i τ),    s_i²(t) = β (1 − exp(2 c_i τ)) / (−2 c_i)    (βτ where c_i = 0),

so that z_t | z_0 ~ N(m ⊙ z_0, diag s²). The geometry-aware process (GOU; Taheri 2026, eq. 2–10), the variance
preserving process and the variance exploding one differ only in c, β and the clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from genodiff.core.bases import Basis, Identity
from genodiff.core.schedules import Clock, UnitRate

__all__ = [
    "Diffusion",
    "LinearDiffusion",
    "Transition",
    "gou",
    "gou_rates",
    "variance_exploding",
    "variance_preserving",
]


def _column(t: Tensor) -> Tensor:
    """Times (...) to (..., 1), so that they broadcast over modes."""
    return t.unsqueeze(-1)


@dataclass(frozen=True)
class Transition:
    """The Gaussian law of X_t given X_s: N(μ + Q diag(m) Qᵀ (x_s − μ), Q diag(variance) Qᵀ).

    Attributes:
        basis: the modes Q.
        mean: μ, (d,).
        m: mean coefficients, (..., d).
        variance: conditional variances of the modes, (..., d), ≥ 0.
    """

    basis: Basis
    mean: Tensor
    m: Tensor
    variance: Tensor

    def location(self, x_s: Tensor) -> Tensor:
        """E[X_t | X_s = x_s], shape of x_s."""
        return self.mean + self.basis.synthesis(self.m * self.basis.analysis(x_s - self.mean))

    def sample(self, x_s: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draws x_t and returns it with the standard normal modal noise that made it."""
        noise = torch.randn(x_s.shape, generator=generator, device=x_s.device, dtype=x_s.dtype)
        return self.noised(x_s, noise), noise

    def noised(self, x_s: Tensor, noise: Tensor) -> Tensor:
        """x_t made from x_s by given standard normal modal noise, shape of x_s."""
        z = self.m * self.basis.analysis(x_s - self.mean) + self.variance.sqrt() * noise
        return self.mean + self.basis.synthesis(z)

    def score(self, x_t: Tensor, x_s: Tensor) -> Tensor:
        """∇_{x_t} log p(x_t | x_s); needs positive variances."""
        z = self.basis.analysis(x_t - self.mean)
        z_s = self.basis.analysis(x_s - self.mean)
        return -self.basis.synthesis((z - self.m * z_s) / self.variance)

    def log_prob(self, x_t: Tensor, x_s: Tensor) -> Tensor:
        """log p(x_t | x_s) in nats, shape (...)."""
        z = self.basis.analysis(x_t - self.mean)
        residual = z - self.m * self.basis.analysis(x_s - self.mean)
        terms = residual.square() / self.variance + self.variance.log() + math.log(2 * math.pi)
        return -0.5 * terms.sum(-1)


class Diffusion(nn.Module):
    """A process that is Gaussian given its start, mode by mode of a basis: z_t | z_0 ~ N(m(t) ⊙ z_0, diag s²(t)).

    Attributes:
        basis: the modes.
        mean: the point from which modal coordinates are measured, (d,).
        horizon: T > 0, the last time.
    """

    basis: Basis
    mean: Tensor
    horizon: float

    @property
    def dim(self) -> int:
        """Dimension d of the state."""
        return self.basis.dim

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """m(t), shape (..., d) for t of shape (...)."""
        raise NotImplementedError

    def variance(self, t: Tensor) -> Tensor:
        """s²(t), shape (..., d): the conditional variance of every mode given x_0."""
        raise NotImplementedError

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """The law of X_t given X_s for s ≤ t, shapes (...)."""
        raise NotImplementedError

    def noised(self, x_0: Tensor, t: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """A draw of X_t given X_0, (B, d), at times (B,) or ()."""
        return self.transition(torch.zeros_like(t), t).sample(x_0, generator=generator)[0]

    def bridged(
        self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """A draw of X_s given X_0 and X_t, s ≤ t, (B, d); times are scalars.

        Mode by mode the mean is (m_{t|s} s_s² z_t + m_s s²_{t|s} z_0)/s_t², the variance s_s² s²_{t|s}/s_t².
        """
        z_t, z_0 = self.basis.analysis(x_t - self.mean), self.basis.analysis(x_0 - self.mean)
        forward, s2_t, s2_s = self.transition(s, t), self.variance(t), self.variance(s)
        mean = (forward.m * s2_s * z_t + self.mean_coefficient(s) * forward.variance * z_0) / s2_t
        variance = s2_s * forward.variance / s2_t
        noise = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
        return self.mean + self.basis.synthesis(mean + variance.sqrt() * noise)

    def restrict(self, basis: Basis, coordinates: slice) -> Self:
        """The same process on a run of coordinates that ``basis`` spans on its own."""
        raise NotImplementedError

    def start(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the law at the horizon that sampling begins with, (n, d), where it does not depend on the data."""
        raise NotImplementedError

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity of the process without its noise, shape of x."""
        raise NotImplementedError

    def diffused(self, v: Tensor, t: Tensor) -> Tensor:
        """The covariance that the noise gains per unit of t, applied to v, shape of v."""
        raise NotImplementedError

    def shaken(self, noise: Tensor, t: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """What standard normal noise, in the coordinates of x, adds to the state over a short ``step`` of t."""
        raise NotImplementedError

    def noise_ratio(self, t: Tensor, *, rate: float) -> Tensor:
        """ρ = s²/m² at t for a mode that contracts at ``rate`` ≤ 0."""
        raise NotImplementedError

    def log_noise(self, t: Tensor) -> Tensor:
        """½ log ρ(t) of a mode that contracts at rate −½, shape (...): the noise level that is shown to networks."""
        return 0.5 * self.noise_ratio(t, rate=-0.5).log()

    def time_of_noise(self, rho: Tensor, *, rate: float) -> Tensor:
        """The inverse of :meth:`noise_ratio`."""
        raise NotImplementedError


class LinearDiffusion(Diffusion):
    """A diffusion with constant matrix drift, diagonal in an orthonormal basis, run by a clock.

    Args:
        basis: the modes Q of the drift matrix.
        mean: centre μ of the drift, (d,).
        rates: c, (d,), ≤ 0; 0 means a mode that only accumulates noise (finite horizon required).
        beta: diffusion coefficient β > 0.
        horizon: T > 0, the last time of the forward process.
        clock: t → τ(t); the identity if not given.
    """

    rates: Tensor

    def __init__(
        self,
        basis: Basis,
        *,
        mean: Tensor,
        rates: Tensor,
        beta: float = 1.0,
        horizon: float,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        if rates.shape != (basis.dim,) or mean.shape != (basis.dim,):
            raise ValueError(f"rates and mean must have shape ({basis.dim},), got {rates.shape} and {mean.shape}")
        if not (rates <= 0).all():
            i = int((~(rates <= 0)).nonzero()[0])
            raise ValueError(f"rate {float(rates[i])} of mode {i} is not <= 0: the process would explode")
        if not beta > 0 or not math.isfinite(horizon) or horizon <= 0:
            raise ValueError(f"expected beta > 0 and a finite horizon > 0, got beta={beta}, horizon={horizon}")
        self.basis = basis
        self.beta = beta
        self.horizon = horizon
        self.clock = UnitRate() if clock is None else clock
        self.register_buffer("mean", mean.to(basis.dtype))
        self.register_buffer("rates", rates.to(basis.dtype))

    def restrict(self, basis: Basis, coordinates: slice) -> Self:
        """The same process on a run of coordinates that ``basis`` spans on its own."""
        return type(self)(
            basis,
            mean=self.mean[coordinates],
            rates=self.rates[coordinates],
            beta=self.beta,
            horizon=self.horizon,
            clock=self.clock,
        )

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """m(t) = exp(c τ(t)), shape (..., d) for t of shape (...)."""
        return torch.exp(self.rates * _column(self.clock(t)))

    def variance(self, t: Tensor) -> Tensor:
        """s²(t), shape (..., d): the conditional variance of every mode given x_0."""
        return self._noise(_column(self.clock(t)))

    def _noise(self, elapsed: Tensor) -> Tensor:
        """β ∫_0^elapsed exp(2 c u) du; expm1 keeps small |c·elapsed| exact, and c = 0 has its limit."""
        two_c = 2 * self.rates
        safe = torch.where(two_c == 0, torch.ones_like(two_c), two_c)
        decayed = torch.expm1(two_c * elapsed) / safe
        return self.beta * torch.where(two_c == 0, elapsed * torch.ones_like(two_c), decayed)

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """The law of X_t given X_s for s ≤ t, shapes (...)."""
        elapsed = _column(self.clock(t) - self.clock(s))
        return Transition(self.basis, self.mean, torch.exp(self.rates * elapsed), self._noise(elapsed))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """M (x − μ) dτ/dt."""
        z = self.basis.analysis(x - self.mean)
        return _column(self.clock.rate(t)) * self.basis.synthesis(self.rates * z)

    def diffusion(self, t: Tensor) -> Tensor:
        """β dτ/dt: the squared noise amplitude per unit of t, shape (...)."""
        return self.beta * self.clock.rate(t)

    def diffused(self, v: Tensor, t: Tensor) -> Tensor:
        """β dτ/dt v."""
        return self.diffusion(t) * v

    def shaken(self, noise: Tensor, t: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """(β dτ/dt step)^{1/2} noise."""
        return torch.sqrt(self.diffusion(t) * step) * noise

    def stationary_variance(self) -> Tensor:
        """−β / (2 c_i) per mode (Lemma 7).

        Raises:
            ValueError: a mode with c = 0 has no stationary law.
        """
        if (self.rates == 0).any():
            raise ValueError("a mode with rate 0 has no stationary law")
        return -self.beta / (2 * self.rates)

    def noise_ratio(self, t: Tensor, *, rate: float) -> Tensor:
        """ρ = s²/m² at t for a mode that contracts at ``rate`` ≤ 0."""
        tau = self.clock(t)
        return self.beta * tau if rate == 0 else self.beta * torch.expm1(-2 * rate * tau) / (-2 * rate)

    def time_of_noise(self, rho: Tensor, *, rate: float) -> Tensor:
        """The inverse of :meth:`noise_ratio`."""
        scaled = rho / self.beta
        return self.clock.inverse(scaled if rate == 0 else torch.log1p(-2 * rate * scaled) / (-2 * rate))


def gou_rates(spectrum: Tensor, *, a: float, b: float = 0.5) -> Tensor:
    """Variance-aware contraction rates c_i = −b (a + γ (1 − λ_i/λ_max)), γ = 1 − a (GOU eq. 2).

    Args:
        spectrum: variances λ ≥ 0 of the modes, (d,), not all zero.
        a: contraction of the mode of largest variance relative to that of a mode without variance, 0 < a ≤ 1;
            a = 1 is isotropic.
        b: contraction rate of a mode without variance, > 0.

    Raises:
        ValueError: a outside (0, 1]. With a = 0 the leading mode would have no stationary law.
    """
    if not 0 < a <= 1:
        raise ValueError(f"a must lie in (0, 1], got {a}: with a = 0 the leading mode has no stationary law")
    if not b > 0:
        raise ValueError(f"b must be positive, got {b}")
    if not (spectrum >= 0).all() or spectrum.max() <= 0:
        raise ValueError("spectrum must be non-negative with a positive maximum")
    return -b * (a + (1 - a) * (1 - spectrum / spectrum.max()))


def gou(
    basis: Basis,
    *,
    mean: Tensor,
    spectrum: Tensor,
    a: float = 0.1,
    b: float = 0.5,
    beta: float = 1.0,
    horizon: float,
) -> LinearDiffusion:
    """The geometry-aware Ornstein–Uhlenbeck process (GOU eq. 2–4): high-variance modes contract slowly."""
    return LinearDiffusion(basis, mean=mean, rates=gou_rates(spectrum, a=a, b=b), beta=beta, horizon=horizon)


def variance_preserving(
    dim: int,
    *,
    mean: Tensor | None = None,
    horizon: float,
    clock: Clock | None = None,
    dtype: torch.dtype = torch.float32,
) -> LinearDiffusion:
    """The isotropic process c = −1/2, β = 1, stationary N(μ, I) (GOU eq. 1, Corollary 9)."""
    centre = torch.zeros(dim, dtype=dtype) if mean is None else mean
    rates = torch.full((dim,), -0.5, dtype=dtype)
    return LinearDiffusion(Identity(dim, dtype=dtype), mean=centre, rates=rates, horizon=horizon, clock=clock)


def variance_exploding(dim: int, *, horizon: float, dtype: torch.dtype = torch.float32) -> LinearDiffusion:
    """Pure noise, X_t = X_0 + N(0, t I)."""
    zero = torch.zeros(dim, dtype=dtype)
    return LinearDiffusion(Identity(dim, dtype=dtype), mean=zero, rates=zero.clone(), horizon=horizon)
