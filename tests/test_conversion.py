"""``genodiff convert`` on X, with several alternates and with structural variants, through every format."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from data_prep.readers import read_variants
from data_prep.sexes import read_sexes
from tests.commands import refused, run, succeed
from tests.data_prep.formats import needs, program
from tests.data_prep.helpers import header, record, write

NAMES = ("W0", "M0", "W1", "M1")
SEX = "sample\tsex\nW0\tF\nM0\tM\nW1\tF\nM1\tM\n"
ON_X = header(NAMES, contigs=("X",)).replace("<ID=X>", "<ID=X,length=155270560>")
IN_PAR = record(100_000, "0|1 1|0 0|0 1|1", contig="X", name="p")
ROWS = (
    record(3_000_000, "0|1 1 0|0 0", contig="X", name="a"),
    record(3_000_100, "1|1 0 .|. 1", contig="X", name="b"),
    record(3_000_200, "0/1 1 0|0 0", contig="X", name="c"),
)
HAPLOID = ON_X + IN_PAR + "".join(ROWS)


def body(path: Path) -> list[list[str]]:
    """The columns of the records of a VCF, plain or compressed."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [line.split("\t") for line in text.decode().splitlines() if not line.startswith("#")]


def convert(path: Path, output: Path, *options: object) -> str:
    """What a conversion that must succeed says on stderr."""
    result = run("convert", path, "-o", output, "--quiet", *options)
    assert result.exit_code == 0, result.stderr
    return result.stderr


@pytest.fixture
def on_x(tmp_path: Path) -> Path:
    """Women and men on X of GRCh37, one record in PAR1; sexes in sex.tsv."""
    write(tmp_path, SEX, "sex.tsv")
    return write(tmp_path, HAPLOID, "x.vcf")


def assert_haploid(path: Path, *, phase: bool = True) -> None:
    """The calls of ``on_x`` and their counts."""
    found = body(path)
    wanted = [line.split("\t")[9:] for line in (IN_PAR + "".join(ROWS)).splitlines()]
    calls = [[call.replace("./.", ".|.") for call in row[9:]] for row in found]
    if not phase:
        wanted, calls = (
            [[c.replace("|", "/").replace("1/0", "0/1") for c in row] for row in t] for t in (wanted, calls)
        )
    assert calls == wanted
    assert [row[7].rsplit(";", 1)[0] for row in found] == ["AC=4;AN=8", "AC=2;AN=6", "AC=3;AN=4", "AC=2;AN=6"]


@pytest.mark.parametrize("ending", [".vcf", ".vcf.gz", ".bcf", ".vcz", ".h5ad", ".zarr"])
def test_haploid_calls_stay_haploid(ending: str, tmp_path: Path, on_x: Path) -> None:
    needs(ending)
    assert convert(on_x, tmp_path / f"y{ending}") == ""
    convert(tmp_path / f"y{ending}", tmp_path / "back.vcf")
    assert_haploid(tmp_path / "back.vcf")


@pytest.mark.parametrize("ending", [".pgen", ".bed"])
def test_plink_holds_them_by_sex(ending: str, tmp_path: Path, on_x: Path) -> None:
    needs(ending)
    words = ("X:3000000", "'M0' is haploid", "--sex", ".vcf.gz")
    refused(tmp_path, "convert", on_x, "-o", tmp_path / f"y{ending}", words=words)
    assert not list(tmp_path.glob("*y*"))
    convert(on_x, tmp_path / f"y{ending}", "--sex", tmp_path / "sex.tsv")
    fam = (tmp_path / "y.fam" if ending == ".bed" else tmp_path / "y.psam").read_text().split("\n")
    column = 4 if ending == ".bed" else 1
    assert [line.split()[column] for line in fam[-5:-1]] == ["2", "1", "2", "1"]
    build: tuple[str, ...] = ()
    if ending == ".bed":
        words = ("the header does not tell the build", "--build GRCh37")
        refused(tmp_path, "convert", tmp_path / "y.bed", "-o", tmp_path / "back.vcf", words=words)
        build = ("--build", "GRCh37")
    said = convert(tmp_path / f"y{ending}", tmp_path / "back.vcf", *build)
    assert "X outside the pseudo-autosomal regions of GRCh37: 2 men with one copy, by " in said
    assert "VCF holds no sexes: those of 4 people stay in" in said
    assert_haploid(tmp_path / "back.vcf", phase=ending != ".bed")
    assert "##reference=" in (tmp_path / "back.vcf").read_text()


def test_plink2_exports_the_same(tmp_path: Path, on_x: Path) -> None:
    needs(".pgen")
    convert(on_x, tmp_path / "y.pgen", "--sex", tmp_path / "sex.tsv", "--region", "X:3000000-4000000")
    convert(tmp_path / "y.pgen", tmp_path / "ours.vcf")
    program("plink2", "--pfile", "y", "--export", "vcf", "--out", "theirs", cwd=tmp_path)
    ours, theirs = (
        [[call.replace("/", "|") for call in row[9:]] for row in body(tmp_path / f"{name}.vcf")]
        for name in ("ours", "theirs")
    )
    assert ours == [["0|1", "1", "0|0", "0"], ["1|1", "0", ".|.", "1"], ["0|1", "1", "0|0", "0"]]
    assert ours == theirs


def test_oxford_refuses_haploid_calls(tmp_path: Path, on_x: Path) -> None:
    words = ("X:3000000", "'M0' is haploid, which Oxford does not hold", ".vcf.gz", "--sex")
    refused(tmp_path, "convert", on_x, "-o", tmp_path / "y.haps", words=words)


def test_men_written_with_two_alleles_have_one_by_sex(tmp_path: Path) -> None:
    write(tmp_path, SEX, "sex.tsv")
    path = write(tmp_path, ON_X + record(3_000_000, "0|1 1|1 0|0 .|.", contig="X"), "x.vcf")
    said = convert(path, tmp_path / "a.vcf")
    assert "X is read as diploid: if some of the people are men, say so with --sex" in said
    convert(path, tmp_path / "b.vcf", "--sex", tmp_path / "sex.tsv")
    assert body(tmp_path / "b.vcf")[0][7:] == ["AC=2;AN=5;AF=0.4", "GT", "0|1", "1", "0|0", "."]
    said = convert(
        write(tmp_path, ON_X + record(3_000_000, "0|1 0|1 0|0 0|0", contig="X"), "het.vcf"), tmp_path / "c.vcf",
        "--sex", tmp_path / "sex.tsv",
    )  # fmt: skip
    assert "1 heterozygous calls where there is one copy keep both alleles" in said
    assert body(tmp_path / "c.vcf")[0][9:] == ["0|1", "0|1", "0|0", "0"]


BAD = {
    "a woman": (record(3_000_000, "0 1 0|0 0", contig="X"), ("'W0' is haploid, but a woman in", "the sex")),
    "in PAR": (record(100_000, "0|1 1 0|0 0", contig="X"), ("'M0' is haploid in a pseudo-autosomal", "--build")),
}


@pytest.mark.parametrize("case", BAD)
def test_haploid_calls_that_do_not_fit_the_sexes(case: str, tmp_path: Path) -> None:
    row, words = BAD[case]
    path = write(tmp_path, ON_X + row)
    sex = write(tmp_path, SEX, "sex.tsv")
    refused(tmp_path, "convert", path, "-o", tmp_path / "y.vcf", "--sex", sex, words=words)
    few = write(tmp_path, "sample\tsex\nW0\tF\n", "few.tsv")
    refused(tmp_path, "convert", path, "-o", tmp_path / "y.vcf", "--sex", few, words=("few.tsv lacks 3 of 4 people",))


def test_y_and_mitochondria_of_plink_have_one_copy(tmp_path: Path) -> None:
    needs(".pgen")
    for contig, calls in (("Y", "0 1 0/1 0"), ("MT", "0 1 0/1 0")):
        text = header(NAMES, contigs=(contig,)) + record(3000, calls, contig=contig)
        (tmp_path / "s.psam").write_text("#IID\tSEX\n" + "".join(f"{name}\t1\n" for name in NAMES))
        write(tmp_path, text, "x.vcf")
        program("plink2", "--vcf", "x.vcf", "--psam", "s.psam", "--make-pgen", "--out", contig, cwd=tmp_path)
        said = convert(tmp_path / f"{contig}.pgen", tmp_path / f"{contig}.vcf")
        assert "1 heterozygous calls where there is one copy keep both alleles" in said
        convert(tmp_path / "x.vcf", tmp_path / f"{contig}2.vcf")
        assert [body(tmp_path / f"{name}.vcf")[0][9:] for name in (contig, f"{contig}2")] == [calls.split()] * 2


def test_sexes_of_plink_are_used_by_all_commands(tmp_path: Path, on_x: Path) -> None:
    needs(".pgen")
    convert(on_x, tmp_path / "y.pgen", "--sex", tmp_path / "sex.tsv", "--region", "X:3000000-4000000")
    said = succeed("inspect", tmp_path / "y.pgen")
    assert "y.psam: 2 women, and 2 men with one copy as 1 pairs" in said
    given = read_sexes(tmp_path / "sex.tsv")
    found, wanted = (
        read_variants(tmp_path / name, region="X:3000000-4000000", maf=None, max_missing=1, sexes=sexes)[0]
        for name, sexes in (("y.pgen", None), ("x.vcf", given))
    )
    assert found.samples.equals(wanted.samples)
    assert (found.haplotypes == wanted.haplotypes).all()
    # --sex goes before: all are women there.
    women = write(tmp_path, SEX.replace("\tM\n", "\tF\n"), "women.tsv")
    assert "4 women, and 0 men" in succeed("inspect", tmp_path / "y.pgen", "--sex", women)
    (tmp_path / "y.psam").write_text("#IID\tSEX\nW0\t2\nM0\t1\nW1\tNA\nM1\t1\n")
    refused(tmp_path, "inspect", tmp_path / "y.pgen", words=("y.psam lacks 1 of 4 people (first: W1)",))
    said = convert(tmp_path / "y.pgen", tmp_path / "y.vcf")
    assert "1 people of unknown sex are read as diploid" in said
    (tmp_path / "y.psam").write_text("#IID\tSEX\nW0\tNA\nM0\tNA\nW1\tNA\nM1\tNA\n")
    assert "X is read as diploid" in succeed("inspect", tmp_path / "y.pgen")
    assert "X is read as diploid" in convert(tmp_path / "y.pgen", tmp_path / "z.vcf")


def test_a_numbered_x_is_spoken_of(tmp_path: Path) -> None:
    needs(".bed")
    text = header(NAMES, contigs=("23",)) + record(3_000_000, "0|1 1|1 0|0 0|0", contig="23")
    convert(write(tmp_path, text), tmp_path / "y.bed", "--sex", write(tmp_path, SEX, "sex.tsv"))
    said = convert(tmp_path / "y.bed", tmp_path / "a.vcf")
    assert "23 is read as diploid: if it is the human X, say the build" in said
    convert(tmp_path / "y.bed", tmp_path / "b.vcf", "--build", "GRCh37")
    assert body(tmp_path / "b.vcf")[0][9:] == ["0/1", "1", "0/0", "0"]


def test_sexes_go_from_plink_to_plink(tmp_path: Path) -> None:
    needs(".pgen")
    needs(".bed")
    path = write(tmp_path, header(NAMES) + record(10, "0|1 1|1 0|0 0|0"))
    few = write(tmp_path, "sample\tsex\nM0\tM\nW0\tF\n", "few.tsv")
    convert(path, tmp_path / "a.pgen", "--sex", few)
    assert (tmp_path / "a.psam").read_text() == "#IID\tSEX\nW0\t2\nM0\t1\nW1\tNA\nM1\tNA\n"
    convert(tmp_path / "a.pgen", tmp_path / "b.bed")
    assert [line.split()[4] for line in (tmp_path / "b.fam").read_text().splitlines()] == ["2", "1", "0", "0"]
    convert(tmp_path / "b.bed", tmp_path / "c.pgen", "--sex", write(tmp_path, "W1 F\nM0 F\n", "more"))
    assert (tmp_path / "c.psam").read_text() == "#IID\tSEX\nW0\t2\nM0\t2\nW1\t2\nM1\tNA\n"


# ---- alternates and structural variants

THREE = record(10, "0|1 1|2 2|0 .|.", alt="C,G", name="three") + record(20, "0|1 1|0 0|0 0/1", name="one")


def test_several_alternates_are_dropped_split_or_joined(tmp_path: Path) -> None:
    path = write(tmp_path, header(NAMES) + THREE)
    assert "removed 1 multi-allelic" in convert(path, tmp_path / "drop.vcf")
    convert(path, tmp_path / "split.vcf", "--multiallelic", "split")
    assert [row[4] for row in body(tmp_path / "split.vcf")] == ["C", "G", "C"]
    for name in ("x", "split"):
        convert(tmp_path / f"{name}.vcf", tmp_path / "join.vcf", "--multiallelic", "join", "--force")
        first, second = body(tmp_path / "join.vcf")
        assert first[4] == "C,G"
        assert first[7] == "AC=2,2;AN=6;AF=0.333333,0.333333"
        assert first[9:] == ["0|1", "1|2", "2|0", ".|."]
        assert second[9:] == ["0|1", "1|0", "0|0", "0/1"]
    words = ("PLINK 1 is written with one alternate a record", "--multiallelic split")
    refused(tmp_path, "convert", path, "-o", tmp_path / "y.bed", "--multiallelic", "join", words=words)


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is absent")
def test_bcftools_splits_and_joins_alike(tmp_path: Path) -> None:
    path = write(tmp_path, header(NAMES) + THREE)
    convert(path, tmp_path / "split.vcf", "--multiallelic", "split")
    run = ("bcftools", "norm", "-m-", path, "-Ov", "-o", tmp_path / "theirs.vcf")
    subprocess.run(run, check=True, capture_output=True)
    ours, theirs = ([row[:5] + row[9:] for row in body(tmp_path / f"{n}.vcf")] for n in ("split", "theirs"))
    assert ours == theirs


def test_sites_that_cannot_be_one_record_stay_apart(tmp_path: Path) -> None:
    """A haplotype with two alternates, the same alternate twice, another REF, other missing calls."""
    rows = [("C", "0|1 0|0 0|0 0|0"), ("G", "0|1 0|0 0|0 0|0"), ("G", "1|0 0|0 0|0 0|0"), ("T", "0|0 .|. 0|0 0|1")]
    text = header(NAMES) + "".join(record(10, calls, alt=alt) for alt, calls in rows)
    path = write(tmp_path, text + record(10, "0|1 0|0 0|0 0|0", ref="AT", alt="A"))
    convert(path, tmp_path / "y.vcf", "--multiallelic", "join")
    assert [row[3:5] + row[9:] for row in body(tmp_path / "y.vcf")] == [
        row.split("\t")[3:5] + row.rstrip("\n").split("\t")[9:] for row in path.read_text().splitlines()[-5:]
    ]


def test_alternates_of_haploid_calls_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path, ON_X + record(3_000_000, "1|2 2 0|0 1", contig="X", alt="C,G"))
    convert(path, tmp_path / "split.vcf", "--multiallelic", "split")
    convert(tmp_path / "split.vcf", tmp_path / "y.vcf", "--multiallelic", "join")
    assert body(tmp_path / "y.vcf")[0][7:] == ["AC=2,2;AN=6;AF=0.333333,0.333333", "GT", "1|2", "2", "0|0", "1"]


def structural(folder: Path) -> Path:
    head = header(NAMES).replace(
        "##FORMAT",
        '##ALT=<ID=DEL,Description="Deletion">\n##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n##FORMAT',
    )
    head = head.replace("##FORMAT", '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="t">\n##FORMAT')
    info = "\t.\tPASS\tEND=900;SVTYPE=DEL;DP=4\tGT"
    gone = record(20, "0|1 1|0 0|0 0|1", alt="<DEL>", name="gone").replace("\t.\tPASS\t.\tGT", info)
    return write(folder, head + record(10, "0|1 1|0 0|0 0|1") + gone)


@pytest.mark.parametrize("ending", [".vcf.gz", ".bcf", ".pgen", ".h5ad"])
def test_end_of_a_structural_variant_is_kept(ending: str, tmp_path: Path) -> None:
    needs(ending)
    said = convert(structural(tmp_path), tmp_path / f"y{ending}")
    assert "INFO" not in said
    convert(tmp_path / f"y{ending}", tmp_path / "back.vcf")
    first, second = body(tmp_path / "back.vcf")
    assert first[7] == "AC=3;AN=8;AF=0.375"
    assert second[7] == "AC=3;AN=8;AF=0.375;END=900;SVTYPE=DEL"
    text = (tmp_path / "back.vcf").read_text()
    assert '##ALT=<ID=DEL,Description="Deletion">' in text
    assert text.count("##INFO=<ID=END,") == text.count("##INFO=<ID=SVTYPE,") == 1


def test_plink2_reads_the_pvar_with_info(tmp_path: Path) -> None:
    needs(".pgen")
    convert(structural(tmp_path), tmp_path / "y.pgen")
    assert (tmp_path / "y.pvar").read_text().splitlines()[-3:] == [
        "#CHROM\tPOS\tID\tREF\tALT\tINFO", "22\t10\t.\tA\tC\t.", "22\t20\tgone\tA\t<DEL>\tEND=900;SVTYPE=DEL",
    ]  # fmt: skip
    program("plink2", "--pfile", "y", "--export", "vcf", "--out", "theirs", cwd=tmp_path)
    assert body(tmp_path / "theirs.vcf")[1][7] == "END=900;SVTYPE=DEL"


@pytest.mark.parametrize("ending", [".bed", ".haps", ".vcz"])
def test_what_holds_no_info_says_so(ending: str, tmp_path: Path) -> None:
    needs(ending)
    said = convert(structural(tmp_path), tmp_path / f"y{ending}")
    assert "holds no INFO: END, SVTYPE and the like of 1 structural variants are lost" in said


def test_lengths_of_alternates_are_split(tmp_path: Path) -> None:
    needs(".pgen")
    line = record(20, "0|1 1|2 0|0 0|1", alt="<DEL>,<DUP>").replace("PASS\t.", "PASS\tEND=99;SVLEN=-7,9")
    fields = "".join(f'##INFO=<ID={name},Number=.,Type=Integer,Description="l">\n' for name in ("END", "SVLEN"))
    write(tmp_path, header(NAMES).replace("##FORMAT", f"{fields}##FORMAT") + line)
    program("plink2", "--vcf", "x.vcf", "--make-pgen", "--out", "x", cwd=tmp_path)
    convert(tmp_path / "x.pgen", tmp_path / "y.vcf", "--multiallelic", "split")
    assert [row[7].split(";", 3)[3] for row in body(tmp_path / "y.vcf")] == ["END=99;SVLEN=-7", "END=99;SVLEN=9"]
