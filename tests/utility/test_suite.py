"""The whole table: its form, tasks left out with a reason, tasks asked for, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import genodiff.utility
from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff.utility import TASKS, measure
from genodiff.utility.suite import measure_full

QUICK = [task for task in TASKS if task != "imputation"]

METRICS = {
    "sites": "sites_compared sites_dropped",
    "ancestry": "ancestry_accuracy ancestry_accuracy_ratio ancestry_auc ancestry_majority_share",
    "association": "association_effect_r association_z_r association_power association_power_holdout "
    "association_false_positives",
    "scores": "ld_score_r ld_score_slope ld_score_ratio pgs_r2 pgs_r2_ratio pgs_mean_error pgs_sd_error",
}

NO_FLOOR = {"sites_compared", "sites_dropped", "ancestry_majority_share",
            "association_power_holdout"}  # fmt: skip

People = dict[str, VariantTable]


def test_everything_is_measured_with_a_floor(people: People) -> None:
    utility = measure_full(people["train"], train=people["train"], holdout=people["holdout"], tasks=QUICK)
    frame = utility.frame
    expected = [(family, name) for family, names in METRICS.items() for name in names.split()]
    assert list(zip(frame["family"], frame["metric"], strict=True)) == expected
    assert set(frame.loc[frame["floor"].isna(), "metric"]) == NO_FLOOR
    with_floor = frame[~frame["metric"].isin(NO_FLOOR)]
    np.testing.assert_array_equal(with_floor["value"], with_floor["floor"])
    inside = frame.dropna(subset=["low", "high"])
    assert set(inside["metric"]) == {"ancestry_accuracy", "ancestry_accuracy_ratio", "pgs_r2", "pgs_r2_ratio"}
    assert ((inside["low"] <= inside["value"]) & (inside["value"] <= inside["high"])).all()
    assert not utility.skipped
    assert utility.metric("ancestry_accuracy_ratio")["value"] == 1
    with pytest.raises(KeyError, match="no metric 'r2'"):
        utility.metric("r2")


def test_same_seed_same_table_and_tasks_do_not_disturb_each_other(people: People) -> None:
    options = {"train": people["train"], "holdout": people["holdout"]}
    whole = measure(people["independent"], tasks=QUICK, **options)
    again = measure(people["independent"], tasks=QUICK, **options)
    pd.testing.assert_frame_equal(whole, again)
    for task in QUICK:
        part = measure(people["independent"], tasks=[task], **options)
        expected = whole[whole["family"].isin(["sites", task])].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, expected)
    other = measure(people["independent"], tasks=["association"], seed=2, **options)
    assert not other["value"].equals(whole[whole["family"].isin(["sites", "association"])]["value"])


def test_what_cannot_be_measured_is_left_out_with_its_reason(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    bare = VariantTable(
        haplotypes=people["train"].haplotypes, sites=people["train"].sites, samples=people["train"].samples[[]]
    )
    options = {"train": people["train"], "holdout": people["holdout"]}
    utility = measure_full(bare, **options)
    assert list(utility.skipped) == ["imputation", "ancestry"]
    for task, reason in utility.skipped.items():
        row = utility.metric(f"{task}_skipped")
        assert row["unit"] == reason
        assert row["n"] == 0
        assert np.isnan(row["value"])
        assert np.isnan(row["floor"])
        with pytest.raises(InputError, match=reason[:30]):
            measure(bare, tasks=[task], **options)
    assert {"association", "scores"} <= set(utility.frame["family"])


def test_unknown_tasks_and_several_contigs_are_refused(people: People) -> None:
    train, holdout = people["train"], people["holdout"]
    with pytest.raises(ValueError, match=r"unknown tasks \['phasing'\]: expected some of imputation"):
        measure(train, train=train, holdout=holdout, tasks=["phasing", "scores"])
    with pytest.raises(ValueError, match="unknown tasks"):
        measure(train, train=train, holdout=holdout, tasks=[])
    contig = np.where(np.arange(train.n_variants) < 100, "1", "2")
    a, b = (replace(table, sites=table.sites.assign(contig=contig)) for table in (train, holdout))
    with pytest.raises(ValueError, match=r"several contigs \(1, 2\)"):
        measure(a, train=a, holdout=b)


def test_the_package_gives_what_it_lists() -> None:
    assert all(getattr(genodiff.utility, name) is not None for name in genodiff.utility.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        genodiff.utility.nothing  # noqa: B018
