"""Distances, copied runs and attacks against brute force and planted leaks."""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.variants import VariantTable
from genodiff.evaluation import privacy
from genodiff.evaluation.adversarial import GroupDistances, adversarial_accuracy
from genodiff.evaluation.copying import longest_shared_runs
from genodiff.evaluation.distances import hamming, nearest
from genodiff.evaluation.panels import Panel, align

RNG = np.random.default_rng(13)


@pytest.fixture(autouse=True)
def _fresh_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test draws from the start of the stream, whichever tests run before it."""
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(13))


def rows_of(n: int, m: int, top: int = 1) -> np.ndarray:
    return RNG.integers(0, top + 1, size=(n, m)).astype(np.int8)


def panel_of(rows: np.ndarray) -> Panel:
    return Panel(rows=rows, filled=rows, dosage=rows[::2] + rows[1::2], rows_per_person=2)


def brute_force_runs(queries: np.ndarray, panel: np.ndarray) -> list[int]:
    def longest(q: np.ndarray, p: np.ndarray) -> int:
        best = run = 0
        for same in q == p:
            run = run + 1 if same else 0
            best = max(best, run)
        return best

    return [max(longest(q, p) for p in panel) for q in queries]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(1, 25),
    st.integers(1, 2),
    st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_longest_runs_equal_brute_force(seed: int, n: int, m: int, sites: int, top: int, rarity: float) -> None:
    generator = np.random.default_rng(seed)
    draw = generator.integers(0, top + 1, size=(n + m, sites)) * (generator.random((n + m, sites)) < rarity)
    rows = draw.astype(np.int8)
    found = longest_shared_runs(rows[:n], rows[n:])
    np.testing.assert_array_equal(found, brute_force_runs(rows[:n], rows[n:]))


def test_longest_run_of_a_planted_segment() -> None:
    panel, query = rows_of(200, 1_000), rows_of(1, 1_000)
    query[0, 300:400] = panel[77, 300:400]
    query[0, 299], query[0, 400] = 1 - panel[77, 299], 1 - panel[77, 400]
    assert longest_shared_runs(query, panel)[0] == 100
    assert longest_shared_runs(panel[:3], panel).tolist() == [1_000] * 3


def test_runs_refuse_different_sites_and_are_zero_without_a_panel() -> None:
    with pytest.raises(ValueError, match="5 sites, the panel has 6"):
        longest_shared_runs(rows_of(2, 5), rows_of(2, 6))
    assert longest_shared_runs(rows_of(2, 5), rows_of(0, 5)).tolist() == [0, 0]


@pytest.mark.parametrize("top", [1, 2])
def test_hamming_and_nearest_equal_brute_force(top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rows_of(9, 50, top), rows_of(14, 50, top)
    expected = np.abs(a[:, None].astype(int) - b[None].astype(int)).sum(axis=2)
    for chunk in (4_096, 4):
        monkeypatch.setattr("genodiff.evaluation.distances._SITE_CHUNK", chunk)
        monkeypatch.setattr("genodiff.evaluation.distances._ROW_CHUNK", chunk)
        np.testing.assert_array_equal(hamming(a, b), expected)
        np.testing.assert_array_equal(nearest(a, b), expected.min(axis=1))


def test_adversarial_accuracy_by_hand() -> None:
    real, synthetic = np.array([0.0, 1.0, 10.0]), np.array([0.2, 9.0, 30.0])

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.abs(x[:, None] - y[None])

    found = adversarial_accuracy(distance(real, synthetic), distance(real, real), distance(synthetic, synthetic))
    # Nearest other real: 1, 1, 9; nearest synthetic: .2, .8, 1. Nearest other synthetic: 8.8, 8.8, 21; real: .2, 1, 20.
    assert (found.truth, found.syn) == (0, 0)
    far = adversarial_accuracy(distance(real, real + 100), distance(real, real), distance(real, real))
    assert (far.truth, far.syn, far.mean) == (1, 1, 1)


def test_ties_lower_adversarial_accuracy() -> None:
    zeros = np.zeros((4, 4))
    assert adversarial_accuracy(zeros, zeros, zeros).mean == 0
    with pytest.raises(ValueError, match="4 real and 3 synthetic"):
        adversarial_accuracy(zeros[:, :3], zeros, zeros[:3, :3])


def test_group_distances_draw_disjoint_sets_from_one_group() -> None:
    panel = panel_of(rows_of(40, 300))
    groups = GroupDistances.of({"x": panel})
    # A person on both sides would be at distance 0 and lower truth; among unrelated rows it is about one half.
    found = groups.mean_accuracy(("x", "x"), 10, np.random.default_rng(0))
    assert 0.3 < found.mean < 0.7


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.data())
def test_expected_maximum_over_all_subsets(values: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(values)))
    expected = np.mean([max(c) for c in combinations(values, size)])
    assert privacy.expected_maximum(np.array(values), size) == pytest.approx(expected)


def test_expected_unique_share_over_all_subsets() -> None:
    rows = np.array([[0, 0], [0, 0], [0, 1], [1, 1], [0, 0]], dtype=np.int8)
    for size in range(1, 6):
        subsets = combinations(range(5), size)
        expected = np.mean([len({tuple(rows[i]) for i in s}) / size for s in subsets])
        assert privacy.expected_unique_share(rows, size) == pytest.approx(expected)


def test_copies_are_found() -> None:
    source = panel_of(rows_of(20, 60))
    judged = panel_of(np.concatenate([source.rows[[3, 8]], rows_of(4, 60)]))
    assert privacy.copies(judged, source).tolist() == [True, True, False, False, False, False]


def test_nearest_distances_do_not_depend_on_the_way_they_are_found(trio: dict[str, VariantTable]) -> None:
    comparison = align(trio["synthetic"], train=trio["train"], holdout=trio["holdout"])
    groups = privacy.group_distances(comparison)
    direct, known = privacy.nearest_distances(comparison), privacy.nearest_distances(comparison, groups)
    for name in ("synthetic_to_train", "holdout_to_train", "train_to_synthetic", "holdout_to_synthetic"):
        np.testing.assert_array_equal(getattr(direct, name), getattr(known, name))
    everyone = np.concatenate([p.filled for p in (comparison.holdout, comparison.synthetic_all, comparison.train_all)])
    np.testing.assert_array_equal(groups.matrix, hamming(everyone, everyone))
