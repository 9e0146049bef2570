"""Tied sites: neighbours that tell the same people apart are one variable, not two.

An eighth of the common sites, and a quarter of those at 1–2 % frequency, divide the haplotypes of a sample just as a
neighbour does: the variants arose on one branch of the genealogy. A model that draws each of them anew breaks ties that
real people never break. Such sites are learned and drawn once, by their first member, and written out for all.

Others divide the haplotypes nearly so: a later mutation, or an error, sets a few of thousands apart. A model cannot
tell these few from noise and breaks the tie five times as often. Such sites are learned and drawn as all others, since
how many sites a branch has says how long it is, but written out after the one they follow; the alleles that differ are
drawn at random, as often as they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.variants import MISSING

__all__ = ["Ties", "find_ties"]

_LEAST_CARRIERS = 8
_REACH = 500
_MOST_APART = 0.0015
"""Share of haplotypes at which sites that are nearly tied may differ."""
_MOST_OF_CARRIERS = 0.1
_LEAST_KNOWN = 0.9
_BLOCK = 1024


@dataclass(frozen=True)
class Ties:
    """Which sites are drawn, and how all sites follow from them.

    Attributes:
        drawn: indices of the sites that are learned and drawn, ascending, (m,).
        follows: for every drawn site, the place of the one it equals but for a few haplotypes, or its own, (m,).
        turned: for every drawn site, whether its ALT allele goes with the REF allele of the one it follows, (m,).
        gained, lost: for every drawn site, the probability of differing from the one it follows where that has REF, and
            where it has ALT, float32 (m,); 0 where it follows none.
        source: for every site, the place in ``drawn`` of the one it equals in all haplotypes, (sites,).
        mirrored: for every site, whether its ALT allele goes with the other's REF allele, (sites,).
    """

    drawn: NDArray[np.int64]
    follows: NDArray[np.int64]
    turned: NDArray[np.bool_]
    gained: NDArray[np.float32]
    lost: NDArray[np.float32]
    source: NDArray[np.int64]
    mirrored: NDArray[np.bool_]

    def expand(self, states: NDArray[np.int8], *, ploidy: int, rng: np.random.Generator) -> NDArray[np.int8]:
        """States at all sites, (rows, sites), from those at the drawn ones, (rows, m)."""
        told = states[:, self.follows]
        for k in np.flatnonzero(self.gained + self.lost):
            told[:, k] ^= rng.random(len(states)) < np.where(told[:, k] == 1, self.lost[k], self.gained[k])
        told[:, self.turned] = ploidy - told[:, self.turned]
        out = told[:, self.source]
        out[:, self.mirrored] = ploidy - out[:, self.mirrored]
        return out


def find_ties(states: NDArray[np.int8], *, ploidy: int, least_carriers: int = _LEAST_CARRIERS) -> Ties:
    """Finds sites whose states equal those of an earlier site within reach, or mirror them, in every row.

    Of haplotypes, also those that do in all but at most .15 % of rows, and a tenth of the carriers of either, where at
    least 90 % are known at both.

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
    follows, turned = np.arange(len(kept)), np.zeros(len(kept), dtype=bool)
    gained, lost = np.zeros((2, len(kept)), dtype=np.float32)
    if ploidy == 1:
        minor_states = np.where(mirrored & known, 1 - states, states)[:, kept]
        follows, gained, lost = _nearly_tied(minor_states, kept, least_carriers=least_carriers)
        turned = mirrored[kept] != mirrored[kept[follows]]
        # What was told of minor alleles is told of REF and ALT.
        alt = mirrored[kept[follows]]
        gained, lost = np.where(alt, lost, gained), np.where(alt, gained, lost)
    return Ties(
        drawn=kept,
        follows=follows,
        turned=turned,
        gained=gained,
        lost=lost,
        source=source,
        mirrored=mirrored != mirrored[kept[source]],
    )


def _nearly_tied(
    states: NDArray[np.int8], place: NDArray[np.int64], *, least_carriers: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The earlier site that each nearly equals, or itself, and the probabilities of differing from it, (m,) each.

    Args:
        states: minor alleles, int8 (rows, m), −1 where unknown.
        place: index of each site among all, ascending.
        least_carriers: minor alleles a site must have.
    """
    m = states.shape[1]
    one, known = (states == 1).astype(np.float32), (states >= 0).astype(np.float32)
    minor = one.sum(0)
    follows = np.arange(m)
    gained, lost = np.zeros((2, m), dtype=np.float32)
    most = _MOST_APART * len(states)
    for lo in range(0, m, _BLOCK):
        hi = min(m, lo + _BLOCK)
        back = int(np.searchsorted(place, place[lo] - _REACH))
        with_one, with_known = one[:, back:hi].T, known[:, back:hi].T
        # Rows with 1 here and 0 there, and the other way round, of sites back … hi − 1 (there) and lo … hi − 1 (here).
        new = (with_known - with_one) @ one[:, lo:hi]
        gone = with_one @ (known[:, lo:hi] - one[:, lo:hi])
        zeros = (with_known - with_one) @ known[:, lo:hi]
        ones = with_one @ known[:, lo:hi]
        for j in range(lo, hi):
            first = int(np.searchsorted(place, place[j] - _REACH)) - back
            there = np.arange(first, j - back)
            apart = new[there, j - lo] + gone[there, j - lo]
            few = np.minimum(minor[there + back], minor[j])
            may = (apart <= np.minimum(most, _MOST_OF_CARRIERS * few)) & (few >= least_carriers)
            may &= follows[there + back] == there + back
            may &= zeros[there, j - lo] + ones[there, j - lo] >= _LEAST_KNOWN * len(states)
            if may.any():
                i = there[may][apart[may].argmin()]
                follows[j] = i + back
                gained[j] = new[i, j - lo] / max(zeros[i, j - lo], 1)
                lost[j] = gone[i, j - lo] / max(ones[i, j - lo], 1)
    return follows, gained, lost
