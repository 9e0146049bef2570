"""Association: regressions beside scipy's, loci found by hand, studies in training and in independent people."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, align
from genodiff.utility import association
from genodiff.utility.association import found, regress
from genodiff.utility.errors import Unmeasurable


def test_regressions_are_those_of_scipy_and_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    dosage = rng.integers(0, 3, size=(40, 6)).astype(np.int8)
    traits = rng.standard_normal((40, 3)) + dosage[:, [0]]
    study = regress(dosage, traits)
    for t in range(3):
        for j in range(6):
            expected = linregress(dosage[:, j], traits[:, t])
            assert study.beta[t, j] == pytest.approx(expected.slope, rel=1e-10)
            assert study.se[t, j] == pytest.approx(expected.stderr, rel=1e-10)
            assert study.p[t, j] == pytest.approx(expected.pvalue, rel=1e-8)
            design = np.column_stack([np.ones(40), dosage[:, j]])
            assert study.beta[t, j] == pytest.approx(np.linalg.lstsq(design, traits[:, t], rcond=None)[0][1])


def test_a_missing_call_counts_as_the_mean_and_a_fixed_site_has_no_effect() -> None:
    dosage = np.array([[0, 1], [2, 1], [1, 1], [-1, 1], [0, 1]], dtype=np.int8)
    trait = np.array([[0.1], [1.9], [1.2], [5.0], [-0.2]])
    study = regress(dosage, trait)
    filled = np.array([0, 2, 1, 0.75, 0])
    assert study.beta[0, 0] == pytest.approx(linregress(filled, trait[:, 0]).slope)
    assert np.isnan([study.beta[0, 1], study.z[0, 1], study.p[0, 1]]).all()


def test_a_trait_that_is_the_dosage_has_no_doubt() -> None:
    dosage = np.array([[0], [1], [2], [1]], dtype=np.int8)
    study = regress(dosage, dosage.astype(float) * 3)
    assert study.beta[0, 0] == pytest.approx(3)
    assert study.p[0, 0] < 1e-12


def test_too_few_people_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 people"):
        regress(np.zeros((2, 1), dtype=np.int8), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="4 people, 3 traits"):
        regress(np.zeros((4, 1), dtype=np.int8), np.zeros((3, 1)))


def test_a_causal_site_is_found_through_a_neighbour_in_ld() -> None:
    base = np.array([0, 0, 1, 2, 1, 0.0])
    x = np.column_stack([base, base[::-1] * -1, [0, 1, 0, 1, 0, 1], base * 2])  # r² of sites 0 and 3 is 1
    p = np.array([[0.5, np.nan, 0.001, 0.001], [0.001, 0.5, 0.5, 0.5]])
    causal = np.array([[True, True, False, False], [False, False, True, True]])
    expected = [[True, False, False, False], [False, False, False, True]]
    assert np.corrcoef(x[:, 0], x[:, 1])[0, 1] ** 2 < 0.5
    assert found(p, x, causal, level=0.01).tolist() == expected


def test_training_people_equal_their_floor(same: Comparison) -> None:
    result = association.family(same)
    rows = {m.metric: m for m in result.metrics}
    for name in ("effect_r", "z_r", "power", "false_positives"):
        metric = rows[f"association_{name}"]
        assert metric.value == metric.floor
    assert rows["association_z_r"].value > 0.3
    assert rows["association_false_positives"].value == pytest.approx(0.05, abs=0.006)
    assert 0 < rows["association_power"].value < 1
    curve = result.curves["association"]
    assert isinstance(curve, pd.DataFrame)
    assert curve[["heritability", "causal"]].to_numpy().tolist() == [
        [h, k] for h in (0.03, 0.1, 0.4) for k in (1, 5, 20)
    ]
    # More heritable traits are found more often, and concord better.
    by_h2 = curve.groupby("heritability")[["power_real", "z_r_real"]].mean()
    assert by_h2["power_real"].is_monotonic_increasing
    assert by_h2["z_r_real"].is_monotonic_increasing
    # Power over all causal sites is the mean over kinds, weighted by how many each has.
    assert np.average(curve["power"], weights=curve["causal"]) == pytest.approx(rows["association_power"].value)


def test_independent_sites_concord_less(shuffled: Comparison) -> None:
    rows = {m.metric: m for m in association.family(shuffled).metrics}
    assert rows["association_z_r"].value < 0.6 * rows["association_z_r"].floor
    assert rows["association_power"].value < rows["association_power"].floor


def test_people_without_variation_concord_not_at_all(people: dict[str, VariantTable]) -> None:
    train, holdout = people["train"], people["holdout"]
    clones = VariantTable(
        haplotypes=np.repeat(train.haplotypes[:1, :, :1], 200, axis=0).repeat(2, axis=2),
        sites=train.sites,
        samples=train.samples,
    )
    rows = {m.metric: m.value for m in association.family(align(clones, train=train, holdout=holdout)).metrics}
    assert rows["association_effect_r"] == rows["association_power"] == rows["association_false_positives"] == 0


def test_few_people_are_refused(people: dict[str, VariantTable]) -> None:
    few = people["holdout"].select(samples=slice(0, 19))
    with pytest.raises(Unmeasurable, match="at least 20 people"):
        association.family(align(people["train"], train=people["train"], holdout=few))
