"""What an attacker who knows a person's common sites learns of their rare alleles.

The attacker looks up the synthetic rows nearest to the known sites of a row and takes their rare alleles for the
person's. That works on anybody to some degree, because rare alleles travel on long haplotypes: what the population
gives away is no leak. A leak is what works better on people who were learned from than on people who were not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genodiff.evaluation.intervals import Interval, ratio, wald

__all__ = ["RARE", "Disclosure", "carrier_ranks", "disclosure", "guesses"]

RARE = 0.05
"""Frequency among training people below which an allele is rare; sites above it are known to the attacker."""

_NEIGHBOURS = 10


def guesses(distance: NDArray[Any], carried: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much speaks for each rare allele in each row: the nearest synthetic rows vote, the k-th with weight 1/k.

    Args:
        distance: of attacked rows to synthetic rows at the known sites, (n, m).
        carried: whether a synthetic row carries the rare allele, (m, sites).

    Returns:
        float32 (n, sites).
    """
    k = min(_NEIGHBOURS, distance.shape[1])
    some = np.argpartition(distance, k - 1, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(distance, some, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(some, order, axis=1)
    out = np.zeros((len(distance), carried.shape[1]), dtype=np.float32)
    for rank in range(k):
        out += carried[nearest[:, rank]] * np.float32(1 / (rank + 1))
    return out


def carrier_ranks(score: NDArray[np.float32], carries: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of non-carriers of the same site whose score a carrier exceeds, ties counting half.

    Their mean over the carriers of a site is the area under its ROC curve.

    Args:
        score: (n, sites).
        carries: the truth, (n, sites).

    Returns:
        (n, sites), NaN for those who do not carry the allele, and where everybody does.
    """
    out = np.full(score.shape, np.nan)
    for j in range(score.shape[1]):
        chosen = carries[:, j]
        if not chosen.any() or chosen.all():
            continue
        others = np.sort(score[~chosen, j])
        own = score[chosen, j]
        sides = (np.searchsorted(others, own, side=side) for side in ("left", "right"))
        out[chosen, j] = sum(sides) / (2 * len(others))
    return out


@dataclass(frozen=True)
class Disclosure:
    """Areas under the ROC curve, means over sites.

    Attributes:
        members: of the attack on people who were learned from.
        advantage: what it exceeds that of the attack on others by.
        n_sites: sites with a carrier on both sides.
    """

    members: Interval
    advantage: Interval
    n_sites: int


def disclosure(members: NDArray[np.float64], others: NDArray[np.float64], *, rows_per_person: int = 1) -> Disclosure:
    """Compares the ranks of carriers among members and among others, site by site.

    A site with n carriers among members and m among others weighs n m / (n + m) (Mantel–Haenszel) on both sides, so
    that both areas are means over the same sites. Intervals take people as the unit.

    Args:
        members: :func:`carrier_ranks` of members, (rows, sites).
        others: of others, at the same sites.
        rows_per_person: rows of a person.
    """
    counts = [np.isfinite(r).sum(axis=0) for r in (members, others)]
    weight = np.divide(counts[0] * counts[1], counts[0] + counts[1], where=counts[0] + counts[1] > 0, out=np.zeros(
        members.shape[1]))  # fmt: skip
    found = []
    for ranks, count in zip((members, others), counts, strict=True):
        share = np.where(np.isfinite(ranks), weight / np.maximum(count, 1), 0.0)
        parts = (np.nan_to_num(ranks) * share, share)
        people = [p.sum(axis=1).reshape(-1, rows_per_person).sum(axis=1) for p in parts]
        found.append(ratio(people[0], people[1]))
    (inside, its_variance), (outside, other_variance) = found
    return Disclosure(
        members=wald(inside, its_variance, bounds=(0.0, 1.0)),
        advantage=wald(inside - outside, its_variance + other_variance),
        n_sites=int((weight > 0).sum()),
    )
