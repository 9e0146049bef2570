"""Typed results that every family of metrics returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["COLUMNS", "Curve", "FamilyResult", "Measurements", "Metric", "metric_generator", "to_frame"]

COLUMNS = ("family", "metric", "value", "floor", "n", "unit", "low", "high")
"""Columns of the tidy table of metrics."""

Curve: TypeAlias = "pd.DataFrame | NDArray[Any]"
"""What a figure is drawn from: a data frame or an array."""


@dataclass(frozen=True)
class Metric:
    """One figure with the floor that belongs to it.

    Attributes:
        family: the family of the metric, for example ``"ld"``.
        metric: its name, snake case.
        value: the figure for the synthetic people.
        floor: the same code on real people in their place; NaN where no real counterpart exists.
        n: what the figure rests on, counted in ``basis``.
        unit: unit of ``value`` and ``floor``, followed by what ``n`` counts, for example ``"r² (pairs)"``.
        low, high: 95 % interval of ``value``, with people as the unit; NaN where none is computed.
    """

    family: str
    metric: str
    value: float
    floor: float
    n: int
    unit: str
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class FamilyResult:
    """Metrics of one family, and the arrays its figures are drawn from."""

    metrics: tuple[Metric, ...]
    curves: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurements:
    """Metrics and what their figures are drawn from.

    Attributes:
        frame: tidy table with the columns ``family``, ``metric``, ``value``, ``floor``, ``n`` (what the figure rests
            on), ``unit`` (of value and floor; in brackets what ``n`` counts), ``low`` and ``high`` (95 % interval of
            the value over people, where there is one).
        curves: arrays and data frames by name, as listed by the ``family`` function of each module.
    """

    frame: pd.DataFrame
    curves: dict[str, Curve] = field(default_factory=dict)

    def metric(self, name: str) -> pd.Series:
        """The row of one metric.

        Raises:
            KeyError: no such metric.
        """
        row = self.frame[self.frame["metric"] == name]
        if row.empty:
            raise KeyError(f"no metric {name!r} among {', '.join(self.frame['metric'])}")
        return row.iloc[0]


def to_frame(metrics: Sequence[Metric]) -> pd.DataFrame:
    """Tidy table with the columns :data:`COLUMNS`, one row per metric."""
    frame = pd.DataFrame([[getattr(m, c) for c in COLUMNS] for m in metrics], columns=list(COLUMNS))
    return frame.astype({"value": float, "floor": float, "n": int, "low": float, "high": float})


def metric_generator(seed: int, name: str) -> np.random.Generator:
    """A random generator of its own for every metric.

    Streams are keyed by name, so that a metric has the same value whichever other families are computed beside it.

    Args:
        seed: non-negative seed of the evaluation.
        name: name of the metric.
    """
    return np.random.default_rng([seed, crc32(name.encode())])
