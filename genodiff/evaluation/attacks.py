"""Who was in the training set? Attacks on synthetic people that score real people, members and non-members.

The attacker holds the synthetic people and the genotypes of somebody at the same sites. By *distance*, whoever lies
near a synthetic row is called a member. By *density ratio* (DOMIAS, van Breugel et al. 2023) the attacker also holds
people of the same population, who took no part, and asks whether the synthetic people are denser around somebody than
these are: a nearest neighbour at distance d speaks for a density that falls with log d. Who has a common haplotype is
near to everybody and proves nothing by it; who has a rare one is exposed.

Both are made on rows, and on people by the more exposed of their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from genodiff.evaluation.intervals import Interval, auc_interval, tpr_interval

__all__ = ["Attack", "by_density_ratio", "by_distance", "share_above_all"]


@dataclass(frozen=True)
class Attack:
    """Scores of rows, higher for those called members.

    Attributes:
        members: of people who were learned from, (n · rows_per_person,), rows of one person beside one another.
        others: of people who were not, likewise.
        rows_per_person: rows of a person.
    """

    members: NDArray[np.float64]
    others: NDArray[np.float64]
    rows_per_person: int = 1

    @property
    def n(self) -> int:
        """Rows attacked."""
        return len(self.members) + len(self.others)

    @cached_property
    def people(self) -> Attack:
        """The attack on people: the score of the more exposed of a person's rows."""
        return Attack(*(s.reshape(-1, self.rows_per_person).max(axis=1) for s in (self.members, self.others)))

    @cached_property
    def auc(self) -> Interval:
        """Area under the ROC curve; ½ where the scores tell nothing."""
        return auc_interval(self.members, self.others, per_person=self.rows_per_person)

    def tpr(self, generator: np.random.Generator) -> Interval:
        """Share of members found at a false-positive rate of 1 %; .01 where the scores tell nothing."""
        return tpr_interval(self.members, self.others, generator=generator, per_person=self.rows_per_person)


def by_distance(members: NDArray[Any], others: NDArray[Any], *, rows_per_person: int = 1) -> Attack:
    """Scores minus the distance to the nearest synthetic row.

    Args:
        members: distance of every row of a member to the nearest synthetic row.
        others: of every row of a non-member.
        rows_per_person: rows of a person.
    """
    return Attack(-members.astype(float), -others.astype(float), rows_per_person)


def by_density_ratio(
    members: tuple[NDArray[Any], NDArray[Any]], others: tuple[NDArray[Any], NDArray[Any]], *, rows_per_person: int = 1
) -> Attack:
    """Scores log (1 + distance to the nearest reference row) − log (1 + distance to the nearest synthetic row).

    Args:
        members: both distances of every row of a member, to the synthetic people first.
        others: of every row of a non-member, who is none of the reference people either.
        rows_per_person: rows of a person.
    """
    ratios = [np.log1p(reference.astype(float)) - np.log1p(near.astype(float)) for near, reference in (members, others)]
    return Attack(ratios[0], ratios[1], rows_per_person)


def share_above_all(members: NDArray[Any], others: NDArray[Any], size: int) -> float:
    """Expected share of members with a score above that of every one of ``size`` non-members.

    The non-members are drawn without replacement, so that sets of unequal size can be compared; 1 / (size + 1) where
    the scores tell nothing and do not tie.
    """
    n = len(others)
    below = np.searchsorted(np.sort(others), members, side="left")
    possible = below >= size
    found = np.zeros(len(members))
    # C(below, size) / C(n, size)
    k = below[possible]
    found[possible] = np.exp(gammaln(k + 1) - gammaln(k - size + 1) - gammaln(n + 1) + gammaln(n - size + 1))
    return float(found.mean())
