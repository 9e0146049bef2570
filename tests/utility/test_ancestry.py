"""Ancestry: labels that can be told, that cannot, and that are absent."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, align
from genodiff.utility import ancestry
from genodiff.utility.errors import Unmeasurable
from tests.evaluation.conftest import table_of


def population(frequency: float, n: int, *, label: str, seed: int) -> VariantTable:
    haplotypes = (np.random.default_rng(seed).random((n, 40, 2)) < frequency).astype(np.int8)
    return table_of(haplotypes, labels=np.repeat([label], n), prefix=f"{label}{seed}_")


def mixture(seed: int, *, b: int = 30) -> VariantTable:
    parts = [population(0.2, 30, label="AAA", seed=seed), population(0.8, b, label="BBB", seed=seed + 1)]
    haplotypes = np.concatenate([part.haplotypes for part in parts])
    labels = np.concatenate([np.asarray(part.labels) for part in parts])
    return table_of(haplotypes, labels=labels, prefix=f"P{seed}_")


def rows(comparison: Comparison) -> dict[str, tuple[float, float]]:
    return {m.metric: (m.value, m.floor) for m in ancestry.family(comparison).metrics}


def test_populations_far_apart_are_told_and_mislabelled_ones_are_not() -> None:
    train, holdout = mixture(1), mixture(3, b=20)
    found = rows(align(mixture(5), train=train, holdout=holdout))
    assert found["ancestry_accuracy"] == found["ancestry_auc"] == (1.0, 1.0)
    assert found["ancestry_majority_share"][0] == 30 / 50
    swapped = mixture(5).with_labels(np.repeat(["BBB", "AAA"], 30))
    found = rows(align(swapped, train=train, holdout=holdout))
    assert found["ancestry_accuracy"] == found["ancestry_auc"] == (0.0, 1.0)


def test_a_label_nobody_synthetic_has_is_told_wrongly() -> None:
    only = population(0.2, 60, label="AAA", seed=9)
    comparison = align(only, train=mixture(1), holdout=mixture(3, b=10))
    found = rows(comparison)
    assert found["ancestry_accuracy"] == (0.75, 1.0)
    assert found["ancestry_auc"] == (0.5, 1.0)
    curve = ancestry.family(comparison).curves["ancestry"]
    assert curve["label"].tolist() == ["AAA", "BBB"]
    assert curve["synthetic"].tolist() == [1.0, 0.0]


def test_simulated_people_equal_their_floor_and_three_labels_are_told(same: Comparison) -> None:
    found = rows(same)
    assert found["ancestry_accuracy"][0] == found["ancestry_accuracy"][1] > 0.7
    assert found["ancestry_accuracy_ratio"] == (1.0, 1.0)
    assert found["ancestry_auc"][0] > 0.85


def test_independent_sites_with_labels_of_nobody_tell_little(shuffled: Comparison) -> None:
    found = rows(shuffled)
    assert found["ancestry_auc"][0] < found["ancestry_auc"][1]
    assert found["ancestry_accuracy"][0] < found["ancestry_accuracy"][1]


def test_absent_labels_are_named() -> None:
    train, holdout, synthetic = mixture(1), mixture(3), mixture(5)
    bare = VariantTable(haplotypes=synthetic.haplotypes, sites=synthetic.sites, samples=synthetic.samples[[]])
    with pytest.raises(Unmeasurable, match="synthetic people lack: give --panel and --synthetic-panel"):
        ancestry.family(align(bare, train=train, holdout=holdout))
    with pytest.raises(Unmeasurable, match="two labels with at least 5"):
        ancestry.family(align(synthetic, train=train, holdout=mixture(3, b=4)))
    strange = synthetic.with_labels(["XXX"] * 60)
    with pytest.raises(Unmeasurable, match="no synthetic person has a label of real people"):
        ancestry.family(align(strange, train=train, holdout=holdout))
