"""What one person can change, by brute force; the noise, by its statistics; the moments, by their limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, kstest

from genodiff.genotypes.units import Units
from genodiff.private.moments import (
    block_products,
    block_slices,
    count_sensitivity,
    denoised,
    dosage_sum,
    frequencies_from,
    product_sensitivity,
    release,
)
from genodiff.private.noise import grid_of, secret, seeded, with_noise

Rows = NDArray[np.int8]


def haplotypes(people: int, sites: int, *, seed: int = 0) -> Units:
    """Haplotypes with linkage: each site copies the one before or is drawn anew."""
    rng = np.random.default_rng(seed)
    fresh = (rng.random((2 * people, sites)) < 0.4).astype(np.int8)
    out = fresh.copy()
    for j in range(1, sites):
        out[:, j] = np.where(rng.random(2 * people) < 0.8, out[:, j - 1], fresh[:, j])
    return Units(out, ploidy=1, per_person=2)


def everybody_possible(sites: int, ploidy: int) -> list[Rows]:
    """All genotypes one person can have."""
    rows = [np.array(row, dtype=np.int8) for row in itertools.product(range(ploidy + 1), repeat=sites)]
    if ploidy == 2:
        return [row[None] for row in rows]
    return [np.stack(pair) for pair in itertools.combinations_with_replacement(rows, 2)]


def contribution(person: Rows, centre: NDArray[np.float64], blocks: list[slice], *, ploidy: int, clip: float) -> Rows:
    """What one person adds, in the coordinates in which the noise is isotropic."""
    within, between = block_products(person, centre, blocks, ploidy=ploidy, clip=clip)
    parts = [matrix[np.triu_indices(len(matrix))] for matrix in within]
    for part, matrix in zip(parts, within, strict=True):
        i, j = np.triu_indices(len(matrix))
        part[i != j] *= math.sqrt(2)
    return np.concatenate([*parts, *(matrix.ravel() for matrix in between)])


def largest_change(people: list[Rows], centre: NDArray[np.float64], width: int, *, ploidy: int, clip: float) -> float:
    blocks = block_slices(len(centre), width)
    rows = np.stack([contribution(p, centre, blocks, ploidy=ploidy, clip=clip) for p in people])
    norms = np.square(rows).sum(1)
    return float(np.sqrt(np.max(norms[:, None] + norms - 2 * rows @ rows.T)))


@pytest.mark.parametrize("ploidy", [1, 2])
@pytest.mark.parametrize("clip", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("centre", ["half", "spread", "rare"])
def test_nobody_changes_the_products_by_more_than_their_sensitivity(
    ploidy: int, clip: float, width: int, centre: str
) -> None:
    """Every possible person in the place of every other one, at frequencies fair and unfair."""
    at = {"half": np.full(4, 0.5), "spread": np.array([0.1, 0.4, 0.8, 1.0]), "rare": np.zeros(4)}[centre]
    bound = product_sensitivity(block_slices(4, width), clip)
    found = largest_change(everybody_possible(4, ploidy), at, width, ploidy=ploidy, clip=clip)
    assert found <= bound * (1 + 1e-12)
    assert found > 0.1 * bound


@pytest.mark.parametrize("width", [2, 4])
def test_the_bound_on_products_is_reached(width: int) -> None:
    """Haplotypes at frequency one half have the largest norm and can be orthogonal: no smaller bound would do."""
    found = largest_change(everybody_possible(4, 1), np.full(4, 0.5), width, ploidy=1, clip=0.5)
    assert found == pytest.approx(product_sensitivity(block_slices(4, width), 0.5), rel=1e-12)


@pytest.mark.parametrize("ploidy", [1, 2])
def test_the_bound_on_counts_is_reached_and_never_passed(ploidy: int) -> None:
    sums = np.stack([dosage_sum(person) for person in everybody_possible(4, ploidy)])
    most = np.linalg.norm(sums[:, None] - sums[None], axis=2).max()
    assert most == pytest.approx(count_sensitivity(4), rel=1e-12)


def test_neighbours_differ_by_the_one_who_was_replaced() -> None:
    """On whole data sets: the sums differ by what the two people add, so that the bound for these holds for all."""
    units, rng = haplotypes(30, 11), np.random.default_rng(1)
    blocks, centre = block_slices(11, 4), rng.random(11)
    bound = product_sensitivity(blocks, 0.5)
    for _ in range(20):
        other = units.states.copy()
        person = rng.integers(30)
        other[2 * person : 2 * person + 2] = rng.random((2, 11)) < rng.random()
        one, two = (contribution(states, centre, blocks, ploidy=1, clip=0.5) for states in (units.states, other))
        rows = slice(2 * person, 2 * person + 2)
        alone = [contribution(s[rows], centre, blocks, ploidy=1, clip=0.5) for s in (units.states, other)]
        np.testing.assert_allclose(one - two, alone[0] - alone[1], atol=1e-12)
        assert np.linalg.norm(one - two) <= bound
        assert np.linalg.norm(dosage_sum(units.states) - dosage_sum(other)) <= count_sensitivity(11)


def test_unequal_blocks_are_counted_by_their_widths() -> None:
    blocks = block_slices(10, 4)
    assert [b.stop - b.start for b in blocks] == [4, 4, 2]
    assert product_sensitivity(blocks, 0.5) == pytest.approx(0.25 * math.sqrt(8 * (16 + 16 + 4 + 16 + 8)))
    assert largest_change(everybody_possible(5, 1), np.full(5, 0.5), 3, ploidy=1, clip=0.5) <= product_sensitivity(
        block_slices(5, 3), 0.5
    )


@pytest.mark.parametrize("per_person", [1, 2])
def test_the_noise_is_as_large_as_it_must_be(per_person: int) -> None:
    """Δ/σ of the two releases together is μ, and the noise found has that σ, within 99.9 % of its χ²."""
    base = haplotypes(40, 96, seed=2)
    units = base if per_person == 2 else Units(base.states[::2] + base.states[1::2], ploidy=2, per_person=1)
    mu, share, width, clip = 0.7, 0.4, 16, 0.5
    with_, without = (
        release(units, mu=m, share=share, width=width, clip=clip, noise=seeded(5)) for m in (mu, math.inf)
    )
    blocks = block_slices(96, width)
    assert math.hypot(
        count_sensitivity(96) / with_.count_sigma, product_sensitivity(blocks, clip) / with_.product_sigma
    ) == pytest.approx(mu)
    found = [((with_.counts - without.counts) / with_.count_sigma)]
    exact = block_products(units.states, with_.frequency, blocks, ploidy=units.ploidy, clip=clip)
    i, j = np.triu_indices(width)
    for noisy, clean in zip(with_.within, exact[0], strict=True):
        np.testing.assert_array_equal(noisy, noisy.T)
        found.append((noisy - clean)[i, j] * np.where(i == j, 1, math.sqrt(2)) / with_.product_sigma)
    found += [(n - c).ravel() / with_.product_sigma for n, c in zip(with_.between, exact[1], strict=True)]
    for noise in found:
        low, high = chi2.ppf([5e-4, 1 - 5e-4], len(noise))
        assert low < np.square(noise).sum() < high
    assert kstest(np.concatenate(found), "norm").pvalue > 1e-3


def test_secret_noise_is_normal_and_never_the_same() -> None:
    one, two = secret(20_000), secret(20_000)
    assert not np.intersect1d(one, two).size
    assert np.isfinite(one).all()
    assert kstest(one, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(one, two)[0, 1]) < 6 / math.sqrt(20_000)


def test_released_numbers_lie_on_a_grid_far_finer_than_the_noise() -> None:
    noisy = with_noise(np.arange(100.0), 3.7, seeded(1))
    step = grid_of(3.7)
    assert step < 3.7e-6
    np.testing.assert_array_equal(noisy, np.rint(noisy / step) * step)
    np.testing.assert_array_equal(with_noise(np.arange(3.0), 0.0, secret), np.arange(3.0))


def test_without_noise_the_moments_are_those_of_the_people() -> None:
    """Infinite μ and a clip no row reaches: frequencies and covariances within and between blocks."""
    units = haplotypes(50, 20)
    moments = release(units, mu=math.inf, share=0.3, width=8, clip=1.0, noise=secret)
    np.testing.assert_allclose(moments.frequency, units.states.mean(0))
    want = np.cov(units.states.T, bias=True)
    np.testing.assert_allclose(moments.covariance(0), want[:16, :16], atol=1e-12)
    np.testing.assert_allclose(moments.covariance(1), want[8:, 8:], atol=1e-12)


def test_less_noise_brings_the_moments_closer() -> None:
    units = haplotypes(200, 24)
    want = np.cov(units.states.T, bias=True)[:16, :16]
    errors = []
    for mu in (0.5, 5.0, 50.0, 5e5):
        moments = release(units, mu=mu, share=0.3, width=8, clip=1.0, noise=seeded(3))
        errors.append(
            [np.abs(moments.frequency - units.states.mean(0)).max(), np.abs(moments.covariance(0) - want).max()]
        )
    assert (np.diff(np.array(errors), axis=0) < 0).all()
    assert np.max(errors[-1]) < 1e-4


def test_dosages_give_the_covariance_of_alleles() -> None:
    """Rows of two independent haplotypes: twice the covariance, half the rows."""
    units = haplotypes(20_000, 8)
    people = Units(units.states[::2] + units.states[1::2], ploidy=2, per_person=1)
    one, two = (release(u, mu=math.inf, share=0.3, width=4, clip=1.0, noise=secret) for u in (units, people))
    np.testing.assert_allclose(one.frequency, two.frequency)
    np.testing.assert_allclose(one.covariance(0), two.covariance(0), atol=6 * 0.25 / math.sqrt(20_000))


def test_frequencies_are_the_posterior_mean() -> None:
    """Against the sum over all counts."""
    alleles, sigma = 60, 4.0
    k = np.arange(alleles + 1)
    prior = 1 / np.maximum(k, 1) + 1 / np.maximum(alleles - k, 1)
    for noisy in (-25.0, -3.2, 0.4, 17.0, 61.5):
        weight = prior * np.exp(-np.square(k - noisy) / (2 * sigma**2))
        found = frequencies_from(np.array([noisy]), sigma=sigma, alleles=alleles)
        assert found[0] == pytest.approx(weight @ k / weight.sum() / alleles, rel=1e-9)


def test_frequencies_stay_within_bounds_and_go_to_the_count() -> None:
    counts = np.array([-1e4, -1.0, 0.0, 3.0, 50.0, 100.0, 130.0, 1e6])
    found = frequencies_from(counts, sigma=7.0, alleles=100)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(frequencies_from(counts[2:6], sigma=1e-3, alleles=100), counts[2:6] / 100)


def test_denoising_finds_what_is_above_the_noise_and_nothing_in_noise_alone() -> None:
    rng = np.random.default_rng(4)
    size, spread = 200, 0.05
    noise = rng.standard_normal((size, size)) * spread
    noise = np.triu(noise, 1) + np.triu(noise, 1).T
    direction = rng.standard_normal(size)
    direction /= np.linalg.norm(direction)
    signal = 6.0 * np.outer(direction, direction)
    assert np.abs(denoised(noise, spread)).max() < 0.01
    assert np.linalg.norm(denoised(signal + noise, spread) - signal) < 0.2 * np.linalg.norm(noise)
    assert np.linalg.eigvalsh(denoised(signal + noise, spread)).min() > -1e-9
    np.testing.assert_allclose(denoised(signal, 0.0), signal, atol=1e-12)


def test_states_that_are_not_known_are_refused() -> None:
    units = Units(np.array([[0, -1], [1, 0]], dtype=np.int8), ploidy=1, per_person=2)
    with pytest.raises(ValueError, match="complete"):
        release(units, mu=1.0, share=0.5, width=2, clip=0.5, noise=secret)
