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
    assert found.expand(drawn, ploidy=2).tolist() == [[0, 2], [1, 1], [2, 0]]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_expanding_the_drawn_sites_gives_back_all(seed: int, ploidy: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, ploidy + 1, (12, 3), dtype=np.int8)
    states = base[:, rng.integers(0, 3, 10)]
    flip = rng.random(10) < 0.5
    states[:, flip] = ploidy - states[:, flip]
    found = find_ties(states, ploidy=ploidy, least_carriers=1)
    assert len(found.drawn) <= 3
    assert (found.expand(states[:, found.drawn], ploidy=ploidy) == states).all()
