"""Flexible forward processes: linear diffusions whose noise and rotation are learned (FP-Diffusion).

    dX = −κ b(t) (½R⁻¹ + ω)(X − μ) dt + (κ b)^{1/2} R^{−1/2} dW,    ωᵀ = −ω,

has the stationary law N(μ, I) for every R⁻¹ ≻ 0 and every antisymmetric ω (FP eq. 11), and

    X_t | x_0 ~ N(μ + Φ (x_0 − μ), I − ΦΦᵀ),    Φ = exp(−(½R⁻¹ + ω) κ B(t)),    B = ∫ b,

whether or not R⁻¹ and ω commute (Theorem 3.5, corrected). In the coordinates of a basis both are block diagonal, with
blocks of k modes. k = 1 is FP-Noise; R = I with k = 2 is FP-Drift; one block is the general process; R⁻¹ = diag(0, 2Γ)
is the critically damped Langevin process (:mod:`genodiff.core.langevin`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from genodiff.core.bases import Basis, Identity
from genodiff.core.blocks import Grouping, apply, cholesky, decay, log_det, multiply, solve_lower, solve_upper
from genodiff.core.processes import Diffusion
from genodiff.core.rates import LearnedRates, Part, Rates
from genodiff.core.schedules import Clock, LinearRate, log_noise_grid

__all__ = ["BlockTransition", "FlexibleDiffusion", "dense_flexible", "flexible", "fp_drift", "fp_noise"]

PRIOR_DECAY = 8.0
"""Least κ λ_min B(T): a share e^{−8/2} of the start is left in the slowest direction, and X_T is all but N(μ, I)."""


@dataclass(frozen=True)
class BlockTransition:
    """The Gaussian law of X_t given X_s, N(μ + Φ (x_s − μ), C), by blocks of modes.

    Attributes:
        basis: the modes.
        mean: μ, (d,).
        grouping: which modes make a block.
        phi: Φ, (..., n, k, k).
        covariance: C, (..., n, k, k).
    """

    basis: Basis
    mean: Tensor
    grouping: Grouping
    phi: Tensor
    covariance: Tensor

    @property
    def factor(self) -> Tensor:
        """The lower Cholesky factor L of C, (..., n, k, k); computed at every call."""
        return cholesky(self.covariance)

    @property
    def m(self) -> Tensor:
        """Mean coefficients of the modes, (..., d).

        Raises:
            ValueError: blocks of more than one mode have none.
        """
        return self._modal(self.phi)

    @property
    def variance(self) -> Tensor:
        """Variances of independent modes, (..., d).

        Raises:
            ValueError: the modes of a block depend on each other.
        """
        return self._modal(self.covariance)

    def _modal(self, blocks: Tensor) -> Tensor:
        if self.grouping.size != 1:
            raise ValueError(f"blocks of {self.grouping.size} modes have no coefficient for each mode")
        return self.grouping.join(blocks.squeeze(-1))

    def blocks(self, x: Tensor) -> Tensor:
        """Coordinates of x − μ in blocks, (..., n, k) for x of shape (..., d)."""
        return self.grouping.split(self.basis.analysis(x - self.mean))

    def point(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`blocks`."""
        return self.mean + self.basis.synthesis(self.grouping.join(z))

    def location(self, x_s: Tensor) -> Tensor:
        """E[X_t | X_s = x_s], shape of x_s."""
        return self.point(apply(self.phi, self.blocks(x_s)))

    def sample(self, x_s: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draws x_t and returns it with the standard normal modal noise that made it."""
        noise = torch.randn(x_s.shape, generator=generator, device=x_s.device, dtype=x_s.dtype)
        return self.noised(x_s, noise), noise

    def noised(self, x_s: Tensor, noise: Tensor) -> Tensor:
        """x_t made from x_s by given standard normal modal noise, μ + Φ (x_s − μ) + L noise, shape of x_s."""
        return self.point(apply(self.phi, self.blocks(x_s)) + apply(self.factor, self.grouping.split(noise)))

    def score(self, x_t: Tensor, x_s: Tensor) -> Tensor:
        """∇_{x_t} log p(x_t | x_s) = −C⁻¹ (x_t − location), shape of x_t; needs a positive time between."""
        factor = self.factor
        whitened = solve_upper(factor, solve_lower(factor, self._residual(x_t, x_s)))
        return -self.basis.synthesis(self.grouping.join(whitened))

    def log_prob(self, x_t: Tensor, x_s: Tensor) -> Tensor:
        """log p(x_t | x_s) in nats, shape (...)."""
        factor = self.factor
        white = solve_lower(factor, self._residual(x_t, x_s))
        each = white.square().sum(-1) + log_det(factor) + self.grouping.size * math.log(2 * math.pi)
        return -0.5 * each.sum(-1)

    def log_det(self) -> Tensor:
        """log det C, shape (...)."""
        return log_det(self.factor).sum(-1)

    def _residual(self, x_t: Tensor, x_s: Tensor) -> Tensor:
        return self.blocks(x_t) - apply(self.phi, self.blocks(x_s))

    def spread(self, variance: Tensor) -> BlockTransition:
        """The law of X_t given E X_s, when the modes of a block also have these variances at s, (k,) or (n, k).

        C grows by Φ diag(variance) Φᵀ.
        """
        started = multiply(self.phi * variance.unsqueeze(-2), self.phi.mT)
        return BlockTransition(self.basis, self.mean, self.grouping, self.phi, self.covariance + started)


class FlexibleDiffusion(Diffusion):
    """A linear diffusion with stationary law N(μ, I), block diagonal in a basis, whose rates may be learned.

    Args:
        basis: the modes.
        rates: R⁻¹ and ω in blocks; n · k = d.
        mean: μ, (d,); 0 if ``None``.
        clock: t → B(t).
        horizon: T > 0.
        order: the modes in the order of the blocks, (d,); consecutive if ``None``.
        forgetting: least κ λ B(T) of every block, (n,), ≥ 0, for a start law that knows the rest; 8 if ``None``.
    """

    order: Tensor | None
    inverse: Tensor | None
    forgetting: Tensor | None

    def __init__(
        self,
        basis: Basis,
        rates: Rates,
        *,
        mean: Tensor | None = None,
        clock: Clock | None = None,
        horizon: float = 1.0,
        order: Tensor | None = None,
        forgetting: Tensor | None = None,
    ) -> None:
        super().__init__()
        d = basis.dim
        if rates.n * rates.size != d:
            raise ValueError(f"{rates.n} blocks of {rates.size} modes do not make {d} modes")
        if mean is not None and mean.shape != (d,):
            raise ValueError(f"mean must have shape ({d},), got {tuple(mean.shape)}")
        if not math.isfinite(horizon) or horizon <= 0:
            raise ValueError(f"expected a finite horizon > 0, got {horizon}")
        if order is not None and not torch.equal(order.sort().values, torch.arange(d, device=order.device)):
            raise ValueError(f"order must hold every mode 0 … {d - 1} once")
        if forgetting is not None and (forgetting.shape != (rates.n,) or not (forgetting >= 0).all()):
            raise ValueError(f"forgetting must be {rates.n} numbers >= 0, got shape {tuple(forgetting.shape)}")
        self.basis, self.rates, self.horizon = basis, rates, horizon
        self.clock: Clock = LinearRate() if clock is None else clock
        centre = torch.zeros(d, dtype=basis.dtype, device=basis.device)
        self.register_buffer("mean", centre if mean is None else mean.to(centre))
        self.register_buffer("order", order)
        self.register_buffer("inverse", None if order is None else order.argsort())
        self.register_buffer("forgetting", None if forgetting is None else forgetting.to(centre).unsqueeze(-1))

    @property
    def grouping(self) -> Grouping:
        """Which modes make a block."""
        return Grouping(self.rates.size, self.order, self.inverse)

    def spectrum(self) -> Tensor:
        """Eigenvalues of R⁻¹ without the stretch, (n, k)."""
        return self.rates.spectrum()

    def stretch(self) -> Tensor:
        """κ = max(1, 8/(λ_min B(T))), (): all rates are raised alike until X_T has forgotten its start.

        With ``forgetting`` f, κ = max(1, max f/λ / B(T)). 1 for a degenerate R⁻¹, whose pace λ_min does not tell.
        """
        spectrum = self.spectrum()
        least = spectrum.amin()
        end = float(self.clock(torch.tensor(self.horizon, dtype=torch.float64)))
        if float(least.detach()) <= 0:
            return torch.ones_like(least)
        if self.forgetting is not None:
            return ((self.forgetting / spectrum).amax() / end).clamp_min(1.0)
        return (PRIOR_DECAY / (least * end)).clamp_min(1.0)

    def restrict(self, basis: Basis, coordinates: slice) -> Self:
        """The same process on a run of coordinates that ``basis`` spans on its own, with rates that are given.

        Raises:
            ValueError: the run cuts blocks of modes, or their order may mix it with other coordinates.
        """
        start, stop, _ = coordinates.indices(self.dim)
        k = self.rates.size
        if self.order is not None or start % k or stop % k:
            raise ValueError(f"coordinates {start} … {stop - 1} are not a run of whole blocks of {k} consecutive modes")
        rates = self.rates.restrict(slice(start // k, stop // k), pace=self.stretch())
        twin = copy.copy(self)
        twin._modules = {**self._modules, "basis": basis, "rates": rates}
        # κ is in the rates, and that of the run alone would be another.
        at_ease = self.mean.new_zeros(rates.n, 1)
        twin._buffers = {**self._buffers, "mean": self.mean[coordinates], "forgetting": at_ease}
        return twin

    def trace(self) -> Tensor:
        """κ tr R⁻¹, ()."""
        return self.stretch() * self.spectrum().sum()

    def elapsed(self, s: Tensor, t: Tensor) -> Tensor:
        """κ (B(t) − B(s)), shape (...)."""
        return self.stretch() * (self.clock(t) - self.clock(s))

    def _pace(self, t: Tensor) -> Tensor:
        """κ b(t), (..., 1)."""
        return (self.stretch() * self.clock.rate(t)).unsqueeze(-1)

    def _act(self, blocks: Tensor, v: Tensor) -> Tensor:
        group = self.grouping
        return self.basis.synthesis(group.join(apply(blocks, group.split(self.basis.analysis(v)))))

    def transition(self, s: Tensor, t: Tensor) -> BlockTransition:  # type: ignore[override]
        """The law of X_t given X_s for s ≤ t, shapes (...)."""
        symmetric, skew = self.rates()
        phi, covariance = decay(symmetric, skew, self.elapsed(s, t))
        return BlockTransition(self.basis, self.mean, self.grouping, phi, covariance)

    def _from_start(self, t: Tensor) -> BlockTransition:
        return self.transition(torch.zeros_like(t), t)

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """Φ of every mode given x_0, (..., d); ValueError unless k = 1."""
        return self._from_start(t).m

    def variance(self, t: Tensor) -> Tensor:
        """C of every mode given x_0, (..., d); ValueError unless k = 1."""
        return self._from_start(t).variance

    def bridged(
        self, x_0: Tensor, x_t: Tensor, s: Tensor, t: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """A draw of X_s given X_0 and X_t, s ≤ t, shape of x_t.

        A path x_0 → x̃_s → x̃_t is drawn forwards and moved by what it missed x_t by,

            x_s = x̃_s + C_s Φ_{t|s}ᵀ C_t⁻¹ (x_t − x̃_t),

        which has mean and covariance of the bridge and needs no root of the latter. At s = 0 this is x_0.
        """
        first, second, whole = self._from_start(s), self.transition(s, t), self._from_start(t)
        x_s, _ = first.sample(x_0, generator=generator)
        missed, _ = second.sample(x_s, generator=generator)
        white = solve_upper(whole.factor, solve_lower(whole.factor, whole.blocks(x_t) - whole.blocks(missed)))
        return whole.point(whole.blocks(x_s) + apply(first.covariance, apply(second.phi.mT, white)))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """−κ b (½R⁻¹ + ω)(x − μ)."""
        symmetric, skew = self.rates()
        return -self._pace(t) * self._act(0.5 * symmetric + skew, x - self.mean)

    def diffused(self, v: Tensor, t: Tensor) -> Tensor:
        """κ b R⁻¹ v."""
        return self._pace(t) * self._act(self.rates()[0], v)

    def shaken(self, noise: Tensor, t: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """(κ b step)^{1/2} R^{−1/2} noise."""
        return (self._pace(t) * step).sqrt() * self._act(self.rates.root(), noise)

    def divergence(self, t: Tensor) -> Tensor:
        """The divergence of the drift, −½ κ b tr R⁻¹, shape (...)."""
        return -0.5 * self.clock.rate(t) * self.trace()

    def start(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from N(μ, I), where sampling begins, (n, d)."""
        noise = torch.randn(n, self.dim, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + noise

    def noise_ratio(self, t: Tensor, *, rate: float = -0.5) -> Tensor:
        """ρ = s²/m² for a mode that contracts at ``rate`` under the clock alone; at −½ it is e^B − 1."""
        tau = self.clock(t)
        return tau if rate == 0 else torch.expm1(-2 * rate * tau) / (-2 * rate)

    def time_of_noise(self, rho: Tensor, *, rate: float = -0.5) -> Tensor:
        """The inverse of :meth:`noise_ratio`."""
        return self.clock.inverse(rho if rate == 0 else torch.log1p(-2 * rate * rho) / (-2 * rate))

    def noise_grid(self, steps: int, *, last: float, first: float | None = None) -> Tensor:
        """Times from ``first`` to ``last`` at which ρ of the clock alone falls geometrically, (steps + 1,) float64.

        ``first`` is the horizon if not given.

        Raises:
            ValueError: no steps, or ``last`` not within (0, first).
        """
        ends = [last, self.horizon if first is None else first]
        lowest, highest = self.noise_ratio(torch.tensor(ends, dtype=torch.float64)).tolist()
        return log_noise_grid(self.time_of_noise, lowest=lowest, highest=highest, steps=steps)


def _learned(
    basis: Basis, size: int, learn: Collection[Part], mean: Tensor | None, clock: Clock | None, horizon: float,
    order: Tensor | None,
) -> FlexibleDiffusion:  # fmt: skip
    if size < 1 or basis.dim % size:
        raise ValueError(f"blocks of {size} modes do not divide {basis.dim} modes")
    rates = LearnedRates(basis.dim // size, size, learn=learn, dtype=basis.dtype).to(basis.device)
    return FlexibleDiffusion(basis, rates, mean=mean, clock=clock, horizon=horizon, order=order)


def fp_noise(
    basis: Basis, *, mean: Tensor | None = None, clock: Clock | None = None, horizon: float = 1.0
) -> FlexibleDiffusion:
    """FP-Noise: a learned spectrum of R⁻¹ in the basis, ω = 0."""
    return _learned(basis, 1, {"spectrum"}, mean, clock, horizon, None)


def fp_drift(
    basis: Basis,
    *,
    size: int = 2,
    order: Tensor | None = None,
    mean: Tensor | None = None,
    clock: Clock | None = None,
    horizon: float = 1.0,
) -> FlexibleDiffusion:
    """FP-Drift: a learned ω in blocks of the basis, R = I."""
    return _learned(basis, size, {"drift"}, mean, clock, horizon, order)


def flexible(
    basis: Basis,
    *,
    size: int = 2,
    learn: Collection[Part] = ("spectrum", "rotation", "drift"),
    order: Tensor | None = None,
    mean: Tensor | None = None,
    clock: Clock | None = None,
    horizon: float = 1.0,
) -> FlexibleDiffusion:
    """Learned R⁻¹ and ω in blocks of the basis."""
    return _learned(basis, size, learn, mean, clock, horizon, order)


def dense_flexible(
    dim: int,
    *,
    learn: Collection[Part] = ("spectrum", "rotation", "drift"),
    mean: Tensor | None = None,
    clock: Clock | None = None,
    horizon: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> FlexibleDiffusion:
    """Learned R⁻¹ and ω without structure; for small d."""
    return _learned(Identity(dim, dtype=dtype), dim, learn, mean, clock, horizon, None)
