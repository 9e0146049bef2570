"""``genodiff utility``: files in, folder out, refusals in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from data_prep.panels import write_panel
from data_prep.variants import VariantTable
from data_prep.vcf_write import write_vcf
from tests.commands import refused, succeed, tree
from tests.utility.conftest import needs_beagle

QUICK = ("--tasks", "ancestry,association,scores")


@pytest.fixture(scope="module")
def folder(people: dict[str, VariantTable], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VCFs and panels; tests must not change it."""
    folder = tmp_path_factory.mktemp("utility")
    for name, table in people.items():
        write_vcf(table, folder / f"{name}.vcf.gz")
        write_panel(table, folder / f"{name}.panel.tsv")
    both = [pd.read_csv(folder / f"{name}.panel.tsv", sep="\t", dtype=str) for name in ("train", "holdout")]
    pd.concat(both).to_csv(folder / "panel.tsv", sep="\t", index=False)
    return folder


def files(folder: Path, *, labels: bool = True) -> list[object]:
    given: list[object] = ["--synthetic", folder / "independent.vcf.gz", "--train", folder / "train.vcf.gz"]
    given += ["--holdout", folder / "holdout.vcf.gz"]
    if labels:
        given += ["--panel", folder / "panel.tsv", "--synthetic-panel", folder / "independent.panel.tsv"]
    return given


def test_a_folder_with_tables_figures_and_provenance(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "useful"
    said = succeed("utility", *files(folder), *QUICK, "-o", out, "--quiet")
    assert said.splitlines()[-1] == f"page: {out / 'utility.md'}"
    assert [line.split(":")[0] for line in said.splitlines()] == ["Ancestry", "Association", "Scores", "page"]
    assert tree(out) == {
        "utility.csv", "utility.md", "provenance.json", "figures", "figures/discoveries.png", "figures/ld_scores.png",
    }  # fmt: skip
    frame = pd.read_csv(out / "utility.csv")
    assert list(frame.columns[:6]) == ["family", "metric", "value", "floor", "n", "unit"]
    assert set(frame["family"]) == {"sites", "ancestry", "association", "scores"}
    page = (out / "utility.md").read_text()
    assert "Synthetic people, S: 200 of independent.vcf.gz." in page
    for metric in frame["metric"]:
        assert f"| {metric} |" in page
    for line in page.splitlines():
        if line.startswith("!["):
            assert (out / line.split("(")[1].rstrip(")")).read_bytes().startswith(b"\x89PNG")
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["seed"] == 1
    assert {entry["role"] for entry in provenance["inputs"].values()} >= {"synthetic", "train", "holdout", "panel"}
    # A second time is refused, unless forced; then nothing of the first is left.
    refused(tmp_path, "utility", *files(folder), *QUICK, "-o", out, "--quiet", words=[out, "exists", "--force"])
    succeed("utility", *files(folder), "--tasks", "ancestry", "-o", out, "--quiet", "--force")
    assert tree(out) == {"utility.csv", "utility.md", "provenance.json"}


def test_tasks_left_out_are_told_everywhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    out = tmp_path / "useful"
    said = succeed("utility", *files(folder, labels=False), "-o", out, "--quiet")
    assert "Imputation left out: imputation needs the program beagle" in said
    assert "Ancestry left out: ancestry needs population labels" in said
    assert "apt-get install beagle" in (out / "utility.md").read_text()
    frame = pd.read_csv(out / "utility.csv").set_index("metric")
    assert "apt-get install beagle" in frame.loc["imputation_skipped", "unit"]
    assert set(json.loads((out / "provenance.json").read_text())["skipped"]) == {"imputation", "ancestry"}


def test_refusals(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*arguments: object, words: list[object]) -> None:
        refused(tmp_path, "utility", *arguments, "-o", tmp_path / "useful", "--quiet", words=words)

    given = files(folder)
    no(*given, "--tasks", "ancestry,phasing", words=["'phasing' is not one of", "genodiff utility --help"])
    no(*given[:-2], "--tasks", "ancestry", words=["synthetic people lack", "--synthetic-panel"])
    no(*given, "--region", "1:1-2000", "--tasks", "scores", words=["simulated traits need", "--region"])
    no(*files(folder)[:4], "--holdout", folder / "train.vcf.gz", words=["200 people are also in"])
    no(*given, "--map", folder / "panel.tsv", words=["panel.tsv", "line 1"])
    monkeypatch.setenv("PATH", "")
    no(*given, "--tasks", "imputation", words=["beagle", "not on PATH", "apt-get install beagle"])


@pytest.mark.slow
@needs_beagle
def test_imputation_by_beagle_in_a_folder_with_a_space(folder: Path, tmp_path: Path) -> None:
    out, temporary = tmp_path / "useful", tmp_path / "with a space"
    temporary.mkdir()
    genetic_map = tmp_path / "one.map"
    genetic_map.write_text("1 . 0.0 1\n1 . 0.2 200000\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        said = succeed(
            "utility", *files(folder), "--tasks", "imputation", "--map", genetic_map, "--threads", 1, "--memory", 1,
            "-o", out, "--quiet",
        )  # fmt: skip
    assert "% of the real panel's (95 % interval" in said
    assert "goal of 95 % missed." in said
    assert not list(temporary.iterdir())
    assert (out / "figures" / "imputation_r2.png").exists()
    assert "| 20–50 % |" in (out / "utility.md").read_text()
