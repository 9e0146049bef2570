"""Intervals over held-out people: who is left out, and how wide they are."""

from __future__ import annotations

import numpy as np
import pytest

from genodiff.evaluation.panels import Comparison
from genodiff.evaluation.results import Metric
from genodiff.utility.groups import groups_of, left_out, with_interval


def test_groups_hold_everybody_once(same: Comparison, shuffled: Comparison) -> None:
    groups = groups_of(same)
    assert [len(group) for group in groups] == [5] * 20
    assert sorted(np.concatenate(groups).tolist()) == list(range(100))
    for a, b in zip(groups, groups_of(shuffled), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_interval_of_a_mean_is_the_usual_one() -> None:
    x = np.random.default_rng(1).standard_normal(200)
    groups = list(np.arange(200)[:, None])
    without = left_out(lambda kept: float(x[kept].mean()), groups)
    np.testing.assert_allclose(without, (x.sum() - x) / 199)
    found = with_interval(Metric("f", "m", float(x.mean()), 0.0, 200, "unit (people)"), without)
    # Leaving out single people gives the standard error of the mean exactly; Student's t on 199 degrees is 1.972.
    assert (found.high - found.low) / 2 == pytest.approx(1.97196 * x.std(ddof=1) / np.sqrt(200), rel=1e-4)
    assert (found.family, found.metric, found.n, found.unit) == ("f", "m", 200, "unit (people)")
