"""How sure a figure is, with people as the unit: two haplotypes of one person are not two witnesses.

All intervals are of 95 % and take the synthetic people as given: what varies is which real people are attacked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, t

__all__ = ["Interval", "auc_interval", "jackknife", "ratio", "tpr", "tpr_interval", "wald"]

LEVEL = 0.95
"""Share of samples of people in which an interval is to hold the true figure."""

REPLICATES = 300
"""Draws of people of a bootstrap."""


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds of its 95 % interval; NaN where they cannot be said."""

    value: float
    low: float
    high: float


def wald(value: float, variance: float, *, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """The normal interval of an estimate with a known sampling variance, cut to the domain of the figure."""
    half = float(norm.ppf((1 + LEVEL) / 2)) * float(np.sqrt(variance))
    return Interval(value, max(bounds[0], value - half), min(bounds[1], value + half))


def _cluster_variance(component: NDArray[np.float64], per_person: int) -> float:
    """Variance of the mean of rows whose people, runs of ``per_person`` rows, are independent; NaN for one person."""
    people = (component - component.mean()).reshape(-1, per_person).sum(axis=1)
    n = len(people)
    return float(n / (n - 1) * (people @ people) / len(component) ** 2) if n > 1 else float("nan")


def auc_interval(positive: NDArray[Any], negative: NDArray[Any], *, per_person: int = 1) -> Interval:
    """Area under the ROC curve, P(positive > negative) + ½ P(equal), with its interval by DeLong (1988).

    Where people have several rows the components of a person are added up before they are compared (Obuchowski 1997).

    Args:
        positive: scores of members, (n · per_person,), rows of one person beside one another.
        negative: scores of non-members, likewise.
        per_person: rows of a person.
    """
    n, m = len(positive), len(negative)
    if not n or not m:
        return Interval(*(float("nan"),) * 3)
    ranks = rankdata(np.concatenate([positive, negative]))
    # The rank among all, less that within the own set, counts those of the other set below.
    beats = (ranks[:n] - rankdata(positive)) / m
    beaten = 1 - (ranks[n:] - rankdata(negative)) / n
    variance = _cluster_variance(beats, per_person) + _cluster_variance(beaten, per_person)
    return wald(float(beats.mean()), variance, bounds=(0.0, 1.0))


def tpr(positive: NDArray[Any], negative: NDArray[Any], *, fpr: float = 0.01) -> float:
    """Share of members found by the threshold that a share ``fpr`` of non-members passes.

    Between two thresholds the attacker tosses a coin, so that scores that tell nothing find a share of ``fpr``, however
    many of them tie and however few the non-members are.
    """
    n, m = len(positive), len(negative)
    ordered = np.sort(negative)
    # The lowest threshold that at most fpr · m non-members reach, and the next lower one.
    allowed = fpr * m
    values = np.unique(ordered)[::-1]
    reach = m - np.searchsorted(ordered, values, side="left")
    k = int(np.searchsorted(reach, allowed, side="right"))
    members = np.sort(positive)
    strictly = values[k] if k < len(values) else -np.inf
    above = n - int(np.searchsorted(members, strictly, side="right"))
    tied = int(np.searchsorted(members, strictly, side="right") - np.searchsorted(members, strictly, side="left"))
    passed = int(reach[k - 1]) if k else 0
    step = int(reach[k]) - passed if k < len(values) else 1
    return (above + tied * (allowed - passed) / step) / n


def tpr_interval(
    positive: NDArray[Any],
    negative: NDArray[Any],
    *,
    generator: np.random.Generator,
    per_person: int = 1,
    fpr: float = 0.01,
) -> Interval:
    """:func:`tpr` with its interval: percentiles of a bootstrap over people, members and non-members apart."""
    if not len(positive) or not len(negative):
        return Interval(*(float("nan"),) * 3)
    sides = [np.asarray(s).reshape(-1, per_person) for s in (positive, negative)]
    found = np.empty(REPLICATES)
    for i in range(REPLICATES):
        drawn = [s[generator.integers(len(s), size=len(s))].ravel() for s in sides]
        found[i] = tpr(drawn[0], drawn[1], fpr=fpr)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(tpr(positive, negative, fpr=fpr), float(low), float(high))


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> tuple[float, float]:
    """Σ a / Σ b over people and its sampling variance, by linearisation; NaN where Σ b = 0 or there is one person."""
    total, n = denominator.sum(), len(denominator)
    if total <= 0 or n < 2:
        return float("nan"), float("nan")
    value = numerator.sum() / total
    residual = numerator - value * denominator
    return float(value), float(n / (n - 1) * (residual @ residual) / total**2)


def jackknife(value: float, left_out: NDArray[np.float64]) -> Interval:
    """Interval of a figure by leaving out one group of people after the other, Student's t on groups − 1 degrees.

    Nearest neighbours rule out a bootstrap: a person drawn twice would be their own nearest neighbour.

    Args:
        value: the figure the interval is put around.
        left_out: the figure without each of at least 2 groups, equally large and drawn at random.
    """
    groups = len(left_out)
    variance = (groups - 1) / groups * np.square(left_out - left_out.mean()).sum()
    half = float(t.ppf((1 + LEVEL) / 2, groups - 1) * np.sqrt(variance))
    return Interval(value, value - half, value + half)
