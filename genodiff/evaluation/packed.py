"""Genotypes packed to bits, for pairwise counts over many pairs of sites at the speed of memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedSites"]

_CHUNK_BYTES = 1 << 25


def _bits(states: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(sites, words) bits of a (rows, sites) mask, padded with zeros."""
    packed = np.packbits(np.ascontiguousarray(states.T), axis=1)
    padding = -packed.shape[1] % 8
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, padding)))).view(np.uint64)


@dataclass(frozen=True)
class PackedSites:
    """One bit a row and site for every threshold of the state.

    A state x in {0, 1, 2} is the sum of the bits ``x ≥ 1`` and ``x ≥ 2``, so that sums of products over rows are counts
    of bits that two sites have in common.

    Attributes:
        planes: for each threshold, uint64 (sites, words).
        called: uint64 (sites, words), or ``None`` where no call is missing.
        n_rows: number of rows packed.
    """

    planes: tuple[NDArray[np.uint64], ...]
    called: NDArray[np.uint64] | None
    n_rows: int

    @classmethod
    def pack(cls, rows: NDArray[np.int8]) -> PackedSites:
        """Pack int8 (rows, sites) with states 0/1 or 0/1/2, −1 missing."""
        top = max(int(rows.max(initial=1)), 1)
        called = _bits(rows >= 0) if (rows < 0).any() else None
        return cls(tuple(_bits(rows >= k) for k in range(1, top + 1)), called, rows.shape[0])

    def r2(self, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Squared correlation of states over the rows where both sites are called.

        On haplotypes this is the r² of linkage disequilibrium; on dosages that of Rogers and Huff.

        Args:
            pairs: (pairs, 2) site indices.

        Returns:
            (pairs,) in [0, 1]; NaN where a site does not vary.
        """
        out = np.empty(len(pairs))
        words = self.planes[0].shape[1]
        chunk = max(1, _CHUNK_BYTES // (8 * max(words, 1)))
        for start in range(0, len(pairs), chunk):
            part = slice(start, start + chunk)
            out[part] = self._r2(pairs[part, 0], pairs[part, 1])
        return out

    def _r2(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float64]:
        a, b = [p[i] for p in self.planes], [p[j] for p in self.planes]
        if self.called is None:
            n = np.full(len(i), float(self.n_rows))
            totals = np.stack([_count(p) for p in self.planes])
            count_a, count_b = totals[:, i], totals[:, j]
        else:
            call_a, call_b = self.called[i], self.called[j]
            n = _count(call_a & call_b)
            count_a = np.stack([_count(p & call_b) for p in a])
            count_b = np.stack([_count(p & call_a) for p in b])
        # Thresholds k = 1, 2 add 1 and 3 to x²: (0, 1, 4) at x = (0, 1, 2).
        weight = 2 * np.arange(1, len(a) + 1) - 1
        sum_a, sum_b = count_a.sum(axis=0), count_b.sum(axis=0)
        cross = sum(_count(p & q) for p in a for q in b)
        # Counts are whole numbers below 2^53, so that these three lines are exact.
        covariance = n * cross - sum_a * sum_b
        variance_a = n * (weight @ count_a) - sum_a**2
        variance_b = n * (weight @ count_b) - sum_b**2
        scale = variance_a * variance_b
        return np.divide(covariance**2, scale, out=np.full(len(i), np.nan), where=scale > 0)


def _count(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.bitwise_count(words).sum(axis=1, dtype=np.int64).astype(np.float64)
