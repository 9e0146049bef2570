"""Counts on real genotypes, checked against bcftools; skipped where the shared files are absent."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from data_prep.blocks import ld_blocks
from data_prep.filters import filter_table
from data_prep.maps import read_map
from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from data_prep.splits import split_people
from tests.data_prep.helpers import real

pytestmark = pytest.mark.real_data
MAIN = "kg_chr22_50Mb.b38.vcf.gz"


@pytest.mark.slow
def test_main_set() -> None:
    path = real(MAIN)
    table, report = read_variants(path)
    assert (table.n_samples, table.n_variants) == (2044, 22_485)
    assert report.removed == {}
    assert (report.missing_calls, report.unphased_het_calls) == (0, 0)
    assert table.is_phased
    tool = shutil.which("bcftools")
    if tool is None:
        pytest.skip("bcftools is not installed: allele counts are not cross-checked")
    counted = subprocess.run(
        [tool, "query", "-f", "%POS %AC\n", path], capture_output=True, text=True, check=True
    ).stdout
    position, alt = np.array(counted.split(), dtype=int).reshape(-1, 2).T
    np.testing.assert_array_equal(table.sites["position"], position)
    np.testing.assert_array_equal((table.haplotypes == 1).sum(axis=(0, 2)), alt)


def test_region_by_index_labels_and_split() -> None:
    table, report = read_variants(real(MAIN), region="22:50,100,000-50,200,000", maf=0.01)
    assert report.n_records == 3019
    assert set(table.sites["contig"]) == {"chr22"}
    every, _ = read_variants(real(MAIN), region="22:50100000-50200000")
    common, other = filter_table(every, maf=0.01)
    assert other.removed == report.removed
    np.testing.assert_array_equal(common.haplotypes, table.haplotypes)
    table = attach_panel(table, read_panel(real("panel.tsv")))
    labels = table.labels
    assert labels is not None
    assert set(labels) == {"AFR", "AMR", "EAS", "EUR", "SAS"}
    _, held = split_people(table)
    for label in set(labels):
        assert (labels[held] == label).mean() == pytest.approx((labels == label).mean(), abs=0.002)


def test_many_sites_are_cut_into_blocks() -> None:
    table, report = read_variants(real("kg_phase1_chr22.b37.vcf.gz"), region="chr22:1-25000000")
    assert report.removed == {}
    assert table.sites.loc[table.sites["alt"] == "<DEL>", "position"].tolist() == [18997218]
    assert (table.sites["ref"].str.len() + table.sites["alt"].str.len() > 2).any()  # indels are kept
    sizes = np.diff(ld_blocks(table))
    assert sizes.min() >= 100
    assert sizes.max() <= 400


@pytest.mark.parametrize("build", ["b37", "b38"])
def test_shared_maps(build: str) -> None:
    m = read_map(real(f"chr22.{build}.gmap.gz"), "chr22")
    assert m.contig == "22"
    assert 70 < m.centimorgan[-1] - m.centimorgan[0] < 80
    cm = m.cM(np.linspace(16e6, 51e6, 1000))
    assert (np.diff(cm) >= 0).all()
