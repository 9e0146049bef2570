"""Tied sites: neighbours that tell the same people apart are one variable, not two.

An eighth of the common sites, and a quarter of those at 1–2 % frequency, divide the haplotypes of a sample just as a
neighbour does: the variants arose on one branch of the genealogy. A model that draws each of them anew breaks ties that
real people never break. Such sites are learned and drawn once, by their first member, and written out for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.variants import MISSING

__all__ = ["Ties", "find_ties"]

_LEAST_CARRIERS = 8
_REACH = 500


@dataclass(frozen=True)
class Ties:
    """Which sites are drawn, and how all sites follow from them.

    Attributes:
        drawn: indices of the sites that are learned and drawn, ascending, (m,).
        source: for every site, the place in ``drawn`` of the one it follows, (sites,).
        mirrored: for every site, whether its ALT allele goes with the other's REF allele, (sites,).
    """

    drawn: NDArray[np.int64]
    source: NDArray[np.int64]
    mirrored: NDArray[np.bool_]

    def expand(self, states: NDArray[np.int8], *, ploidy: int) -> NDArray[np.int8]:
        """States at all sites, (rows, sites), from those at the drawn ones, (rows, m)."""
        out = states[:, self.source]
        columns = np.flatnonzero(self.mirrored)
        out[:, columns] = ploidy - out[:, columns]
        return out


def find_ties(states: NDArray[np.int8], *, ploidy: int, least_carriers: int = _LEAST_CARRIERS) -> Ties:
    """Finds sites whose states equal those of an earlier site within reach, or mirror them, in every row.

    Args:
        states: int8 (rows, sites), −1 where unknown; unknown calls must coincide too.
        ploidy: largest state.
        least_carriers: minor alleles a site must have. Few carriers coincide by chance, and private variants of one
            person must not be tied into a signature of that person.
    """
    sites = states.shape[1]
    # Mirrored sites become equal when every site is told by its minor allele; half-and-half ones by their first
    # homozygous row.
    known = states >= 0
    alt = np.where(known, states, 0).sum(0, dtype=np.int64)
    most = ploidy * known.sum(0)
    first = states[np.argmax(known & (2 * states != ploidy), axis=0), np.arange(sites)]
    mirrored = (2 * alt > most) | ((2 * alt == most) & (first == ploidy))
    minor = np.where(mirrored, most - alt, alt)
    drawn: list[int] = []
    source = np.empty(sites, dtype=np.int64)
    seen: dict[bytes, int] = {}
    for j in range(sites):
        column = states[:, j]
        if mirrored[j]:
            column = np.where(column >= 0, ploidy - column, np.int8(MISSING)).astype(np.int8)
        key = column.tobytes()
        at = seen.get(key)
        if at is None or minor[j] < least_carriers or j - drawn[at] > _REACH:
            seen[key] = at = len(drawn)
            drawn.append(j)
        source[j] = at
    kept = np.asarray(drawn, dtype=np.int64)
    return Ties(drawn=kept, source=source, mirrored=mirrored != mirrored[kept[source]])
