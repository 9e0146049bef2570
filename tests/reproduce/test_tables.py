"""The paper's metrics on arrays small enough to work out by hand, and tables over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from genodiff.evaluation.covariance import histogram_kl as dosage_kl
from genodiff.evaluation.covariance import wasserstein_per_site
from genodiff.reproduce.tables import (
    BINS,
    METRICS,
    PAPER,
    Results,
    Target,
    histogram_kl,
    paper_metrics,
    verdicts,
    wasserstein_1d,
)

RNG = np.random.default_rng(4)


def test_equal_samples_have_no_error() -> None:
    x = RNG.normal(size=(30, 3))
    assert paper_metrics(x, x, per_coordinate=True) == pytest.approx(dict.fromkeys(paper_metrics(x, x), 0.0) | {
        f"{name}_{j}": 0.0 for name in ("mean_error", "sd_error", "w2") for j in (1, 2, 3)
    }, abs=1e-12)  # fmt: skip


def test_against_numbers_worked_out_by_hand() -> None:
    x = np.array([[0.0, 0.0], [2.0, 2.0]])
    y = np.array([[1.0, 4.0], [3.0, 0.0]])
    out = paper_metrics(x, y, per_coordinate=True)
    # Means (1, 1) and (2, 2); sds (1, 1) and (1, 2); covariances [[2, 2], [2, 2]] and [[2, −4], [−4, 8]].
    assert out["mean_error_1"] == out["mean_error_2"] == out["mean_error"] == 1
    assert (out["sd_error_1"], out["sd_error_2"], out["sd_error"]) == (0, 1, 0.5)
    assert out["cov_frobenius"] == pytest.approx(math.sqrt(0 + 36 + 36 + 36))
    assert out["corr_frobenius"] == pytest.approx(math.sqrt(8))
    assert out["w2_1"] == 1
    assert out["w2_2"] == pytest.approx(math.sqrt((0 + 4) / 2))
    assert out["w2"] == pytest.approx((out["w2_1"] + out["w2_2"]) / 2)


def test_leading_coordinates_only_for_wasserstein() -> None:
    x, y = np.zeros((4, 3)), np.array([[0.0, 1.0, 7.0]] * 4)
    assert paper_metrics(x, y, leading=1)["w2"] == 0
    assert paper_metrics(x, y, leading=2)["w2"] == 0.5
    assert paper_metrics(x, y)["w2"] == pytest.approx(8 / 3)


def test_fixed_sites_correlate_with_themselves_alone() -> None:
    x = np.column_stack([RNG.normal(size=50), np.full(50, 0.1)])
    y = np.column_stack([x[:, 0], x[:, 0]])
    assert paper_metrics(x, y)["corr_frobenius"] == pytest.approx(math.sqrt(2))
    assert paper_metrics(x, x)["corr_frobenius"] == 0


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 6), (1, 5), (7, 3)])
def test_wasserstein_is_the_best_assignment(n: int, m: int) -> None:
    a, b = RNG.normal(size=n), RNG.normal(size=m) + 1
    # Repeating points to a common size turns unequal weights into an assignment.
    size = math.lcm(n, m)
    cost = (np.repeat(a, size // n)[:, None] - np.repeat(b, size // m)) ** 2
    rows, columns = linear_sum_assignment(cost)
    assert wasserstein_1d(a, b) == pytest.approx(math.sqrt(cost[rows, columns].mean()))
    assert wasserstein_1d(b, a) == pytest.approx(wasserstein_1d(a, b))


def test_wasserstein_of_equal_sizes_is_that_of_sorted_differences() -> None:
    a, b = RNG.normal(size=100), RNG.normal(size=100)
    assert wasserstein_1d(a, b) == pytest.approx(np.sqrt(np.mean((np.sort(a) - np.sort(b)) ** 2)))


def test_dosages_agree_with_the_metrics_of_the_evaluation() -> None:
    x, y = (RNG.integers(0, 3, size=(n, 4)).astype(np.int8) for n in (40, 60))
    y[:, 3] = 0
    out = paper_metrics(x, y, leading=4)
    assert out["histogram_kl"] == pytest.approx(float(dosage_kl(x, y).mean()))
    assert out["w2"] == pytest.approx(float(wasserstein_per_site(x, y).mean()))


def test_generated_values_count_as_the_dosage_nearest() -> None:
    assert histogram_kl([-3.0, 0.4, 1.2, 9.0], [0, 0, 1, 2]) == pytest.approx(0)


def test_histogram_of_real_numbers_by_hand() -> None:
    # Ten values inside every bin, and the two ends of the range.
    reference = np.array([0, *(np.arange(10 * BINS) + 0.5) / (10 * BINS), 1])
    away = np.full(502, 5.0)
    # All generated values fall into the open bin above.
    p = np.array([0, 11, *[10] * (BINS - 2), 11, 0]) + 0.5
    q = np.array([*[0] * (BINS + 1), 502]) + 0.5
    p, q = p / p.sum(), q / q.sum()
    assert histogram_kl(away, reference) == pytest.approx(np.sum(p * np.log(p / q)))


@pytest.mark.parametrize("bad", [np.zeros((3, 2)), np.zeros(3), np.full((3, 1), np.nan), np.zeros((1, 1))])
def test_bad_samples_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="samples"):
        paper_metrics(bad, np.zeros((3, 1)))


def test_printed_values_have_known_names() -> None:
    for table in PAPER.values():
        assert set(table) == {"isotropic", "gou"}
        for column in table.values():
            assert set(column) <= set(METRICS)


def test_results_over_seeds_and_verdicts() -> None:
    results = Results()
    for seed, value in ((1, 1.0), (2, 3.0)):
        results.add("gou", "test", seed, {"w2": value})
    results.add("floor (train people)", "test", 1, {"w2": 0.5})
    frame = results.frame()
    assert frame.columns.tolist() == ["method", "against", "metric", "mean", "sd", "seeds"]
    assert frame.iloc[0].tolist() == ["gou", "test", "w2", 2.0, pytest.approx(math.sqrt(2)), 2]
    assert math.isnan(frame.iloc[1]["sd"])
    assert results.seeds == [1, 2]
    assert len(results.long()) == 3
    met, missed, absent = verdicts(
        frame,
        [Target("gou", "test", "w2", 2.0), Target("gou", "test", "w2", 1.9, "half"), Target("gou", "x", "w2", 9.0)],
    )
    assert (met.met, met.value, met.limit, met.metric) == (True, 2.0, 2.0, "w2")
    assert (missed.met, missed.what) == (False, "half")
    assert not absent.met
    assert math.isnan(absent.value)
