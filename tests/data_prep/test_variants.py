"""The table itself: what it validates, derives and hands on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_prep import VariantTable
from tests.data_prep.helpers import make_table

H = [[[0, 1], [1, 1], [-1, -1]], [[1, 0], [0, 0], [0, 1]]]


def test_derived_quantities_by_hand() -> None:
    table = make_table(H, phased=[[True, True, True], [False, True, True]])
    assert (table.n_samples, table.n_variants) == (2, 3)
    np.testing.assert_array_equal(table.dosage(), [[1, 2, -1], [1, 0, 1]])
    np.testing.assert_array_equal(table.haplotype_rows(), [[0, 1, -1], [1, 1, -1], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(table.allele_frequency(), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(table.missing_rate(), [0, 0, 0.5])
    np.testing.assert_array_equal(table.unphased_het, [[False] * 3, [True, False, False]])
    assert table.is_phased
    assert table.site_keys[0] == "22:10:A:G"
    assert table.labels is None


def test_select_and_labels() -> None:
    table = make_table(H, phased=np.ones((2, 3)), labels=["a", "b"])
    part = table.select(variants=[2, 0][::-1], samples=np.array([False, True]))
    np.testing.assert_array_equal(part.haplotypes, [[[1, 0], [0, 1]]])
    assert part.sites["position"].tolist() == [10, 30]
    assert part.sites.index.tolist() == [0, 1]
    assert part.labels is not None
    assert part.labels.tolist() == ["b"]
    with pytest.raises(ValueError, match="read-only"):
        part.haplotypes[0, 0, 0] = 1


def test_anndata_round_trip() -> None:
    table = make_table(H, phased=[[True, True, True], [False, True, True]], labels=["a", "b"])
    table = replace(table, header=("##contig=<ID=22>",))
    data = table.to_anndata()
    assert data.shape == (2, 3)
    back = VariantTable.from_anndata(data)
    np.testing.assert_array_equal(back.haplotypes, table.haplotypes)
    np.testing.assert_array_equal(back.unphased_het, table.unphased_het)
    assert back.header == table.header
    assert back.labels is not None
    assert back.labels.tolist() == ["a", "b"]
    pd.testing.assert_frame_equal(back.sites, table.sites)
    del data.layers["haplotype_0"]
    with pytest.raises(ValueError, match="haplotype_0"):
        VariantTable.from_anndata(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"haplotypes": np.zeros((2, 3), dtype=np.int8)}, "shape"),
        ({"haplotypes": np.zeros((2, 3, 2))}, "int8"),
        ({"haplotypes": np.full((2, 3, 2), 2, dtype=np.int8)}, "allele code 2 at sample 0, variant 0"),
        ({"haplotypes": np.full((2, 3, 2), -2, dtype=np.int8)}, "allele code -2"),
        ({"sites": make_table(H).sites.drop(columns="ref")}, "ref"),
        ({"sites": make_table(H).sites.iloc[:2]}, "2 rows in sites"),
        ({"sites": make_table(H).sites.assign(position=[1, 3, 2])}, "variant 2 at 2 bp"),
        ({"sites": make_table(H).sites.assign(position=[0, 3, 4])}, "1-based"),
        ({"samples": pd.DataFrame(index=["a"])}, "1 rows in samples"),
        ({"samples": pd.DataFrame(index=["a", "a"])}, "'a' occurs twice"),
        ({"phased": np.ones((2, 2), dtype=bool)}, "phased must have shape"),
    ],
)
def test_invalid_tables(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make_table(H), **change)
