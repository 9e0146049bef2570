"""Anchors from people: the clusters that carry ancestry and long haplotypes, and who goes with whom.

Rows (haplotypes, or people where calls are unphased) are clustered in the space of their leading principal components.
A person is then a label and the unordered pair of the clusters of its two haplotypes, and a synthetic person is drawn
by drawing such a combination. Clustering *people* and drawing both haplotypes freely within a cluster would be wrong:
a cluster of heterozygotes for a common long haplotype would turn into homozygotes of either kind.

Clusters lie within labels. A label of fewer than 40 rows has none of its own: means over a handful of people would be
noise, and would give those people away. Its rows join the clusters of its parent (the super-population of a population;
everybody where no parent is known), and the law of its anchors is a Dirichlet posterior mean whose prior is the parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from genodiff.genotypes.units import Units

__all__ = ["Anchors", "Population", "fit_anchors", "inbreeding", "pseudo_rows"]

_PCS = 10
_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
_USUALLY_LEAST = 8
_ROWS_PER_ANCHOR = 40
_ROWS_PER_FURTHER_ANCHOR = 96
_TOLERANCE = 0.01
_MOST_ALIKE = 0.15
_NEAREST_F_ST, _FARTHEST_F_ST = 0.001, 0.5


@dataclass(frozen=True)
class Population:
    """How often each combination of label and anchors is to be expected among people.

    Attributes:
        labels: names of the labels; a single empty name where no panel was given.
        combinations: int (m, 1 + rows per person): label, then the anchors of a person's rows in ascending order.
        counts: people per combination, (m,). Those of a label add up to its people; they are whole numbers unless the
            label borrows from its parent.
        parents: parent of every label, or none for any.
        borrowed: share of the law of anchors that each label has from its parent, none where all are 0.
    """

    labels: tuple[str, ...]
    combinations: NDArray[np.int64]
    counts: NDArray[np.float64]
    parents: tuple[str, ...] = ()
    borrowed: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        labels: tuple[str, ...],
        people: NDArray[np.int64],
        *,
        parents: tuple[str, ...] = (),
        pseudo: Mapping[int, float] | None = None,
        pseudo_parent: Mapping[str, float] | None = None,
    ) -> Population:
        """Counts combinations among people, and mixes in those of the parent where a label is to borrow.

        A label of n people has the law (n · own + α · parent) / (n + α): the posterior mean of a Dirichlet law with
        the parent's shares as mean and α as concentration. A parent of few people borrows from everybody likewise.

        Args:
            labels: names.
            people: label and anchors of every person, (people, 1 + rows per person).
            parents: parent of every label; one parent of them all if empty.
            pseudo: α in people, of the labels that borrow.
            pseudo_parent: α in people, of the parents that borrow.
        """
        pseudo, pseudo_parent = pseudo or {}, pseudo_parent or {}
        people = np.column_stack([people[:, 0], np.sort(people[:, 1:], axis=1)])
        pairs, kind = np.unique(people[:, 1:], axis=0, return_inverse=True)
        table = np.zeros((len(labels), len(pairs)))
        np.add.at(table, (people[:, 0], kind.ravel()), 1)
        everybody = table.sum(0) / table.sum()
        above = np.asarray(parents or [""] * len(labels))
        expected = table.copy()
        for label, alpha in pseudo.items():
            of_parent = table[above == above[label]].sum(0)
            beyond = pseudo_parent.get(str(above[label]), 0.0)
            law = (of_parent + beyond * everybody) / (of_parent.sum() + beyond)
            n = table[label].sum()
            expected[label] = n * (table[label] + alpha * law) / (n + alpha)
        label_at, pair_at = np.nonzero(expected)
        size = table.sum(1)
        borrowed = tuple(pseudo[k] / (size[k] + pseudo[k]) if k in pseudo else 0.0 for k in range(len(labels)))
        return cls(
            labels,
            np.column_stack([label_at, pairs[pair_at]]).astype(np.int64),
            expected[label_at, pair_at],
            parents,
            tuple(map(float, borrowed)) if pseudo else (),
        )

    def alike(self, share: float) -> Population:
        """The same, but of that share of people both haplotypes are of the anchor of one of them.

        People are more inbred than the anchors of their haplotypes tell, because clusters are not the whole of
        ancestry. How often an anchor is met stays as it is.
        """
        if share == 0 or self.combinations.shape[1] < 3:
            return self
        one, other = self.combinations.copy(), self.combinations.copy()
        one[:, 2], other[:, 1] = one[:, 1], other[:, 2]
        counts = np.concatenate([(1 - share) * self.counts, share / 2 * self.counts, share / 2 * self.counts])
        combinations, kind = np.unique(np.concatenate([self.combinations, one, other]), axis=0, return_inverse=True)
        return replace(self, combinations=combinations, counts=np.bincount(kind.ravel(), counts).astype(np.float64))

    def draw(self, n: int, *, rng: np.random.Generator, label: int | None = None) -> NDArray[np.int64]:
        """Combinations of n new people, (n, 1 + rows per person), in random order.

        Systematic resampling: every combination occurs its expected number of times, rounded up or down at random, so
        that ancestry proportions carry next to no sampling noise of their own. Which of a person's haplotypes comes
        first is random.
        """
        chosen = np.arange(len(self.counts)) if label is None else np.flatnonzero(self.combinations[:, 0] == label)
        share = self.counts[chosen] / self.counts[chosen].sum()
        ticks = (np.arange(n) + rng.random()) / n
        people = self.combinations[
            chosen[np.searchsorted(share.cumsum(), ticks, side="right").clip(0, len(chosen) - 1)]
        ]
        people = people[rng.permutation(n)]
        people[:, 1:] = rng.permuted(people[:, 1:], axis=1)
        return people


@dataclass(frozen=True)
class Anchors:
    """Clusters of rows.

    Attributes:
        assignment: cluster of every row, (rows,).
        points: mean state of every cluster, float32 (K, sites).
        starts: where the sampler starts from, same shape: the means, or one row each (medoids).
        weights: share of rows per cluster, (K,).
        population: who goes with whom.
        inbreeding: F_IS of the input, and that expected of people drawn from the population, (2,), NaN
            where rows are people.
    """

    assignment: NDArray[np.int64]
    points: NDArray[np.float32]
    starts: NDArray[np.float32]
    weights: NDArray[np.float64]
    population: Population
    inbreeding: tuple[float, float]

    @property
    def n(self) -> int:
        """Number of anchors K."""
        return len(self.points)


def _heterozygosity(haplotypes: NDArray[np.int8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Observed and expected heterozygosity, (sites,) each, of rows 2i and 2i + 1; states −1 are left out."""
    first, second = haplotypes[::2], haplotypes[1::2]
    both = (first >= 0) & (second >= 0)
    n = np.maximum(both.sum(0), 1)
    observed = ((first != second) & both).sum(0) / n
    frequency = ((first == 1) & both).sum(0) / (2 * n) + ((second == 1) & both).sum(0) / (2 * n)
    return observed, 2 * frequency * (1 - frequency) * 2 * n / np.maximum(2 * n - 1, 1)


def inbreeding(haplotypes: NDArray[np.int8]) -> float:
    """F_IS = 1 − Σ H_obs / Σ H_exp over sites, for rows 2i and 2i + 1 of one person; states −1 are left out."""
    observed, expected = _heterozygosity(haplotypes)
    return float(1 - observed.sum() / expected.sum()) if expected.sum() > 0 else 0.0


def _components(units: Units, *, seed: int) -> NDArray[np.float64]:
    """Leading principal components of the rows, unknown states at the site mean, (rows, ≤ 10)."""
    frequency = units.frequency() * units.ploidy
    x = torch.from_numpy(np.where(units.states < 0, frequency, units.states).astype(np.float32))
    x -= torch.from_numpy(frequency.astype(np.float32))
    q = min(_PCS, *(d - 1 for d in x.shape))
    if q < 1:
        return np.zeros((len(x), 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u, s, _ = torch.svd_lowrank(x, q=min(q + 10, *x.shape), niter=4)
    return (u * s)[:, :q].double().numpy()


def _repaired(haplotypes: NDArray[np.int8], group: NDArray[np.int64]) -> tuple[float, float]:
    """F_IS to be expected if every haplotype were exchanged for a random one of its group, (2,).

    The second is what it would be if both haplotypes of a person came from the group of one of them.
    """
    index = np.unique(group, return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    ordered = haplotypes[order]
    n = np.add.reduceat(ordered >= 0, starts, axis=0, dtype=np.int64)
    p = np.add.reduceat(ordered == 1, starts, axis=0, dtype=np.int64) / np.maximum(n, 1)
    # Two haplotypes of one group are drawn without replacement.
    within = 2 * p * (1 - p) * n / np.maximum(n - 1, 1)
    pairs, people = np.unique(np.sort(index.reshape(-1, 2), axis=1), axis=0, return_counts=True)
    a, b = pairs.T
    between = np.where((a == b)[:, None], within[a], p[a] * (1 - p[b]) + p[b] * (1 - p[a]))
    expected = _heterozygosity(haplotypes)[1].sum()
    if expected == 0:
        return 0.0, 0.0
    observed = (people @ between / people.sum()).sum(), (np.bincount(index) @ within / len(index)).sum()
    return float(1 - observed[0] / expected), float(1 - observed[1] / expected)


def fit_anchors(
    units: Units,
    *,
    labels: NDArray[np.str_] | None = None,
    parents: Mapping[str, str] | None = None,
    n: int | None = None,
    kind: Literal["means", "medoids"] = "means",
    least_rows: int = _ROWS_PER_ANCHOR,
    seed: int = 1,
) -> Anchors:
    """Clusters rows and counts the combinations of label and anchors among people.

    Args:
        units: rows of states.
        labels: population label of every person, or ``None``.
        parents: parent of every label, from which a label of fewer than 40 rows borrows; ``None`` if all have one.
        n: number of anchors, about; at least one per label of 40 rows or more, at most as many as there are distinct
            rows. If ``None``, the fewest of 8, 16, 32 and 64 (of 1, 2 and 4 where there are not 40 rows for each of 8)
            for which re-pairing haplotypes at random within their anchor is expected to keep F_IS within .01; the most
            that have 96 rows each on average where none does, and where rows are people.
        kind: ``"means"`` starts the sampler at the mean of a cluster; ``"medoids"`` at the row nearest to that mean.
        least_rows: rows below which a label has no anchors of its own and borrows from its parent.
        seed: of the clustering.

    Raises:
        ValueError: more anchors than rows.
    """
    rows = len(units.states)
    if n is not None and not 1 <= n <= rows:
        raise ValueError(f"number of anchors must lie in 1 … {rows}, got {n}")
    names, label_index = _label_index(labels, units.n_people)
    scores = _components(units, seed=seed)
    rng = np.random.default_rng(seed)
    # Both sides of the comparison see the same sites, at most 2,000 of them.
    columns = np.sort(rng.choice(units.states.shape[1], size=min(units.states.shape[1], 2000), replace=False))
    haplotypes = units.phased_at_random(rng)[:, columns]
    observed = inbreeding(haplotypes) if units.per_person == 2 else float("nan")
    least = {k: k * (_ROWS_PER_ANCHOR if k <= _USUALLY_LEAST else _ROWS_PER_FURTHER_ANCHOR) for k in _CANDIDATES}
    possible = [k for k in _CANDIDATES if k == 1 or least[k] <= rows]
    candidates = [n] if n is not None else [k for k in possible if k >= _USUALLY_LEAST] or possible
    row_label = np.repeat(label_index, units.per_person)
    row_parent = np.unique([(parents or {}).get(name, "") for name in names], return_inverse=True)[1][row_label]
    stratum = _strata(row_label, row_parent, least_rows)
    assignment, repaired, share = np.zeros(rows, dtype=np.int64), float("nan"), 0.0
    alike = repaired
    for k in candidates:
        assignment = _clusters(scores, stratum, row_parent, k, seed=seed)
        if units.per_person == 2:
            repaired, alike = _repaired(haplotypes, assignment)
            if abs(repaired - observed) <= _TOLERANCE and k > 1:
                break
    if repaired < observed and alike > repaired:
        share = min((observed - repaired) / (alike - repaired), _MOST_ALIKE)
        repaired += share * (alike - repaired)
    points = _points(units, assignment)
    return Anchors(
        assignment=assignment,
        points=points,
        starts=points if kind == "means" else _medoids(units, assignment, scores),
        weights=np.bincount(assignment, minlength=len(points)) / rows,
        population=_population(units, names, label_index, assignment, parents, least_rows).alike(share),
        inbreeding=(observed, repaired),
    )


def _label_index(labels: NDArray[np.str_] | None, people: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if labels is None:
        return ("",), np.zeros(people, dtype=np.int64)
    names, index = np.unique(labels.astype(str), return_inverse=True)
    return tuple(names.tolist()), index.astype(np.int64)


def _population(
    units: Units,
    names: tuple[str, ...],
    label: NDArray[np.int64],
    assignment: NDArray[np.int64],
    parents: Mapping[str, str] | None,
    least_rows: int,
) -> Population:
    """Who goes with whom; labels and parents of too few rows borrow from what is above them."""
    above = np.asarray([(parents or {}).get(name, "") for name in names])
    people = np.column_stack([label, assignment.reshape(-1, units.per_person)])
    size = np.bincount(label, minlength=len(names)) * units.per_person
    small = np.flatnonzero(size < least_rows) if len(names) > 1 else np.arange(0)
    pseudo: dict[int, float] = {}
    pseudo_parent: dict[str, float] = {}
    for parent in np.unique(above[small]):
        of_parent = np.flatnonzero(above == parent)
        alpha = pseudo_rows(units, label, of_parent) / units.per_person
        pseudo |= {int(k): alpha for k in small if above[k] == parent}
        if size[of_parent].sum() < least_rows:
            group = np.unique(above, return_inverse=True)[1]
            pseudo_parent[str(parent)] = pseudo_rows(units, group[label], np.unique(group)) / units.per_person
    return Population.of(
        names, people, parents=tuple(above.tolist()) if parents else (), pseudo=pseudo, pseudo_parent=pseudo_parent
    )


def pseudo_rows(units: Units, group: NDArray[np.int64], among: NDArray[np.int64]) -> float:
    """How many rows of their parent some groups of people are worth as a prior: (1 − F_ST) / F_ST.

    Frequencies of groups that drifted from one parent scatter about its own like a beta law of that concentration
    (Balding & Nichols 1995). F_ST = 1 − ΣH_w / ΣH_b over sites (Hudson, Slatkin & Maddison 1992, as a ratio of sums:
    Bhatia et al. 2013) with the heterozygosity within groups H_w and between them H_b, held within .001 … .5.

    Args:
        units: rows of states.
        group: of every person.
        among: the groups that count; where fewer than two are left with two rows each, the prior is the strongest.
    """
    frequency: list[NDArray[np.float64]] = []
    heterozygosity: list[NDArray[np.float64]] = []
    weight: list[float] = []
    for k in among:
        known, total = units.tally(units.rows_of(np.flatnonzero(group == k)))
        alleles = known * units.ploidy
        p = total / np.maximum(alleles, 1)
        if alleles.max(initial=0) >= 2:
            frequency.append(p)
            heterozygosity.append(2 * p * (1 - p) * alleles / np.maximum(alleles - 1, 1))
            weight.append(float(alleles.mean()))
    if len(frequency) < 2:
        return (1 - _NEAREST_F_ST) / _NEAREST_F_ST
    p, w = np.stack(frequency), np.asarray(weight)
    share = np.outer(w, w)
    np.fill_diagonal(share, 0)
    # Σ_ij w_ij (p_i (1 − p_j) + p_j (1 − p_i)) over sites, for weights that are symmetric.
    between = 2 * (share.sum(1) @ p - np.einsum("is,ij,js->s", p, share, p)).sum() / share.sum()
    within = (share.sum(1) @ np.stack(heterozygosity)).sum() / share.sum()
    f_st = np.clip(1 - within / between if between > 0 else 0.0, _NEAREST_F_ST, _FARTHEST_F_ST)
    return float((1 - f_st) / f_st)


def _strata(row_label: NDArray[np.int64], row_parent: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """What rows are clustered within: their label; or, in labels of too few rows, others of that kind; −1 for neither.

    Labels of too few rows are put together within their parent. Where these are too few as well, the rows join the
    clusters of their parent; where it has none, they are put together with all others of no cluster.
    """
    stratum = row_label.copy()
    few = np.bincount(row_label)[row_label] < least
    first = row_label.max() + 1
    stratum[few] = first + row_parent[few]
    alone = few & (np.bincount(stratum)[stratum] < least)
    alone &= ~np.isin(row_parent, row_parent[~alone])
    stratum[alone] = first + row_parent.max() + 1
    everywhere = np.bincount(stratum)[stratum] >= min(least, len(stratum))
    if not everywhere.any():
        return np.zeros_like(row_label)
    return np.where(everywhere, stratum, -1)


def _clusters(
    scores: NDArray[np.float64],
    stratum: NDArray[np.int64],
    row_parent: NDArray[np.int64],
    k: int,
    *,
    seed: int,
) -> NDArray[np.int64]:
    """About k clusters of rows, each within one stratum; a stratum receives its share of them, at least one.

    Rows of no stratum join the nearest cluster of their parent, or of all where it has none.
    """
    from sklearn.cluster import KMeans

    out = np.zeros(len(scores), dtype=np.int64)
    centres: list[NDArray[np.float64]] = []
    parents: list[int] = []
    for part in np.unique(stratum[stratum >= 0]):
        rows = np.flatnonzero(stratum == part)
        # Equal rows cannot be told apart: there are no more clusters than distinct rows.
        distinct = len(np.unique(scores[rows].round(4), axis=0))
        share = min(max(1, round(k * len(rows) / len(scores))), distinct)
        model = KMeans(share, n_init=4 if share > 1 else 1, random_state=seed).fit(scores[rows])
        found = np.unique(model.labels_, return_inverse=True)[1]
        out[rows] = len(centres) + found
        for c in range(found.max() + 1):
            centres.append(scores[rows[found == c]].mean(0))
            parents.append(int(row_parent[rows[0]]))
    for row in np.flatnonzero(stratum < 0):
        near = np.flatnonzero(np.asarray(parents) == row_parent[row])
        near = near if len(near) else np.arange(len(centres))
        out[row] = near[np.square(np.stack(centres)[near] - scores[row]).sum(1).argmin()]
    return out


def _points(units: Units, assignment: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean state of every cluster, with one pseudo-row at the overall mean: an allele stays possible everywhere."""
    overall = units.frequency() * units.ploidy
    out = np.empty((assignment.max() + 1, units.states.shape[1]), dtype=np.float32)
    for k in range(len(out)):
        known, total = units.tally(np.flatnonzero(assignment == k))
        out[k] = (total + overall) / (known + 1)
    return out


def _medoids(units: Units, assignment: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """The row of every cluster that lies nearest to its mean."""
    overall = units.frequency() * units.ploidy
    out = np.empty((assignment.max() + 1, units.states.shape[1]), dtype=np.float32)
    for k in range(len(out)):
        members = np.flatnonzero(assignment == k)
        nearest = np.square(scores[members] - scores[members].mean(0)).sum(1).argmin()
        states = units.states[members[nearest]]
        out[k] = np.where(states < 0, overall, states)
    return out
