"""Dosages as numbers: centred, standardised, correlated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["centred", "correlation", "standardised"]


def centred(dosage: NDArray[np.int8]) -> NDArray[np.float64]:
    """Dosages about the mean of their site; a missing call counts as the mean.

    Args:
        dosage: int8 (people, sites), 0/1/2, −1 missing.

    Returns:
        (people, sites).
    """
    called = dosage >= 0
    mean = np.where(called, dosage, 0).sum(axis=0) / np.maximum(called.sum(axis=0), 1)
    return np.where(called, dosage - mean, 0.0)


def standardised(dosage: NDArray[np.int8]) -> NDArray[np.float64]:
    """Dosages of mean 0 and mean square 1 over people, (people, sites); 0 at a site that does not vary."""
    x = centred(dosage)
    sd = np.sqrt(np.mean(x * x, axis=0))
    return np.divide(x, sd, out=np.zeros_like(x), where=sd > 0)


def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations between the columns of two matrices over the same rows.

    Args:
        x: (rows, n).
        y: (rows, m).

    Returns:
        (n, m), in [−1, 1]; NaN where a column does not vary.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.sqrt(np.outer((x * x).sum(axis=0), (y * y).sum(axis=0)))
    return np.divide(x.T @ y, scale, out=np.full(scale.shape, np.nan), where=scale > 0).clip(-1.0, 1.0)
