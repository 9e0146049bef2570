"""Floors on real people: the figures that real training people reach against real held-out people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genodiff.evaluation.panels import align
from genodiff.evaluation.suite import evaluate_full

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.slow
@pytest.mark.real_data
def test_floors_of_a_thousand_common_sites() -> None:
    path, panel_path = DATA / "kg_chr22_50Mb.b38.vcf.gz", DATA / "panel.tsv"
    if not path.exists() or not panel_path.exists():
        pytest.skip(f"development genotypes absent: {path}")
    from data_prep.readers import read_variants

    panel = pd.read_csv(panel_path, sep="\t", index_col="sample")
    # The first sites are enough, and reading the whole region takes longer than judging it.
    table, _ = read_variants(path, region="chr22:50000000-50400000", maf=0.05)
    is_train = (panel.loc[table.samples.index, "split"] == "train").to_numpy()
    table = table.select(variants=slice(0, 1_000))
    train, holdout = table.select(samples=is_train), table.select(samples=~is_train)
    assert align(train, train=train, holdout=holdout).synthetic.n_rows == 3_056

    # Judged on themselves, training people are their own floor in fidelity and the worst possible leak.
    found = evaluate_full(train, train=train, holdout=holdout, families=["frequencies", "ld", "privacy"])
    floor = found.frame.set_index("metric")["floor"]
    assert floor["af_mae"] == pytest.approx(0.0136, abs=0.001)
    assert floor["ld_decay_mae"] < 0.003
    assert floor["near_pair_r2_ratio"] == pytest.approx(1, abs=0.02)
    assert floor["three_point_r"] > 0.99
    # Identical haplotypes of different people are common here; ties hold both halves below one half.
    assert 0.38 < floor["aa_truth"] < 0.48
    assert 0.38 < floor["aa_syn"] < 0.48
    assert floor["membership_auc"] == pytest.approx(0.5, abs=0.02)
    value = found.frame.set_index("metric")["value"]
    assert value["membership_auc"] > 0.9
    assert value["privacy_loss"] > 0.3
    np.testing.assert_array_equal(found.curves["copied_run_synthetic_train"], 1_000)
