"""Classifier two-sample test: can a random forest tell synthetic from held-out people?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from genodiff.evaluation.panels import Panel, person_rows

__all__ = ["TwoSampleTest", "auc", "two_sample_auc"]

TREES = 300
REPEATS = 2
MAX_SITES = 5_000
MAX_PEOPLE = 1_000


@dataclass(frozen=True)
class TwoSampleTest:
    """Area under the ROC curve of the test, and the rows of each class it rests on."""

    auc: float
    n_rows: int


def auc(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """Area under the ROC curve, P(positive > negative) + ½ P(equal)."""
    n, m = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def two_sample_auc(
    panel: Panel, holdout: Panel, *, generator: np.random.Generator, trees: int = TREES, repeats: int = REPEATS
) -> TwoSampleTest:
    """Held-out AUC of a random forest that tells ``panel`` from ``holdout``; 0.5 where it cannot.

    Equally many people of both are split into two halves, whole people at a time; a forest fitted on each half judges
    the other. The mean over halves and over ``repeats`` draws is reported. Above 5,000 sites a random 5,000 are used.

    Args:
        panel: judged people.
        holdout: held-out people.
        generator: source of randomness.
        trees: trees in a forest.
        repeats: independent draws of people, halves and forests.
    """
    # Imported here: a second that only those who ask for this test should wait.
    from sklearn.ensemble import RandomForestClassifier

    n = min(panel.n_people, holdout.n_people, MAX_PEOPLE)
    per = panel.rows_per_person
    n_sites = panel.rows.shape[1]
    sites = np.arange(n_sites)
    if n_sites > MAX_SITES:
        sites = np.sort(generator.choice(n_sites, MAX_SITES, replace=False))
    half = n // 2
    scores = []
    for _ in range(repeats):
        people = [generator.permutation(p.n_people)[:n] for p in (panel, holdout)]
        data = [
            p.filled[person_rows(chosen, rows_per_person=per)][:, sites]
            for p, chosen in zip((panel, holdout), people, strict=True)
        ]
        cut = half * per
        halves = [[d[:cut] for d in data], [d[cut:] for d in data]]
        for fitted, judged in (halves, halves[::-1]):
            forest = RandomForestClassifier(
                n_estimators=trees, n_jobs=-1, random_state=int(generator.integers(2**31 - 1))
            )
            truth = np.repeat([1, 0], [len(d) for d in fitted])
            forest.fit(np.concatenate(fitted).astype(np.float32), truth)
            # Threads add up the votes in any order, and the last bit decides ties: equal seeds would differ.
            forest.set_params(n_jobs=1)
            found = [forest.predict_proba(d.astype(np.float32))[:, 1] for d in judged]
            scores.append(auc(found[0], found[1]))
    return TwoSampleTest(float(np.mean(scores)), n * per)
