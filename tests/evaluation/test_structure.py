"""Structure against scikit-allel, scikit-learn, brute force and hand-made point clouds."""

from __future__ import annotations

import sys
from itertools import permutations

import allel
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from genodiff.evaluation import structure
from genodiff.evaluation.classifier import auc, two_sample_auc
from genodiff.evaluation.panels import Panel

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _fresh_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test draws from the start of the stream, whichever tests run before it."""
    monkeypatch.setattr(sys.modules[__name__], "RNG", np.random.default_rng(11))


def genotypes(n: int, m: int, *, missing: bool = False) -> np.ndarray:
    return RNG.integers(-1 if missing else 0, 2, size=(n, m, 2)).astype(np.int8)


def dosage_of(haplotypes: np.ndarray) -> np.ndarray:
    return np.where((haplotypes < 0).any(axis=2), -1, haplotypes.sum(axis=2)).astype(np.int8)


def allel_array(dosage: np.ndarray) -> allel.GenotypeArray:
    calls = np.stack([np.minimum(dosage, 1), np.maximum(dosage - 1, 0)], axis=2)
    calls[dosage < 0] = -1
    return allel.GenotypeArray(calls.transpose(1, 0, 2))


@pytest.mark.parametrize("missing", [False, True])
def test_hudson_fst_agrees_with_scikit_allel(missing: bool) -> None:
    a = dosage_of(genotypes(20, 30, missing=missing))
    b = np.where(RNG.random((25, 30)) < 0.4, 2, dosage_of(genotypes(25, 30, missing=missing))).astype(np.int8)
    numerator, denominator = allel.hudson_fst(*(allel_array(x).count_alleles(max_allele=1) for x in (a, b)))
    assert structure.hudson_fst(a, b) == pytest.approx(numerator.sum() / denominator.sum())


def test_heterozygosity_and_inbreeding_agree_with_scikit_allel() -> None:
    dosage = dosage_of(genotypes(30, 40, missing=True))
    array = allel_array(dosage)
    observed = allel.heterozygosity_observed(array)
    np.testing.assert_allclose(structure.observed_heterozygosity(dosage), observed)
    # allel.heterozygosity_expected is the biased one.
    n = 2 * (dosage >= 0).sum(axis=0)
    expected = allel.heterozygosity_expected(array.count_alleles(max_allele=1).to_frequencies(), ploidy=2) * n / (n - 1)
    assert structure.inbreeding(dosage) == pytest.approx(1 - observed.sum() / expected.sum())


def test_inbreeding_of_extremes() -> None:
    homozygous = np.repeat([[0], [2]], 500, axis=0).astype(np.int8)
    assert structure.inbreeding(homozygous) == pytest.approx(1)
    assert structure.inbreeding(np.ones((1000, 1), dtype=np.int8)) == pytest.approx(-1, abs=2e-3)
    assert np.isnan(structure.inbreeding(np.zeros((5, 3), dtype=np.int8)))


@pytest.mark.parametrize("shape", [(15, 40), (40, 15)])
def test_pca_agrees_with_scikit_learn(shape: tuple[int, int]) -> None:
    rows = RNG.integers(0, 3, size=shape).astype(np.int8)
    new = RNG.integers(0, 3, size=(7, shape[1])).astype(np.int8)
    model, reference = structure.fit_pca(rows, components=4), PCA(4, svd_solver="full").fit(rows)
    np.testing.assert_allclose(model.sd**2, reference.explained_variance_)
    np.testing.assert_allclose(np.abs(model.project(new)), np.abs(reference.transform(new)), atol=1e-8)
    np.testing.assert_allclose(model.axes.T @ model.axes, np.eye(4), atol=1e-10)


def test_missing_call_projects_to_the_mean() -> None:
    rows = RNG.integers(0, 2, size=(20, 6)).astype(np.int8)
    model = structure.fit_pca(rows)
    np.testing.assert_allclose(model.project(np.full((1, 6), -1, dtype=np.int8)), 0)


def test_wasserstein_is_the_best_of_all_assignments() -> None:
    a, b = RNG.normal(size=(2, 5, 3))
    costs = [((a - b[list(p)]) ** 2).sum(axis=1).mean() for p in permutations(range(5))]
    assert structure.wasserstein2(a, b) == pytest.approx(np.sqrt(min(costs)))
    assert structure.wasserstein2(a, a + np.array([3.0, 0, 4.0])) == pytest.approx(5)
    with pytest.raises(ValueError, match="5 and 4 points"):
        structure.wasserstein2(a, b[:4])


def test_precision_and_recall_show_mode_loss() -> None:
    left, right = RNG.normal(size=(2, 100, 2)) + np.array([[[-20.0, 0]], [[20.0, 0]]])
    reference = np.concatenate([left, right])
    collapsed = RNG.normal(size=(200, 2)) + np.array([-20.0, 0])
    precision, recall = structure.precision_recall(collapsed, reference)
    assert precision > 0.9
    assert recall < 0.55
    assert structure.precision_recall(reference, reference) == (1, 1)
    assert structure.precision_recall(reference + 500, reference) == (0, 0)


def test_auc_agrees_with_scikit_learn_on_ties() -> None:
    positive, negative = RNG.integers(0, 5, size=30), RNG.integers(0, 4, size=20)
    truth = np.repeat([1, 0], [30, 20])
    assert auc(positive, negative) == pytest.approx(roc_auc_score(truth, np.concatenate([positive, negative])))


def test_two_sample_auc_knows_same_from_different() -> None:
    def panel(p: float) -> Panel:
        rows = (RNG.random((200, 30)) < p).astype(np.int8)
        return Panel(rows=rows, filled=rows, dosage=rows[::2] + rows[1::2], rows_per_person=2)

    same = two_sample_auc(panel(0.3), panel(0.3), generator=RNG, trees=50)
    different = two_sample_auc(panel(0.3), panel(0.7), generator=RNG, trees=50)
    assert abs(same.auc - 0.5) < 0.12
    assert different.auc > 0.99
    assert same.n_rows == 200
