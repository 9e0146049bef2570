"""Plain lines are read as cyvcf2 reads them, and whatever is not plain is left to it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from data_prep import InputError
from data_prep.bcf_plain import PlainRecords
from data_prep.files import open_binary
from data_prep.readers import read_variants
from data_prep.vcf import VcfSource, write_vcf
from data_prep.vcf_plain import PlainLines
from tests.data_prep.helpers import header, record, write

CALLS = st.sampled_from(["0|0", "0|1", "1|0", "1|1", "0/1", "1/1", ".|.", "./.", ".|1", "0/."])
ODD = st.sampled_from(["0|2", "0", ".", "1|1:9", "0|1|1", "10|0", "./1/.", "x|0", "0-1", ""])


@st.composite
def files(draw: st.DrawFn) -> str:
    """A VCF of four people: plain lines, lines that cannot be used, now and then a call or a column that is odd."""
    lines = [header()]
    for k in range(draw(st.integers(1, 8))):
        calls = [draw(CALLS) for _ in range(4)]
        kind = draw(st.sampled_from(["plain"] * 6 + ["many", "symbolic", "keys", "odd", "quality"]))
        alt = {"many": "C,G", "symbolic": "<DEL>"}.get(kind, "C")
        if kind == "many":
            calls[0] = "1|2"
        if kind == "odd":
            calls[draw(st.integers(0, 3))] = draw(ODD)
        keys = "GT:DP" if kind == "keys" else "GT"
        line = record(10 * k + 10, " ".join(calls), alt=alt, keys=keys, name=draw(st.sampled_from([".", "rs1"])))
        lines.append(line.replace("\t.\tPASS", "\t1e-3\tPASS") if kind == "quality" else line)
    text = "".join(lines)
    return text if draw(st.booleans()) else text.removesuffix("\n")


def outcome(path: Path, region: str | None = None) -> object:
    """The table and the report, or the message."""
    try:
        table, report = read_variants(path, region=region, maf=None, max_missing=1.0)
    except InputError as error:
        return str(error)
    # The sign between the alleles of a homozygous call carries nothing and depends on where blocks end.
    return table.haplotypes.tolist(), table.sites.to_numpy().tolist(), table.unphased_het.tolist(), report


@given(files())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_both_readers_agree(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "x.vcf"
        path.write_text(text)
        fast = outcome(path)
        patch.setattr(PlainLines, "blocks", lambda self: iter(()))
        assert fast == outcome(path)


@given(files(), st.integers(1, 90), st.integers(0, 90), st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_both_readers_agree_on_a_region(text: str, first: int, length: int, between: bool) -> None:
    """Of an indexed file, with other contigs before and behind."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if between:
            text = text.replace("##contig=<ID=22>", "##contig=<ID=21>\n##contig=<ID=22>\n##contig=<ID=23>")
            head, columns, body = re.split(r"(?m)^(#CHROM.*\n)", text)
            others = [record(40, "0|0 0|1 1|1 1|0", contig=contig) for contig in ("21", "23")]
            text = f"{head}{columns}{others[0]}{body.rstrip()}\n{others[1]}"
        path = Path(folder) / "x.vcf.gz"
        with pysam.BGZFile(str(path), "wb") as sink:
            sink.write(text.encode())
        pysam.tabix_index(str(path), preset="vcf")
        region = f"22:{first}-{first + length}"
        fast = outcome(path, region)
        patch.setattr(PlainLines, "blocks", lambda self: iter(()))
        assert fast == outcome(path, region)


def test_a_region_needs_no_other_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several windows of the index, of which some are empty."""
    positions = [*range(100, 40_000, 700), *range(90_000, 130_000, 900)]
    lines = [record(at, "0|1 .|. 1/1 0|0", contig=contig) for contig in ("21", "22", "23") for at in positions]
    path = tmp_path / "x.vcf.gz"
    with pysam.BGZFile(str(path), "wb") as sink:
        sink.write((header(contigs=("21", "22", "23")) + "".join(lines)).encode())
    pysam.tabix_index(str(path), preset="vcf")
    monkeypatch.setattr(VcfSource, "_records", lambda *_: pytest.fail("cyvcf2 was asked"))
    for start, end in ((1, 10**6), (20_000, 30_000), (39_999, 90_000), (120_001, 125_000)):
        table, report = read_variants(path, region=f"22:{start}-{end}", maf=None, max_missing=1.0)
        inside = [at for at in positions if start <= at <= end]
        assert table.sites["position"].tolist() == inside
        assert report.n_records == len(inside)


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools makes the BCF")
@given(files())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_both_readers_of_bcf_agree(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "x.bcf"
        text = text.replace("##contig", '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="">\n##contig')
        made = subprocess.run(["bcftools", "view", "-Ob", "-o", path], input=text, text=True, capture_output=True)
        assume(made.returncode == 0)
        fast = outcome(path)
        patch.setattr(PlainRecords, "blocks", lambda self: iter(()))
        assert fast == outcome(path)


def test_plain_bcf_needs_no_other_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ["0|1 .|. 1/1 0|0", "0/1 ./. 1|1 ./1"]
    lines = [record(10 * k, calls[k % 2], ref="ACGT" * k, name=f"rs{'1' * 9 * k}") for k in range(1, 30)]
    table, _ = read_variants(write(tmp_path, header() + "".join(lines)), maf=None, max_missing=1.0)
    write_vcf(table, tmp_path / "x.bcf")
    monkeypatch.setattr(VcfSource, "_records", lambda *_: pytest.fail("cyvcf2 was asked"))
    found, _ = read_variants(tmp_path / "x.bcf", maf=None, max_missing=1.0)
    np.testing.assert_array_equal(found.haplotypes, table.haplotypes)
    np.testing.assert_array_equal(found.unphased_het, table.unphased_het)
    assert found.sites.equals(table.sites)


def test_a_cut_bcf_is_refused(tmp_path: Path) -> None:
    """Cut between blocks, with the end-of-file block put back: a record is not whole."""
    lines = [record(10 * k, "0|1 .|. 1/1 0|0") for k in range(1, 30)]
    table, _ = read_variants(write(tmp_path, header() + "".join(lines)), maf=None, max_missing=1.0)
    write_vcf(table, tmp_path / "x.bcf")
    with open_binary(tmp_path / "x.bcf") as stream:
        whole = stream.read()
    for size in (len(whole) - 1, len(whole) - 9, len(whole) - 40):
        with pysam.BGZFile(str(tmp_path / "y.bcf"), "wb") as sink:
            sink.write(whole[:size])
        with pytest.raises(InputError, match="cannot be read"):
            read_variants(tmp_path / "y.bcf", maf=None)


def reason(position: int, ref: str, alts: list[str]) -> str | None:
    return "multi-allelic" if len(alts) > 1 else None


def test_plain_files_need_no_other_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [record(10 * k, "0|1 .|. 1/1 0|0", alt="C,G" if k == 3 else "C") for k in range(1, 6)]
    path = write(tmp_path, header() + "".join(lines))
    monkeypatch.setattr(VcfSource, "_records", lambda *_: pytest.fail("cyvcf2 was asked"))
    table, report = read_variants(path, maf=None, max_missing=1.0)
    assert (table.n_variants, report.n_records, report.removed) == (4, 5, {"multi-allelic": 1})
    np.testing.assert_array_equal(table.haplotypes[:, 0], [[0, 1], [-1, -1], [1, 1], [0, 0]])


def test_lines_go_as_far_as_they_are_plain(tmp_path: Path) -> None:
    lines = [record(10 * k, "0|1 .|. 1/1 0|0" if k != 4 else "0|1 0 1/1 0|0") for k in range(1, 6)]
    plain = PlainLines(write(tmp_path, header() + "".join(lines)), 4, refuse=reason)
    assert [row[0] for block in plain.blocks() for row in block.rows] == [10, 20, 30]
    assert (plain.n_lines, plain.whole) == (3, False)


def test_lines_longer_than_a_piece_of_the_file(tmp_path: Path) -> None:
    """A line of people is met in the middle of what is decompressed at once; the header may be of many pieces."""
    names = tuple(f"P{i}" for i in range(120_000))
    meta = "".join(f"##note=<ID={k},text={'x' * 90}>\n" for k in range(100))
    head = header(names)
    first, rest = head.split("\n", 1)
    calls = ["0|1"] * 120_000
    path = write(tmp_path, f"{first}\n{meta}{rest}" + "".join(record(10 * k, " ".join(calls)) for k in range(1, 10)))
    plain = PlainLines(path, 120_000, refuse=reason)
    blocks = list(plain.blocks())
    assert (plain.n_lines, plain.whole) == (9, True)
    assert all((block.haplotypes == [0, 1]).all() for block in blocks)
