"""Commands on X, on sites with several alternates and on files with several contigs, end to end."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import cyvcf2
import numpy as np
import pandas as pd
import pytest

from data_prep.readers import read_variants
from data_prep.sexes import panel_sexes, read_sexes, sex_counts
from data_prep.vcf import write_vcf
from genodiff.loading import DataOptions, JudgedOptions, load_data, load_judged
from tests.commands import TRAINING, People, record, refused, succeed

X = "##contig=<ID=X,length=155270560>"


class OnX(People):
    """The same people on X of GRCh37, every other one a man with one copy: his first."""

    def text(self) -> str:
        calls, _, _ = self.calls()
        calls[1::2] = np.char.partition(calls[1::2], "|")[:, :, 0]
        head = [line for line in People.text(self).splitlines() if line.startswith("#")]
        head = [X if line.startswith("##contig") else line for line in head]
        rows = [record(3_000_000 + 100 * j, calls[:, j], contig="X", name=f"x{j}") for j in range(self.sites)]
        return "\n".join([*head, *rows, *self.extra]) + "\n"

    def sexes(self, folder: Path) -> Path:
        path = folder / "sex.tsv"
        rows = [f"{name}\t{'FM'[i % 2]}" for i, name in enumerate(self.names)]
        path.write_text("\n".join(["sample\tsex", *rows]) + "\n")
        return path

    def labels(self, folder: Path) -> Path:
        """As many of either sex under each label."""
        return self.panel(folder, labels=("EUR", "EUR", "AFR", "AFR"))


PEOPLE = OnX(n=88)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``synthesize`` on X with the smallest model."""
    from genodiff.genotypes import config
    from tests.commands import TINY

    folder = tmp_path_factory.mktemp("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config.PRESETS, "fast", TINY)
        said = succeed(
            "synthesize", PEOPLE.write(folder, "x.vcf"), "-o", folder / "out", "--sex", PEOPLE.sexes(folder),
            "--panel", PEOPLE.labels(folder), *TRAINING,
        )  # fmt: skip
    assert "44 women, and 44 men with one copy as 22 pairs" in said
    return folder / "out"


def test_new_people_have_a_sex_and_men_one_copy(out: Path) -> None:
    panel = pd.read_csv(out / "synthetic.panel.tsv", sep="\t")
    assert list(panel.columns) == ["sample", "label", "sex"]
    facts = json.loads((out / "provenance.json").read_text())
    learned = facts["filters"]["n_samples"]
    assert facts["model"]["people"] == len(panel) == learned
    assert facts["build"] == "GRCh37"
    assert abs((panel["sex"] == "M").sum() - learned / 2) <= 2
    assert panel["sample"].tolist() == [f"GD{i:06d}" for i in range(1, learned + 1)]
    vcf = cyvcf2.VCF(str(out / "synthetic.vcf.gz"))
    assert vcf.samples == panel["sample"].tolist()
    assert X in vcf.raw_header
    men = (panel["sex"] == "M").to_numpy()
    seen = 0
    for variant in vcf:
        calls = np.array(variant.genotype.array())
        assert set(np.unique(calls[:, 0])) <= {0, 1}
        assert (calls[men, 1] == -2).all()
        assert set(np.unique(calls[~men, 1])) <= {0, 1}
        assert variant.INFO["AN"] == men.sum() + 2 * (~men).sum()
        seen += 1
    assert seen == facts["filters"]["kept"]


def test_the_report_counts_people(out: Path) -> None:
    facts = json.loads((out / "provenance.json").read_text())
    assert facts["judged_on"]["train"] <= facts["filters"]["n_samples"]
    page = (out / "report.html").read_text()
    assert f"{facts['filters']['n_samples']}" in page
    assert "44 women, and 44 men with one copy as 22 pairs" in page


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is absent")
def test_plink_takes_all_men_for_men(out: Path, tmp_path: Path) -> None:
    sexes = panel_sexes(out / "synthetic.panel.tsv")
    assert sexes is not None
    (tmp_path / "sex").write_text("".join(f"{n} {n} {'M' if s == 'M' else 'F'}\n" for n, s in sexes.of.items()))
    subprocess.run(
        ["plink1.9", "--vcf", out / "synthetic.vcf.gz", "--double-id", "--update-sex", "sex", "--check-sex"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    found = pd.read_csv(tmp_path / "plink.sexcheck", sep=r"\s+").set_index("IID")
    men = [name for name, sex in sexes.of.items() if sex == "M"]
    assert set(found.loc[men, "SNPSEX"]) == {1}


def test_what_synthesize_wrote_is_judged_in_pairs(out: Path, tmp_path: Path) -> None:
    """Women and pairs are what was drawn: men who came from one row make one again."""
    folder = out.parent
    real, _ = read_variants(folder / "x.vcf", sexes=read_sexes(folder / "sex.tsv"), maf=None)
    train, holdout = tmp_path / "train.vcf", tmp_path / "holdout.vcf"
    rows = np.arange(real.n_samples)
    write_vcf(real.select(samples=rows % 4 > 0), train)
    write_vcf(real.select(samples=rows % 4 == 0), holdout)
    options = JudgedOptions(
        out / "synthetic.vcf.gz", train, holdout, panel=folder / "people.panel",
        synthetic_panel=out / "synthetic.panel.tsv", sex=folder / "sex.tsv",
    )  # fmt: skip
    synthetic, data = load_judged(options, progress=False)
    panel = pd.read_csv(out / "synthetic.panel.tsv", sep="\t")
    assert list(synthetic.people) == panel["sample"].tolist()
    assert synthetic.labels is not None
    assert synthetic.labels.repeat(synthetic.people_per_row).tolist() == panel["label"].tolist()
    assert data.holdout is not None
    assert {*data.train.people, *data.holdout.people} == set(PEOPLE.names)
    words = (out / "synthetic.vcf.gz", "is haploid", "--sex")
    refused(
        tmp_path, "evaluate", "--synthetic", out / "synthetic.vcf.gz", "--train", train, "--holdout", holdout,
        "-o", tmp_path / "judged", words=words,
    )  # fmt: skip


def test_sample_gives_as_many_people_as_asked_for(out: Path, tmp_path: Path) -> None:
    said = succeed("sample", out / "model", "--labels", "EUR=21,AFR=9", "-o", tmp_path / "s.vcf.gz", "--quiet")
    assert said.startswith("30 people")
    panel = pd.read_csv(tmp_path / "s.panel.tsv", sep="\t")
    counts = panel.groupby(["label", "sex"]).size().to_dict()
    assert counts[("EUR", "F")] + counts[("EUR", "M")] == 21
    assert counts[("AFR", "F")] + counts[("AFR", "M")] == 9
    assert counts[("EUR", "M")] % 2 == counts[("AFR", "M")] % 2 == 0


def test_both_men_of_a_pair_are_on_one_side(tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text("\n".join(PEOPLE.names[:31]) + "\n")
    options = DataOptions(
        PEOPLE.write(tmp_path, "x.vcf"), panel=PEOPLE.labels(tmp_path), holdout_samples=held, maf=0.05,
        sex=PEOPLE.sexes(tmp_path),
    )  # fmt: skip
    data = load_data(options, progress=False)
    assert data.holdout is not None
    left_out = set(PEOPLE.names) - set(data.train.people) - set(data.holdout.people)
    # Of 31 people held out 16 are women; of 15 men 8 are EUR and 7 AFR, of the others 14 and 15.
    assert len(left_out) == 2
    assert set(data.holdout.people) | left_out >= set(PEOPLE.names[:31])
    assert not set(data.train.people) & set(PEOPLE.names[:31])
    assert sex_counts(data.train.header) == {"EUR": (14, 7), "AFR": (14, 7)}
    frequency = data.train.allele_frequency()
    assert np.minimum(frequency, 1 - frequency).min() >= 0.05


def test_tracts_of_men_are_of_their_one_haplotype(out: Path, tmp_path: Path) -> None:
    succeed("sample", out / "model", "--labels", "EUR=0.5+AFR=0.5:20", "-o", tmp_path / "s.vcf.gz", "--quiet")
    with gzip.open(tmp_path / "s.ancestry.tsv.gz", "rt") as handle:
        tracts = pd.read_csv(handle, sep="\t")
    panel = pd.read_csv(tmp_path / "s.panel.tsv", sep="\t").set_index("sample")
    per = tracts.groupby("sample")["haplotype"].nunique()
    assert per.index.tolist() == panel.index.tolist()
    assert (per == np.where(panel["sex"] == "M", 1, 2)).all()


def test_strict_privacy_against_the_people_learned_from(tmp_path: Path, tiny: None) -> None:
    path, sex = PEOPLE.write(tmp_path, "x.vcf"), PEOPLE.sexes(tmp_path)
    said = succeed("fit", path, "-o", tmp_path / "model", "--sex", sex, *TRAINING)
    assert "model of 88 people" in said
    strict = ("sample", tmp_path / "model", "-n", "20", "-o", tmp_path / "s.vcf", "--privacy", "strict", "--quiet")
    refused(tmp_path, *strict, "--against", path, words=("is haploid", "--sex"))
    said = succeed(*strict, "--against", path, "--sex", sex)
    assert "Strict privacy" in said
    said = succeed("inspect", path, "--sex", sex)
    assert "build" in said
    assert "GRCh37" in said
    assert "44 women, and 44 men" in said


def test_a_baseline_writes_women_and_men(tmp_path: Path) -> None:
    path, sex = PEOPLE.write(tmp_path, "x.vcf"), PEOPLE.sexes(tmp_path)
    said = succeed("baseline", "bootstrap", path, "-o", tmp_path / "s.vcf", "--sex", sex, "-n", "30", "--quiet")
    assert said.splitlines()[-1].startswith("30 people")
    call = cyvcf2.VCF(str(tmp_path / "s.vcf"))
    assert (np.array(next(call).genotype.array())[:, 1] == -2).sum() % 2 == 0


def test_x_without_sexes_is_refused(tmp_path: Path) -> None:
    path = PEOPLE.write(tmp_path, "x.vcf")
    for command in ("synthesize", "fit"):
        words = (path, "X:3000000", "'P001'", "is haploid", "--sex")
        refused(tmp_path, command, path, "-o", tmp_path / "out", *TRAINING, words=words)
    refused(tmp_path, "inspect", path, words=("is haploid", "--sex"))


def test_several_alternates_are_joined_again(tmp_path: Path, tiny: None) -> None:
    people = People()
    calls, _, _ = people.calls()
    third = np.char.replace(np.roll(calls[:, 3], 7), "1", "2")
    extra = (
        record(9000, np.where(np.arange(people.n) % 2, calls[:, 5], third), alt="C,G", name="three"),
        record(9100, calls[:, 9], alt="<DEL>", name="gone"),
    )
    path = People(extra=extra).write(tmp_path)
    succeed("fit", path, "-o", tmp_path / "model", "--multiallelic", "join", *TRAINING)
    facts = json.loads((tmp_path / "model" / "provenance.json").read_text())["filters"]
    assert (facts["kept"], facts["n_records"], facts["removed"]) == (63, 63, {})
    succeed("sample", tmp_path / "model", "-o", tmp_path / "s.vcf", "--quiet")
    last = list(cyvcf2.VCF(str(tmp_path / "s.vcf")))[-2:]
    assert [(v.POS, v.ID, v.ALT) for v in last] == [(9000, "three", ["C", "G"]), (9100, "gone", ["<DEL>"])]
    alleles = np.array(last[0].genotype.array())[:, :2]
    assert last[0].INFO["AC"] == ((alleles == 1).sum(), (alleles == 2).sum())
    said = [line.split() for line in succeed("inspect", path, "--no-structural").splitlines()]
    assert ["removed,", "multi-allelic", "1"] in said
    assert ["removed,", "structural-variant", "1"] in said


def test_contigs_and_their_records(tmp_path: Path) -> None:
    path = People(contigs=("21", "22")).write(tmp_path)
    said = [line.split(maxsplit=2) for line in succeed("inspect", path).splitlines()]
    assert ["contig", "21", "60 records"] in said
    assert ["contig", "22", "60 records"] in said
    words = ("several contigs (21, 22)", "--region 21", "workflows/Snakefile")
    refused(tmp_path, "fit", path, "-o", tmp_path / "out", *TRAINING, words=words)
    if shutil.which("bcftools"):
        subprocess.run(["bcftools", "view", "-Ob", "-o", tmp_path / "p.bcf", path], check=True, capture_output=True)
        assert "60 records" in succeed("inspect", tmp_path / "p.bcf")
