"""Linkage against scikit-allel, brute force and cases with a known answer."""

from __future__ import annotations

import sys
from itertools import combinations

import allel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genodiff.evaluation import ld
from genodiff.evaluation.packed import PackedSites
from genodiff.evaluation.panels import Panel

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _fresh_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test draws from the start of the stream, whichever tests run before it."""
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(5))


def panel_of(rows: np.ndarray) -> Panel:
    return Panel(rows=rows, filled=rows, dosage=rows, rows_per_person=1)


def all_pairs(m: int) -> np.ndarray:
    return np.array(list(combinations(range(m), 2)))


@pytest.mark.parametrize("missing", [False, True])
def test_r2_is_that_of_rogers_and_huff(missing: bool) -> None:
    dosage = RNG.integers(-1 if missing else 0, 3, size=(70, 12)).astype(np.int8)
    # scikit-allel works in float32.
    expected = allel.rogers_huff_r(dosage.T).astype(float) ** 2
    np.testing.assert_allclose(PackedSites.pack(dosage).r2(all_pairs(12)), expected, rtol=2e-5, atol=1e-6)


def test_r2_of_haplotypes_is_the_squared_correlation() -> None:
    rows = RNG.integers(0, 2, size=(131, 9)).astype(np.int8)
    r = np.corrcoef(rows.T)
    pairs = all_pairs(9)
    np.testing.assert_allclose(PackedSites.pack(rows).r2(pairs), r[pairs[:, 0], pairs[:, 1]] ** 2)


def test_r2_of_a_fixed_site_is_nan_and_of_a_copy_is_one() -> None:
    rows = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 1]], dtype=np.int8)
    np.testing.assert_array_equal(PackedSites.pack(rows).r2(np.array([[0, 1], [0, 2]])), [1, np.nan])


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_sampled_pairs_are_all_pairs_in_range(seed: int, m: int) -> None:
    generator = np.random.default_rng(seed)
    coordinate = np.sort(generator.integers(0, 30, size=m)).astype(float)
    low, high = sorted(generator.uniform(0.1, 30, size=2))
    found = ld.sample_pairs(coordinate, low=low, high=high, size=10**6, generator=generator)
    pairs = all_pairs(m)
    distance = coordinate[pairs[:, 1]] - coordinate[pairs[:, 0]]
    expected = pairs[(distance >= low) & (distance < high)]
    np.testing.assert_array_equal(found, expected)
    few = ld.sample_pairs(coordinate, low=low, high=high, size=5, generator=generator)
    assert len(few) <= max(5, 0)
    assert {tuple(p) for p in few} <= {tuple(p) for p in expected}


def test_decay_equals_the_mean_over_all_pairs() -> None:
    rows = RNG.integers(0, 2, size=(50, 15)).astype(np.int8)
    position = np.cumsum(RNG.integers(1, 40, size=15)).astype(float)
    found = ld.ld_decay([panel_of(rows)], position=position, generator=RNG, bins=4, min_pairs=1)
    pairs = all_pairs(15)
    distance = position[pairs[:, 1]] - position[pairs[:, 0]]
    r2 = PackedSites.pack(rows).r2(pairs)
    for k in range(4):
        inside = (distance >= found.edges[k]) & (distance < found.edges[k + 1])
        assert found.pairs[k] == inside.sum()
        assert found.r2[0, k] == pytest.approx(r2[inside].mean())
    assert found.edges[-1] == pytest.approx(position[-1] - position[0])


def test_pairs_never_cross_contigs() -> None:
    rows = RNG.integers(0, 2, size=(50, 6)).astype(np.int8)
    position = np.array([1, 11, 31, 5, 15, 35], dtype=float)
    contig = np.array(["1", "1", "1", "2", "2", "2"])
    found = ld.ld_decay([panel_of(rows)], position=position, contig=contig, generator=RNG, bins=3, min_pairs=1)
    assert found.pairs.sum() == 6


def test_decay_of_sites_at_one_position_is_empty() -> None:
    rows = RNG.integers(0, 2, size=(50, 3)).astype(np.int8)
    found = ld.ld_decay([panel_of(rows)] * 2, position=np.ones(3), generator=RNG)
    assert found.r2.shape == (2, 0)
    assert np.isnan(ld.decay_error(found, panel=1, reference=0))


def test_near_pairs_are_eligible_and_near() -> None:
    eligible = RNG.random(200) < 0.4
    pairs = ld.near_pairs(eligible, generator=RNG)
    index = np.flatnonzero(eligible)
    expected = [(i, j) for i, j in combinations(index, 2) if j - i <= ld.NEAR_SITES]
    np.testing.assert_array_equal(pairs, expected)


def test_three_point_moment_by_brute_force() -> None:
    rows = RNG.integers(0, 3, size=(40, 8)).astype(np.int8)
    triples = ld.sample_triples(8, size=30, generator=RNG)
    assert (np.diff(triples, axis=1) > 0).all()
    centred = rows - rows.mean(axis=0)
    expected = [(centred[:, i] * centred[:, j] * centred[:, k]).mean() for i, j, k in triples]
    np.testing.assert_allclose(ld.three_point(rows, triples), expected, atol=1e-6)


def test_triples_stay_within_their_window() -> None:
    triples = ld.sample_triples(500, size=2_000, generator=RNG)
    assert (triples[:, 2] - triples[:, 0] < ld.TRIPLE_SITES).all()
    assert triples.max() > 480
