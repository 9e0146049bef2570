"""Simulated traits: causal sites, effects, heritability."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, align
from genodiff.utility.dosages import centred, correlation, standardised
from genodiff.utility.errors import Unmeasurable
from genodiff.utility.traits import simulate_traits, traits_of


def test_causal_sites_are_eligible_and_as_many_as_asked_for() -> None:
    rng = np.random.default_rng(1)
    dosage = rng.integers(0, 3, size=(300, 50)).astype(np.int8)
    eligible = np.arange(50) % 2 == 0
    traits = simulate_traits(dosage, eligible, generator=rng, heritability=(0.2, 0.7), causal=(1, 8), replicates=3)
    assert traits.setting.tolist() == [[h, k] for h in (0.2, 0.7) for k in (1, 8) for _ in range(3)]
    np.testing.assert_array_equal((traits.effects != 0).sum(axis=1), traits.setting[:, 1])
    assert not traits.effects[:, ~eligible].any()


def test_heritability_holds_in_the_people_it_was_set_in() -> None:
    rng = np.random.default_rng(2)
    dosage = rng.binomial(2, 0.3, size=(20_000, 12)).astype(np.int8)
    traits = simulate_traits(
        dosage, np.ones(12, bool), generator=rng, heritability=(0.1, 0.5), causal=(6,), replicates=2
    )
    genetic, values = traits.genetic(dosage), traits.values(dosage, generator=rng)
    np.testing.assert_allclose(genetic.var(axis=0) / values.var(axis=0), traits.heritability, atol=0.02)
    np.testing.assert_allclose(genetic, centred(dosage) @ traits.effects.T)
    # A score has the constant that a genetic value lacks.
    score = traits.score(dosage, fill=np.zeros(12))
    np.testing.assert_allclose(score, dosage @ traits.effects.T)
    np.testing.assert_allclose(score - score.mean(axis=0), genetic, atol=1e-9)


def test_rarer_alleles_have_larger_effects() -> None:
    rng = np.random.default_rng(3)
    dosage = np.column_stack([rng.binomial(2, p, size=5_000) for p in (0.05, 0.5)]).astype(np.int8)
    traits = simulate_traits(
        dosage, np.ones(2, bool), generator=rng, heritability=(0.5,), causal=(2,), replicates=2_000
    )
    share = (traits.effects**2).mean(axis=0) * dosage.var(axis=0)
    assert share[0] == pytest.approx(share[1], rel=0.15)


def test_both_tasks_study_the_same_traits(same: Comparison, shuffled: Comparison) -> None:
    np.testing.assert_array_equal(traits_of(same).effects, traits_of(shuffled).effects)


def test_too_few_common_sites_are_refused(people: dict[str, VariantTable]) -> None:
    train, holdout = people["train"], people["holdout"].select(variants=slice(0, 30))
    with pytest.raises(Unmeasurable, match=r"at least 20 sites .* give a wider --region"):
        traits_of(align(train, train=train, holdout=holdout))


def test_dosages_as_numbers() -> None:
    dosage = np.array([[0, 1, 2], [2, 1, -1], [1, 1, 0]], dtype=np.int8)
    np.testing.assert_allclose(centred(dosage), [[-1, 0, 1], [1, 0, 0], [0, 0, -1]])
    z = standardised(dosage)
    np.testing.assert_allclose((z * z).mean(axis=0), [1, 0, 1])
    x = np.random.default_rng(0).standard_normal((9, 4))
    np.testing.assert_allclose(correlation(x[:, :2], x[:, 2:]), np.corrcoef(x.T)[:2, 2:])
    assert np.isnan(correlation(np.ones((3, 1)), x[:3, :1])).all()
