"""The same people on several chromosomes: lists, groups, and people drawn by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from data_prep.vcf_write import write_vcf
from genodiff.genome.groups import group_people
from genodiff.genome.people import draw_people
from genodiff.genotypes.model import GenotypeModel
from tests.commands import TRAINING, People, refused, run, succeed


def admixed_vcf(folder: Path, contig: str, ancestry: np.ndarray, *, seed: int) -> Path:
    """One chromosome of people of two-way ancestry, 150 unlinked sites."""
    rng = np.random.default_rng(seed)
    one, other = rng.uniform(0.1, 0.9, (2, 150))
    p = ancestry[:, None] * one + (1 - ancestry[:, None]) * other
    sites = pd.DataFrame({"contig": contig, "position": 1000 * np.arange(1, 151), "id": ".", "ref": "A", "alt": "C"})
    names = pd.Index([f"P{i:03d}" for i in range(len(ancestry))], name="sample")
    haplotypes = (rng.random((*p.shape, 2)) < p[:, :, None]).astype(np.int8)
    path = folder / f"chr{contig}.vcf.gz"
    write_vcf(VariantTable(haplotypes, sites, pd.DataFrame(index=names), header=(f"##contig=<ID={contig}>",)), path)
    return path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path, np.ndarray]:
    """Two chromosomes, a panel of two labels of which one is admixed of two kinds, and the ancestry."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(7)
    ancestry = np.concatenate([np.full(60, 0.95), rng.choice([0.15, 0.6], 100)])
    vcfs = [admixed_vcf(folder, name, ancestry, seed=k) for k, name in enumerate(("21", "22"))]
    panel = folder / "panel.tsv"
    rows = [f"P{i:03d}\t{'PLAIN' if i < 60 else 'MIXED'}" for i in range(160)]
    panel.write_text("\n".join(["sample\tpop", *rows]) + "\n")
    return vcfs, panel, ancestry


def test_people_says_once_who_is_who(tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray]) -> None:
    vcfs, panel, ancestry = cohort
    said = succeed("people", *vcfs, "--panel", panel, "-n", 90, "-o", tmp_path / "people", "--quiet")
    assert "120 people to learn from, 40 held out, 90 to be made" in said
    real = pd.read_csv(tmp_path / "people" / "panel.tsv", sep="\t", index_col="sample")
    held = (tmp_path / "people" / "holdout.txt").read_text().split()
    learned = (tmp_path / "people" / "train.txt").read_text().split()
    assert sorted([*held, *learned]) == real.index.tolist()
    assert len(real[["group", "label"]].drop_duplicates()) == real["group"].nunique()
    sizes = real.loc[learned].groupby("group").size()
    assert sizes.min() >= 25
    # The two kinds of the admixed label are found again, and the plain label is not divided.
    mixed = real[real["label"] == "MIXED"]
    assert mixed["group"].nunique() == 2
    assert set(real.loc[real["label"] == "PLAIN", "group"]) == {"PLAIN.1"}
    kind = ancestry[60:] > 0.4
    assert max(np.mean((mixed["group"] == g).to_numpy() == kind) for g in mixed["group"].unique()) > 0.95
    made = pd.read_csv(tmp_path / "people" / "people.tsv", sep="\t")
    assert made["sample"].tolist() == [f"GD{i:06d}" for i in range(1, 91)]
    share = made.groupby("group").size() / 90 - sizes / 120
    assert share.abs().max() < 0.02
    assert made["group"].ne(made["group"].shift()).sum() > 20  # in no order that would tell


def test_equal_seeds_give_equal_lists(tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray]) -> None:
    vcfs, panel, _ = cohort
    for name in ("one", "two"):
        succeed("people", *vcfs, "--panel", panel, "--labels", "MIXED=7,PLAIN=4", "-o", tmp_path / name, "--quiet")
    for file in ("panel.tsv", "people.tsv", "holdout.txt", "groups.tsv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    made = pd.read_csv(tmp_path / "one" / "people.tsv", sep="\t")
    assert made["label"].value_counts().to_dict() == {"MIXED": 7, "PLAIN": 4}


def test_people_held_out_take_no_part() -> None:
    """Whatever those held out are, the groups of the others are the same."""
    rng = np.random.default_rng(3)
    p = np.repeat(rng.uniform(0.1, 0.9, (2, 120)), 40, axis=0)
    parts = tuple(rng.binomial(2, p).astype(np.int8) for _ in range(2))
    held = np.zeros(80, dtype=bool)
    held[::4] = True
    labels = np.full(80, "all")
    before = group_people(parts, held=held, labels=labels)  # type: ignore[arg-type]
    changed = tuple(np.where(held[:, None], 2, part).astype(np.int8) for part in parts)
    after = group_people(changed, held=held, labels=labels)  # type: ignore[arg-type]
    assert before.dimensions == 1
    assert before.train.tolist() == after.train.tolist()


def test_a_column_without_its_panel_is_refused(tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray]) -> None:
    vcfs, _, _ = cohort
    refused(tmp_path, "people", *vcfs, "--panel-column", "pop", "-o", tmp_path / "people", words=("--panel, too",))


def test_a_label_of_few_people_is_told_of(tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray]) -> None:
    vcfs, panel, _ = cohort
    arguments = ("people", *vcfs, "--panel", panel, "--quiet")
    result = run(*arguments, "--least", 50, "-o", tmp_path / "both")
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("label PLAIN: 45 people are learned from, fewer than the 50 of --least")
    assert "like one of 45" in line
    assert "45 people" not in succeed(*arguments, "--least", 45, "-o", tmp_path / "enough")
    succeed(*arguments, "--least", 50, "--labels", "MIXED=9", "-o", tmp_path / "large")


def test_groups_keep_their_proportions() -> None:
    group, label = np.repeat(["A.1", "A.2"], [30, 10]), np.full(40, "A")
    made = draw_people(group, label, {"A": 12}, seed=1)
    assert made["group"].value_counts().to_dict() == {"A.1": 9, "A.2": 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--labels", "NOBODY=3"), ("NOBODY", "MIXED, PLAIN", "--labels")),
        (("--holdout", 0), ("--holdout 0", "--holdout-samples")),
        (("--labels", "PLAIN=3", "-n", 5), ("--samples", "--labels")),
        (("--holdout", 0.99), ("2 people are left to learn from", "hold out fewer")),
        (("--holdout", 0.002), ("one person held out", "hold out more")),
        (("--labels", "MIXED=0.5+PLAIN=0.5:4"), ("plain labels",)),
    ],
)
def test_bad_requests_are_refused(
    tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray], options: tuple[object, ...], words: tuple[str, ...]
) -> None:
    vcfs, panel, _ = cohort
    refused(tmp_path, "people", *vcfs, "--panel", panel, *options, "-o", tmp_path / "people", words=words)


def test_other_people_on_another_chromosome_are_refused(tmp_path: Path) -> None:
    one = People(n=30).write(tmp_path, "one.vcf")
    two = People(n=29, contigs=("21",)).write(tmp_path, "two.vcf")
    refused(tmp_path, "people", one, two, "-o", tmp_path / "people", words=("two.vcf lacks 'P029'", "bcftools"))


def test_a_part_of_the_genome_counts_once(tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray]) -> None:
    """Two parts of the same place would agree on everything, ancestry or not."""
    vcfs, _, _ = cohort
    out = ("-o", tmp_path / "people")
    refused(tmp_path, "people", vcfs[0], vcfs[1], vcfs[0], *out, words=("21:", "overlaps", "once", vcfs[0]))
    one = People(n=40, sites=80).write(tmp_path, "one.vcf")
    two = People(n=40, sites=40, contigs=("chr22",), seed=4).write(tmp_path, "two.vcf")
    refused(tmp_path, "people", one, two, *out, words=("two.vcf: chr22:", "overlaps", "one.vcf"))
    later = tmp_path / "later.vcf"
    lines = [line.split("\t") for line in two.read_text().splitlines()]
    moved = [[f[0], str(int(f[1]) + 100_000), *f[2:]] if not f[0].startswith("#") else f for f in lines]
    later.write_text("\n".join("\t".join(f) for f in moved) + "\n")
    succeed("people", one, later, *out, "--quiet")


def test_people_are_drawn_by_name_and_in_order(tmp_path: Path, fitted: Path) -> None:
    wanted = pd.Series({"zoe": "AFR", "ann": "EUR", "bob": "AFR", "cy": "EUR", "di": "EUR"})
    table = GenotypeModel.load(fitted).sample(people=wanted, seed=3)
    assert table.samples.index.tolist() == wanted.index.tolist()
    assert table.labels is not None
    assert table.labels.tolist() == wanted.tolist()
    panel = tmp_path / "people.tsv"
    panel.write_text("sample\tgroup\n" + "".join(f"{name}\t{label}\n" for name, label in wanted.items()))
    out = tmp_path / "s.vcf.gz"
    succeed("sample", fitted, "--people", panel, "--people-column", "group", "--seed", 3, "-o", out, "--quiet")
    again, _ = read_variants(out, maf=None)
    assert again.samples.index.tolist() == wanted.index.tolist()
    assert np.array_equal(again.haplotypes, table.haplotypes)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ("a\tMARS", (), ("'MARS'", "AFR, EUR")),
        ("a\tEUR", ("-n", 3), ("--people", "--samples")),
        ("a\tEUR", ("--people-column", "tribe"), ("tribe",)),
        ("a\tEUR", ("--privacy", "strict", "--against", "x.vcf"), ("--privacy strict", "--people")),
    ],
)
def test_bad_lists_of_people_are_refused(
    tmp_path: Path, fitted: Path, rows: str, options: tuple[object, ...], words: tuple[str, ...]
) -> None:
    panel = tmp_path / "people.tsv"
    panel.write_text(f"sample\tlabel\n{rows}\n")
    refused(tmp_path, "sample", fitted, "--people", panel, *options, "-o", tmp_path / "s.vcf.gz", words=words)


@pytest.mark.usefixtures("tiny")
def test_chromosomes_drawn_by_the_same_list_belong_together(
    tmp_path: Path, cohort: tuple[list[Path], Path, np.ndarray]
) -> None:
    """From real people to the page, and shuffled people as the proof that it would have been noticed."""
    vcfs, panel, _ = cohort
    lists = tmp_path / "people"
    succeed("people", *vcfs, "--panel", panel, "-o", lists, "--quiet")
    learned = (lists / "train.txt").read_text().split()
    held = (lists / "holdout.txt").read_text().split()
    rows = {"good": [], "mixed": []}  # type: dict[str, list[str]]
    for k, vcf in enumerate(vcfs):
        folder = tmp_path / vcf.name
        succeed(
            "fit", vcf, "-o", folder / "model", "--panel", lists / "panel.tsv", "--panel-column", "group",
            "--panel-parent", "label", "--holdout-samples", lists / "holdout.txt", *TRAINING,
        )  # fmt: skip
        succeed(
            "sample", folder / "model", "--people", lists / "people.tsv", "--people-column", "group",
            "--seed", 10 + k, "-o", folder / "s.vcf.gz", "--threads", 1, "--quiet",
        )  # fmt: skip
        for side, names in (("train", learned), ("holdout", held)):
            table, _ = read_variants(vcf, samples=names, maf=None)
            write_vcf(table, folder / f"{side}.vcf.gz")
        drawn, _ = read_variants(folder / "s.vcf.gz", maf=None)
        order = np.random.default_rng(k).permutation(drawn.n_samples)
        write_vcf(VariantTable(drawn.haplotypes[order], drawn.sites, drawn.samples), folder / "mixed.vcf.gz")
        if k == 0:  # the page takes any table of metrics, and judging takes seconds
            succeed(
                "evaluate", "--synthetic", folder / "s.vcf.gz", "--train", folder / "train.vcf.gz",
                "--holdout", folder / "holdout.vcf.gz", "-o", folder / "judged", "--quiet",
            )  # fmt: skip
        for name, file in (("good", "s.vcf.gz"), ("mixed", "mixed.vcf.gz")):
            paths = [f"{vcf.name}/{part}" for part in (file, "train.vcf.gz", "holdout.vcf.gz")]
            paths.append(f"{vcfs[0].name}/judged")
            rows[name].append("\t".join([f"<b>{k}", *paths]))
    found = {}
    for name, lines in rows.items():
        sheet = tmp_path / f"{name}.tsv"
        sheet.write_text("\n".join(["chromosome\tsynthetic\ttrain\tholdout\tjudged", *lines]) + "\n")
        out = tmp_path / f"genome-{name}"
        said = succeed("genome", sheet, "-o", out, "--quiet")
        assert "Chromosomes of a person agree of ancestry by r =" in said
        found[name] = pd.read_csv(out / "metrics.csv").set_index("metric").loc["chromosomes_r"]
        page = (out / "report.html").read_text()
        assert "&lt;b&gt;0" in page
        assert "<b>0" not in page
        assert f'href="../{vcfs[0].name}/judged/report.html"' in page
    assert found["good"]["floor"] > 0.7
    assert found["good"]["value"] > 0.6
    assert abs(found["mixed"]["value"]) < 0.2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chromosome\tsynthetic\n1\ts.vcf\n", ("no column 'train'",)),
        ("chromosome\tsynthetic\ttrain\tholdout\tjudged\n1\ta\tb\tc\n", ("line 2", "5 fields")),
        ("chromosome\tsynthetic\ttrain\tholdout\tjudged\n1\ta\ta\ta\td\n", ("1 chromosome", "at least 2")),
        ("chromosome\tsynthetic\ttrain\tholdout\tjudged\n1\ta\tb\tc\td\n1\ta\tb\tc\td\n", ("line 3", "twice")),
        ("chromosome\tsynthetic\ttrain\tholdout\tjudged\n1\ta\tb\ta\td\n", ("line 2 (chromosome 1): train /", "/b")),
        (
            "chromosome\tsynthetic\ttrain\tholdout\tjudged\n21\ta\ta\tc\te\n22\ta\ta\ta\td\n23\ts\ta\ta\td\n",
            ("line 2 (chromosome 21): holdout /", "/c, judged /", "e/metrics.csv; line 4 (chromosome 23): synthetic /"),
        ),
    ],
)
def test_bad_sheets_are_refused(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text(text)
    (tmp_path / "a").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "metrics.csv").touch()
    refused(tmp_path, "genome", sheet, "-o", tmp_path / "genome", words=("sheet.tsv", *words))


def test_haploid_calls_are_refused_without_advice_that_cannot_be_taken(tmp_path: Path) -> None:
    for name, contig in (("x.vcf", "X"), ("y.vcf", "Y")):
        text = People(n=30, contigs=(contig,)).write(tmp_path, name).read_text()
        (tmp_path / name).write_text(text.replace("\t0|0", "\t0", 1))
        for command in ("survey", "people"):
            line = refused(tmp_path, command, tmp_path / name, "-o", tmp_path / "out",
                           words=(name, "autosomes alone", "genodiff synthesize --sex"))  # fmt: skip
            assert "say who is a man" not in line
            assert "--region" not in line


def test_survey_divides_a_chromosome(tmp_path: Path) -> None:
    vcf = People(n=40, sites=60).write(tmp_path)
    said = succeed("survey", vcf, "-o", tmp_path / "survey", "--window-sites", 25, "--quiet")
    assert "60 sites in 3 windows" in said
    table = pd.read_csv(tmp_path / "survey" / "windows.tsv", sep="\t", dtype=str)
    assert table["window"].tolist() == ["001", "002", "003"]
    parts = [key for region in table["region"] for key in read_variants(vcf, region=region)[0].site_keys]
    assert parts == read_variants(vcf)[0].site_keys.tolist()
    inner = succeed("survey", vcf, "--region", "22:2000-4050", "-o", tmp_path / "part", "--quiet")
    assert "21 sites in 1 windows" in inner
    assert (tmp_path / "part" / "windows.tsv").read_text().splitlines()[1] == "001\t22:2000-4050\t21"
    assert run("inspect", tmp_path / "survey" / "unlinked.vcf.gz").exit_code == 0
