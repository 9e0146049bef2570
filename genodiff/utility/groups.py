"""Held-out people left out group by group, for intervals that say how much a figure owes to who was held out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from genodiff.evaluation.intervals import Interval, jackknife
from genodiff.evaluation.panels import Comparison
from genodiff.evaluation.results import Metric

__all__ = ["GROUPS", "groups_of", "left_out", "with_interval"]

GROUPS = 20


def groups_of(comparison: Comparison) -> list[NDArray[np.int64]]:
    """Held-out people in at most 20 random groups of all but equal size, the same for every task."""
    n = comparison.holdout.n_people
    return np.array_split(comparison.generator("utility groups").permutation(n), min(GROUPS, n))


def left_out(statistic: Callable[[NDArray[np.int64]], float], groups: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """A statistic of people without each of the groups, (groups,).

    Args:
        statistic: takes the ascending indices of the people who stay.
        groups: disjoint, everybody in one of them.
    """
    everybody = np.sort(np.concatenate(groups))
    return np.array([statistic(np.setdiff1d(everybody, group)) for group in groups])


def with_interval(metric: Metric, without: NDArray[np.float64]) -> Metric:
    """The metric with the 95 % interval of a jackknife over groups of held-out people.

    Args:
        metric: a figure.
        without: the figure without each group.
    """
    found: Interval = jackknife(metric.value, without)
    return Metric(
        metric.family, metric.metric, metric.value, metric.floor, metric.n, metric.unit, found.low, found.high
    )
