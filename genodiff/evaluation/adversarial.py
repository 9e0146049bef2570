"""Nearest-neighbour adversarial accuracy between sets of people of equal size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genodiff.evaluation.distances import hamming
from genodiff.evaluation.panels import Panel, person_rows

__all__ = ["DRAWS", "MAX_ROWS", "Adversarial", "GroupDistances", "adversarial_accuracy"]

DRAWS = 25
"""Random draws a figure is the mean of."""

MAX_ROWS = 4_000
"""Rows of each set, at most: the matrix of their distances has to fit in memory."""


@dataclass(frozen=True)
class Adversarial:
    """Nearest-neighbour adversarial accuracy (Yelmen et al. 2021).

    Attributes:
        truth: share of real rows whose nearest synthetic row is farther than their nearest other real row.
        syn: share of synthetic rows whose nearest real row is farther than their nearest other synthetic row.
    """

    truth: float
    syn: float

    @property
    def mean(self) -> float:
        """Mean of the two halves; ½ where real and synthetic rows are mixed evenly and no distances tie."""
        return (self.truth + self.syn) / 2


def adversarial_accuracy(
    between: NDArray[Any], within_real: NDArray[Any], within_synthetic: NDArray[Any]
) -> Adversarial:
    """Adversarial accuracy from distance matrices of equally many real and synthetic rows.

    The comparison is strict: a tie counts as "not farther", so that ties lower both halves below ½.

    Args:
        between: (n, n) distances, real rows against synthetic ones.
        within_real, within_synthetic: (n, n) distances within each set; the diagonal is not looked at.
    """
    n, m = between.shape
    if n != m:
        raise ValueError(f"{n} real and {m} synthetic rows: adversarial accuracy needs equally many")
    real, synthetic = (_nearest_other(w) for w in (within_real, within_synthetic))
    return Adversarial(float((between.min(axis=1) > real).mean()), float((between.min(axis=0) > synthetic).mean()))


def _nearest_other(within: NDArray[Any]) -> NDArray[Any]:
    masked = np.array(within)
    np.fill_diagonal(masked, np.inf)
    return masked.min(axis=1)


@dataclass(frozen=True)
class GroupDistances:
    """Distances between all rows of several groups of people, from which draws cost next to nothing.

    Attributes:
        matrix: float32 (rows, rows), number of differing alleles.
        people: for each group, by a one-letter name, the places of its people.
        rows_per_person: 2 for haplotypes, 1 for genotypes.
    """

    matrix: NDArray[np.float32]
    people: dict[str, NDArray[np.int64]]
    rows_per_person: int

    @classmethod
    def of(cls, groups: dict[str, Panel]) -> GroupDistances:
        """Distances between the people of named panels."""
        rows = np.concatenate([p.filled for p in groups.values()])
        ends = np.cumsum([p.n_people for p in groups.values()])
        people = {name: np.arange(e - p.n_people, e) for (name, p), e in zip(groups.items(), ends, strict=True)}
        return cls(hamming(rows, rows), people, next(iter(groups.values())).rows_per_person)

    def accuracy(self, real: NDArray[np.int64], synthetic: NDArray[np.int64]) -> Adversarial:
        """Adversarial accuracy between two sets of people, by their places; the sets must not overlap."""
        a, b = (person_rows(p, rows_per_person=self.rows_per_person) for p in (real, synthetic))
        m = self.matrix
        return adversarial_accuracy(m[np.ix_(a, b)], m[np.ix_(a, a)], m[np.ix_(b, b)])

    def mean_accuracy(self, pair: tuple[str, str], n: int, generator: np.random.Generator) -> Adversarial:
        """Mean adversarial accuracy over draws of ``n`` people from each of two groups.

        Args:
            pair: the real and the synthetic group, each a name or several names together; where both are the same, two
                disjoint sets are drawn from it.
            n: people drawn from each.
            generator: source of randomness.
        """
        real, synthetic = (np.concatenate([self.people[name] for name in names]) for names in pair)
        same = pair[0] == pair[1]
        # Drawing everybody leaves nothing to chance.
        draws = 1 if not same and n == len(real) == len(synthetic) else DRAWS
        found = []
        for _ in range(draws):
            if same:
                order = generator.permutation(real)
                found.append(self.accuracy(order[:n], order[n : 2 * n]))
            else:
                chosen = (generator.choice(x, n, replace=False) for x in (real, synthetic))
                found.append(self.accuracy(*chosen))
        return Adversarial(float(np.mean([f.truth for f in found])), float(np.mean([f.syn for f in found])))
