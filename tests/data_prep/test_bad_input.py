"""Every way in which an input can be bad gives one line that names file, place and remedy."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import InputError
from data_prep.readers import read_variants
from data_prep.simulate import simulate_ld_blocks
from data_prep.vcf import write_vcf
from tests.data_prep.helpers import header, make_table, record, write

GOOD = record(10, "0|1 0|0 1|1 0|0") + record(20, "0|1 1|0 0|0 0|0") + record(30, "0|0 0|0 0|0 0|1")


def refuse(path: Path, message: str, **options: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_variants(path, **options)  # type: ignore[arg-type]
    one_line(caught.value, path)


def one_line(error: InputError, path: Path) -> None:
    assert "\n" not in str(error)
    assert str(path) in str(error)


TEXTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "words": ("hello\nworld\n", "not a VCF"),
    "binary": (bytes(range(256)) * 4, "not a VCF"),
    "a table": ("sample\tpop\nA\tEUR\n", "not a VCF"),
    "gzip of words": (gzip.compress(b"hello\n" * 50), "not a VCF"),
    "header cut": ("##fileformat=VCFv4.2\n##contig=<ID=22>\n", "truncated"),
    "no column line": ("##fileformat=VCFv4.2\n" + record(10, "0|1 0|1"), "column line"),
    "blanks for tabs": (header().replace("POS\tID", "POS ID") + GOOD, "tab-separated"),
    "no samples": (header(()).replace("\tFORMAT", "") + "22\t10\t.\tA\tC\t.\t.\t.\n", "no samples"),
    "format but no samples": (header(()), "no samples"),
    "sample twice": (header(("A", "B", "A", "D")) + GOOD, "'A' occurs twice"),
    "sample without a name": (header(("A", "B", "", "D")) + GOOD, "sample name is empty"),
    "zero byte in header": (header(("A", "B\x00", "C", "D")) + GOOD, "zero byte"),
    "no records": (header(), "holds no records"),
    "no GT": (header() + record(10, "3 4 5 6", keys="DP"), "1 no-GT"),
    "haploid only": (header() + record(10, "0 1 1 0"), "1 non-diploid .*diploid region"),
    "monomorphic only": (header() + record(10, "0|0 0|0 0|0 0|0"), "1 monomorphic"),
    "missing only": (header() + record(10, ". . . ."), "1 missing"),
    "several contigs": (header(contigs=("1", "2")) + record(10, "0|1 0|1 0|1 0|1", contig="1")
                        + record(10, "0|1 0|1 0|1 0|1", contig="2"), r"several contigs \(1, 2\).*--region 1"),
    "line cut": (header() + GOOD + "22\t40\t.\tA\n", r"line 9 \(22:40\): 4 columns where the header has 13"),
    "too few calls": (header() + GOOD + record(40, "0|1 0|1"), r"line 9 \(22:40\): 11 columns"),
    "too many calls": (header() + GOOD + record(40, "0|1 0|1 0|1 0|1 0|1"), r"line 9 \(22:40\): 14 columns"),
    "position is a word": (header() + GOOD + record("xx", "0|1 0|1 0|1 0|1"), "line 9.*POS 'xx'"),
    "position is negative": (header() + GOOD + record(-4, "0|1 0|1 0|1 0|1"), "line 9.*POS '-4'"),
    "genotype is a word": (header() + GOOD + record(40, "x|y 0|1 0|1 0|1"), "line 9.*GT 'x|y' in column 10"),
    "allele that is not listed": (header() + GOOD + record(40, "0|7 0|1 0|1 0|1"), "22:40 .* 'A' has allele 7"),
    "allele beyond a byte": (header() + GOOD + record(40, "0|257 0|1 0|1 0|1"), "22:40 .* 'A' has allele 257"),
    "no FORMAT key": (header() + GOOD + record(40, "1:0|1 1:0|1 1:0|1 1:0|1", keys=":GT"), "line 9.*FORMAT key"),
    "odd FORMAT key": (header() + GOOD + record(40, "1:0|1 1:0|1 1:0|1 1:0|1", keys="a b:GT"), "line 9.*FORMAT key"),
    "undeclared contig, bad line": (header() + record(1, "0|1 0|1 0|l 0|1", contig="7"), "line 6 .*GT '0|l'"),
    "contig is no name": (header() + record(1, "0|1 0|1 0|1 0|1", contig="<7>"), "line 6 .*CHROM '<7>'"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_usable_vcf(tmp_path: Path, name: str) -> None:
    text, message = TEXTS[name]
    refuse(write(tmp_path, text), message)


@pytest.mark.parametrize("name", [name for name, (text, _) in TEXTS.items() if isinstance(text, str) and text])
def test_the_same_in_gzip(tmp_path: Path, name: str) -> None:
    text, message = TEXTS[name]
    assert isinstance(text, str)
    refuse(write(tmp_path, gzip.compress(text.encode()), "x.vcf.gz"), message)


def test_paths(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.vcf", "does not exist")
    refuse(tmp_path, "is a directory")
    with pytest.raises(InputError):
        read_variants("bad\x00name.vcf")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = write(tmp_path, header() + GOOD)
    path.chmod(0)
    refuse(path, "cannot be read")


def big(folder: Path) -> Path:
    path = folder / "big.vcf.gz"
    write_vcf(simulate_ld_blocks(40, 3000, phased=True, seed=2).table, path)
    return path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[: len(b) // 2], "truncated"),
        (lambda b: b[:-28], "truncated"),
        (lambda b: b[:20], "truncated|corrupt"),
        (lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 255]) + b[len(b) // 2 + 1 :], "corrupt"),
        (lambda b: b[:30] + b"\x00" * 40 + b[70:], "corrupt|truncated"),
    ],
)
@pytest.mark.parametrize("indexed", [True, False])
def test_damaged_bgzf(tmp_path: Path, damage: Callable[[bytes], bytes], message: str, indexed: bool) -> None:
    path = big(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    index = Path(f"{path}.tbi")
    if indexed:
        os.utime(index)
    else:
        index.unlink()
    refuse(path, message, region="1")


@pytest.mark.parametrize("end", [0.2, 0.9, 0.999])
def test_truncated_plain_gzip(tmp_path: Path, end: float) -> None:
    whole = gzip.compress((header() + GOOD * 2000).encode())
    refuse(write(tmp_path, whole[: int(end * len(whole))], "x.vcf.gz"), "truncated")


def test_gzip_without_its_checksum(tmp_path: Path) -> None:
    refuse(write(tmp_path, gzip.compress((header() + GOOD).encode())[:-8], "x.vcf.gz"), "truncated")


def test_damaged_bcf(tmp_path: Path) -> None:
    path = tmp_path / "x.bcf"
    write_vcf(simulate_ld_blocks(40, 500, phased=True, seed=2).table, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refuse(path, "truncated")
    path.write_bytes(b"BCF\x02\x02" + bytes(40))
    refuse(path, "uncompressed BCF")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("", "malformed"),
        (":1-2", "malformed"),
        ("22:", "malformed"),
        ("22:a-b", "malformed"),
        ("22:5-3", "is empty"),
        ("22:0-3", "is empty"),
        ("22:,-,", "malformed"),
        ("22:99999999999999999999-", "is empty"),
    ],
)
def test_regions_that_mean_nothing(tmp_path: Path, region: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_variants(write(tmp_path, header() + GOOD), region=region)


def test_regions_without_records(tmp_path: Path) -> None:
    plain = write(tmp_path, header() + GOOD)
    indexed = tmp_path / "x.vcf.gz"
    write_vcf(read_variants(plain)[0], indexed)
    for path in (plain, indexed):
        refuse(path, "no record in region 22:1000-2000", region="22:1000-2000")
        refuse(path, r"no contig '7' \(it has 22\)", region="7:1-5")


def test_malformed_record_met_through_the_index(tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    for calls, keys in (("0|1 0|x 0|1 0|1", "GT"), ("0|1 0|1", "GT"), ("1:0|1 1:0|1 1:0|1 1:0|1", ":GT")):
        path = write(tmp_path, header() + GOOD + record(40, calls, keys=keys))
        packed = tmp_path / "x.vcf.gz"
        pysam.tabix_compress(str(path), str(packed), force=True)
        pysam.tabix_index(str(packed), preset="vcf", force=True)
        refuse(packed, "22:40", region="22:1-100")
        assert read_variants(packed, region="22:1-30")[1].kept == 3


def test_wrong_columns_that_cancel_out_over_the_file(tmp_path: Path) -> None:
    """A line that ended too early and lines that are too long: on an undeclared contig htslib would crash."""
    cut = header(contigs=()).replace("\tC\tD\n", "\r\n\tC\tD\n")
    assert cut != header(contigs=())
    refuse(write(tmp_path, cut + GOOD + record(40, "0|1 0|0 1|1 0|1")), "3 columns where the header has 11")


def test_requested_samples(tmp_path: Path) -> None:
    path = write(tmp_path, header() + GOOD)
    refuse(path, r"lacks 2 of 3 requested samples, the first is 'X'", samples=["A", "X", "Y"])
    refuse(path, "requested twice", samples=["A", "A"])
    refuse(path, "list of samples to read is empty", samples=[])


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("undeclared contig, bad line", "line cut", "genotype is a word", "position is a word"):
        with pytest.raises(InputError):
            read_variants(write(tmp_path, TEXTS[name][0]))
    read_variants(write(tmp_path, header(contigs=()) + GOOD))
    assert capfd.readouterr() == ("", "")


TOKENS = [b"\t", b"\n", b"|", b"/", b".", b"0", b"2", b"99999999999999999999", b"<DEL>", b"*", b"\x00", b"\xff", b"-1",
          b"GT", b":", b",", b"##", b"#", b"\r\n", b"ID=", b"<", b">", b"0|1\t", b"chr", b'"', b" ", b";"]  # fmt: skip

EDIT = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 40),
    st.one_of(st.sampled_from(TOKENS), st.binary(max_size=3)),
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=6), packed=st.booleans())
def test_mutated_vcf_is_read_or_refused(tmp_path: Path, edits: list[tuple[float, int, bytes]], packed: bool) -> None:
    text = bytearray((header() + GOOD + record(40, "0/1 ./. .|0 1", name="rs1")).encode())
    for where, length, replacement in edits:
        start = int(where * len(text))
        text[start : start + length] = replacement
    path = write(tmp_path, gzip.compress(bytes(text)) if packed else bytes(text))
    try:
        table, report = read_variants(path, max_missing=0.5)
    except InputError as error:
        one_line(error, path)
    else:
        assert table.n_variants == report.kept == report.n_records - sum(report.removed.values())
        assert table.n_samples == report.n_samples


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans(), bcf=st.booleans())
def test_mutated_bgzf_is_read_or_refused(tmp_path: Path, at: float, value: int, cut: bool, bcf: bool) -> None:
    path = tmp_path / ("y.bcf" if bcf else "y.vcf.gz")
    table = make_table([[[0, 1], [1, 1]], [[0, 0], [0, 1]]])
    write_vcf(table, path)
    raw = bytearray(path.read_bytes())
    if cut:
        del raw[int(at * len(raw)) :]
    else:
        raw[int(at * len(raw))] = value
    path.write_bytes(raw)
    try:
        assert (read_variants(path)[0].haplotypes == table.haplotypes).all()
    except InputError as error:
        one_line(error, path)
