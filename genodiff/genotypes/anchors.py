"""Anchors from people: the clusters that carry ancestry and long haplotypes, and who goes with whom.

Rows (haplotypes, or people where calls are unphased) are clustered in the space of their leading principal components.
A person is then a label and the unordered pair of the clusters of its two haplotypes, and a synthetic person is drawn
by drawing such a combination. Clustering *people* and drawing both haplotypes freely within a cluster would be wrong:
a cluster of heterozygotes for a common long haplotype would turn into homozygotes of either kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from genodiff.genotypes.units import Units

__all__ = ["Anchors", "Population", "fit_anchors", "inbreeding"]

_PCS = 10
_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
_USUALLY_LEAST = 8
_ROWS_PER_ANCHOR = 40
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Population:
    """How often each combination of label and anchors occurs among people.

    Attributes:
        labels: names of the labels; a single empty name where no panel was given.
        combinations: int (m, 1 + rows per person): label, then the anchors of a person's rows in ascending order.
        counts: people per combination, (m,).
    """

    labels: tuple[str, ...]
    combinations: NDArray[np.int64]
    counts: NDArray[np.int64]

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
        inbreeding: F_IS of the input, and that expected after re-pairing within anchors, (2,), NaN
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


def _repaired(haplotypes: NDArray[np.int8], group: NDArray[np.int64]) -> float:
    """F_IS to be expected if every haplotype were exchanged for a random one of its group."""
    index = np.unique(group, return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(index.max() + 1))
    ordered = haplotypes[order]
    n = np.add.reduceat(ordered >= 0, starts, axis=0, dtype=np.int64)
    p = np.add.reduceat(ordered == 1, starts, axis=0, dtype=np.int64) / np.maximum(n, 1)
    pairs, people = np.unique(np.sort(index.reshape(-1, 2), axis=1), axis=0, return_counts=True)
    a, b = pairs.T
    # Two haplotypes of one group are drawn without replacement.
    without = np.where((a == b)[:, None], n[a] / np.maximum(n[a] - 1, 1), 1.0)
    observed = people @ ((p[a] * (1 - p[b]) + p[b] * (1 - p[a])) * without) / people.sum()
    expected = _heterozygosity(haplotypes)[1].sum()
    return float(1 - observed.sum() / expected) if expected > 0 else 0.0


def fit_anchors(
    units: Units,
    *,
    labels: NDArray[np.str_] | None = None,
    n: int | None = None,
    kind: Literal["means", "medoids"] = "means",
    seed: int = 1,
) -> Anchors:
    """Clusters rows and counts the combinations of label and anchors among people.

    Args:
        units: rows of states.
        labels: population label of every person, or ``None``.
        n: number of anchors, about; at least one per label, at most as many as there are distinct rows. If ``None``,
            the fewest of 8, 16, 32 and 64 (of 1, 2 and 4 where there are not 40 rows for each of 8) for which
            re-pairing haplotypes at random within their anchor is expected to keep F_IS within .01; the most that have
            40 rows each on average where none does, and where rows are people.
        kind: ``"means"`` starts the sampler at the mean of a cluster; ``"medoids"`` at the row nearest to that mean.
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
    possible = [k for k in _CANDIDATES if k == 1 or k * _ROWS_PER_ANCHOR <= rows]
    candidates = [n] if n is not None else [k for k in possible if k >= _USUALLY_LEAST] or possible
    row_label = np.repeat(label_index, units.per_person)
    assignment, repaired = np.zeros(rows, dtype=np.int64), float("nan")
    for k in candidates:
        assignment = _clusters(scores, row_label, k, seed=seed)
        if units.per_person == 2:
            repaired = _repaired(haplotypes, assignment)
            if abs(repaired - observed) <= _TOLERANCE and k > 1:
                break
    points = _points(units, assignment)
    people = np.sort(assignment.reshape(-1, units.per_person), axis=1)
    combinations, counts = np.unique(np.column_stack([label_index, people]), axis=0, return_counts=True)
    return Anchors(
        assignment=assignment,
        points=points,
        starts=points if kind == "means" else _medoids(units, assignment, scores),
        weights=np.bincount(assignment, minlength=len(points)) / rows,
        population=Population(names, combinations.astype(np.int64), counts.astype(np.int64)),
        inbreeding=(observed, repaired),
    )


def _label_index(labels: NDArray[np.str_] | None, people: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if labels is None:
        return ("",), np.zeros(people, dtype=np.int64)
    names, index = np.unique(labels.astype(str), return_inverse=True)
    return tuple(names.tolist()), index.astype(np.int64)


def _clusters(scores: NDArray[np.float64], row_label: NDArray[np.int64], k: int, *, seed: int) -> NDArray[np.int64]:
    """About k clusters of rows, each within one label; a label receives its share of them, at least one."""
    from sklearn.cluster import KMeans

    out = np.zeros(len(scores), dtype=np.int64)
    taken = 0
    for label in np.unique(row_label):
        rows = np.flatnonzero(row_label == label)
        # Equal rows cannot be told apart: there are no more clusters than distinct rows.
        distinct = len(np.unique(scores[rows].round(4), axis=0))
        share = min(max(1, round(k * len(rows) / len(scores))), distinct)
        model = KMeans(share, n_init=4 if share > 1 else 1, random_state=seed).fit(scores[rows])
        found = np.unique(model.labels_, return_inverse=True)[1]
        out[rows] = taken + found
        taken += int(found.max()) + 1
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
