"""Several alternates at one site, and structural variants, against bcftools and by hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_prep import InputError
from data_prep.alleles import AlleleRules, one_alternate_each, same_record
from data_prep.filters import filter_table
from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from data_prep.vcf import write_vcf
from tests.data_prep.helpers import header, make_table, record, write

SPLIT, JOIN = AlleleRules("split"), AlleleRules("join")
SEVERAL = (
    record(10, "0|1 0|0 1|0 0|0", name="plain")
    + record(20, "0|1 1|2 3|0 .|.", ref="AT", alt="A,G,ATT", name="three")
    + record(20, "0|1 0|1 0|0 0|0", ref="AT", alt="C", name="split before")
    + record(20, "0|1 0|1 0|0 0|0", ref="AT", alt="C", name="twice")
    + record(20, "0|1 0|1 0|0 0|0", ref="A", alt="C", name="another REF")
    + record(30, "0|1 2|1 2/0 0|2", alt="*,T", name="star")
    + record(40, "1|2 0|0 0|0 0|0", alt="C,G", name="rare")
)
needs_bcftools = pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is absent")


def test_split_gives_every_alternate_its_site(tmp_path: Path) -> None:
    table, report = read_variants(write(tmp_path, header() + SEVERAL), rules=SPLIT, max_missing=0.3)
    sites = table.sites
    assert list(zip(sites["position"], sites["ref"], sites["alt"], sites["id"], strict=True)) == [
        (10, "A", "C", "plain"), (20, "AT", "A", "three"), (20, "AT", "G", "three"), (20, "AT", "ATT", "three"),
        (20, "AT", "C", "split before"), (30, "A", "T", "star"), (40, "A", "C", "rare"), (40, "A", "G", "rare"),
    ]  # fmt: skip
    assert report.removed == {"symbolic-allele": 1, "duplicate-position": 2}
    assert report.n_records == report.kept + sum(report.removed.values()) == 11
    np.testing.assert_array_equal(table.haplotypes[1, 1:4], [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(table.haplotypes[3, 1:4], np.full((3, 2), -1))
    np.testing.assert_array_equal(table.haplotypes[:, 5], [[0, 0], [1, 0], [1, 0], [0, 1]])  # of * and T, T
    assert same_record(sites).tolist() == [False, False, True, True, True, False, False, True]
    again, _ = filter_table(table, maf=None, max_missing=1)
    assert again.n_variants == 8
    common, fine = filter_table(table, maf=0.2, max_missing=1)
    assert common.sites["id"].tolist() == ["plain", "three", "split before", "star"]
    assert fine.removed == {"maf": 4}


def test_several_alternates_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    table, report = read_variants(write(tmp_path, header() + SEVERAL))
    assert table.sites["id"].tolist() == ["plain", "split before"]
    assert report.removed == {"multi-allelic": 3, "duplicate-position": 2}
    assert "joined" not in table.sites


@needs_bcftools
def test_split_is_what_bcftools_norm_makes(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = tuple(f"P{i}" for i in range(12))
    text = header(names)
    for j in range(60):
        alts = ["C,G", "C,G,T", "AT,ATT", "<DEL>,G", "C"][j % 5]
        calls = rng.integers(-1, alts.count(",") + 2, (12, 2))
        calls[(calls < 0).any(axis=1)] = -1
        text += record(
            10 * j + 10, " ".join("|".join(".0123"[a + 1] for a in c) for c in calls), alt=alts, name=f"s{j}"
        )
    path = write(tmp_path, text)
    table, _ = read_variants(path, rules=SPLIT, maf=None, max_missing=1)
    subprocess.run(["bcftools", "norm", "-m-", path, "-o", tmp_path / "norm.vcf"], capture_output=True, check=True)
    other, _ = read_variants(tmp_path / "norm.vcf", rules=SPLIT, maf=None, max_missing=1)
    assert table.site_keys.equals(other.site_keys)
    assert table.sites["id"].tolist() == other.sites["id"].tolist()
    np.testing.assert_array_equal(table.haplotypes, other.haplotypes)
    assert table.n_variants == 60 + 12 * (1 + 2 + 1 + 1)


def test_join_writes_one_record_again(tmp_path: Path) -> None:
    table, _ = read_variants(write(tmp_path, header() + SEVERAL), rules=JOIN, max_missing=0.3)
    write_vcf(table, tmp_path / "y.vcf")
    rows = [line.split("\t") for line in (tmp_path / "y.vcf").read_text().splitlines() if not line.startswith("#")]
    assert [row[1:5] for row in rows] == [
        ["10", "plain", "A", "C"], ["20", "three", "AT", "A,G,ATT,C"], ["30", "star", "A", "T"],
        ["40", "rare", "A", "C,G"],
    ]  # fmt: skip
    assert rows[3][7:] == ["AC=1,1;AN=8;AF=0.125,0.125", "GT", "1|2", "0|0", "0|0", "0|0"]
    assert rows[2][9:] == ["0|0", "1|0", "1/0", "0|1"]


def test_joined_people_are_read_as_they_were(tmp_path: Path) -> None:
    lines = record(20, "0|1 1|2 3|0 .|. 2|2", ref="AT", alt="A,G,ATT") + record(
        30, "0|1 0/2 1/2 0|0 1|1", alt="C,<INS>"
    )
    path = write(tmp_path, header(tuple("abcde")) + lines)
    table, _ = read_variants(path, rules=JOIN, max_missing=0.5)
    write_vcf(table, tmp_path / "y.vcf.gz")
    again, _ = read_variants(tmp_path / "y.vcf.gz", rules=JOIN, max_missing=0.5)
    assert again.sites.drop(columns="id").equals(table.sites.drop(columns="id"))
    np.testing.assert_array_equal(again.haplotypes, table.haplotypes)


def test_ten_alternates_and_more(tmp_path: Path) -> None:
    alts = ["A" * k for k in range(2, 42)]
    calls = " ".join(f"{k}|{k + 1}" for k in range(0, 40))
    path = write(tmp_path, header(tuple(f"P{i}" for i in range(40))) + record(5, calls, alt=",".join(alts)))
    table, _ = read_variants(path, rules=JOIN)
    assert table.sites["alt"].tolist() == alts
    np.testing.assert_array_equal(table.haplotypes.sum(axis=(0, 2)), [2] * 39 + [1])
    write_vcf(table, tmp_path / "y.vcf")
    assert (tmp_path / "y.vcf").read_text().splitlines()[-1].split("\t")[9:] == calls.split()


def test_an_allele_beyond_those_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"22:20 is malformed: sample 'B' has allele 3 where 2 alternate"):
        read_variants(write(tmp_path, header() + record(20, "0|1 1|3 0|0 0|0", alt="C,G")), rules=SPLIT)


def drawn(haplotypes: list[list[list[int]]], *, phased: bool = True) -> VariantTable:
    """A table (people, sites, 2) whose sites are alternates of one record."""
    table = make_table(haplotypes, position=10, phased=np.full((len(haplotypes), len(haplotypes[0])), phased))
    sites = table.sites.assign(alt=[f"C{'C' * j}" for j in range(table.n_variants)], joined=True)
    return VariantTable(table.haplotypes, sites, table.samples, table.phased)


def test_of_two_alternates_the_rarer_stays() -> None:
    h = [[[1, 1], [1, 0]], [[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [0, 1]]]
    settled = one_alternate_each(drawn(h))
    np.testing.assert_array_equal(settled.haplotypes[:, 0], [[0, 1], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(settled.haplotypes[:, 1], [[1, 0], [0, 0], [0, 0], [0, 1]])


def test_without_phase_the_two_rarest_stay() -> None:
    #    1 + 1: no clash, a place each   2 + 1: one of the commoner goes   2 + 2             1 of each of three
    h = [[[0, 1], [0, 1], [0, 0]], [[1, 1], [0, 1], [0, 0]], [[1, 1], [1, 1], [0, 0]], [[0, 1], [0, 1], [0, 1]]]
    settled = one_alternate_each(drawn(h, phased=False))
    np.testing.assert_array_equal(settled.dosage(), [[1, 1, 0], [1, 1, 0], [0, 2, 0], [0, 1, 1]])
    assert (settled.haplotypes.sum(axis=1) <= 1).all(), "an allele a place"


def test_a_table_without_such_sites_is_left_alone() -> None:
    table = make_table(np.ones((3, 4, 2)))
    assert one_alternate_each(table) is table


STRUCTURAL = (
    header()
    .replace("##FORMAT", '##ALT=<ID=DEL,Description="Deletion">\n##ALT=<ID=DUP,Description="x">\n##FORMAT', 1)
    .replace("##FORMAT", '##INFO=<ID=END,Number=1,Type=Integer,Description="Stop">\n##FORMAT', 1)
    .replace("##FORMAT", '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type">\n##FORMAT', 1)
    .replace("##FORMAT", '##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="Length">\n##FORMAT', 1)
    .replace("##FORMAT", '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n##FORMAT', 1)
)


def structural(position: int, alt: str, info: str, calls: str = "0|1 0|0 1|0 0|0") -> str:
    return "\t".join(["22", str(position), f"sv{position}", "A", alt, ".", "PASS", info, "GT", *calls.split()]) + "\n"


BODY = (
    structural(10, "<DEL>", "SVTYPE=DEL;END=90;SVLEN=-80;DP=7")
    + structural(20, "A]22:90]", "SVTYPE=BND;MATEID=m2")
    + structural(30, "<CN0>,<CN2>", "SVTYPE=CNV;END=50;SVLEN=-20,20", "0|1 0|2 1|0 0|0")
    + structural(40, "ATTT", "DP=3")
    + structural(50, "A.", ".")
    + structural(60, "<*>", ".")
    + structural(70, "<NON_REF>", ".")
    + structural(80, "?", ".")
)


def test_structural_variants_keep_what_makes_them_valid(tmp_path: Path) -> None:
    text = STRUCTURAL.replace("##FORMAT", '##INFO=<ID=MATEID,Number=.,Type=String,Description="M">\n##FORMAT', 1) + BODY
    table, report = read_variants(write(tmp_path, text), rules=SPLIT)
    assert report.removed == {"symbolic-allele": 3}
    assert table.sites["info"].tolist() == [
        "END=90;SVTYPE=DEL;SVLEN=-80", "SVTYPE=BND;MATEID=m2", "END=50;SVTYPE=CNV;SVLEN=-20",
        "END=50;SVTYPE=CNV;SVLEN=20", "", "",
    ]  # fmt: skip
    out = tmp_path / "y.vcf"
    write_vcf(table, out)
    text = out.read_text()
    assert '##ALT=<ID=DEL,Description="Deletion">' in text
    assert "ID=DUP" not in text
    assert "ID=DP" not in text
    assert text.count("##INFO=<ID=SVLEN,") == 1
    assert "\tAC=2;AN=8;AF=0.25;END=90;SVTYPE=DEL;SVLEN=-80\t" in text
    again, _ = read_variants(out, rules=SPLIT)
    assert again.sites.equals(table.sites)
    if shutil.which("bcftools"):
        done = subprocess.run(["bcftools", "view", out], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        rows = [line.split("\t") for line in done.stdout.splitlines() if not line.startswith("#")]
        assert [row[4] for row in rows] == table.sites["alt"].tolist()


def test_structural_variants_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, STRUCTURAL + BODY)
    table, report = read_variants(path, rules=AlleleRules("split", structural=False))
    assert table.sites["position"].tolist() == [40]
    assert report.removed == {"symbolic-allele": 3, "structural-variant": 5}
    assert "info" not in table.sites


def test_fields_are_declared_in_the_output(tmp_path: Path) -> None:
    """Where the input does not."""
    flag = '##INFO=<ID=IMPRECISE,Number=0,Type=Flag,Description="Not exact">\n##FORMAT'
    text = header().replace("##FORMAT", flag, 1) + structural(10, "<DEL>", "SVTYPE=DEL;END=90;IMPRECISE")
    path = write(tmp_path, text)
    table, _ = read_variants(path)
    write_vcf(table, tmp_path / "y.vcf.gz")
    again, _ = read_variants(tmp_path / "y.vcf.gz")
    assert set(again.sites["info"].iloc[0].split(";")) == {"END=90", "SVTYPE=DEL", "IMPRECISE"}
    assert {line.split(",")[0] for line in again.header if "INFO" in line} == {
        "##INFO=<ID=END", "##INFO=<ID=SVTYPE", "##INFO=<ID=IMPRECISE"}  # fmt: skip
