"""X, where men have one copy: pairs, refusals, and files that are written and read again."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep import InputError
from data_prep.builds import BUILDS, build_named, build_of, kind_of
from data_prep.panels import attach_panel, read_panel, write_panel
from data_prep.readers import read_variants
from data_prep.sexes import Pairs, Sexes, panel_sexes, read_sexes, sex_counts, with_sex_counts
from data_prep.splits import split_people
from data_prep.vcf import write_vcf
from tests.data_prep.helpers import header, record, write

NAMES = ("W0", "M0", "W1", "M1", "M2", "M3", "M4")
SEXES = Sexes({name: "F" if name[0] == "W" else "M" for name in NAMES}, source="sex.tsv")
ON_X = header(NAMES, contigs=("X",)).replace("<ID=X>", "<ID=X,length=155270560,assembly=b37>")
A = record(3_000_000, "0|1 1 0|0 0 1 1 0", contig="X", name="a")
B = record(4_000_000, "1|1 0 0|1 . 0|0 1|1 1", contig="X", name="b", ref="AT", alt="A")


def test_men_make_pairs_and_count_once(tmp_path: Path) -> None:
    table, report = read_variants(write(tmp_path, ON_X + A + B), sexes=SEXES, max_missing=0.5)
    assert list(table.samples.index) == ["W0", "M0", "W1", "M2"]
    assert table.samples["second"].tolist() == ["", "M1", "", "M3"]
    assert table.samples["sex"].tolist() == ["F", "M", "F", "M"]
    assert table.people == ("W0", "M0", "M1", "W1", "M2", "M3")
    expected = [[[0, 1], [1, 1]], [[1, 0], [0, -1]], [[0, 0], [0, 1]], [[1, 1], [0, 1]]]
    np.testing.assert_array_equal(table.haplotypes, expected)
    np.testing.assert_allclose(table.allele_frequency(), [4 / 8, 4 / 7])
    assert (report.n_samples, report.missing_calls, table.n_people) == (6, 1, 6)
    assert report.notes == (
        "X outside the pseudo-autosomal regions of GRCh37: 2 women, and 4 men with one copy as 2 pairs",
        "1 men without another of their label are left out (first: M4)",
    )


def test_men_are_paired_within_their_group() -> None:
    sexes = replace(SEXES, groups={"M0": "a", "M1": "b", "M2": "b", "M3": "a", "M4": "c"})
    pairs = Pairs.of(NAMES, sexes)
    assert [(NAMES[i], NAMES[j]) for i, j in zip(pairs.first, pairs.second, strict=True)] == [
        ("W0", "W0"), ("M0", "M3"), ("W1", "W1"), ("M1", "M2"),
    ]  # fmt: skip
    assert [NAMES[i] for i in pairs.left_out] == ["M4"]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    table, _ = read_variants(write(tmp_path, ON_X + A + B), sexes=SEXES, max_missing=0.5)
    out = tmp_path / "y.vcf"
    write_vcf(table, out)
    lines = out.read_text().splitlines()
    assert lines[-3].split("\t")[9:] == ["W0", "M0", "M1", "W1", "M2", "M3"]
    assert lines[-2].split("\t")[7:] == ["AC=4;AN=8;AF=0.5", "GT", "0|1", "1", "0", "0|0", "1", "1"]
    assert lines[-1].split("\t")[9:] == ["1|1", "0", ".", "0|1", "0", "1"]
    again, _ = read_variants(out, sexes=SEXES, max_missing=0.5)
    np.testing.assert_array_equal(again.haplotypes, table.haplotypes)
    assert again.samples.equals(table.samples)
    panel = tmp_path / "p.tsv"
    write_panel(table.with_labels(list("abcd")), panel)
    assert panel.read_text().splitlines() == [
        "sample\tlabel\tsex", "W0\ta\tF", "M0\tb\tM", "M1\tb\tM", "W1\tc\tF", "M2\td\tM", "M3\td\tM",
    ]  # fmt: skip
    found = panel_sexes(panel)
    assert found is not None
    assert dict(found.of) == {name: SEXES.of[name] for name in table.people}
    assert attach_panel(again, read_panel(panel)).labels.tolist() == list("abcd")  # type: ignore[union-attr]


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is absent")
def test_fixploidy_finds_nothing_to_fix(tmp_path: Path) -> None:
    table, _ = read_variants(write(tmp_path, ON_X + A + B), sexes=SEXES, max_missing=0.5)
    out = tmp_path / "y.vcf.gz"
    write_vcf(table, out)
    (tmp_path / "sex").write_text("".join(f"{name} {SEXES.of[name]}\n" for name in table.people))
    fixed = subprocess.run(
        ["bcftools", "+fixploidy", out, "-Ov", "--", "-s", tmp_path / "sex"], capture_output=True, text=True, check=True
    )
    body = [line for line in fixed.stdout.splitlines() if not line.startswith("#")]
    write_vcf(table, tmp_path / "y.vcf")
    plain = [line for line in (tmp_path / "y.vcf").read_text().splitlines() if not line.startswith("#")]
    assert body == plain


def test_men_may_be_written_with_two_equal_alleles(tmp_path: Path) -> None:
    twice = record(3_000_000, "0|1 1|1 0|0 0/0 0|0 1|1 .|1", contig="X", name="a")
    twice += record(4_000_000, "1|1 0|0 0|1 ./. 0|0 0|0 1|1", contig="X", name="b", ref="AT", alt="A")
    once = record(3_000_000, "0|1 1 0|0 0 0 1 .", contig="X", name="a")
    once += record(4_000_000, "1|1 0 0|1 . 0 0 1", contig="X", name="b", ref="AT", alt="A")
    a, b = (read_variants(write(tmp_path, ON_X + body), sexes=SEXES, max_missing=0.5)[0] for body in (twice, once))
    np.testing.assert_array_equal(a.haplotypes, b.haplotypes)
    assert a.is_phased


REFUSED = {
    "no sexes": (A, None, ("X:3000000", "'M0' is haploid", "--sex")),
    "woman haploid": (
        record(3_000_000, "0 1 0|0 0 1 1 0", contig="X"), SEXES, ("X:3000000", "'W0' is haploid", "woman in sex.tsv")),
    "man heterozygous": (
        A + record(5_000_000, "0|1 1 0|0 0|1 1 1 0", contig="X"), SEXES,
        ("X:5000000", "'M1' is heterozygous", "GRCh37", "man in sex.tsv")),
    "man haploid in PAR": (
        record(100_000, "0|1 0|1 0|0 0|0 1 0|0 0|0", contig="X"), SEXES, ("X:100000", "'M2' is haploid", "--build")),
    "across a border": (
        record(100_000, "0|1 0|1 0|0 0|0 0|1 0|0 0|0", contig="X") + A, SEXES,
        ("both sides", "X:2699521-154931043", "X:60001-2699520", "X:154931044-155260560")),
    "sexes lack people": (A, Sexes({"W0": "F"}, source="sex.tsv"), ("sex.tsv lacks 6 of 7", "M0, W1, M1")),
    "Y": (record(9, "0 1 0 0 1 1 0", contig="Y"), SEXES, ("Y is not read", "one copy", "--region")),
    "chrM": (record(9, "0|0 1|1 0|0 0|0 0|0 0|0 0|0", contig="chrM"), None, ("chrM is not read", "mitochondria")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_calls_that_do_not_fit_the_sexes(tmp_path: Path, case: str) -> None:
    body, sexes, words = REFUSED[case]
    path = write(tmp_path, ON_X + body)
    with pytest.raises(InputError) as caught:
        read_variants(path, sexes=sexes)
    line = str(caught.value)
    assert str(path) in line or "sex.tsv" in line
    for word in words:
        assert word in line, line
    assert "\n" not in line


def test_the_build_decides_where_borders_lie(tmp_path: Path) -> None:
    plain = header(NAMES, contigs=("X",)).replace("##reference=test\n", "")
    between = record(2_750_000, "0|1 0|1 0|0 0|0 0|1 0|0 0|0", contig="X")  # PAR1 of GRCh38, behind it of GRCh37
    path = write(tmp_path, plain + between)
    with pytest.raises(InputError, match="give --build GRCh37 or --build GRCh38"):
        read_variants(path, sexes=SEXES)
    with pytest.raises(InputError, match="'M0' is heterozygous"):
        read_variants(path, sexes=SEXES, build="GRCh37")
    table, _ = read_variants(path, sexes=SEXES, build="GRCh38")
    assert (table.n_samples, table.header[0]) == (7, "##reference=GRCh38")
    with pytest.raises(InputError, match=r"GRCh37 by its header: --build GRCh38 contradicts"):
        read_variants(write(tmp_path, ON_X + A, "z.vcf"), sexes=SEXES, build="GRCh38")


def test_women_alone_need_no_sexes_but_are_told_of_them(tmp_path: Path) -> None:
    _, report = read_variants(write(tmp_path, ON_X + record(3_000_000, "0|1 1|1 0|0 0|0 0|1 0|0 0|0", contig="X")))
    assert report.notes == ("X is read as diploid: if some of the people are men, say so with --sex",)


def test_sexes_do_nothing_to_an_autosome(tmp_path: Path) -> None:
    text = header(NAMES) + record(10, "0|1 0|1 0|0 0|0 0|1 0|0 0|0")
    with_them, _ = read_variants(write(tmp_path, text), sexes=Sexes({}))
    assert with_them.n_samples == 7
    assert "sex" not in with_them.samples


def test_mostly_haploid_autosomes_are_refused(tmp_path: Path) -> None:
    text = header(NAMES) + record(10, "0|1 0|1 0|0 0|0 0|1 0|0 0|0")
    text += "".join(record(20 + i, "0 1 0 0 1 1 0") for i in range(2))
    with pytest.raises(InputError, match=r"2 of 3 records have calls that are not diploid"):
        read_variants(write(tmp_path, text))


TABLES = {
    "table": "sample\tpop\tgender\nW0\tx\tfemale\nM0\tx\tmale\nM1\tx\tNA\n",
    "csv": "Sex,IID\nF,W0\n1,M0\n",
    "psam": "#IID SID SEX\nW0 0 2\nM0 0 1\n",
    "fam": "0 W0 0 0 2 -9\n0 M0 0 0 1 -9\n0 M1 0 0 0 -9\n",
    "two columns": "W0 XX\nM0 XY\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_sexes(tmp_path: Path, case: str) -> None:
    assert dict(read_sexes(write(tmp_path, TABLES[case], "sex")).of) == {"W0": "F", "M0": "M"}


BAD_TABLES = {
    "sample\tsex\nW0\tq\n": "line 2: sex 'q' of sample 'W0'",
    "sample\tsex\nW0\tF\nW0\tM\n": "line 3: sample 'W0' is both F and M",
    "sample\tage\nW0\t4\n": "columns sample, age hold no sex",
    "sample\tsex\nW0\n": "line 2: 1 columns where the first line has 2",
    "sample\tsex\nW0\t0\n": "gives nobody a sex",
    "## only this\n": "holds no lines",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_tables_that_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=BAD_TABLES[text]):
        read_sexes(write(tmp_path, text, "sex"))


def test_labels_of_a_panel_are_no_sexes(tmp_path: Path) -> None:
    assert panel_sexes(write(tmp_path, "W0 1\nM0 2\n", "panel")) is None


def test_split_holds_out_women_and_men_alike(tmp_path: Path) -> None:
    names = tuple(f"{'WM'[i % 3 > 0]}{i}" for i in range(120))
    calls = " ".join("0|1" if name[0] == "W" else "1" for name in names)
    text = header(names, contigs=("X",)).replace("reference=test", "reference=GRCh38")
    path = write(tmp_path, text + record(5_000_000, calls, contig="X"))
    table, _ = read_variants(path, sexes=Sexes({n: "F" if n[0] == "W" else "M" for n in names}))
    _, held = split_people(table, holdout=0.25)
    assert table.samples["sex"].iloc[held].value_counts().to_dict() == {"F": 10, "M": 10}


def test_counts_of_sexes_travel_in_the_header(tmp_path: Path) -> None:
    table, _ = read_variants(write(tmp_path, ON_X + A + B), sexes=SEXES, max_missing=0.5)
    marked = with_sex_counts(table.with_labels(["a", "a", "b", "b"]))
    assert sex_counts(marked.header) == {"a": (1, 1), "b": (1, 1)}
    assert sex_counts(json.loads(json.dumps(marked.header))) == sex_counts(marked.header)
    out = tmp_path / "y.vcf"
    write_vcf(marked, out)
    assert "sexes" not in out.read_text()
    assert sex_counts(table.header) is None


def test_builds_are_told_by_length_assembly_or_reference() -> None:
    grch37, grch38 = BUILDS
    assert build_of(["##contig=<ID=chr22,length=50818468>"]) is grch38
    assert build_of(["##contig=<ID=22,assembly=b37,length=51304566>"]) is grch37
    assert build_of(["##contig=<ID=22,length=7,assembly=hg19>"]) is grch37
    assert build_of(["##reference=file:///GRCh38_full.fa", "##contig=<ID=1>"]) is grch38
    assert build_of(["##contig=<ID=1,length=120000>", "##reference=test"]) is None
    assert build_named("GRCh37") is grch37
    assert [kind_of(c) for c in ("chrX", "Y", "chrM", "MT", "22", "X_random")] == ["X", "Y", "MT", "MT", "", ""]
    assert [kind_of(c, grch37) for c in ("23", "24", "26", "25")] == ["X", "Y", "MT", ""]
    assert [kind_of(c) for c in ("23", "24", "26")] == ["", "", ""], "autosomes of other species"
    for build in BUILDS:
        assert len(build.lengths) == 24
        inside = np.array([*build.par1, *build.par2])
        assert not build.outside(inside).any()
        assert build.outside(np.array([build.par1[1] + 1, build.par2[0] - 1])).all()
        assert build.par2[1] < build.lengths[22]
