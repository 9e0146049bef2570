"""Imputation: its statistics by hand, the array, Beagle itself and what is said when it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, align
from genodiff.utility import imputation
from genodiff.utility.beagle import Beagle, map_lines
from genodiff.utility.errors import Unmeasurable
from genodiff.utility.imputation import array_sites, maf_bins, pooled_r2, site_r2
from tests.utility.conftest import needs_beagle


def values(result: imputation.FamilyResult) -> dict[str, tuple[float, float]]:
    return {m.metric: (m.value, m.floor) for m in result.metrics}


def test_r2_of_a_site_is_the_squared_correlation_of_those_called() -> None:
    truth = np.array([[0, 0, 1, 2], [1, 0, 1, 0], [2, 0, 1, 0], [-1, 2, 1, 1]], dtype=np.int8)
    imputed = np.array([[0.2, 0.5, 0.1, 0.7], [0.9, 0.5, 0.4, 0.7], [2.0, 0.5, 0.3, 0.7], [9.0, 0.5, 0.8, 0.7]])
    expected = np.corrcoef([0.2, 0.9, 2.0], [0, 1, 2])[0, 1] ** 2
    # The second is imputed alike for everybody, the third does not vary in truth, the fourth is both alike and off.
    np.testing.assert_allclose(site_r2(imputed, truth), [expected, 0.0, np.nan, 0.0], rtol=1e-12)


def test_r2_is_one_for_the_truth_and_blind_to_the_sign() -> None:
    truth = np.random.default_rng(0).integers(0, 3, size=(30, 5)).astype(np.int8)
    np.testing.assert_allclose(site_r2(truth.astype(float), truth), 1)
    np.testing.assert_allclose(site_r2(2.0 - truth, truth), 1)
    assert pooled_r2(truth.astype(float), truth) == pytest.approx(1)


def test_pooled_r2_centres_every_site() -> None:
    # Both sites: the imputed dosage is off in between, but the mean of each site is that of the truth.
    truth = np.array([[0, 2], [1, 2], [2, 1]], dtype=np.int8)
    imputed = np.array([[0.0, 1.5], [0.5, 2.0], [1.0, 1.0]])
    x = np.concatenate([imputed[:, k] - imputed[:, k].mean() for k in (0, 1)])
    y = np.concatenate([truth[:, k] - truth[:, k].mean() for k in (0, 1)])
    assert pooled_r2(imputed, truth) == pytest.approx((x @ y) ** 2 / ((x @ x) * (y @ y)))
    # Frequencies alone are no imputation: 0, where a correlation over all the entries would be high.
    assert pooled_r2(np.repeat(truth.mean(axis=0)[None], 3, axis=0), truth) == 0.0


def test_bins_hold_their_lower_limit() -> None:
    maf = np.array([0.0, 0.0049, 0.005, 0.0099, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, np.nan])
    assert maf_bins(maf).tolist() == [-1, -1, 0, 0, 1, 2, 3, 4, 5, 5, -1]


def test_array_is_an_even_tenth_of_all_sites_among_common_ones() -> None:
    maf = np.tile([0.01, 0.3], 500)
    usable = np.ones(1000, dtype=bool)
    chosen = array_sites(maf, usable, generator=np.random.default_rng(4))
    assert len(chosen) == 100
    assert (maf[chosen] >= 0.05).all()
    assert set(np.diff(chosen)) == {10}
    starts = {int(array_sites(maf, usable, generator=np.random.default_rng(k))[0]) for k in range(40)}
    assert starts == {1, 3, 5, 7, 9}
    # A call missing in held-out people cannot be typed; too few common sites are all typed.
    usable[1::4] = False
    assert not set(array_sites(maf, usable, generator=np.random.default_rng(4))) & set(range(1, 1000, 4))
    assert array_sites(np.r_[np.full(99, 0.01), 0.4], np.ones(100, bool), generator=np.random.default_rng(0)) == [99]


def test_map_has_one_knot_a_position_and_must_rise(people: dict[str, VariantTable]) -> None:
    table = people["train"].select(variants=slice(0, 3))
    table = replace(table, sites=table.sites.assign(position=[100, 100, 250], contig="chr7"))
    assert map_lines(table, np.array([0.5, 0.6, 1.25])) == ["chr7 . 0.500000000 100\n", "chr7 . 1.250000000 250\n"]
    with pytest.raises(Unmeasurable, match="rises over the sites"):
        map_lines(table, np.array([1.0, 1.0, 1.0]))


@pytest.mark.slow
@needs_beagle
def test_training_people_are_their_own_floor_and_impute_well(same: Comparison) -> None:
    result = imputation.family(same, beagle=Beagle(threads=1, memory_gb=1))
    found = values(result)
    assert all(value == floor for name, (value, floor) in found.items() if name != "imputation_array_sites")
    assert found["imputation_r2"][0] > 0.5
    assert found["imputation_r2_maf_20_50"][0] > 0.8
    names = [f"imputation_{name}" for name in ("r2", "r2_ratio", "r2_pooled", "array_sites")]
    names += [f"imputation_r2_maf_{bin_}" for bin_ in ("0.5_1", "1_2", "2_5", "5_10", "10_20", "20_50")]
    assert list(found) == names
    plain, ratio, pooled, *_ = result.metrics
    assert plain.low < plain.value < plain.high < plain.low + 0.3
    assert pooled.low < pooled.value < pooled.high
    assert ratio.low == ratio.value == ratio.high == 1  # whoever is left out, one panel is as good as itself
    curve = result.curves["imputation"]
    assert isinstance(curve, pd.DataFrame)
    typed = int(found["imputation_array_sites"][0])
    judged = int(curve["sites"].sum())
    assert judged == int((same.holdout.maf >= 0.005).sum()) - typed
    mean = (curve["synthetic"] * curve["sites"]).sum() / judged
    assert mean == pytest.approx(found["imputation_r2"][0])


@pytest.mark.slow
@needs_beagle
def test_independent_sites_impute_nothing_with_a_map_too(people: dict[str, VariantTable]) -> None:
    class Map:
        def cM(self, position: np.ndarray) -> np.ndarray:
            return np.asarray(position) // 5_000 / 100  # flat in places, as maps are

    comparison = align(people["independent"], train=people["train"], holdout=people["holdout"], genetic_map=Map())
    found = values(imputation.family(comparison, beagle=Beagle(threads=1, memory_gb=1)))
    assert found["imputation_r2"][0] < 0.15
    assert found["imputation_r2"][1] > 0.5
    assert found["imputation_r2_ratio"][0] == pytest.approx(found["imputation_r2"][0] / found["imputation_r2"][1])


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program named beagle, alone on PATH with what a shell needs."""
    path = folder / "beagle"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'Picked up JAVA_TOOL_OPTIONS: -Xmx4g' >&2; echo 'ERROR: no such thing' >&2; exit 1", "no such thing"),
        ("echo 'java.lang.OutOfMemoryError: heap' >&2; echo '  at a.b(C.java:1)' >&2; exit 1", "heap; .*--memory"),
        ("exit 7", "status 7: it said nothing"),
        ("echo done", "status 0: done"),
    ],
)
def test_failure_is_one_line_with_the_last_message(
    same: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    program(tmp_path, monkeypatch, script)
    with pytest.raises(InputError, match=words) as caught:
        imputation.family(same, beagle=Beagle())
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, Unmeasurable)


def test_without_the_program_the_remedy_is_named(same: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unmeasurable, match="apt-get install beagle"):
        imputation.family(same, beagle=Beagle())


def test_unphased_people_and_too_few_sites_are_refused(
    people: dict[str, VariantTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "exit 1")
    train, holdout = people["train"], people["holdout"]
    unphased = replace(holdout, phased=np.zeros(holdout.haplotypes.shape[:2], dtype=bool))
    with pytest.raises(Unmeasurable, match="phase them"):
        imputation.family(align(train, train=train, holdout=unphased), beagle=Beagle())
    few = holdout.select(variants=np.flatnonzero(same_maf(holdout) >= 0.05)[:1])
    with pytest.raises(Unmeasurable, match="give a wider --region"):
        imputation.family(align(train, train=train, holdout=few), beagle=Beagle())


def same_maf(table: VariantTable) -> np.ndarray:
    frequency = table.allele_frequency()
    return np.minimum(frequency, 1 - frequency)
