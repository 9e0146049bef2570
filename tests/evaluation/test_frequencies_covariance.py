"""Frequencies and moments against arrays worked out by hand, scikit-allel and NumPy."""

from __future__ import annotations

import sys

import allel
import numpy as np
import pytest
from scipy.stats import hypergeom, wasserstein_distance

from genodiff.evaluation import covariance, frequencies
from genodiff.evaluation.panels import Panel

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def _fresh_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test draws from the start of the stream, whichever tests run before it."""
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(3))


def panel_of(dosage: np.ndarray) -> Panel:
    return Panel(rows=dosage, filled=dosage, dosage=dosage, rows_per_person=1)


def test_genotype_frequencies_by_hand() -> None:
    dosage = np.array([[0, 1], [1, -1], [2, -1], [0, 2]], dtype=np.int8)
    expected = [[0.5, 0.0], [0.25, 0.5], [0.25, 0.5]]
    np.testing.assert_allclose(frequencies.genotype_frequencies(dosage), expected)


def test_panel_frequency_leaves_missing_calls_out() -> None:
    panel = panel_of(np.array([[0, 1, -1], [1, -1, -1], [2, 2, -1]], dtype=np.int8))
    np.testing.assert_allclose(panel.frequency, [0.5, 0.75, np.nan])
    np.testing.assert_array_equal(panel.polymorphic, [True, True, False])


def test_projected_spectrum_is_the_hypergeometric_law() -> None:
    alt, called = np.array([0, 3, 10, 7]), np.array([20, 20, 12, 3])
    found = frequencies.projected_spectrum(alt, called, size=6)
    used = [hypergeom.pmf(np.arange(7), n, d, 6) for d, n in zip(alt[:3], called[:3], strict=True)]
    np.testing.assert_allclose(found, np.mean(used, axis=0), atol=1e-12)
    assert found.sum() == pytest.approx(1)


def test_spectrum_distance_of_two_spikes_is_one() -> None:
    zeros = panel_of(np.zeros((5, 4), dtype=np.int8))
    twos = panel_of(np.full((7, 4), 2, dtype=np.int8))
    assert frequencies.spectrum_distance(zeros, twos) == pytest.approx(1)
    assert frequencies.spectrum_distance(zeros, zeros) == 0


def test_pearson_matches_numpy_and_is_nan_on_a_constant() -> None:
    a, b = RNG.normal(size=(2, 30))
    b[3] = np.nan
    ok = np.isfinite(b)
    assert frequencies.pearson(a, b) == pytest.approx(np.corrcoef(a[ok], b[ok])[0, 1])
    assert np.isnan(frequencies.pearson(a, np.ones(30)))


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_frobenius_distance_matches_numpy(shape: tuple[int, int]) -> None:
    a = RNG.integers(0, 3, size=shape).astype(np.int8)
    b = RNG.integers(0, 3, size=(shape[0] + 5, shape[1])).astype(np.int8)
    a[:2], b[:2] = [[0], [2]], [[0], [1]]  # no fixed site: NumPy has no correlation for it
    covariances = np.linalg.norm(np.cov(a.T) - np.cov(b.T))
    correlations = np.linalg.norm(np.corrcoef(a.T) - np.corrcoef(b.T))
    assert covariance.frobenius_distance(a, b) == pytest.approx(covariances)
    assert covariance.frobenius_distance(a, b, correlation=True) == pytest.approx(correlations)


def test_fixed_site_costs_one_on_the_diagonal_of_the_correlation() -> None:
    a = np.array([[0], [1], [2]], dtype=np.int8)
    assert covariance.frobenius_distance(a, np.ones_like(a), correlation=True) == pytest.approx(1)


def test_wasserstein_per_site_by_hand_and_against_scipy() -> None:
    a = np.array([[0, 0], [0, 1], [2, 2], [2, 2]], dtype=np.int8)
    b = np.array([[0, 2], [0, 2], [0, 2], [2, 2]], dtype=np.int8)
    # Site 0: a quarter of the mass travels 2. Site 1: a quarter travels 2 and a quarter travels 1.
    np.testing.assert_allclose(covariance.wasserstein_per_site(a, b), np.sqrt([1.0, 1.25]))
    x = RNG.integers(0, 2, size=(20, 5)).astype(np.int8)
    y = RNG.integers(0, 2, size=(31, 5)).astype(np.int8)
    # On {0, 1} the squared distance is the plain one.
    w1 = [wasserstein_distance(p, q) for p, q in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(covariance.wasserstein_per_site(x, y) ** 2, w1, atol=1e-12)


def test_histogram_kl_by_hand() -> None:
    a, b = np.array([[0], [0]], dtype=np.int8), np.array([[0], [2]], dtype=np.int8)
    p, q = np.array([1.5, 0.5, 1.5]) / 3.5, np.array([2.5, 0.5, 0.5]) / 3.5
    assert covariance.histogram_kl(a, b)[0] == pytest.approx((p * np.log(p / q)).sum())
    assert covariance.histogram_kl(a, a)[0] == 0


def test_moments_with_missing_calls() -> None:
    dosage = np.array([[0, -1], [2, -1], [-1, -1], [1, -1]], dtype=np.int8)
    found = covariance.moments(dosage)
    np.testing.assert_allclose(found.mean, [1, np.nan])
    np.testing.assert_allclose(found.sd, [np.std([0, 2, 1]), np.nan])


def test_allele_counts_agree_with_scikit_allel() -> None:
    haplotypes = RNG.integers(-1, 2, size=(9, 14, 2)).astype(np.int8)
    rows = haplotypes.transpose(0, 2, 1).reshape(18, 14)
    panel = Panel(rows=rows, filled=rows, dosage=rows[:9], rows_per_person=2)
    counts = allel.HaplotypeArray(rows.T).count_alleles(max_allele=1)
    np.testing.assert_array_equal(panel.alt_count, counts[:, 1])
    np.testing.assert_array_equal(panel.called, counts.sum(axis=1))
