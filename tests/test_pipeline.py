"""Whole commands on small data: what they leave, that it is valid, and that it is repeatable."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from data_prep.readers import read_variants
from data_prep.vcf import write_vcf
from genodiff.provenance import PACKAGES
from tests.commands import EXAMPLE, EXAMPLE_PANEL, TRAINING, People, run, succeed, tree

REGION = "1:1-30000"
MODEL_FILES = {"model/model.json", "model/sites.json", "model/weights.safetensors"}
Site = tuple[str, int, str, str, str]


def contig_lines(path: Path) -> list[str]:
    header = cyvcf2.VCF(str(path)).raw_header
    return [line for line in header.splitlines() if line.startswith(("##contig", "##reference"))]


def read_plainly(path: Path, samples: Sequence[str] | None = None) -> tuple[list[Site], NDArray[np.int16], list[str]]:
    """Sites, calls (sites, people, 3) and names, by cyvcf2 alone."""
    vcf = cyvcf2.VCF(str(path))
    index = [vcf.samples.index(name) for name in (samples or vcf.samples)]
    sites, calls = [], []
    for v in vcf:
        sites.append((v.CHROM, v.POS, v.ID or ".", v.REF, ",".join(v.ALT)))
        calls.append(np.array(v.genotype.array()[index]))
    return sites, np.array(calls), list(vcf.samples)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``synthesize`` on the example with the ``fast`` preset cut to 20 steps; every fourth person is held out."""
    if not EXAMPLE.exists():
        pytest.skip("the example is absent")
    folder = tmp_path_factory.mktemp("example")
    (folder / "held.txt").write_text("\n".join(cyvcf2.VCF(str(EXAMPLE)).samples[::4]) + "\n")
    said = succeed(
        "synthesize", EXAMPLE, "-o", folder / "out", "--panel", EXAMPLE_PANEL, "--region", REGION, "--steps", "20",
        "--maf", "0.02", "--holdout-samples", folder / "held.txt", "--seed", "3", *TRAINING,
    )  # fmt: skip
    assert said.endswith(f"report: {folder / 'out' / 'report.html'}\n")
    assert len(said.splitlines()) >= 3
    assert tree(folder) == {"held.txt", "out", *(f"out/{name}" for name in tree(folder / "out"))}
    return folder / "out"


def test_all_results_are_there(example: Path) -> None:
    found = tree(example)
    figures = {name for name in found if name.startswith("figures/")}
    curves = {name for name in found if name.startswith("curves/")}
    assert {"curves/ld_decay.csv", "curves/allele_frequency.csv", "curves/pca.csv"} <= curves
    assert found - figures - curves == {
        "synthetic.vcf.gz", "synthetic.vcf.gz.tbi", "synthetic.panel.tsv", "model", *MODEL_FILES, "metrics.csv",
        "report.html", "figures", "curves", "provenance.json",
    }  # fmt: skip
    assert len(figures) >= 8
    for name in figures:
        assert (example / name).read_bytes().startswith(b"\x89PNG\r\n")


def test_sites_and_header_are_those_of_the_input(example: Path) -> None:
    held = (example.parent / "held.txt").read_text().split()
    people = [name for name in cyvcf2.VCF(str(EXAMPLE)).samples if name not in held]
    sites, calls, _ = read_plainly(EXAMPLE, people)
    frequency = calls[:, :, :2].mean(axis=(1, 2))
    common = np.minimum(frequency, 1 - frequency) >= 0.02
    expected = [site for site, keep in zip(sites, common, strict=True) if keep and site[1] <= 30000]
    found, synthetic, names = read_plainly(example / "synthetic.vcf.gz")
    assert found == expected
    assert contig_lines(example / "synthetic.vcf.gz") == contig_lines(EXAMPLE)
    assert names == [f"GD{i:06d}" for i in range(1, len(people) + 1)]
    assert set(np.unique(synthetic[:, :, :2])) == {0, 1}
    assert synthetic[:, :, 2].all(), "phased as the input is"
    drift = np.abs(synthetic[:, :, :2].mean(axis=(1, 2)) - frequency[common][: len(found)])
    assert drift.mean() < 0.03


def test_index_finds_records(example: Path) -> None:
    everything, _, _ = read_plainly(example / "synthetic.vcf.gz")
    inside = [v.POS for v in cyvcf2.VCF(str(example / "synthetic.vcf.gz"))("1:10000-20000")]
    assert inside == [site[1] for site in everything if 10000 <= site[1] <= 20000]


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is absent")
def test_bcftools_reads_it(example: Path) -> None:
    path = example / "synthetic.vcf.gz"
    done = subprocess.run(
        ["bcftools", "query", "-r", "1:10000-20000", "-f", "%POS[ %GT]\n", path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    sites, calls, _ = read_plainly(path)
    rows = [
        " ".join([str(site[1]), *(f"{a}|{b}" for a, b, _ in call)])
        for site, call in zip(sites, calls, strict=True)
        if 10000 <= site[1] <= 20000
    ]
    assert done.stdout.splitlines() == rows


def test_panel_has_the_labels_of_the_people_learned_from(example: Path) -> None:
    panel = pd.read_csv(example / "synthetic.panel.tsv", sep="\t")
    assert list(panel.columns) == ["sample", "label"]
    assert panel["sample"].tolist() == cyvcf2.VCF(str(example / "synthetic.vcf.gz")).samples
    assert set(panel["label"]) == set(pd.read_csv(EXAMPLE_PANEL, sep="\t")["label"])


def test_metrics_are_tidy(example: Path) -> None:
    metrics = pd.read_csv(example / "metrics.csv")
    assert list(metrics.columns) == ["family", "metric", "value", "floor", "n", "unit", "low", "high"]
    assert set(metrics["family"]) == {"sites", "frequencies", "covariance", "ld", "structure", "privacy"}
    assert metrics["metric"].is_unique
    assert metrics["unit"].notna().all()
    sites, _, _ = read_plainly(example / "synthetic.vcf.gz")
    compared = metrics.set_index("metric")["value"]
    assert compared["sites_compared"] == len(sites)
    assert compared["sites_dropped"] == 0


def test_provenance_tells_the_whole_run(example: Path) -> None:
    facts = json.loads((example / "provenance.json").read_text())
    assert facts["genodiff"]
    assert facts["command"]
    assert facts["seed"] == 3
    assert facts["device"] == "cpu"
    assert facts["configuration"]["data"]["region"] == REGION
    assert facts["configuration"]["fit"] == {
        "preset": "fast", "seed": 3, "device": "auto", "threads": 1, "steps": 20, "anchors": None, "compiled": False,
        "ignore_memory": False,
    }  # fmt: skip
    assert facts["model_config"]["training"]["steps"] == 20
    for path, role in (
        (EXAMPLE, "genotypes"),
        (EXAMPLE_PANEL, "panel"),
        (example.parent / "held.txt", "holdout samples"),
    ):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert facts["inputs"][str(path)] == {"role": role, "bytes": len(content), "sha256": digest}
    assert set(facts["packages"]) == set(PACKAGES)
    assert {"read", "fit", "sample", "write", "evaluate", "report"} <= set(facts["seconds"])
    assert facts["seconds_total"] >= sum(facts["seconds"].values()) * 0.99
    assert facts["peak_memory_mb"] > 50
    removed = facts["filters"]
    assert removed["n_records"] == removed["kept"] + sum(removed["removed"].values())


def test_report_stands_alone(example: Path) -> None:
    page = (example / "report.html").read_text()
    for target in re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page):
        assert target.startswith(("data:", "#")), target
    assert not re.search(r"@import|url\((?!['\"]?(?:data:|#))", page)
    assert page.count("data:image") >= 8


def weights(model: Path) -> Any:
    return json.loads((model / "model.json").read_text())["sha256"]


def lines(path: Path) -> list[str]:
    """Header and records as text, whatever the container; BCF adds lines of its own, so only ours are taken."""
    vcf = cyvcf2.VCF(str(path))
    return [*contig_lines(path), *vcf.samples, *map(str, vcf)]


def test_every_container_and_path_gives_the_same_people(tmp_path: Path, tiny: None) -> None:
    """``synthesize`` equals ``fit`` and ``sample``; .vcf, .vcf.gz and .bcf are one input; another seed is another."""
    people = People(n=44, missing=0.02)
    text = people.write(tmp_path, "in.vcf")
    table, _ = read_variants(text)
    for name in ("in.vcf.gz", "in.bcf"):
        write_vcf(table, tmp_path / name)
    panel = ("--panel", people.panel(tmp_path))
    succeed("synthesize", text, "-o", tmp_path / "out", *panel, "-n", "25", *TRAINING)
    expected = lines(tmp_path / "out" / "synthetic.vcf.gz")
    for name, output in (("in.vcf", "s.vcf"), ("in.vcf.gz", "s.vcf.gz"), ("in.bcf", "s.bcf")):
        model = tmp_path / f"{name}.model"
        said = succeed("fit", tmp_path / name, "-o", model, "--holdout", "0.25", *panel, *TRAINING)
        assert said.splitlines()[0].endswith("60 of 60 records kept for 33 people")
        assert said.splitlines()[-1] == f"model of 33 people at 60 sites: {model}"
        assert tree(model) == {"model.json", "sites.json", "weights.safetensors", "provenance.json"}
        assert weights(model) == weights(tmp_path / "out" / "model")
        succeed("sample", model, "-n", "25", "-o", tmp_path / output, "--threads", "1", "--quiet")
        assert lines(tmp_path / output) == expected
        written = (tmp_path / "out" / "synthetic.panel.tsv").read_bytes()
        assert (tmp_path / "s.panel.tsv").read_bytes() == written
        (tmp_path / "s.panel.tsv").unlink()
        (tmp_path / "s.provenance.json").unlink()
    succeed("sample", model, "-n", "25", "-o", tmp_path / "t.vcf", "--seed", "2", "--threads", "1", "--quiet")
    assert lines(tmp_path / "t.vcf") != expected


def test_unphased_people_give_unphased_people_without_a_panel(tmp_path: Path, tiny: None) -> None:
    people = People(phased=0.1)
    _, _, unphased = people.calls()
    succeed("synthesize", people.write(tmp_path), "-o", tmp_path / "out", *TRAINING)
    _, calls, names = read_plainly(tmp_path / "out" / "synthetic.vcf.gz")
    assert not calls[:, :, 2].any()
    assert (calls[:, :, :2] >= 0).all()
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert facts["model"]["unit"] == "dosages"
    assert 0 < facts["filters"]["unphased_het_calls"] < unphased, "those of the people learned from"
    panel = (tmp_path / "out" / "synthetic.panel.tsv").read_text()
    assert panel == "sample\tlabel\n" + "".join(f"{name}\t.\n" for name in names)


def test_mixed_phase_and_missing_calls_are_handled_and_reported(tmp_path: Path, tiny: None) -> None:
    people = People(phased=0.8, missing=0.02)
    _, missing, unphased = people.calls()
    succeed("fit", people.write(tmp_path), "-o", tmp_path / "model", *TRAINING)
    facts = json.loads((tmp_path / "model" / "provenance.json").read_text())
    assert facts["filters"]["missing_calls"] == missing > 0
    assert facts["filters"]["unphased_het_calls"] == unphased > 0
    assert facts["model"]["unit"] == "haplotypes"
    succeed("sample", tmp_path / "model", "-o", tmp_path / "s.vcf", "--threads", "1", "--quiet")
    _, calls, _ = read_plainly(tmp_path / "s.vcf")
    assert (calls[:, :, :2] >= 0).all(), "missing calls are never written"
    assert calls[:, :, 2].all()


def test_evaluate_people_made_by_anything(tmp_path: Path) -> None:
    everybody, _ = read_variants(People(n=120).write(tmp_path))
    parts = {name: tmp_path / f"{name}.vcf.gz" for name in ("synthetic", "train", "holdout")}
    for k, path in enumerate(parts.values()):
        write_vcf(everybody.select(samples=np.arange(40 * k, 40 * k + 40)), path)
    options = [part for name, path in parts.items() for part in (f"--{name}", path)]
    panels = ["--panel", People(n=120).panel(tmp_path), "--synthetic-panel", tmp_path / "people.panel"]
    said = succeed("evaluate", *options, *panels, "-o", tmp_path / "a", "--quiet")
    assert said.endswith(f"report: {tmp_path / 'a' / 'report.html'}\n")
    assert {name for name in tree(tmp_path / "a") if "/" not in name} == {
        "metrics.csv", "report.html", "figures", "curves", "provenance.json",
    }  # fmt: skip
    facts = json.loads((tmp_path / "a" / "provenance.json").read_text())
    roles = {entry["role"] for entry in facts["inputs"].values()}
    assert {"synthetic", "train", "holdout"} <= roles
    assert roles & {"panel", "synthetic panel"}


def test_sites_below_the_threshold_among_all_people_can_pass_among_those_learned_from(
    tmp_path: Path, tiny: None
) -> None:
    """The first look at a file, at everybody, must not remove what the people learned from would keep."""
    held = [f"P{i:03d}" for i in range(30, 40)]
    calls = np.full(40, "0|0", dtype="<U3")
    calls[:6] = "0|1"  # 6 of 54 alleles learned from, 6 of 74 of all
    calls[25:28] = "./."
    line = "\t".join(["22", "9000", "edge", "A", "C", ".", ".", ".", "GT", *calls])
    (tmp_path / "held.txt").write_text("\n".join(held) + "\n")
    path = People(extra=(line,)).write(tmp_path)
    options = ("--maf", "0.11", "--holdout-samples", tmp_path / "held.txt", *TRAINING)
    succeed("fit", path, "-o", tmp_path / "model", *options)
    assert "edge" in json.loads((tmp_path / "model" / "sites.json").read_text())["id"]
    assert run("fit", path, "-o", tmp_path / "m", "--maf", "0.12", *options[2:]).exit_code == 0
    assert "edge" not in json.loads((tmp_path / "m" / "sites.json").read_text())["id"]
