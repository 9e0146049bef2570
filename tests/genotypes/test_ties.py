"""Sites that divide the rows as a neighbour does are one variable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genodiff.genotypes import ties
from genodiff.genotypes.ties import find_ties


def columns(*sites: list[int]) -> NDArray[np.int8]:
    return np.array(sites, dtype=np.int8).T


A = [1, 0, 0, 1, 0, 0, 0, 0]
B = [0, 1, 1, 0, 1, 1, 1, 1]  # mirrors A
C = [0, 0, 1, 1, 1, 1, 0, 1]


def test_equal_and_mirrored_sites_follow_the_first() -> None:
    found = find_ties(columns(A, C, A, B), ploidy=1, least_carriers=1)
    assert found.drawn.tolist() == [0, 1]
    assert found.source.tolist() == [0, 1, 0, 0]
    assert found.mirrored.tolist() == [False, False, False, True]


def test_half_and_half_sites_are_told_by_their_first_row() -> None:
    half, other = [1, 1, 0, 0], [0, 0, 1, 1]
    found = find_ties(columns(half, other), ploidy=1, least_carriers=1)
    assert found.drawn.tolist() == [0]
    assert found.mirrored.tolist() == [False, True]


def test_few_carriers_are_not_tied() -> None:
    assert find_ties(columns(A, A), ploidy=1).drawn.tolist() == [0, 1]
    assert find_ties(np.tile(columns(A, A), (4, 1)), ploidy=1).drawn.tolist() == [0]


def test_sites_out_of_reach_are_not_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ties, "_REACH", 1)
    assert find_ties(columns(A, C, A), ploidy=1, least_carriers=1).drawn.tolist() == [0, 1, 2]


def test_unknown_calls_must_coincide() -> None:
    unknown = [1, 0, 0, 1, 0, 0, 0, -1]
    found = find_ties(columns(A, unknown, unknown), ploidy=1, least_carriers=1)
    assert found.drawn.tolist() == [0, 1]


def test_dosages_are_mirrored_about_one() -> None:
    dosage = [0, 1, 0, 0, 2, 1]
    found = find_ties(columns(dosage, [2 - g for g in dosage]), ploidy=2, least_carriers=1)
    assert found.drawn.tolist() == [0]
    drawn = np.array([[0], [1], [2]], dtype=np.int8)
    assert found.expand(drawn, ploidy=2, rng=np.random.default_rng(1)).tolist() == [[0, 2], [1, 1], [2, 0]]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_expanding_the_drawn_sites_gives_back_all(seed: int, ploidy: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, ploidy + 1, (12, 3), dtype=np.int8)
    base[:2] = [[0], [ploidy]]
    states = base[:, rng.integers(0, 3, 10)]
    flip = rng.random(10) < 0.5
    states[:, flip] = ploidy - states[:, flip]
    found = find_ties(states, ploidy=ploidy, least_carriers=1)
    assert len(found.drawn) <= 3
    assert (found.expand(states[:, found.drawn], ploidy=ploidy, rng=rng) == states).all()


def nearly_tied(apart: int, *, n: int = 4000) -> NDArray[np.int8]:
    """Two sites of 400 carriers, the second mirrored, which differ in some rows; a third that equals the second."""
    first = np.zeros(n, dtype=np.int8)
    first[:400] = 1
    second = first.copy()
    second[398 : 398 + apart] ^= 1
    return np.stack([first, 1 - second, 1 - second], axis=1)


def test_sites_that_differ_in_few_rows_follow_with_exceptions() -> None:
    states = nearly_tied(5)
    found = find_ties(states, ploidy=1)
    assert found.drawn.tolist() == [0, 1]
    assert found.follows.tolist() == [0, 0]
    assert found.source.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.gained, [0, 3 / 3600], rtol=1e-6)
    np.testing.assert_allclose(found.lost, [0, 2 / 400], rtol=1e-6)
    many = np.repeat(states[:, :2], 50, axis=0)
    many[:, 1] = 0
    drawn = found.expand(many, ploidy=1, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(drawn[:, 1], drawn[:, 2])
    gone = (many[:, 0] == 1) & (drawn[:, 1] == 1)
    new = (many[:, 0] == 0) & (drawn[:, 1] == 0)
    assert gone.sum() == pytest.approx(50 * 2, abs=5 * np.sqrt(100))
    assert new.sum() == pytest.approx(50 * 3, abs=5 * np.sqrt(150))


@pytest.mark.parametrize("mirrored", [False, True])
def test_probabilities_of_exceptions_are_those_of_the_site_followed(mirrored: bool) -> None:
    """The site that is followed may be the mirrored one."""
    states = nearly_tied(5)[:, ::-1] if mirrored else nearly_tied(5)
    found = find_ties(states, ploidy=1)
    drawn = found.expand(np.repeat(states[:, found.drawn], 100, axis=0), ploidy=1, rng=np.random.default_rng(1))
    both = np.repeat(states, 100, axis=0)
    for pair in ((0, 0), (0, 1), (1, 0), (1, 1)):
        expected, count = ((x[:, 0] == pair[0]) & (x[:, -1] == pair[1]) for x in (both, drawn))
        assert count.sum() == pytest.approx(expected.sum(), abs=5 * np.sqrt(expected.sum()))


def test_sites_further_apart_are_drawn_by_themselves() -> None:
    assert find_ties(nearly_tied(7), ploidy=1).follows.tolist() == [0, 1]
    assert find_ties(nearly_tied(6), ploidy=1).follows.tolist() == [0, 0]
    # A tenth of the carriers: three of 25 are too many.
    few = nearly_tied(3)
    few[:375, 0] = 0
    few[:375, 1:] = 1
    assert find_ties(few, ploidy=1).follows.tolist() == [0, 1]


def test_what_is_nearly_tied_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    base = (rng.random((2000, 20)) < 0.2).astype(np.int8)
    states = base[:, rng.integers(0, 20, 90)] ^ (rng.random((2000, 90)) < 0.0005)
    states[rng.random(states.shape) < 0.001] = -1
    whole = find_ties(states.astype(np.int8), ploidy=1)
    assert 20 <= len(np.unique(whole.follows)) < 40
    assert len(np.unique(whole.follows)) < len(whole.drawn)
    monkeypatch.setattr(ties, "_BLOCK", 7)
    for name, value in vars(find_ties(states.astype(np.int8), ploidy=1)).items():
        np.testing.assert_array_equal(value, vars(whole)[name])
