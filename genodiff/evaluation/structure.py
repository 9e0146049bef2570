"""Population structure: principal components, the data manifold, heterozygosity and differentiation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from genodiff.evaluation.classifier import two_sample_auc
from genodiff.evaluation.panels import Comparison, Panel, person_rows
from genodiff.evaluation.results import FamilyResult, Metric

__all__ = [
    "PcaModel",
    "family",
    "fit_pca",
    "hudson_fst",
    "inbreeding",
    "observed_heterozygosity",
    "population_fst",
    "precision_recall",
    "wasserstein2",
]

W2_COMPONENTS = 6
MANIFOLD_COMPONENTS = 20
NEIGHBOURS = 5
W2_ROWS = 1_000
W2_DRAWS = 5
MANIFOLD_ROWS = 2_000
MANIFOLD_DRAWS = 5
FIT_ROWS = 3_000
MIN_PEOPLE = 5
"""A population with fewer people in a table takes no part in ``population_f_st_mae``."""


@dataclass(frozen=True)
class PcaModel:
    """Principal axes of held-out rows.

    Attributes:
        mean: (sites,).
        axes: (sites, components), orthonormal columns.
        sd: (components,) standard deviation of the fitted rows along each axis.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    sd: NDArray[np.float64]

    def project(self, rows: NDArray[np.int8]) -> NDArray[np.float64]:
        """Coordinates (rows, components); a missing call (−1) counts as the mean of the fitted rows."""
        out = np.empty((len(rows), self.axes.shape[1]))
        for start in range(0, len(rows), 1_024):
            part = rows[start : start + 1_024]
            out[start : start + 1_024] = np.where(part < 0, 0.0, part - self.mean) @ self.axes
        return out


def fit_pca(rows: NDArray[np.int8], *, components: int = MANIFOLD_COMPONENTS) -> PcaModel:
    """Exact principal components, by the smaller of the two Gram matrices.

    Args:
        rows: int8 (rows, sites), −1 missing (counts as the mean).
        components: number wanted; fewer where the data have no more.
    """
    called = rows >= 0
    n = called.sum(axis=0)
    mean = np.divide(np.where(called, rows, 0).sum(axis=0), n, out=np.zeros(rows.shape[1]), where=n > 0)
    centred = np.where(called, rows - mean, 0.0)
    wide = rows.shape[0] <= rows.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    size = len(gram)
    k = min(components, size)
    values, vectors = eigh(gram, subset_by_index=(size - k, size - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    keep = values > max(float(values[0]), 0.0) * 1e-10
    values, vectors = values[keep], vectors[:, keep]
    axes = centred.T @ vectors / np.sqrt(values) if wide else vectors
    return PcaModel(mean, axes, np.sqrt(values / max(len(rows) - 1, 1)))


def wasserstein2(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Exact 2-Wasserstein distance between two point clouds of the same size, (points, dimensions)."""
    if len(a) != len(b):
        raise ValueError(f"point clouds of {len(a)} and {len(b)} points: exact assignment needs equal sizes")
    cost = cdist(a, b, "sqeuclidean")
    i, j = linear_sum_assignment(cost)
    return float(np.sqrt(cost[i, j].mean()))


def precision_recall(
    judged: NDArray[np.float64], reference: NDArray[np.float64], *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Precision and recall with the data manifold estimated by nearest-neighbour balls.

    A point lies on a manifold where it is within the ball of any of its points, whose radius is the distance to the
    ``neighbours``-th nearest other point. Precision: share of ``judged`` on the manifold of ``reference``; recall: the
    reverse (Kynkäänniemi et al. 2019).

    Args:
        judged, reference: (points, dimensions); equal sizes make the two comparable.
        neighbours: k.
    """

    def radius(x: NDArray[np.float64]) -> NDArray[np.float64]:
        k = min(neighbours, len(x) - 1)
        # Place 0 of the sorted distances is the point itself.
        return np.partition(cdist(x, x), k, axis=1)[:, k]

    distance = cdist(judged, reference)
    precision = (distance <= radius(reference)[None, :]).any(axis=1).mean()
    recall = (distance <= radius(judged)[:, None]).any(axis=0).mean()
    return float(precision), float(recall)


def observed_heterozygosity(dosage: NDArray[np.int8]) -> NDArray[np.float64]:
    """Share of called people who are heterozygous, (sites,); NaN where nobody is called."""
    called = (dosage >= 0).sum(axis=0)
    return np.divide((dosage == 1).sum(axis=0), called, out=np.full(dosage.shape[1], np.nan), where=called > 0)


def inbreeding(dosage: NDArray[np.int8]) -> float:
    """F_IS = 1 − ΣH_obs / ΣH_exp over sites, with H_exp unbiased for the number of people.

    Positive where populations are mixed (Wahlund), 0 in Hardy–Weinberg proportions, negative where heterozygotes are in
    excess.

    Args:
        dosage: int8 (people, sites), 0/1/2, −1 missing.
    """
    alleles = 2.0 * (dosage >= 0).sum(axis=0)
    used = alleles > 2
    p = np.where(dosage > 0, dosage, 0).sum(axis=0)[used] / alleles[used]
    expected = (2 * p * (1 - p) * alleles[used] / (alleles[used] - 1)).sum()
    return float(1 - observed_heterozygosity(dosage)[used].sum() / expected) if expected > 0 else float("nan")


def hudson_fst(a: NDArray[np.int8], b: NDArray[np.int8]) -> float:
    """Hudson's F_ST between two sets of people, ratio of sums over sites (Bhatia et al. 2013).

    Args:
        a, b: int8 (people, sites), dosage 0/1/2, −1 missing.
    """
    (n, p), (m, q) = (_allele_frequency(x) for x in (a, b))
    used = (n > 1) & (m > 1)
    n, p, m, q = n[used], p[used], m[used], q[used]
    between = p * (1 - q) + q * (1 - p)
    numerator = (p - q) ** 2 - p * (1 - p) / (n - 1) - q * (1 - q) / (m - 1)
    total = between.sum()
    return float(numerator.sum() / total) if total > 0 else float("nan")


def _allele_frequency(dosage: NDArray[np.int8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    alleles = 2.0 * (dosage >= 0).sum(axis=0)
    alt = np.where(dosage > 0, dosage, 0).sum(axis=0)
    return alleles, np.divide(alt, alleles, out=np.zeros(len(alleles)), where=alleles > 0)


def population_fst(panel: Panel, populations: list[str]) -> NDArray[np.float64]:
    """Hudson's F_ST for every pair of populations, in the order of ``itertools.combinations``."""
    if panel.labels is None:
        raise ValueError("F_ST between populations needs labels")
    groups = {k: panel.dosage[panel.labels == k] for k in populations}
    return np.array([hudson_fst(groups[a], groups[b]) for a, b in combinations(populations, 2)])


def _shared_populations(panels: list[Panel]) -> list[str]:
    shared: set[str] | None = None
    for panel in panels:
        if panel.labels is None:
            return []
        names, counts = np.unique(panel.labels.astype(str), return_counts=True)
        present = {str(n) for n, c in zip(names, counts, strict=True) if c >= MIN_PEOPLE}
        shared = present if shared is None else shared & present
    return sorted(shared or ())


def _matched(
    panel: Panel, points: NDArray[np.float64], *, rows: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Points of whole people drawn at random, ``rows`` of them (an even number for haplotypes)."""
    people = generator.choice(panel.n_people, rows // panel.rows_per_person, replace=False)
    return points[person_rows(people, rows_per_person=panel.rows_per_person)]


def _pca_distance(comparison: Comparison, model: PcaModel) -> Metric:
    """2-Wasserstein distance in the first components, in units of the spread along the first."""
    holdout = comparison.holdout
    per = holdout.rows_per_person
    n = min(holdout.n_rows, comparison.synthetic.n_rows, W2_ROWS) // per * per
    points_t = model.project(holdout.rows)[:, :W2_COMPONENTS]
    found = []
    for panel in (comparison.synthetic, comparison.train):
        points = model.project(panel.rows)[:, :W2_COMPONENTS]
        generator = comparison.generator("pca_w2")
        distances = [
            wasserstein2(
                _matched(panel, points, rows=n, generator=generator),
                _matched(holdout, points_t, rows=n, generator=generator),
            )
            for _ in range(W2_DRAWS)
        ]
        found.append(float(np.mean(distances)) / float(model.sd[0]))
    return Metric("structure", "pca_w2", found[0], found[1], n, f"sd of PC1 ({comparison.row_name})")


def _manifold(comparison: Comparison) -> tuple[Metric, Metric]:
    """Precision and recall, in components of one half of T against the other half.

    Components spread the rows they are fitted on farther than any new row; were the reference rows those, nobody else
    could reach them, and where sites far outnumber people even real people would have no recall.
    """
    holdout, judged = comparison.holdout, (comparison.synthetic, comparison.train)
    generator = comparison.generator("manifold")
    n = min(holdout.n_people // 2, comparison.synthetic.n_people, MANIFOLD_ROWS // holdout.rows_per_person)
    found = []
    for _ in range(MANIFOLD_DRAWS):
        order = generator.permutation(holdout.n_people)
        model = fit_pca(holdout.people(order[n:][: FIT_ROWS // holdout.rows_per_person]).rows)
        reference = model.project(holdout.people(order[:n]).rows)
        # The same draw for S and R: what they differ by is then theirs and not the draw's.
        seed = int(generator.integers(2**63))
        drawn = [model.project(p.draw(n, np.random.default_rng(seed)).rows) for p in judged]
        found.append([precision_recall(points, reference) for points in drawn])
    (precision, recall), (precision_floor, recall_floor) = np.mean(found, axis=0)
    rows, unit = n * holdout.rows_per_person, f"share ({comparison.row_name})"
    return (
        Metric("structure", "precision", float(precision), float(precision_floor), rows, unit),
        Metric("structure", "recall", float(recall), float(recall_floor), rows, unit),
    )


def _coordinates(comparison: Comparison, model: PcaModel) -> pd.DataFrame:
    """Components of every row of T, S and R, for the figure."""
    frames = []
    for name in ("holdout", "synthetic", "train"):
        panel: Panel = getattr(comparison, name)
        shown = model.project(panel.rows)[:, :W2_COMPONENTS]
        frame = pd.DataFrame(shown, columns=[f"PC{k + 1}" for k in range(shown.shape[1])])
        labels = np.full(panel.n_people, "", dtype=object) if panel.labels is None else panel.labels
        frame.insert(0, "label", np.repeat(labels, panel.rows_per_person))
        frame.insert(0, "set", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def family(comparison: Comparison) -> FamilyResult:
    """Population structure of S against T, with R in the place of S as the floor.

    Metrics:

    * ``pca_w2``: principal components of T, exact 2-Wasserstein distance in the first 6, in standard deviations of the
      first; mean over 5 draws of at most 1,000 rows.
    * ``precision``, ``recall``: 5 neighbours, 20 components of one half of T, the other half as the reference; mean
      over 5 draws.
    * ``f_is``, ``heterozygosity``, and their values on T (``_holdout``).
    * ``f_st``: Hudson, S against T. ``population_f_st_mae``: F_ST between every two populations, mean absolute
      difference of S from T, where labels exist.
    * ``c2st_auc``: random forest, T against S (:mod:`genodiff.evaluation.classifier`).

    Curves: ``pca``, a data frame with ``set`` (holdout, synthetic, train), ``label`` and ``PC1`` … ``PC6``.
    """
    holdout, synthetic, train = comparison.holdout, comparison.synthetic, comparison.train
    holdout_fit = holdout.draw(FIT_ROWS // holdout.rows_per_person, comparison.generator("pca fit"))
    model = fit_pca(holdout_fit.rows, components=W2_COMPONENTS)
    metrics = [_pca_distance(comparison, model), *_manifold(comparison)]

    people, sites = synthetic.n_people, comparison.n_sites
    f_is, het = (
        [f(p.dosage) for p in (synthetic, train, holdout)]
        for f in (inbreeding, lambda d: float(np.nanmean(observed_heterozygosity(d))))
    )
    nan = float("nan")
    metrics += [
        Metric("structure", "f_is", f_is[0], f_is[1], people, "F (people)"),
        Metric("structure", "f_is_holdout", f_is[2], nan, holdout.n_people, "F (people)"),
        Metric("structure", "heterozygosity", het[0], het[1], people, "share (people)"),
        Metric("structure", "heterozygosity_holdout", het[2], nan, holdout.n_people, "share (people)"),
        Metric(
            "structure",
            "f_st",
            hudson_fst(synthetic.dosage, holdout.dosage),
            hudson_fst(train.dosage, holdout.dosage),
            sites,
            "F (sites)",
        ),
    ]
    populations = _shared_populations([holdout, synthetic, train])
    if len(populations) > 1:
        expected = population_fst(holdout, populations)
        value, floor = (float(np.mean(np.abs(population_fst(p, populations) - expected))) for p in (synthetic, train))
        metrics.append(Metric("structure", "population_f_st_mae", value, floor, len(expected), "F (population pairs)"))

    auc = [two_sample_auc(p, holdout, generator=comparison.generator("c2st_auc")) for p in (synthetic, train)]
    metrics.append(
        Metric("structure", "c2st_auc", auc[0].auc, auc[1].auc, auc[0].n_rows, f"AUC ({comparison.row_name})")
    )
    return FamilyResult(tuple(metrics), {"pca": _coordinates(comparison, model)})
