"""Groups of people within labels, from principal components of the whole genome.

A label says little of a person of mixed descent, and each chromosome learned by itself says the rest anew. Groups are
what chromosomes are told of a person beside the label: clusters of training people within a label, of at least some 25
people each, so that a group says of nobody more than that. A label of fewer is one group.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from genodiff.evaluation.chromosomes import shared_dimensions
from genodiff.evaluation.structure import fit_pca

__all__ = ["LEAST_PEOPLE", "MOST_GROUPS", "Grouping", "group_people"]

LEAST_PEOPLE = 25
"""Fewest training people of a group, unless its label has fewer."""

MOST_GROUPS = 12
"""Most groups of a label."""

_COMPONENTS = 20
_PATIENCE = 2


@dataclass(frozen=True)
class Grouping:
    """Who belongs to which group.

    Attributes:
        train: ``label.k`` of every training person, k = 1, 2, … in the order of their number.
        holdout: the same of people held out, by the nearest group of their label.
        dimensions: principal components the groups were found in.
    """

    train: NDArray[np.str_]
    holdout: NDArray[np.str_]
    dimensions: int


def group_people(
    parts: tuple[NDArray[np.int8], NDArray[np.int8]],
    *,
    held: NDArray[np.bool_],
    labels: NDArray[np.str_],
    least: int = LEAST_PEOPLE,
    seed: int = 1,
) -> Grouping:
    """Divides every label by a mixture of normal laws, with the number of groups of the lowest BIC.

    Of the principal components of the training people at all sites as many count as the two parts of the genome share
    directions (:func:`genodiff.evaluation.chromosomes.shared_dimensions`): what one part shows and the other does not
    is no ancestry. People held out take no part in any of it, and are put where they fit best afterwards.

    Args:
        parts: dosages int8 (people, sites), −1 missing, of two parts of the genome that are not linked.
        held: people who are held out, (people,).
        labels: of all people, (people,).
        least: fewest training people of a group, at least 1.
        seed: of clustering and shuffling.
    """
    scores = [fit_pca(part[~held], components=_COMPONENTS).project(part[~held]) for part in parts]
    dimensions = shared_dimensions(*scores, generator=np.random.default_rng(seed))
    everything = np.concatenate(parts, axis=1)
    model = fit_pca(everything[~held], components=max(dimensions, 1))
    points = model.project(everything)[:, :dimensions]
    group = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        inside = labels == label
        group[inside] = _divide(points[inside], held[inside], least=least, seed=seed)
    names = np.array([f"{label}.{k + 1}" for label, k in zip(labels, group, strict=True)])
    return Grouping(names[~held], names[held], dimensions)


def _divide(points: NDArray[np.float64], held: NDArray[np.bool_], *, least: int, seed: int) -> NDArray[np.int64]:
    """Group of each person of one label, the largest first."""
    learned = points[~held]
    nobody = np.zeros(len(points), dtype=np.int64)
    if points.shape[1] == 0 or len(learned) < 2 * least:
        return nobody
    best, found, worse = np.inf, nobody, 0
    for k in range(1, min(MOST_GROUPS, len(learned) // least) + 1):
        mixture = GaussianMixture(k, covariance_type="diag", n_init=4, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the BIC of what was reached is compared
            mixture.fit(learned)
        bic = mixture.bic(learned)
        group = mixture.predict(points)
        size = np.bincount(group[~held], minlength=k)
        if bic < best and size.min() >= least:
            rank = np.argsort(np.argsort(-size, kind="stable"))
            best, found, worse = bic, rank[group].astype(np.int64), 0
        else:
            worse += 1
        if worse > _PATIENCE:
            break
    return found
