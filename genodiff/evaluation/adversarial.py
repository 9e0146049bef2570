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
"""Random draws a figure is the mean of, where a draw has 1,000 rows; fewer above, never fewer than ``MIN_DRAWS``."""

MIN_DRAWS = 5
_DRAW_ROWS = 1_100
_BLOCK_ROWS = 2_048

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
    np.fill_diagonal(masked, np.inf if masked.dtype.kind == "f" else np.iinfo(masked.dtype).max)
    return masked.min(axis=1)


def _minimum_without_each(values: NDArray[Any]) -> NDArray[Any]:
    """For every column, the minimum of each row over the other columns, (rows, columns)."""
    two = np.partition(values, 1, axis=1)[:, :2]
    out = np.repeat(two[:, :1], values.shape[1], axis=1)
    # Where two columns tie for the minimum the second smallest is equal to it.
    first = values.argmin(axis=1)
    out[np.arange(len(values)), first] = two[:, 1]
    return out


@dataclass(frozen=True)
class GroupDistances:
    """Distances between all rows of several groups of people, from which draws cost next to nothing.

    Attributes:
        matrix: (rows, rows), number of differing alleles; uint16 where that holds them, for it is read many times.
        people: for each group, by a one-letter name, the places of its people.
        rows_per_person: 2 for haplotypes, 1 for genotypes.
    """

    matrix: NDArray[Any]
    people: dict[str, NDArray[np.int64]]
    rows_per_person: int

    @classmethod
    def of(cls, groups: dict[str, Panel]) -> GroupDistances:
        """Distances between the people of named panels."""
        rows = np.concatenate([p.filled for p in groups.values()])
        ends = np.cumsum([p.n_people for p in groups.values()])
        people = {name: np.arange(e - p.n_people, e) for (name, p), e in zip(groups.items(), ends, strict=True)}
        # Two alleles a site at most.
        matrix = np.empty((len(rows), len(rows)), dtype=np.uint16 if 2 * rows.shape[1] < 2**16 else np.float32)
        for i in range(0, len(rows), _BLOCK_ROWS):
            block = hamming(rows[i : i + _BLOCK_ROWS], rows[i:])
            matrix[i : i + _BLOCK_ROWS, i:] = block
            matrix[i:, i : i + _BLOCK_ROWS] = block.T
        return cls(matrix, people, next(iter(groups.values())).rows_per_person)

    def rows(self, people: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the matrix that belong to people, by their places."""
        return person_rows(people, rows_per_person=self.rows_per_person)

    def block(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[Any]:
        """Distances between two sets of people, by their places, (rows of ``a``, rows of ``b``)."""
        # Rows first: they are contiguous, and what is left to pick columns from is small.
        return self.matrix[self.rows(a)].take(self.rows(b), axis=1)

    def nearest(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float32]:
        """Distance of every row of ``a`` to the closest row of ``b``, people by their places."""
        return self.block(a, b).min(axis=1).astype(np.float32)

    def accuracy(self, real: NDArray[np.int64], synthetic: NDArray[np.int64]) -> Adversarial:
        """Adversarial accuracy between two sets of people, by their places; the sets must not overlap."""
        return adversarial_accuracy(
            self.block(real, synthetic), self.block(real, real), self.block(synthetic, synthetic)
        )

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
        # Large draws vary little and cost much; drawing everybody leaves nothing to chance.
        draws = int(np.clip(DRAWS * _DRAW_ROWS // max(n * self.rows_per_person, 1), MIN_DRAWS, DRAWS))
        if not same and n == len(real) == len(synthetic):
            draws = 1
        found = []
        for _ in range(draws):
            if same:
                order = generator.permutation(real)
                found.append(self.accuracy(order[:n], order[n : 2 * n]))
            else:
                chosen = (generator.choice(x, n, replace=False) for x in (real, synthetic))
                found.append(self.accuracy(*chosen))
        return Adversarial(float(np.mean([f.truth for f in found])), float(np.mean([f.syn for f in found])))

    def accuracies_without(
        self, real: NDArray[np.int64], synthetic: NDArray[np.int64], groups: int
    ) -> NDArray[np.float64]:
        """Mean of both halves of the adversarial accuracy without one group of people after the other, (groups,).

        Args:
            real: places of the real people; the k-th is in group k modulo ``groups``.
            synthetic: places of as many synthetic people, grouped likewise.
            groups: number of groups; each set must have more people than this.
        """
        halves = [self._shares_without(a, b, groups) for a, b in ((real, synthetic), (synthetic, real))]
        return np.mean(halves, axis=0)

    def _shares_without(self, own: NDArray[np.int64], other: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
        """Without each group, the share of rows of ``own`` that lie farther from ``other`` than from their own kind."""
        group = np.repeat(np.arange(len(own)) % groups, self.rows_per_person)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(groups))
        within, between = self.block(own, own), self.block(own, other)
        np.fill_diagonal(within, np.inf if within.dtype.kind == "f" else np.iinfo(within.dtype).max)
        nearest = [np.minimum.reduceat(m[:, order], starts, axis=1) for m in (within, between)]
        kept = group[:, None] != np.arange(groups)
        inside, outside = (_minimum_without_each(m) for m in nearest)
        return ((outside > inside) & kept).sum(axis=0) / kept.sum(axis=0)
