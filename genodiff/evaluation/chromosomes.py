"""Do the chromosomes of a person belong together? Ancestry told by one of them, held against that told by another.

Unlinked sites of every chromosome are reduced to the principal components of the training people. Between two
chromosomes canonical directions are fitted on training people: those along which what one chromosome says of a person
agrees best with what the other says. On other people the directions stay as they are, and the correlation of the two
scores over people is the figure. Real people have one ancestry, and so a correlation; people whose chromosomes were
drawn without regard to each other have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genodiff.evaluation.intervals import jackknife
from genodiff.evaluation.results import FamilyResult, Metric, metric_generator
from genodiff.evaluation.structure import PcaModel, fit_pca

__all__ = ["COMPONENTS", "Canonical", "Chromosome", "Labels", "Scores", "family", "fit_canonical", "shared_dimensions"]

Array = NDArray[np.float64]

COMPONENTS = 10
"""Principal components of a chromosome that take part."""

_SHUFFLES = 40
_GROUPS = 20


@dataclass(frozen=True)
class Chromosome:
    """Dosages (people, sites) of one chromosome at the same sites; the same people in the same order on every one.

    Attributes:
        name: of the chromosome.
        train: int8, people a generator learned from, −1 missing.
        holdout: people it has not seen.
        synthetic: people it made.
    """

    name: str
    train: NDArray[np.int8]
    holdout: NDArray[np.int8]
    synthetic: NDArray[np.int8]


@dataclass(frozen=True)
class Scores:
    """Principal components of one chromosome, (people, components) a set of people; axes of the training people."""

    train: Array
    holdout: Array
    synthetic: Array

    @classmethod
    def of(cls, chromosome: Chromosome) -> Scores:
        """Projects all people on the leading axes of the training people."""
        model: PcaModel = fit_pca(chromosome.train, components=COMPONENTS)
        return cls(*(model.project(rows) for rows in (chromosome.train, chromosome.holdout, chromosome.synthetic)))

    def within(self, labels: Labels) -> Scores:
        """The scores less the mean of the training people of the same label."""

        def less(points: Array, names: NDArray[np.str_]) -> Array:
            out = points.copy()
            for name in np.unique(labels.train):
                out[names == name] -= self.train[labels.train == name].mean(axis=0)
            return out

        return Scores(*(less(getattr(self, side), getattr(labels, side)) for side in ("train", "holdout", "synthetic")))


@dataclass(frozen=True)
class Labels:
    """Population labels of the three sets of people."""

    train: NDArray[np.str_]
    holdout: NDArray[np.str_]
    synthetic: NDArray[np.str_]


@dataclass(frozen=True)
class Canonical:
    """Directions along which two chromosomes agree, best first.

    Attributes:
        one, other: (components, directions).
        r: correlation of the people the directions were fitted on, (directions,).
    """

    one: Array
    other: Array
    r: Array

    def scores(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Both scores of people along every direction, (people, directions) each."""
        return a @ self.one, b @ self.other


def fit_canonical(a: Array, b: Array) -> Canonical:
    """Canonical correlation of two sets of scores of the same people, (people, components)."""
    (q_a, back_a), (q_b, back_b) = _whitened(a), _whitened(b)
    left, r, right = np.linalg.svd(q_a.T @ q_b)
    k = len(r)
    return Canonical(back_a @ left[:, :k], back_b @ right.T[:, :k], np.clip(r, 0, 1))


def _whitened(x: Array) -> tuple[Array, Array]:
    """Orthonormal columns that span those of x about their mean, and the map from x to them."""
    left, size, right = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    keep = size > size[0] * 1e-8 if len(size) else np.zeros(0, dtype=bool)
    return left[:, keep], right[keep].T / size[keep]


def shared_dimensions(a: Array, b: Array, *, generator: np.random.Generator) -> int:
    """How many canonical directions correlate more than the best one does among people who were shuffled.

    The threshold is the largest correlation of 40 shuffles, so that of chromosomes that share nothing one in about 40
    pairs is said to share a direction.
    """
    (q_a, _), (q_b, _) = _whitened(a), _whitened(b)
    if not q_a.size or not q_b.size:
        return 0
    null = max(
        float(np.linalg.norm(q_a[generator.permutation(len(q_a))].T @ q_b, ord=2, axis=(0, 1)))
        for _ in range(_SHUFFLES)
    )
    return int((np.linalg.svd(q_a.T @ q_b, compute_uv=False) > null).sum())


def _correlation(u: Array, v: Array) -> float:
    """Mean over directions of the correlation over people; a direction without spread counts as 0."""
    u, v = u - u.mean(axis=0), v - v.mean(axis=0)
    size = np.sqrt((u**2).sum(axis=0) * (v**2).sum(axis=0))
    return float(np.divide((u * v).sum(axis=0), size, out=np.zeros(len(size)), where=size > 0).mean())


def family(chromosomes: Sequence[Chromosome], *, labels: Labels | None = None, seed: int = 1) -> FamilyResult:
    """Agreement of chromosomes on who a person is, S beside T.

    Metrics, means over the pairs of chromosomes that share a direction among training people (``shared_dimensions``):

    * ``chromosomes_r``: correlation over people along the shared directions; floor: held-out people. ``_train``: the
      people the directions were fitted on. ``_shuffled``: synthetic people whose second chromosome is another's.
    * ``chromosomes_within_r`` …: the same for what is left when the mean of a person's label is taken out, where
      labels exist: ancestry finer than the labels.
    * ``chromosomes_dimensions``, ``chromosomes_within_dimensions``: shared directions of a pair, mean.

    Intervals are of the synthetic people, by leaving out a twentieth of them after the other.

    Curves: ``chromosomes``, a data frame with ``one``, ``other`` (chromosomes), ``kind`` (all, within), ``dimensions``
    and a correlation per set of people; ``people``, scores along the first direction of the first pair.

    Raises:
        ValueError: fewer than two chromosomes.
    """
    if len(chromosomes) < 2:
        raise ValueError(f"{len(chromosomes)} chromosome cannot agree with another: give at least 2")
    scores = [Scores.of(chromosome) for chromosome in chromosomes]
    kinds = {"": scores}
    if labels is not None and len(np.unique(labels.train)) > 1:
        kinds["within_"] = [score.within(labels) for score in scores]
    metrics: list[Metric] = []
    rows: list[dict[str, object]] = []
    people = pd.DataFrame()
    for kind, shown in kinds.items():
        pairs, first = _pairs(chromosomes, shown, kind=kind.removesuffix("_") or "all", seed=seed)
        rows += pairs.drop(columns="left_out").to_dict("records")
        people = people if kind else first
        metrics += _summary(pairs, kind, n=len(scores[0].synthetic))
    return FamilyResult(tuple(metrics), {"chromosomes": pd.DataFrame(rows), "people": people})


def _pairs(
    chromosomes: Sequence[Chromosome], scores: Sequence[Scores], *, kind: str, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per pair of chromosomes, and the people of the first pair along its first direction."""
    rows: list[dict[str, object]] = []
    first = pd.DataFrame()
    for i, j in combinations(range(len(chromosomes)), 2):
        generator = metric_generator(seed, f"{kind}:{chromosomes[i].name}:{chromosomes[j].name}")
        a, b = scores[i], scores[j]
        fitted = fit_canonical(a.train, b.train)
        k = shared_dimensions(a.train, b.train, generator=generator)
        row: dict[str, object] = {
            "one": chromosomes[i].name, "other": chromosomes[j].name, "kind": kind, "dimensions": k
        }  # fmt: skip
        for side in ("train", "holdout", "synthetic"):
            u, v = fitted.scores(getattr(a, side), getattr(b, side))
            row[side] = _correlation(u[:, :k], v[:, :k]) if k else float("nan")
            if side == "synthetic":
                mixed = generator.permutation(len(u))
                row["shuffled"] = _correlation(u[:, :k], v[mixed, :k]) if k else float("nan")
                parts = np.array_split(generator.permutation(len(u)), min(_GROUPS, len(u) // 3))
                row["left_out"] = [
                    _correlation(np.delete(u, part, axis=0)[:, :k], np.delete(v, part, axis=0)[:, :k])
                    if k else float("nan") for part in parts
                ]  # fmt: skip
            if not rows:
                shown = pd.DataFrame({"set": side, "one": u[:, 0], "other": v[:, 0]})
                first = pd.concat([first, shown], ignore_index=True)
        rows.append(row)
    return pd.DataFrame(rows), first


def _summary(pairs: pd.DataFrame, kind: str, *, n: int) -> list[Metric]:
    """Means over the pairs that share something; of pairs that share nothing only the number of directions."""
    name, nan = f"chromosomes_{kind}", float("nan")
    dimensions = float(pairs["dimensions"].mean())
    out = [Metric("chromosomes", f"{name}dimensions", dimensions, nan, len(pairs), "directions (pairs of chromosomes)")]
    shared = pairs[pairs["dimensions"] > 0]
    if shared.empty:
        return out
    value, floor = float(shared["synthetic"].mean()), float(shared["holdout"].mean())
    left_out = np.mean(np.stack([np.asarray(x) for x in shared["left_out"]]), axis=0)
    around = jackknife(value, left_out) if len(left_out) > 1 else None
    low, high = (around.low, around.high) if around else (nan, nan)
    out.append(Metric("chromosomes", f"{name}r", value, floor, n, "r (people)", low, high))
    for side in ("train", "shuffled"):
        out.append(Metric("chromosomes", f"{name}r_{side}", float(shared[side].mean()), nan, n, "r (people)"))
    return out
