"""Some sites of many: those that are not linked to one another, or those of another table.

Both are choices that :func:`data_prep.readers.read_variants` asks block by block, so that the memory they take follows
what is kept.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.records import SiteBlock

__all__ = ["AtSites", "Unlinked"]


class Unlinked:
    """Chooses sites whose dosages are not correlated with those of the sites kept shortly before.

    Args:
        r2: largest squared correlation of dosages, in (0, 1], with any of the last ``memory`` sites kept.
        maf: least minor-allele frequency, in [0, 0.5].
        memory: how many kept sites a new one is compared with.
        people: rows of the block that count, all if ``None``.

    Attributes:
        passed: positions (bp) of all sites seen, chosen or not.
    """

    def __init__(
        self, *, r2: float = 0.2, maf: float = 0.05, memory: int = 50, people: NDArray[np.intp] | None = None
    ) -> None:
        if not 0 < r2 <= 1:
            raise ValueError(f"r2 must lie in (0, 1], got {r2}")
        self._r2, self._maf, self._memory, self._people = r2, maf, memory, people
        self._kept: NDArray[np.float32] | None = None
        self.passed: list[NDArray[np.int64]] = []

    def __call__(self, block: SiteBlock) -> NDArray[np.bool_]:
        self.passed.append(np.asarray(block.position))
        chosen = np.zeros(len(block.position), dtype=bool)
        haplotypes = block.haplotypes if self._people is None else block.haplotypes[:, self._people]
        rows, frequency = _standardised(haplotypes)
        kept = np.empty((0, rows.shape[1]), dtype=np.float32) if self._kept is None else self._kept
        common = np.flatnonzero(np.minimum(frequency, 1 - frequency) >= self._maf)
        with_kept = (rows[common] @ kept.T) ** 2 if len(common) else np.empty((0, len(kept)))
        with_each = (rows[common] @ rows[common].T) ** 2
        found: list[int] = []
        for i in range(len(common)):
            older = max(0, len(kept) + len(found) - self._memory)
            linked = (with_kept[i, older:] > self._r2).any()
            if not linked and not (with_each[i, found[-self._memory :]] > self._r2).any():
                found.append(i)
        chosen[common[found]] = True
        self._kept = np.concatenate([kept, rows[chosen]])[-self._memory :]
        return chosen


def _standardised(haplotypes: NDArray[np.int8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Dosages (sites, people) of mean 0 and length 1, missing calls at the mean; frequencies of ALT (sites,)."""
    called = (haplotypes >= 0).all(axis=2)
    dosage = np.where(called, haplotypes.sum(axis=2, dtype=np.int8), 0).astype(np.float32)
    mean = (dosage.sum(axis=1) / np.maximum(called.sum(axis=1), 1)).astype(np.float32)
    rows = np.where(called, dosage - mean[:, None], np.float32(0))
    length = np.sqrt((rows**2).sum(axis=1))
    rows /= np.where(length > 0, length, np.float32(1))[:, None]
    return rows, (mean / 2).astype(np.float64)


class AtSites:
    """Chooses the sites of a table, by position and alleles; the name of the contig may carry ``chr`` or not.

    Args:
        sites: with the columns ``position``, ``ref`` and ``alt``, of one contig.
    """

    def __init__(self, sites: pd.DataFrame) -> None:
        self._keys = frozenset(zip(sites["position"], sites["ref"], sites["alt"], strict=True))

    def __call__(self, block: SiteBlock) -> NDArray[np.bool_]:
        keys = zip(block.position.tolist(), block.ref, block.alt, strict=True)
        return np.fromiter((key in self._keys for key in keys), dtype=bool, count=len(block.position))
