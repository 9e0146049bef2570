"""Hamming distances between rows, exact, by matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hamming", "nearest"]

_SITE_CHUNK = 4_096
_ROW_CHUNK = 2_048


def _planes(rows: NDArray[np.int8], top: int) -> NDArray[np.float32]:
    """States as 0/1 thresholds ``x ≥ 1``, ``x ≥ 2`` side by side: their Hamming distance counts differing alleles."""
    return np.concatenate([(rows >= k).astype(np.float32) for k in range(1, top + 1)], axis=1)


def hamming(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float32]:
    """Number of alleles by which every row of ``a`` differs from every row of ``b``.

    |x − y| = |x| + |y| − 2 x·y for 0/1 vectors; all terms are whole numbers below 2²⁴, which float32 holds exactly.

    Args:
        a: int8 (n, sites), states 0/1 (or 0/1/2), no missing call.
        b: int8 (m, sites), likewise.

    Returns:
        float32 (n, m). Sites where haplotypes differ; for genotypes the sum of absolute differences of dosage.
    """
    out = np.zeros((len(a), len(b)), dtype=np.float32)
    top = max(int(a.max(initial=1)), int(b.max(initial=1)))
    for start in range(0, a.shape[1], _SITE_CHUNK):
        x, y = (_planes(m[:, start : start + _SITE_CHUNK], top) for m in (a, b))
        out += x.sum(axis=1)[:, None]
        out += y.sum(axis=1)[None, :]
        x *= -2
        for row in range(0, len(a), _ROW_CHUNK):
            out[row : row + _ROW_CHUNK] += x[row : row + _ROW_CHUNK] @ y.T
    return out


def nearest(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float32]:
    """Distance of every row of ``a`` to the closest row of ``b``, float32 (n,); memory does not grow with n · m."""
    out = np.full(len(a), np.inf, dtype=np.float32)
    for i in range(0, len(a), _ROW_CHUNK):
        part = slice(i, i + _ROW_CHUNK)
        for j in range(0, len(b), _ROW_CHUNK):
            out[part] = np.minimum(out[part], hamming(a[part], b[j : j + _ROW_CHUNK]).min(axis=1))
    return out
