"""Ancestry: a classifier trained on synthetic people and tested on real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genodiff.evaluation.classifier import auc
from genodiff.evaluation.panels import Comparison, Panel
from genodiff.evaluation.results import FamilyResult, Metric
from genodiff.evaluation.structure import fit_pca
from genodiff.utility.errors import Unmeasurable
from genodiff.utility.groups import groups_of, left_out, with_interval

__all__ = ["AncestryTest", "family", "train_and_test"]

COMPONENTS = 20
MIN_PEOPLE = 5
"""A label with fewer people in training or held-out people takes no part."""


@dataclass(frozen=True)
class AncestryTest:
    """How well labels of real people are told.

    Attributes:
        accuracy: share of people whose label is told rightly, in [0, 1].
        auc: area under the ROC curve of each label against all others, mean over labels.
        recall: share of the people of each label who are told rightly, by label.
        right: whether the label of each person is told rightly, (people,).
    """

    accuracy: float
    auc: float
    recall: dict[str, float]
    right: NDArray[np.bool_]

    def accuracy_of(self, people: NDArray[np.int64]) -> float:
        """Share of some people, by index, whose label is told rightly."""
        return float(self.right[people].mean())


def train_and_test(train: Panel, test: Panel) -> AncestryTest:
    """Logistic regression on the first 20 principal components of dosages.

    Components, scales and classifier all come from ``train``; ``test`` is only projected. A label of ``test`` that
    ``train`` lacks is told wrongly throughout and has an area of ½.

    Args:
        train, test: panels with labels at the same sites.
    """
    # Imported here: a second that only those who ask for this test should wait.
    from sklearn.linear_model import LogisticRegression

    assert train.labels is not None
    assert test.labels is not None
    names = np.unique(train.labels)
    if len(names) == 1:
        scores, told = np.zeros((test.n_people, 1)), np.repeat(names, test.n_people)
    else:
        axes = fit_pca(train.dosage, components=COMPONENTS)
        x, y = (_project(axes, panel.dosage) for panel in (train, test))
        model = LogisticRegression(max_iter=2_000).fit(x, train.labels)
        told, names = model.predict(y), model.classes_
        found = model.decision_function(y)
        scores = found if found.ndim == 2 else np.stack([-found, found], axis=1)
    areas, recall = [], {}
    for name in np.unique(test.labels):
        mine = test.labels == name
        recall[str(name)] = float((told[mine] == name).mean())
        if not mine.all():
            column = scores[:, np.flatnonzero(names == name)[0]] if name in names else np.zeros(test.n_people)
            areas.append(auc(column[mine], column[~mine]))
    right = np.asarray(told == test.labels)
    return AncestryTest(float(right.mean()), float(np.mean(areas)), recall, right)


def _project(axes: Any, dosage: NDArray[np.int8]) -> NDArray[np.float64]:
    scale = np.where(axes.sd > 0, axes.sd, 1.0)
    return axes.project(dosage) / scale


def family(comparison: Comparison) -> FamilyResult:
    """Labels of T told by a classifier trained on S, with one trained on as many people of R as the floor.

    Metrics: ``ancestry_accuracy``, ``ancestry_auc`` (mean over labels of one against all others),
    ``ancestry_accuracy_ratio`` (over the floor) and ``ancestry_majority_share``: what telling everybody the commonest
    label of T attains. The accuracies have intervals over the people of T.

    Curves: ``ancestry``, a data frame by label: ``label``, ``people`` (of T), ``synthetic`` and ``real``, the share
    told rightly.

    Raises:
        Unmeasurable: labels are absent, or fewer than two have enough people.
    """
    panels = {"synthetic": comparison.synthetic, "train": comparison.train, "holdout": comparison.holdout}
    absent = [name for name, panel in panels.items() if panel.labels is None]
    if absent:
        raise Unmeasurable(
            f"ancestry needs population labels, which {' and '.join(absent)} people lack: "
            "give --panel and --synthetic-panel"
        )
    real = [_labels_of(panels[name]) for name in ("train", "holdout")]
    used = sorted(real[0] & real[1])
    if len(used) < 2:
        raise Unmeasurable(
            f"ancestry needs two labels with at least {MIN_PEOPLE} training and as many held-out people, "
            f"there are {len(used)}: give a --panel with more"
        )
    member = np.isin(np.asarray(comparison.holdout.labels), used)
    kept = {name: panel.people(np.flatnonzero(np.isin(panel.labels, used))) for name, panel in panels.items()}  # type: ignore[arg-type]
    if kept["synthetic"].n_people == 0:
        raise Unmeasurable(
            f"ancestry: no synthetic person has a label of real people ({', '.join(used)}): correct --synthetic-panel"
        )
    value, floor = (train_and_test(kept[name], kept["holdout"]) for name in ("synthetic", "train"))
    n = kept["holdout"].n_people
    labels, counts = np.unique(np.asarray(kept["holdout"].labels), return_counts=True)
    ratio = value.accuracy / floor.accuracy if floor.accuracy > 0 else float("nan")
    place = np.cumsum(member) - 1
    groups = [place[group[member[group]]] for group in groups_of(comparison)]
    accuracies, floors = (left_out(test.accuracy_of, groups) for test in (value, floor))
    accuracy = Metric("ancestry", "ancestry_accuracy", value.accuracy, floor.accuracy, n, "share (people)")
    over_real = Metric("ancestry", "ancestry_accuracy_ratio", ratio, 1.0, n, "ratio (people)")
    metrics = (
        with_interval(accuracy, accuracies),
        with_interval(over_real, accuracies / np.where(floors > 0, floors, np.nan)),
        Metric("ancestry", "ancestry_auc", value.auc, floor.auc, n, "AUC (people)"),
        Metric("ancestry", "ancestry_majority_share", counts.max() / n, float("nan"), n, "share (people)"),
    )
    curve = pd.DataFrame(
        {
            "label": labels,
            "people": counts,
            "synthetic": [value.recall[name] for name in labels],
            "real": [floor.recall[name] for name in labels],
        }
    )
    return FamilyResult(metrics, {"ancestry": curve})


def _labels_of(panel: Panel) -> set[str]:
    names, counts = np.unique(np.asarray(panel.labels), return_counts=True)
    return {str(name) for name, count in zip(names, counts, strict=True) if count >= MIN_PEOPLE}
