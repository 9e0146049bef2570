"""The Gaussian baselines against scikit-learn, closed forms and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf_shrinkage as reference_shrinkage

from data_prep.errors import InputError
from data_prep.simulate import simulate_ld_blocks
from genodiff.baselines import generate
from genodiff.baselines.gaussian import ledoit_wolf_shrinkage, tetrachoric_matrix
from genodiff.baselines.nearest import Factors, nearest_correlation
from genodiff.baselines.tetrachoric import latent_correlation
from genodiff.genotypes.units import units_of
from tests.baselines.tables import correlation, orthant, with_gaps
from tests.genotypes.tables import table_of


def test_tetrachoric_correlation_inverts_the_orthant_probability() -> None:
    """Against Owen's T function: random thresholds, thresholds that are all but equal, correlations next to ±1."""
    rng = np.random.default_rng(0)
    p = np.exp(rng.uniform(np.log(0.002), np.log(0.998), 4000))
    q = np.where(rng.random(4000) < 0.3, p * (1 + 10 ** rng.uniform(-6, -1, 4000)), rng.uniform(0.002, 0.998, 4000))
    q = q.clip(0.001, 0.999)
    rho = np.where(rng.random(4000) < 0.5, rng.uniform(-1, 1, 4000), 1 - 10 ** rng.uniform(-6, -1, 4000))
    a, b = ndtri(p), ndtri(q)
    both = orthant(a, b, rho)
    found = latent_correlation(both, a[:, None], b[:, None])
    assert np.abs(found).max() <= 1
    inside = np.abs(found) < 1 - 1e-12
    assert inside.sum() > 3000
    assert np.abs(orthant(a[inside], b[inside], found[inside]) - both[inside]).max() < 1e-9
    known = np.minimum(np.minimum(p, q) - both, both - np.maximum(0, p + q - 1)) > 1e-4
    assert known.sum() > 1000
    assert np.abs(found - rho)[known].max() < 1e-6


def test_tetrachoric_correlation_agrees_with_scipy() -> None:
    for p, q, rho in [(0.3, 0.6, 0.5), (0.05, 0.9, -0.4), (0.5, 0.5, 0.999), (0.01, 0.02, 0.95), (0.2, 0.21, 0.99)]:
        a, b = ndtri([p]), ndtri([q])
        both = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([a[0], b[0]])
        assert latent_correlation(np.array([both]), a[:, None], b[:, None]) == pytest.approx(rho, abs=1e-6)


def test_tetrachoric_correlation_at_its_bounds() -> None:
    """Sites that agree or differ always have ±1; an empty cell counts half an observation where counts are given."""
    p = np.array([0.3, 0.3, 0.01, 0.2, 0.5])
    q = np.array([0.3, 0.7, 0.01, 0.4, 0.5])
    both = np.array([0.3, 0.0, 0.0, 0.2, 0.25])
    a, b = ndtri(p)[:, None], ndtri(q)[:, None]
    assert latent_correlation(both, a, b).tolist() == pytest.approx([1, -1, -1, 1, 0], abs=1e-9)
    found = latent_correlation(both, a, b, count=1000.0)
    assert found[:2].tolist() == [1, -1]
    # At 1 % each, never seen together in 1,000: half an observation is more than 1,000 · 10⁻⁴, so nothing is known.
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert orthant(a[3], b[3], found[3:4]) == pytest.approx(0.2 - 0.5 / 1000, abs=1e-8)


def test_two_thresholds_give_back_the_mean_product() -> None:
    rng = np.random.default_rng(2)
    rho = rng.uniform(-0.95, 0.95, 200)
    f, g = rng.uniform(0.05, 0.95, (2, 200))
    a, b = (ndtri(np.stack([1 - (1 - x) ** 2, x**2], axis=1)) for x in (f, g))
    product = sum(orthant(a[:, i], b[:, j], rho) for i in (0, 1) for j in (0, 1))
    assert np.abs(latent_correlation(product, a, b) - rho).max() < 1e-6


def test_shrinkage_is_that_of_scikit_learn() -> None:
    x = np.random.default_rng(1).standard_normal((40, 70)) @ np.random.default_rng(2).standard_normal((70, 70))
    x -= x.mean(0)
    weight, scale = ledoit_wolf_shrinkage(x.astype(np.float32))
    assert weight == pytest.approx(reference_shrinkage(x, assume_centered=True), rel=1e-4)
    assert scale == pytest.approx(np.square(x).mean(), rel=1e-5)


def test_the_gaussian_has_the_shrunk_covariance_before_and_its_closed_form_after_rounding() -> None:
    train = simulate_ld_blocks(1500, 30, block_size=10, phased=True, maf_range=(0.2, 0.5), seed=3).table
    made = generate("gaussian", train, 10_000, seed=1)
    x = train.haplotype_rows().astype(np.float64)
    mean = x.mean(0)
    weight, scale = ledoit_wolf_shrinkage((x - mean).astype(np.float32))
    covariance = (1 - weight) * np.cov(x.T, bias=True) + weight * scale * np.eye(30)
    sd = np.sqrt(np.diag(covariance))
    rows = made.haplotype_rows()
    assert np.abs(rows.mean(0) - ndtr((mean - 0.5) / sd)).max() < 5 * np.sqrt(0.25 / 20_000)
    i, j = np.triu_indices(30, 1)
    a = (mean - 0.5) / sd
    both = orthant(a[i], a[j], (covariance / np.outer(sd, sd))[i, j])
    seen = (rows.T.astype(float) @ rows / len(rows))[i, j]
    assert np.abs(seen - both).max() < 5 * np.sqrt(0.25 / 20_000)


def test_the_gaussian_of_dosages_stays_in_range() -> None:
    train = simulate_ld_blocks(200, 30, seed=3).table
    made = generate("gaussian", train, 500, seed=1)
    assert set(np.unique(made.dosage())) == {0, 1, 2}
    assert np.abs(made.dosage().mean(0) - train.dosage().mean(0)).max() < 0.3


@pytest.mark.parametrize("phased", [True, False], ids=["haplotypes", "dosages"])
def test_the_copula_has_the_frequencies_and_correlations_it_learned(phased: bool) -> None:
    """The simulator is itself a copula, so nothing is lost but sampling error."""
    truth = simulate_ld_blocks(1500, 60, phased=phased, seed=5)
    made = generate("gaussian-copula", truth.table, 3000, seed=1)
    old, new = (units_of(t).states for t in (truth.table, made))
    top = 1 if phased else 2
    for k in range(1, top + 1):
        assert np.abs((old >= k).mean(0) - (new >= k).mean(0)).max() < 5 * np.sqrt(0.25 / len(new))
    i, j = np.triu_indices(60, 1)
    before, after = correlation(old)[i, j], correlation(new)[i, j]
    # The variance of r is (1 − r²)²/n where alleles are common, and less than twice that here.
    assert np.sqrt(np.square(after - before).mean()) < 2 * np.sqrt(1 / len(new))
    near = j - i <= 5
    assert np.square(after)[near].mean() == pytest.approx(np.square(before)[near].mean(), rel=0.04)


def test_the_copula_finds_the_latent_correlation_of_the_simulator() -> None:
    truth = simulate_ld_blocks(4000, 40, phased=True, maf_range=(0.2, 0.5), seed=6)
    for table in (truth.table, with_gaps(truth.table, share=0.3)):
        matrix = tetrachoric_matrix(units_of(table))
        for k in range(2):
            block = matrix[20 * k : 20 * k + 20, 20 * k : 20 * k + 20]
            assert np.abs(block - truth.latent_correlation).mean() < 0.025
        assert np.abs(matrix[:20, 20:]).mean() < 0.025
        assert np.array_equal(matrix, matrix.T)
        assert (np.diag(matrix) == 1).all()


def test_the_copula_keeps_ties_and_fixed_sites() -> None:
    rng = np.random.default_rng(1)
    alleles = np.zeros((200, 6, 2), dtype=np.int8)
    alleles[:, 1] = rng.random((200, 2)) < 0.3
    alleles[:, 2] = alleles[:, 1]
    alleles[:, 3] = 1 - alleles[:, 1]
    alleles[:, 4] = 1
    alleles[:, 5] = rng.random((200, 2)) < 0.5
    made = generate("gaussian-copula", table_of(alleles), 500, seed=1).haplotypes
    assert not made[:, 0].any()
    assert made[:, 4].all()
    assert (made[:, 1] != made[:, 2]).mean() < 0.01
    assert (made[:, 1] == made[:, 3]).mean() < 0.01


def test_a_correlation_matrix_is_its_own_nearest() -> None:
    truth = np.exp(-0.2 * np.abs(np.subtract.outer(np.arange(30), np.arange(30)))).astype(np.float32)
    factors = nearest_correlation(truth, np.ones_like(truth))
    assert np.abs(factors.loadings @ factors.loadings.T - truth).max() < 1e-4
    drawn = factors.draw(40_000, np.random.default_rng(1))
    assert np.abs(np.cov(drawn.T) - truth).max() < 0.04


def test_a_matrix_that_is_none_has_the_nearest_that_projections_find() -> None:
    """Against alternating projections (Higham 2002), and better than clipping by a margin."""
    rng = np.random.default_rng(4)
    target = np.clip(rng.normal(0.3, 0.5, (40, 40)), -0.95, 0.95)
    target = np.triu(target, 1) + np.triu(target, 1).T + np.eye(40)

    def positive(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.maximum(values, 0)) @ vectors.T

    def misfit(matrix: NDArray[np.float64]) -> float:
        return float(np.square(matrix - target).sum())

    nearest, correction = target.copy(), np.zeros_like(target)
    for _ in range(3000):
        moved = positive(nearest - correction)
        correction = moved - (nearest - correction)
        nearest = moved.copy()
        np.fill_diagonal(nearest, 1)
    clipped = positive(target)
    clipped /= np.sqrt(np.outer(np.diag(clipped), np.diag(clipped)))
    loadings = nearest_correlation(target.astype(np.float32), np.ones((40, 40), dtype=np.float32)).loadings
    assert np.linalg.norm(loadings, axis=1).max() <= 1 + 1e-5
    found = loadings @ loadings.T
    np.fill_diagonal(found, 1)
    assert misfit(found) < 1.02 * misfit(nearest)
    assert misfit(found) < 0.9 * misfit(clipped)


def test_variables_of_their_own_need_no_factors() -> None:
    drawn = Factors(np.zeros((3, 1), dtype=np.float32)).draw(20_000, np.random.default_rng(1))
    assert np.abs(np.cov(drawn.T) - np.eye(3)).max() < 0.05


def test_too_many_sites_are_refused_with_the_remedy() -> None:
    table = table_of(np.zeros((4, 12, 2), dtype=np.int8))
    with pytest.raises(InputError, match=r"at most 11 sites, here are 12: choose a smaller --region or a higher --maf"):
        generate("gaussian-copula", table, 2, seed=1, max_sites=11)
