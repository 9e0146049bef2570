"""Labels of few people and mixtures of labels through the commands."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from data_prep.panels import read_panel
from data_prep.readers import read_variants
from genodiff.genotypes.model import GenotypeModel
from tests.commands import TRAINING, People, refused, succeed, tree

QUIETLY = ("--threads", "1", "--quiet")
MIXTURE = "AFR=0.8+EUR=0.2"
MAP = "pos\tchr\tcM\n1000\t22\t0\n6900\t22\t400\n"


def ancestry(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype={"contig": str})


def test_sample_writes_mixed_people_and_their_local_ancestry(fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text(MAP)
    output = tmp_path / "a" / "s.vcf.gz"
    said = succeed(
        "sample", fitted, "--labels", f"EUR=3,{MIXTURE}:20", "--map", tmp_path / "map.txt", "--generations", "12",
        "-o", output, *QUIETLY,
    )  # fmt: skip
    assert said.startswith("23 people at 60 sites: ")
    files = {"s.vcf.gz", "s.vcf.gz.tbi", "s.panel.tsv", "s.ancestry.tsv.gz", "s.provenance.json"}
    assert tree(tmp_path / "a") == files
    assert read_panel(tmp_path / "a" / "s.panel.tsv").tolist() == ["EUR"] * 3 + [MIXTURE] * 20
    frame = ancestry(tmp_path / "a" / "s.ancestry.tsv.gz")
    assert frame.columns.tolist() == ["sample", "haplotype", "contig", "start", "end", "label"]
    assert frame["start"].min() == 999
    assert frame["end"].max() == 6900
    assert frame["sample"].unique().tolist() == read_variants(output)[0].samples.index.tolist()
    # 12 breaks per Morgan over 4 Morgans, of which 2 · 0.8 · 0.2 change the ancestry, less where proportions vary.
    changes = len(frame) - 46
    assert 0.6 * 15.4 * 40 < changes < 15.4 * 40
    facts = json.loads((tmp_path / "a" / "s.provenance.json").read_text())
    assert facts["configuration"]["sample"]["labels"] == {"EUR": 3, MIXTURE: 20}
    assert facts["configuration"]["sample"]["generations"] == 12
    assert str(tmp_path / "map.txt") in facts["inputs"]


def test_ancestry_of_an_earlier_run_goes(fitted: Path, tmp_path: Path) -> None:
    output = tmp_path / "s.vcf.gz"
    succeed("sample", fitted, "--labels", f"{MIXTURE}:2", "-o", output, *QUIETLY)
    refused(tmp_path, "sample", fitted, "-n", "2", "-o", tmp_path / "s.vcf", words=["s.panel.tsv exists", "--force"])
    succeed("sample", fitted, "-n", "2", "-o", output, "--force", *QUIETLY)
    assert not (tmp_path / "s.ancestry.tsv.gz").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("AFR=0.8+EUR=0.3:5", ["'AFR=0.8+EUR=0.3'", "sum to 1, here 1.1"]),
        ("AFR=0.8+EUR=0.2", ["LABEL=SHARE+LABEL=SHARE:N", "AFR=0.8+EUR=0.2:500"]),
        ("AFR=0.8+EUR=0.2:0", ["N ≥ 1"]),
        ("AFR=0.8+EUR=0.2:x", ["N ≥ 1"]),
        ("AFR=1:5", ["'AFR=1' is not a label and its share"]),
        (f"EUR=2,{MIXTURE}:5,{MIXTURE}:6", ["given twice"]),
        ("AFR=0.8+EAS=0.2:5", ["'EAS'", "AFR, EUR", "--labels"]),
    ],
)
def test_mixtures_that_cannot_be_made(fitted: Path, tmp_path: Path, asked: str, words: list[str]) -> None:
    refused(tmp_path, "sample", fitted, "--labels", asked, "-o", tmp_path / "s.vcf", words=words)


@pytest.mark.parametrize("wrong", ["0", "-1", "inf", "nan"])
def test_generations_out_of_range(fitted: Path, tmp_path: Path, wrong: str) -> None:
    options = ("--labels", f"{MIXTURE}:2", "--generations", wrong)
    refused(tmp_path, "sample", fitted, *options, "-o", tmp_path / "s.vcf", words=["--generations"])


def test_a_map_that_cannot_be_read(fitted: Path, tmp_path: Path) -> None:
    options = ("--labels", f"{MIXTURE}:2", "--map", tmp_path / "absent")
    refused(tmp_path, "sample", fitted, *options, "-o", tmp_path / "s.vcf", words=["absent", "does not exist"])


@pytest.mark.slow
@pytest.mark.parametrize("plain", ["", "EUR=12,AFR=12,"])
def test_synthesize_judges_plain_people_by_fidelity_and_all_by_privacy(tmp_path: Path, tiny: None, plain: str) -> None:
    people = People(n=60)
    said = succeed(
        "synthesize", people.write(tmp_path), "--panel", people.panel(tmp_path), "--labels", f"{plain}{MIXTURE}:20",
        "-o", tmp_path / "out", *TRAINING,
    )  # fmt: skip
    who = "the other 24 alone" if plain else "nobody"
    assert "20 of " in said
    assert f"fidelity is judged on {who}, privacy on all." in said
    out = tmp_path / "out"
    assert gzip.decompress((out / "synthetic.ancestry.tsv.gz").read_bytes()).startswith(b"sample\thaplotype\tcontig\t")
    families = pd.read_csv(out / "metrics.csv")["family"]
    assert set(families) >= {"privacy", "sites"}
    assert ("ld" in set(families)) == bool(plain)
    assert MIXTURE in (out / "report.html").read_text()
    assert who in json.loads((out / "provenance.json").read_text())["judged_on"]["note"]


@pytest.mark.slow
def test_labels_of_few_people_borrow_from_the_parent_in_the_panel(tmp_path: Path, tiny: None) -> None:
    people = People(n=66)
    pops = ["a1"] * 30 + ["b1"] * 30 + ["b2"] * 6
    rows = [f"{name}\t{pop}\t{pop[0].upper()}" for name, pop in zip(people.names, pops, strict=True)]
    panel = tmp_path / "panel.tsv"
    panel.write_text("\n".join(["sample\tpop\tsuper_pop", *rows]) + "\n")
    vcf = people.write(tmp_path)
    succeed("fit", vcf, "--panel", panel, "--panel-column", "pop", "-o", tmp_path / "m", *TRAINING)
    said = succeed("inspect", tmp_path / "m")
    assert "labels borrowed" in said
    model = GenotypeModel.load(tmp_path / "m", device="cpu")
    population = model.meta.population
    assert population.labels == ("a1", "b1", "b2")
    assert population.parents == ("A", "B", "B")
    assert population.borrowed[:2] == (0, 0)
    assert 0.5 < population.borrowed[2] < 1
    assert model.describe()["labels"] == {"a1": 30, "b1": 30, "b2": 6}
    assert set(model.describe()["labels_borrowed"]) == {"b2"}
    again = model.sample(labels={"b2": 5})
    assert again.labels is not None
    assert again.labels.tolist() == ["b2"] * 5


def test_a_parent_that_is_none_is_refused(tmp_path: Path) -> None:
    people = People(n=30)
    panel = tmp_path / "panel.tsv"
    panel.write_text("\n".join(["sample\tpop\tsex", *(f"{n}\tx\t{i % 2}" for i, n in enumerate(people.names))]) + "\n")
    vcf = people.write(tmp_path)
    base = ("fit", vcf, "--panel", panel, "-o", tmp_path / "m", "--panel-parent")
    refused(tmp_path, *base, "sex", words=[panel, "label 'x' lies in '0' and in '1'", "--panel-parent"])
    refused(tmp_path, *base, "absent", words=[panel, "'absent'"])
