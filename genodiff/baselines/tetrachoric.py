"""Correlation of latent normals from how often states occur together.

A state is the number of thresholds a standard normal exceeds: one threshold for the allele of a haplotype, two for a
dosage. With a = Φ⁻¹(P(x ≥ i)) and b = Φ⁻¹(P(y ≥ j)) the mean product of two states is a sum of orthant probabilities,

    E[xy] = Σᵢⱼ P(x ≥ i, y ≥ j) = Σᵢⱼ Φ₂(aᵢ, bⱼ; ρ),

which grows with ρ. Solved for ρ this is the tetrachoric correlation (Pearson 1900) where there is one threshold each;
with two it is the correlation that gives back the covariance of the dosages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

__all__ = ["latent_correlation"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_TOLERANCE = 1e-10
_STEPS = 60
_LONGEST = 0.4
_SHARE = 0.75
"""A step is no longer than 0.4 radians and leaves a quarter of the way to π/2, where thresholds that are all but equal
make the slope drop within |a − b| radians of the end: the quadrature of one step is then exact to the tolerance."""


def _slope(angle: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """dE[xy]/dθ at ρ = sin θ, 0 ≤ θ ≤ π/2.

    Plackett's (1954) identity ∂Φ₂/∂ρ = φ₂(a, b; ρ) with dρ = cos θ dθ, which cancels the root in φ₂:
    exp(−(a² + b² − 2ab sin θ) / (2 cos² θ)) / 2π. Written through a − b it stays accurate as θ → π/2.

    Args:
        angle: (..., pairs).
        a, b: (pairs, levels).
    """
    sine = np.sin(angle)
    cosine = np.maximum(np.cos(angle), 1e-150)
    total = np.zeros_like(angle)
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            across, product = a[:, i] - b[:, j], a[:, i] * b[:, j]
            total += np.exp(-0.5 * np.square(across / cosine) - product / (1 + sine))
    return total / (2 * np.pi)


def _advance(
    start: NDArray[np.float64], stop: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral of :func:`_slope` from ``start`` to ``stop``, (pairs,), by Gauss–Legendre quadrature."""
    half = (stop - start) / 2
    inner = _slope((start + stop) / 2 + half * _NODES[:, None], a, b)
    return half * (_WEIGHTS @ inner)


def latent_correlation(
    product: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    count: NDArray[np.float64] | float | None = None,
) -> NDArray[np.float64]:
    """The ρ for which the mean product of two states is what was seen.

    Newton's method in θ = arcsin ρ, with bisection where a step leaves the bracket. The probability is carried along by
    integrating its derivative over each step, so that its error is that of a few short quadratures.

    Args:
        product: mean product of the two states, (pairs,).
        a, b: Φ⁻¹ of the probability of exceeding each threshold, (pairs, levels), finite.
        count: number of observations behind ``product``. Where given, a product at or next to its bound is moved half
            an observation inside (Brown and Benedetti 1977): two rare alleles that were never seen together would have
            correlation −1 without. States that always agree, or always differ, keep ±1.

    Returns:
        ρ in [−1, 1], (pairs,); a product outside its bounds gives ±1.
    """
    p, q = ndtr(a), ndtr(b)
    independent = p.sum(1) * q.sum(1)
    negative = product < independent
    # Only 0 ≤ θ ≤ π/2 is walked: with −b for b the sign of ρ turns.
    b = np.where(negative[:, None], -b[:, ::-1], b)
    q = np.where(negative[:, None], 1 - q[:, ::-1], q)
    target = np.where(negative, b.shape[1] * p.sum(1) - product, product)
    value = p.sum(1) * q.sum(1)
    most = np.minimum(p[:, :, None], q[:, None, :]).sum((1, 2))
    tied = (np.abs(p - q).max(1) < 1e-9) & (target > most - 1e-9)
    if count is not None:
        target = np.maximum(np.minimum(target, most - 0.5 / np.asarray(count)), value)
    angle = np.where(tied | (target >= most), np.pi / 2, 0.0)
    low, high = np.zeros_like(angle), np.full_like(angle, np.pi / 2)
    active = np.flatnonzero(angle == 0.0)
    for _ in range(_STEPS):
        gap = target[active] - value[active]
        active, gap = active[np.abs(gap) > _TOLERANCE], gap[np.abs(gap) > _TOLERANCE]
        if not len(active):
            break
        here, x, y = angle[active], a[active], b[active]
        low[active] = np.where(gap > 0, here, low[active])
        high[active] = np.where(gap > 0, high[active], here)
        newton = here + gap / np.maximum(_slope(here, x, y), 1e-300)
        inside = (newton > low[active]) & (newton < high[active])
        wanted = np.where(inside, newton, (low[active] + high[active]) / 2)
        left = np.pi / 2 - here
        back, forth = np.minimum(_LONGEST, left * _SHARE / (1 - _SHARE)), np.minimum(_LONGEST, left * _SHARE)
        there = np.clip(wanted, here - back, here + forth)
        value[active] += _advance(here, there, x, y)
        angle[active] = there
    return np.where(negative, -1.0, 1.0) * np.sin(angle)
