"""Kinship from genotypes alone, without allele frequencies: KING-robust (Manichaikul et al. 2010).

Over a whole genome φ is ½ for the same person, ¼ for a parent, 1/16 for a first cousin. A region is not a genome:
strangers who inherited one of its common haplotypes look like siblings there, so that a coefficient means something
beside that of real strangers in the same region alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genodiff.evaluation.panels import Panel

__all__ = ["COUSIN", "TWIN", "dosages", "king_robust", "nearest_kinship"]

COUSIN = 1 / 16
"""Kinship of first cousins."""

TWIN = 2**-1.5
"""Kinship above which KING calls two samples one person, or identical twins."""

_CHUNK = 2_048


def dosages(panel: Panel) -> NDArray[np.int8]:
    """Dosages (people, sites) from the filled rows of a panel, so that no call is missing."""
    per = panel.rows_per_person
    return panel.filled.reshape(-1, per, panel.filled.shape[1]).sum(axis=1, dtype=np.int8)


def king_robust(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """φ = ½ − Σ (x − y)² / (4 · heterozygous sites of whoever has fewer), for every person of ``a`` with each of ``b``.

    This is eq. 11 of the paper, for (x − y)² is 4 where two people are opposite homozygotes and 1 where one of them
    alone is heterozygous.

    Args:
        a: int8 (n, sites), dosages 0/1/2, no missing call.
        b: int8 (m, sites), likewise.

    Returns:
        float64 (n, m), at most ½. Without a heterozygous site in one of the two it is ½ if they are equal, else −∞.
    """
    x, y = a.astype(np.float32), b.astype(np.float32)
    # Whole numbers below 2²⁴, which float32 holds exactly up to four million sites.
    apart = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * (x @ y.T)
    fewer = np.minimum((a == 1).sum(axis=1)[:, None], (b == 1).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = 0.5 - apart.astype(np.float64) / (4 * fewer)
    return np.where(apart == 0, 0.5, phi)


def nearest_kinship(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """Largest kinship of each person of ``a`` with anybody of ``b``, (n,)."""
    parts = [
        np.max(
            [king_robust(a[i : i + _CHUNK], b[j : j + _CHUNK]).max(axis=1) for j in range(0, len(b), _CHUNK)], axis=0
        )
        for i in range(0, len(a), _CHUNK)
    ]
    return np.concatenate(parts)
