"""Scores: LD scores by brute force, ridge regression in its other form, errors of populations by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from genodiff.evaluation.panels import Comparison
from genodiff.utility import scores
from genodiff.utility.scores import ld_scores, ridge_weights, slope


@pytest.mark.parametrize("block", [3, 512])
def test_ld_scores_are_those_of_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_BLOCK", block)
    rng = np.random.default_rng(5)
    n, m = 40, 17
    dosage = rng.binomial(2, 0.4, size=(n, m)).astype(np.int8)
    dosage[:, 6] = 1
    position = np.sort(rng.integers(0, 1_000, size=m)).astype(float)
    position[9] = position[8]
    expected = np.full(m, np.nan)
    free = [j for j in range(m) if j != 6]
    for j in free:
        near = [k for k in free if abs(position[j] - position[k]) <= 200]
        r2 = np.array([np.corrcoef(dosage[:, j], dosage[:, k])[0, 1] ** 2 for k in near])
        expected[j] = (r2 - (1 - r2) / (n - 2)).sum()
    np.testing.assert_allclose(ld_scores(dosage, position, window=200), expected, rtol=1e-10)


def test_unlinked_sites_have_a_score_of_one_on_average() -> None:
    rng = np.random.default_rng(6)
    dosage = rng.binomial(2, 0.3, size=(100, 400)).astype(np.int8)
    assert ld_scores(dosage, np.arange(400.0), window=400).mean() == pytest.approx(1, abs=0.1)


def test_ld_scores_need_three_people() -> None:
    with pytest.raises(ValueError, match="at least 3 people"):
        ld_scores(np.zeros((2, 4), dtype=np.int8), np.arange(4.0), window=1)


def test_slope_is_that_of_least_squares() -> None:
    x, y = np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 2.5, 2.0, 7.0])
    assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])
    assert np.isnan(slope(np.ones(3), np.arange(3.0)))


def test_ridge_weights_agree_with_the_normal_equations() -> None:
    rng = np.random.default_rng(7)
    dosage = rng.binomial(2, 0.4, size=(30, 8)).astype(np.int8)
    dosage[:, 3] = 2
    traits, h2 = rng.standard_normal((30, 2)), np.array([0.2, 0.6])
    weights = ridge_weights(dosage, traits, heritability=h2)
    free = np.arange(8) != 3
    z = (dosage[:, free] - dosage[:, free].mean(axis=0)) / dosage[:, free].std(axis=0)
    for t in range(2):
        penalty = 7 * (1 - h2[t]) / h2[t]
        y = traits[:, t] - traits[:, t].mean()
        expected = np.linalg.solve(z.T @ z + penalty * np.eye(7), z.T @ y) / dosage[:, free].std(axis=0)
        np.testing.assert_allclose(weights[t, free], expected, rtol=1e-9)
    assert not weights[:, 3].any()


def test_errors_of_populations_are_in_deviations_of_the_truth() -> None:
    truth = np.array([[0.0], [2.0], [4.0], [6.0]])
    score = np.array([[1.0], [3.0], [4.0], [4.0]])
    sd = truth.std()
    groups = [(np.array([0, 1]), np.array([0, 1])), (np.array([2, 3]), np.array([2, 3]))]
    mean, spread = scores._group_errors(score, truth, groups)
    # Means 2 against 1 and 4 against 5; deviations 1 against 1 and 0 against 1.
    assert mean == pytest.approx(1 / sd)
    assert spread == pytest.approx(0.5 / sd)


def test_training_people_equal_their_floor(same: Comparison) -> None:
    result = scores.family(same)
    for metric in result.metrics:
        assert metric.value == metric.floor, metric.metric
    rows = {m.metric: m.value for m in result.metrics}
    assert rows["ld_score_r"] > 0.8
    assert rows["ld_score_slope"] == pytest.approx(1, abs=0.2)
    assert 0.3 < rows["pgs_r2"] < 1
    curve = result.curves["pgs"]
    assert isinstance(curve, pd.DataFrame)
    assert curve.groupby("heritability")["real"].mean().is_monotonic_increasing


def test_independent_sites_have_no_ld_scores_and_worse_weights(shuffled: Comparison) -> None:
    rows = {m.metric: m for m in scores.family(shuffled).metrics}
    assert rows["ld_score_ratio"].value < 0.3 < 0.8 < rows["ld_score_ratio"].floor
    assert rows["ld_score_r"].value < 0.6
    assert rows["pgs_r2_ratio"].value < 0.9
    assert rows["pgs_r2_ratio"].value == pytest.approx(rows["pgs_r2"].value / rows["pgs_r2"].floor)
    # Permuted among all people, alleles lose their population: means of scores too.
    assert rows["pgs_mean_error"].value > rows["pgs_mean_error"].floor


def test_a_map_takes_the_place_of_positions(same: Comparison) -> None:
    from dataclasses import replace

    # All sites closer than 1 cM: the same window as 1 Mb here. Far apart: every site stands alone.
    near, far = (replace(same, cm=np.linspace(0, end, same.n_sites)) for end in (0.5, 2.0 * same.n_sites))
    plain, one, alone = (scores.family(c).curves["ld_scores"] for c in (same, near, far))
    pd.testing.assert_frame_equal(plain, one)
    np.testing.assert_allclose(alone["holdout"], 1)
