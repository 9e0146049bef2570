"""The privacy of Gaussian noise, exactly.

A release f(D) + N(0, σ²I) whose L2 sensitivity is Δ is as private as telling N(0, 1) from N(μ, 1) is hard, μ = Δ/σ
(μ-GDP of Dong, Roth and Su 2022). It is (ε, δ)-differentially private if and only if δ ≥ δ(ε; μ),

    δ(ε; μ) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)                     (Balle and Wang 2018, theorem 8),

and releases one after the other, each free to depend on what came out before, compose to μ = √(μ₁² + μ₂² + …): nothing
is lost to a bound, as it would be by Rényi divergences.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr

__all__ = ["compose", "delta_of", "epsilon_of", "mu_of"]


def delta_of(epsilon: float, mu: float) -> float:
    """The least δ at which a μ-GDP release is (ε, δ)-private.

    Args:
        epsilon: ε ≥ 0.
        mu: sensitivity over the standard deviation of the noise, ≥ 0; infinite without noise.

    >>> round(delta_of(1.0, 1.0), 6)
    0.126937
    """
    if mu == 0 or epsilon == math.inf:
        return 0.0
    if mu == math.inf:
        return 1.0
    with_one, without = log_ndtr(mu / 2 - epsilon / mu), log_ndtr(-mu / 2 - epsilon / mu)
    return max(0.0, float(-math.exp(with_one) * math.expm1(min(0.0, epsilon + without - with_one))))


def mu_of(epsilon: float, delta: float) -> float:
    """The largest μ at which a release is (ε, δ)-private; infinite for infinite ε.

    Raises:
        ValueError: ε ≤ 0, or δ outside (0, 1).

    >>> round(1 / mu_of(1.0, 1e-5), 6)
    3.730632
    """
    _check(delta, epsilon=epsilon)
    if epsilon == math.inf:
        return math.inf
    high = 1.0
    while delta_of(epsilon, high) < delta:
        high *= 2
    low = high
    while delta_of(epsilon, low) > delta:
        low /= 2
    if low == high:
        return low
    found = float(brentq(lambda mu: delta_of(epsilon, mu) - delta, low, high, xtol=1e-14 * high, rtol=1e-14))
    # The root may lie on the wrong side of the promise by its tolerance.
    return found * (1 - 1e-9)


def epsilon_of(mu: float, delta: float) -> float:
    """The least ε at which a μ-GDP release is (ε, δ)-private; infinite without noise.

    Raises:
        ValueError: μ < 0, or δ outside (0, 1).

    >>> round(epsilon_of(mu_of(3.0, 1e-6), 1e-6), 9)
    3.0
    """
    _check(delta)
    if not mu >= 0:
        raise ValueError(f"mu must be at least 0, got {mu}")
    if mu == math.inf:
        return math.inf
    if delta_of(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while delta_of(high, mu) > delta:
        high *= 2
    return float(brentq(lambda epsilon: delta_of(epsilon, mu) - delta, 0.0, high, xtol=1e-13, rtol=1e-14))


def compose(*mus: float) -> float:
    """μ of several releases together.

    >>> compose(3.0, 4.0)
    5.0
    """
    return math.hypot(*mus)


def _check(delta: float, *, epsilon: float = 1.0) -> None:
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")
