"""Runs side by side: the table, the page, the figures, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import genodiff
from genodiff.compare import compare_runs
from genodiff.report.verdict import TARGETS
from genodiff.runs import read_run
from tests.commands import People, refused, succeed, tree

FIGURES = {f"figures/{name}.png" for name in ("metrics", "frequencies", "ld_decay", "pca", "nearest_synthetic",
                                              "copied_run_synthetic")}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations by the same real people, and one of them as if it were of another chromosome."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for seed, (role, n) in enumerate({"train": 24, "holdout": 22, "near": 20, "far": 20}.items()):
        made[role] = People(n=n, sites=40, seed=seed, prefix=f"{role}_").write(folder, f"{role}.vcf")
    for name in ("near", "far"):
        real = ("--train", made["train"], "--holdout", made["holdout"])
        succeed("evaluate", "--synthetic", made[name], *real, "-o", folder / name, "--quiet")
    shutil.copytree(folder / "near", folder / "other")
    sites = folder / "other" / "curves" / "allele_frequency.csv"
    pd.read_csv(sites).assign(contig="21").to_csv(sites, index=False)
    return folder


def test_the_table_and_the_page(runs: Path, tmp_path: Path) -> None:
    said = succeed("compare", runs / "near", f"<far>={runs / 'far'}", "-o", tmp_path / "out")
    assert said.splitlines()[-1] == f"comparison: {tmp_path / 'out' / 'comparison.html'}"
    assert {line.split(": ")[0] for line in said.splitlines()[:-1]} == {"near", "<far>"}
    out = tmp_path / "out"
    assert tree(out) == {"comparison.csv", "comparison.html", "provenance.json", "figures", *FIGURES}
    table = pd.read_csv(out / "comparison.csv")
    assert list(table.columns) == ["run", "family", "metric", "value", "floor", "n", "unit", "low", "high"]
    for name, folder in (("near", "near"), ("<far>", "far")):
        part = table[table["run"] == name].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, pd.read_csv(runs / folder / "metrics.csv"), check_dtype=False)
    html = (out / "comparison.html").read_text(encoding="utf-8")
    assert "<far>" not in html
    assert html.count("&lt;far&gt;") >= 3
    assert not re.search(r"https?://|<script|@import", html)
    assert html.count("<img ") == len(FIGURES)
    for target in TARGETS:
        assert target.label[1:] in html
    assert "cannot be compared" not in html
    floor = read_run(runs / "near").floor("af_mae")
    assert f"{floor:.3g}" in html


def test_the_same_runs_give_the_same_page(runs: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        succeed("compare", runs / "near", runs / "far", "-o", tmp_path / name)
        pages.append((tmp_path / name / "comparison.html").read_bytes())
    assert pages[0] == pages[1]


def test_chromosomes_are_compared_by_what_they_are_beside_their_floors(runs: Path, tmp_path: Path) -> None:
    arguments = ("compare", runs / "near", runs / "other", "-o", tmp_path / "out")
    refused(tmp_path, *arguments, words=("different sites", "22:1000", "21:1000", "--different-sites"))
    succeed(*arguments, "--different-sites", "--figures", "pdf")
    drawn = {name for name in tree(tmp_path / "out") if name.startswith("figures/")}
    assert drawn == {name.replace(".png", ".pdf") for name in FIGURES}
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"%PDF") for name in drawn)
    assert "Their values cannot be compared" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")


def test_folders_without_curves_are_compared_without_their_figures(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "near", tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "curves")
    succeed("compare", tmp_path / "old", runs / "far", "-o", tmp_path / "out")
    html = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "No figures of old" in html
    assert {p.name for p in (tmp_path / "out" / "figures").iterdir()} == {"metrics.png"}


def test_what_cannot_be_compared_is_refused(runs: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    near = runs / "near"
    refused(tmp_path, "compare", near, runs / "curves", *out, words=(runs / "curves", "is not a folder of results"))
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "compare", near, tmp_path / "empty", *out, words=(tmp_path / "empty", "has no metrics.csv"))
    refused(tmp_path, "compare", near, *out, words=("at least two",))
    refused(tmp_path, "compare", near, near, *out, words=("both called near", "new="))
    refused(tmp_path, "compare", near, f"={near}", *out, words=("NAME=RUN",))
    shutil.copytree(near, tmp_path / "bad")
    metrics = pd.read_csv(near / "metrics.csv")
    for frame, words in (
        (metrics.drop(columns="floor"), ("bad/metrics.csv", "floor")),
        (metrics.assign(value="high"), ("column value", "high")),
        (pd.concat([metrics, metrics.tail(1)]), ("bad/metrics.csv", "twice")),
    ):
        frame.to_csv(tmp_path / "bad" / "metrics.csv", index=False)
        refused(tmp_path, "compare", near, tmp_path / "bad", *out, words=words)
    (tmp_path / "bad" / "metrics.csv").write_bytes(b"")
    refused(tmp_path, "compare", near, tmp_path / "bad", *out, words=("bad/metrics.csv cannot be read",))
    fewer = metrics.assign(value=metrics["value"].where(metrics["metric"] != "sites_compared", 39))
    fewer.to_csv(tmp_path / "bad" / "metrics.csv", index=False)
    refused(tmp_path, "compare", near, tmp_path / "bad", *out, words=("at 40 sites", "at 39"))
    (tmp_path / "bad" / "provenance.json").write_text("{")
    refused(tmp_path, "compare", near, tmp_path / "bad", *out, words=("provenance.json cannot be read",))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ld_decay", "low,high,middle\n1,2,1.5\n", ("lacks the column holdout",)),
        ("pca", "junk\n", ("lacks the column set",)),
        ("pca", "set,PC1,PC2\nholdout,1,2\n", ("no people of the set synthetic",)),
        ("pca", "set,PC1,PC2\nholdout,1,2\nsynthetic,far,2\n", ("line 3", "column PC1", "'far'")),
        ("allele_frequency", "contig,position,holdout,synthetic\n22,1,0,0\n", ("lacks the column train",)),
        ("nearest_synthetic_to_train", "distance\n3\n", ("lacks the column value",)),
        ("copied_run_synthetic_train", "value\n3\ninf\n", ("line 3", "column value")),
    ],
)
def test_damaged_curves_are_refused(runs: Path, tmp_path: Path, name: str, text: str, words: tuple[str, ...]) -> None:
    shutil.copytree(runs / "far", tmp_path / "bad")
    (tmp_path / "bad" / "curves" / f"{name}.csv").write_text(text)
    found = (f"curves/{name}.csv", "evaluate again", *words)
    refused(tmp_path, "compare", runs / "near", tmp_path / "bad", "-o", tmp_path / "out", words=found)


def test_kinship_of_people_who_share_nothing_is_read(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "far", tmp_path / "run")
    (tmp_path / "run" / "curves" / "kinship_synthetic_train.csv").write_text("value\n0.1\n-inf\n")
    assert read_run(tmp_path / "run").curves["kinship_synthetic_train"]["value"].tolist() == [0.1, float("-inf")]


def test_runs_that_drew_other_people_are_told_the_remedy(runs: Path, tmp_path: Path) -> None:
    """Of the same file, one seed beside another: what was held out differs, and so do the sites of --maf."""
    for seed, name in enumerate(("near", "other")):
        shutil.copytree(runs / name, tmp_path / name)
        file = tmp_path / name / "provenance.json"
        said = json.loads(file.read_text())
        said["inputs"] = {"c.vcf": {"role": "genotypes", "sha256": "0"}}
        said["configuration"] = {"data": {"seed": seed, "holdout": 0.25, "holdout_samples": None, "region": None}}
        file.write_text(json.dumps(said))
    arguments = ("compare", tmp_path / "near", tmp_path / "other", "-o", tmp_path / "out")
    refused(tmp_path, *arguments, words=("different sites", "--seed", "--maf", "--holdout-samples"))
    said["inputs"]["c.vcf"]["sha256"] = "1"
    file.write_text(json.dumps(said))
    assert "--seed" not in refused(tmp_path, *arguments, words=("different sites",))


def test_a_comparison_does_not_replace_what_it_reads(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "near", tmp_path / "near")
    words = ("holds the input metrics.csv",)
    refused(tmp_path, "compare", tmp_path / "near", runs / "far", "-o", tmp_path / "near", "--force", words=words)


def test_a_run_is_read_in_one_line(runs: Path) -> None:
    run = genodiff.read_run(runs / "near")
    assert run.name == "near"
    assert run.holdout_people == 22
    assert run.provenance["judged_on"] == json.loads((runs / "near" / "provenance.json").read_text())["judged_on"]
    assert run.value("sites_compared") == 40
    assert np.isnan(run.value("no such metric"))
    frequencies = run.curves["allele_frequency"]
    assert list(frequencies.columns) == ["contig", "position", "holdout", "synthetic", "train"]
    error = (frequencies["synthetic"] - frequencies["holdout"]).abs().mean()
    assert error == pytest.approx(run.value("af_mae"), rel=1e-4)
    floor = (frequencies["train"] - frequencies["holdout"]).abs().mean()
    assert floor == pytest.approx(run.floor("af_mae"), rel=1e-4)
    assert set(run.curves["pca"]["set"]) == {"holdout", "synthetic", "train"}
    copied = run.curves["copied_run_synthetic_train"]["value"]
    assert copied.mean() == pytest.approx(run.value("copied_run_mean"), rel=1e-4)


def test_other_real_people_are_told_from_other_floors(runs: Path) -> None:
    near, far = read_run(runs / "near"), read_run(runs / "far")
    assert not compare_runs([near, far]).apart
    moved = far.metrics.assign(floor=far.metrics["floor"] * 1.01)
    shifted = type(far)("far", far.folder, moved, far.curves, far.provenance)
    assert compare_runs([near, shifted]).apart
