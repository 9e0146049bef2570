"""First and second moments of dosages, and their one-dimensional distributions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genodiff.evaluation.frequencies import genotype_frequencies
from genodiff.evaluation.panels import Comparison, Panel
from genodiff.evaluation.results import FamilyResult, Metric

__all__ = ["Moments", "family", "frobenius_distance", "histogram_kl", "moments", "wasserstein_per_site"]

MAX_SITES = 8_000
"""Above this many sites the Frobenius norms use a random subset."""

SUBSET_SITES = 5_000
"""Size of that subset."""

_BLOCK_ROWS = 2_048


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of dosages, (sites,); NaN where nobody is called."""

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def moments(dosage: NDArray[np.int8]) -> Moments:
    """Mean and (population) standard deviation of called dosages per site.

    Args:
        dosage: int8 (people, sites), 0/1/2, −1 missing.
    """
    p = genotype_frequencies(dosage)
    mean = p[1] + 2 * p[2]
    return Moments(mean, np.sqrt(np.maximum(p[1] + 4 * p[2] - mean**2, 0)))


def _factor(dosage: NDArray[np.int8], *, standardise: bool) -> NDArray[np.float64]:
    """Z with Zᵀ Z = covariance (or correlation): centred, scaled, missing calls and fixed sites at 0."""
    m = moments(dosage)
    centred = np.where(dosage < 0, 0.0, dosage - np.nan_to_num(m.mean))
    if standardise:
        # The norm of the column itself, and not sd · √n: with missing calls the two differ, and a correlation
        # matrix has ones on its diagonal. A fixed site has no correlation with anything: it stays 0.
        norm = np.sqrt((centred**2).sum(axis=0))
        return np.divide(centred, norm, out=centred, where=norm > 1e-9)
    return centred / np.sqrt(max(len(dosage) - 1, 1))


def _squared_gram(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """‖A Bᵀ‖²_F in blocks of rows."""
    return float(
        sum(
            np.square(a[i : i + _BLOCK_ROWS] @ b[j : j + _BLOCK_ROWS].T).sum()
            for i in range(0, len(a), _BLOCK_ROWS)
            for j in range(0, len(b), _BLOCK_ROWS)
        )
    )


def frobenius_distance(a: NDArray[np.int8], b: NDArray[np.int8], *, correlation: bool = False) -> float:
    """Frobenius norm of the difference between two covariance (or correlation) matrices of dosages.

    With Z the centred data, ‖AᵀA − BᵀB‖² = ‖AAᵀ‖² − 2‖ABᵀ‖² + ‖BBᵀ‖²: matrices of people by people, so that memory does
    not grow with the square of the number of sites. Float64 keeps the cancellation harmless.

    Args:
        a, b: int8 (people, sites), 0/1/2, −1 missing (taken as the mean of the site).
        correlation: correlation in place of covariance; a fixed site correlates with nothing, not even itself.
    """
    x, y = _factor(a, standardise=correlation), _factor(b, standardise=correlation)
    squared = _squared_gram(x, x) - 2 * _squared_gram(x, y) + _squared_gram(y, y)
    return float(np.sqrt(max(squared, 0.0)))


def wasserstein_per_site(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """Exact 2-Wasserstein distance between the dosage distributions at every site.

    On a line the optimal coupling is the monotone one; its mass on (i, j) is the overlap of two quantile intervals.

    Args:
        a, b: int8 (people, sites), 0/1/2, −1 missing.

    Returns:
        (sites,), in dosage; NaN where nobody is called in one of them.
    """
    f, g = (np.cumsum(genotype_frequencies(x), axis=0) for x in (a, b))
    zero = np.zeros((1, f.shape[1]))
    f, g = np.vstack([zero, f]), np.vstack([zero, g])
    cost = np.zeros(f.shape[1])
    for i in range(3):
        for j in range(3):
            mass = np.minimum(f[i + 1], g[j + 1]) - np.maximum(f[i], g[j])
            cost += (i - j) ** 2 * np.maximum(mass, 0)
    return np.sqrt(cost)


def histogram_kl(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """Kullback–Leibler divergence KL(b ‖ a) of dosage histograms at every site, in nats.

    Half a count is added to every cell (Jeffreys), so that a dosage absent from ``a`` costs much but not infinity.

    Args:
        a: int8 (people, sites), the judged people.
        b: int8 (people, sites), the reference.
    """
    p, q = (np.stack([(x == k).sum(axis=0) for k in range(3)]) + 0.5 for x in (b, a))
    p, q = p / p.sum(axis=0), q / q.sum(axis=0)
    return (p * np.log(p / q)).sum(axis=0)


def _against(panel: Panel, holdout: Panel, subset: NDArray[np.int64]) -> dict[str, float]:
    m, m_t = moments(panel.dosage), moments(holdout.dosage)
    a, b = panel.dosage[:, subset], holdout.dosage[:, subset]
    return {
        "mean_error": float(np.nanmean(np.abs(m.mean - m_t.mean))),
        "sd_error": float(np.nanmean(np.abs(m.sd - m_t.sd))),
        "cov_frobenius": frobenius_distance(a, b),
        "corr_frobenius": frobenius_distance(a, b, correlation=True),
        "w2_per_site": float(np.nanmean(wasserstein_per_site(panel.dosage, holdout.dosage))),
        "histogram_kl": float(np.mean(histogram_kl(panel.dosage, holdout.dosage))),
    }


_UNITS = {
    "mean_error": "dosage (sites)",
    "sd_error": "dosage (sites)",
    "cov_frobenius": "dosage² (sites)",
    "corr_frobenius": "correlation (sites)",
    "w2_per_site": "dosage (sites)",
    "histogram_kl": "nats (sites)",
}


def family(comparison: Comparison) -> FamilyResult:
    """Moments of dosages of S against T, with R in the place of S as the floor.

    Metrics: ``mean_error``, ``sd_error`` (mean absolute difference per site), ``cov_frobenius``, ``corr_frobenius``
    (norm of the difference of the matrices; above 8,000 sites on a random 5,000, which ``n`` shows), ``w2_per_site``
    (mean 2-Wasserstein distance) and ``histogram_kl`` (mean KL(T ‖ S)).
    """
    n = comparison.n_sites
    subset = np.arange(n)
    if n > MAX_SITES:
        generator = comparison.generator("covariance sites")
        subset = np.sort(generator.choice(n, SUBSET_SITES, replace=False))
    value, floor = (_against(p, comparison.holdout, subset) for p in (comparison.synthetic, comparison.train))
    return FamilyResult(
        tuple(
            Metric("covariance", name, value[name], floor[name], len(subset) if "frobenius" in name else n, unit)
            for name, unit in _UNITS.items()
        )
    )
