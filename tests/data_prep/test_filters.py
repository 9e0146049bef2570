"""Filters against counts made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep import InputError
from data_prep.filters import FilterReport, Tally, count_rows, filter_table, judge_order
from data_prep.readers import read_variants
from tests.data_prep.helpers import header, make_table, record, write

BODY = (
    record(10, "0|1 0|0 0|0 0|0")  # kept, frequency 1/8
    + record(20, "0|1 1|0 0|1 1|1", alt="C,G")  # multi-allelic
    + record(30, "0|1 0|0 0|0 0|0", alt="<*>")  # stands for any other allele
    + record(31, "0|1 0|0 0|0 0|0", alt="*")  # deleted by the record before
    + record(32, "0|0 0|0 0|0 0|0", alt=".")  # no alternate allele
    + record(40, "0|0 0|0 0|0 0|0")  # monomorphic
    + record(41, "1|1 1|1 1|1 1|1")  # monomorphic
    + record(50, "0|1 .|. .|. 0|0")  # half of the people missing
    + record(60, "0|1 0|1 0|1 .|0")  # kept: a quarter missing, frequency 3/6
    + record(55, "0|1 0|1 0|1 0|1")  # unsorted
    + record(60, "0|1 0|1 0|1 0|1", alt="G")  # duplicate position
    + record(70, "0 0|1 0|1 0|1")  # one haploid call
    + record(80, "0|0|1 0|1 0|1 0|1")  # triploid
    + record(81, "0 1 1 0")  # haploid throughout
    + record(90, "0/1 1/1 0|1 0/0", ref="AT", alt="A", name="indel")  # kept: indel, one unphased het
    + record(95, "3 4 5 6", keys="DP")  # no GT
)


def test_every_removal_is_counted_by_name(tmp_path: Path) -> None:
    table, report = read_variants(write(tmp_path, header() + BODY), max_missing=0.25)
    assert report.removed == {
        "multi-allelic": 1,
        "symbolic-allele": 2,
        "no-alternate-allele": 1,
        "no-GT": 1,
        "non-diploid": 3,
        "missing": 1,
        "monomorphic": 2,
        "unsorted": 1,
        "duplicate-position": 1,
    }
    assert report.n_records == 16
    assert report.kept == 3
    assert report.n_records == report.kept + sum(report.removed.values())
    assert table.sites["position"].tolist() == [10, 60, 90]
    assert table.sites["id"].tolist() == [".", ".", "indel"]
    assert table.sites["alt"].tolist() == ["C", "C", "A"]
    assert report.missing_calls == 1
    assert report.unphased_het_calls == 1
    np.testing.assert_array_equal(table.haplotypes[3, 1], [-1, -1])  # the half-call .|0
    assert table.phased is not None
    np.testing.assert_array_equal(table.phased[:, 2], [False, False, True, False])
    assert table.header == ("##reference=test", "##contig=<ID=22>")


def test_maf_counts_called_alleles_only(tmp_path: Path) -> None:
    text = header() + record(10, "0|1 0|0 0|0 0|0") + record(20, "0|1 0|0 0|0 .|.") + record(30, "0|1 0|1 0|0 0|0")
    _, report = read_variants(write(tmp_path, text), maf=1 / 6, max_missing=0.5)
    assert (report.kept, report.removed) == (2, {"maf": 1})


def test_thresholds_are_inclusive() -> None:
    h = np.zeros((10, 3, 2))
    h[0, 0, 0] = 1  # frequency 1/20
    h[:2, 1, 0] = 1  # 2/20
    h[:3, 2] = [0, 1]
    h[9, 2] = -1  # one of ten missing
    table, report = filter_table(make_table(h), maf=0.1, max_missing=0.1)
    assert table.sites["position"].tolist() == [20, 30]
    assert report.removed == {"maf": 1}
    _, report = filter_table(make_table(h), maf=0.0, max_missing=0.09)
    assert report.removed == {"missing": 1}


def test_table_filter_equals_reader_filter(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    h = (rng.random((12, 300, 2)) < rng.uniform(0, 0.3, 300)[:, None]).astype(int)
    h[rng.random((12, 300)) < 0.08] = -1
    table = make_table(h, position=np.sort(rng.integers(1, 400, 300)))
    text = header(tuple(table.samples.index))
    for j in range(300):
        calls = " ".join("|".join(".01"[a + 1] for a in call) for call in h[:, j])
        text += record(table.sites["position"][j], calls, ref="A", alt="G", name=f"rs{j}")
    read, report = read_variants(write(tmp_path, text), maf=0.05)
    filtered, other = filter_table(table, maf=0.05)
    np.testing.assert_array_equal(read.haplotypes, filtered.haplotypes)
    assert read.sites["id"].tolist() == filtered.sites["id"].tolist()
    assert report.removed == other.removed
    assert {"missing", "monomorphic", "maf", "duplicate-position"} == set(report.removed)


def test_table_filter_takes_contigs_apart() -> None:
    h = np.tile([0, 1], (4, 4, 1))
    table, report = filter_table(make_table(h, contig=["1", "1", "2", "2"], position=[5, 5, 5, 6]))
    assert table.n_variants == 3
    assert report.removed == {"duplicate-position": 1}


def test_order_follows_the_last_kept_site() -> None:
    tally = Tally()
    keep = judge_order(np.array([5, 9, 7, 9, 10, 10, 3]), last=5, tally=tally)
    assert keep.tolist() == [False, True, False, False, True, False, False]
    assert tally.report(n_samples=1, source="", maf=0, max_missing=0).removed == {
        "unsorted": 2,
        "duplicate-position": 3,
    }


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 16, 31])
def test_count_rows(columns: int) -> None:
    mask = np.random.default_rng(columns).random((20, columns)) < 0.4
    np.testing.assert_array_equal(count_rows(mask), mask.sum(axis=1))


def test_report_speaks_and_serialises() -> None:
    report = FilterReport(
        n_records=5, kept=2, removed={"maf": 3}, missing_calls=1, unphased_het_calls=2, n_samples=4, source="x", maf=0.1
    )
    text = "\n".join(report.lines())
    assert "2 of 5 records kept for 4 people" in text
    assert "removed 3 maf" in text
    assert "0.1" in text
    assert "1 of 8 calls are missing" in text
    assert "2 heterozygous calls are unphased" in text
    assert FilterReport(**report.to_dict()) == report


def test_empty_outcome_says_which_filter(tmp_path: Path) -> None:
    text = header() + record(10, "0|0 0|0 0|0 0|0") + record(20, "0|1 0|0 0|0 0|0") + record(30, "0|1 0|0 0|0 0|0")
    with pytest.raises(InputError, match=r"2 maf .*1 monomorphic|1 monomorphic .*2 maf .*lower --maf"):
        read_variants(write(tmp_path, text), maf=0.3)


@pytest.mark.parametrize(("maf", "missing"), [(-0.1, 0.1), (0.6, 0.1), (float("nan"), 0.1), (0.1, 1.5), (0.1, -1)])
def test_thresholds_outside_their_domain(maf: float, missing: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        filter_table(make_table(np.zeros((2, 2, 2))), maf=maf, max_missing=missing)
    with pytest.raises(ValueError, match="must lie in"):
        read_variants("absent.vcf", maf=maf, max_missing=missing)
