"""The paper's list of errors (§7), what it prints for them, and tables of results over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BINS",
    "METRICS",
    "PAPER",
    "Check",
    "Results",
    "Target",
    "histogram_kl",
    "paper_metrics",
    "verdicts",
    "wasserstein_1d",
]

METRICS: dict[str, str] = {
    "mean_error": "mean absolute error of the means",
    "mean_error_1": "error of the mean, x₁",
    "mean_error_2": "error of the mean, x₂",
    "sd_error": "mean absolute error of the standard deviations",
    "sd_error_1": "error of the standard deviation, x₁",
    "sd_error_2": "error of the standard deviation, x₂",
    "cov_frobenius": "Frobenius norm of the difference of covariances",
    "corr_frobenius": "Frobenius norm of the difference of correlations",
    "w2": "2-Wasserstein distance of marginals, first coordinates",
    "w2_1": "2-Wasserstein distance, x₁",
    "w2_2": "2-Wasserstein distance, x₂",
    "histogram_kl": "KL divergence of histograms (nats)",
    "copied": "share within 0.02 of a training point",
}
"""Name of every metric and what a table calls it, in the order of tables."""

BINS = 50
"""Equal bins between the least and the largest reference value; one open bin on either side takes what lies beyond."""

PAPER: dict[str, dict[str, dict[str, float]]] = {
    "Table 1": {
        "isotropic": {
            "mean_error_1": 0.52, "mean_error_2": 0.12, "sd_error_1": 3.07, "sd_error_2": 0.13,
            "cov_frobenius": 29.35, "corr_frobenius": 0.19, "w2_1": 3.21, "w2_2": 0.15, "histogram_kl": 17.13,
        },
        "gou": {
            "mean_error_1": 0.003, "mean_error_2": 0.002, "sd_error_1": 0.003, "sd_error_2": 0.002,
            "cov_frobenius": 0.034, "corr_frobenius": 0.00, "w2_1": 0.02, "w2_2": 0.02, "histogram_kl": 0.83,
        },
    },
    "Table 2": {
        "isotropic": {
            "mean_error": 0.43, "sd_error": 2.68, "cov_frobenius": 644.87, "corr_frobenius": 66.61, "w2": 2.47,
            "histogram_kl": 7.73,
        },
        "gou": {
            "mean_error": 0.006, "sd_error": 0.02, "cov_frobenius": 8.74, "corr_frobenius": 16.67, "w2": 0.14,
            "histogram_kl": 2.40,
        },
    },
    "Table 3": {
        "isotropic": {"mean_error": 0.24, "sd_error": 0.73, "cov_frobenius": 165.22, "w2": 0.91},
        "gou": {"mean_error": 0.08, "sd_error": 0.18, "cov_frobenius": 66.99, "w2": 0.24},
    },
}  # fmt: skip
"""What the paper prints: table, column, metric. It averages nothing over seeds and names neither bins nor sizes."""


def wasserstein_1d(a: ArrayLike, b: ArrayLike) -> float:
    """Exact 2-Wasserstein distance of two samples on the line.

    The optimal coupling is the monotone one: sorted values meet where their quantile intervals overlap. For equal sizes
    these are the differences of the sorted values.

    Args:
        a: (n,).
        b: (m,), n and m need not agree.

    Returns:
        the distance, in units of the values.
    """
    x, y = np.sort(np.asarray(a, dtype=np.float64)), np.sort(np.asarray(b, dtype=np.float64))
    if len(x) == len(y):
        return float(np.sqrt(np.mean((x - y) ** 2)))
    n, m = len(x), len(y)
    # Ends of the quantile intervals as whole numbers out of n·m, so that ties are exact.
    ends = np.sort(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))
    mass = np.diff(ends, prepend=0) / (n * m)  # 0 where two intervals end together
    i, j = (ends - 1) // m, (ends - 1) // n
    return float(np.sqrt(mass @ (x[i] - y[j]) ** 2))


def histogram_kl(generated: ArrayLike, reference: ArrayLike) -> float:
    """KL(reference ‖ generated) of two histograms on the line, in nats, with half a count more in every bin (Jeffreys).

    A reference of dosages 0, 1, 2 has one bin per dosage, and generated values count as the dosage nearest to them.
    Any other reference has :data:`BINS` equal bins over its range and an open bin on either side.

    Args:
        generated: (n,).
        reference: (m,).
    """
    p_values, q_values = np.asarray(reference, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if np.isin(p_values, (0.0, 1.0, 2.0)).all():
        inner = np.array([0.5, 1.5])
    else:
        inner = np.linspace(p_values.min(), np.nextafter(p_values.max(), np.inf), BINS + 1)
    p, q = (
        np.bincount(np.searchsorted(inner, v, side="right"), minlength=len(inner) + 1) + 0.5
        for v in (p_values, q_values)
    )
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def _correlation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations; a fixed coordinate has correlation 0 with every other and 1 with itself."""
    sd = np.sqrt(np.diag(covariance))
    # A column of equal numbers may keep a variance of rounding size.
    free = sd > 1e-9
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=free)
    out = covariance * scale[:, None] * scale
    np.fill_diagonal(out, 1.0)
    return out


def paper_metrics(
    generated: NDArray[Any], reference: NDArray[Any], *, per_coordinate: bool = False, leading: int = 5
) -> dict[str, float]:
    """The errors of the paper's tables (§7). All are 0 for equal samples, and none is negative.

    Standard deviations are those of the sample (divisor n), covariances have divisor n − 1, as in the usual numerical
    libraries.

    Args:
        generated: the judged sample (n, d).
        reference: what it is held against (m, d).
        per_coordinate: also errors of the mean and standard deviation and W2 of every coordinate, under the name
            with ``_1``, ``_2``, … appended.
        leading: number of first coordinates whose W2 is averaged.

    Returns:
        value by name of :data:`METRICS`.

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
    """
    x, y = np.asarray(generated, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"samples must have shapes (n, d) and (m, d) with n, m >= 2, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("samples hold values that are not finite")
    d = x.shape[1]
    mean_error, sd_error = np.abs(x.mean(0) - y.mean(0)), np.abs(x.std(0) - y.std(0))
    cov_x, cov_y = (np.atleast_2d(np.cov(v, rowvar=False)) for v in (x, y))
    measured = range(d) if per_coordinate else range(min(leading, d))
    w2 = [wasserstein_1d(x[:, j], y[:, j]) for j in measured]
    out = {
        "mean_error": float(mean_error.mean()),
        "sd_error": float(sd_error.mean()),
        "cov_frobenius": float(np.linalg.norm(cov_x - cov_y)),
        "corr_frobenius": float(np.linalg.norm(_correlation(cov_x) - _correlation(cov_y))),
        "w2": float(np.mean(w2[:leading])),
        "histogram_kl": float(np.mean([histogram_kl(x[:, j], y[:, j]) for j in range(d)])),
    }
    if per_coordinate:
        for j in range(d):
            out[f"mean_error_{j + 1}"] = float(mean_error[j])
            out[f"sd_error_{j + 1}"] = float(sd_error[j])
            out[f"w2_{j + 1}"] = w2[j]
    return out


@dataclass
class Results:
    """Metrics of methods against references, one row per seed.

    A floor is a method of its own, named "floor (…)": what real data in the place of generated data attains.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, method: str, against: str, seed: int, metrics: Mapping[str, float]) -> None:
        """Takes in the metrics of one run.

        Args:
            method: what generated the data.
            against: what it was held against: "train", "test", "truth", ….
            seed: of the run.
            metrics: value by name.
        """
        self.rows += [
            {"method": method, "against": against, "seed": seed, "metric": name, "value": float(value)}
            for name, value in metrics.items()
        ]

    def long(self) -> pd.DataFrame:
        """One row per method, reference, seed and metric: method, against, seed, metric, value."""
        return pd.DataFrame(self.rows, columns=["method", "against", "seed", "metric", "value"])

    def frame(self) -> pd.DataFrame:
        """Over seeds: method, against, metric, mean, sd (divisor n − 1; NaN for one seed), seeds (their number)."""
        groups = self.long().groupby(["method", "against", "metric"], sort=False)["value"]
        return groups.agg(mean="mean", sd="std", seeds="count").reset_index()

    @property
    def seeds(self) -> list[int]:
        """All seeds, ascending."""
        return sorted({row["seed"] for row in self.rows})


@dataclass(frozen=True)
class Target:
    """A limit on the mean of one metric over seeds.

    Attributes:
        method, against, metric: the row of :meth:`Results.frame` that is judged.
        limit: largest value allowed.
        what: the target in words, for the page.
    """

    method: str
    against: str
    metric: str
    limit: float
    what: str = ""


@dataclass(frozen=True)
class Check:
    """A target and what became of it.

    Attributes:
        metric: name of the metric.
        value: what was measured.
        limit: largest value allowed.
        met: whether it was.
        what: the target in words.
    """

    metric: str
    value: float
    limit: float
    met: bool
    what: str


def verdicts(frame: pd.DataFrame, targets: Iterable[Target]) -> list[Check]:
    """Judges targets on a frame of :meth:`Results.frame`; a metric that was not measured is a target missed."""
    means = frame.set_index(["method", "against", "metric"])["mean"]
    checks = []
    for target in targets:
        value = float(means.get((target.method, target.against, target.metric), math.nan))
        what = target.what or f"{target.method} against {target.against}"
        checks.append(Check(target.metric, value, target.limit, value <= target.limit, what))
    return checks
