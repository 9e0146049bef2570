"""The workflows, run by Snakemake: whole, killed and gone on with, refused, planned for SLURM; and the download.

They need the extra ``workflows`` and bcftools, and take some minutes: ``make test-workflows``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.commands import People

pytest.importorskip("snakemake", reason="needs the extra workflows: pip install .[workflows]")
if shutil.which("bcftools") is None:
    pytest.skip("needs bcftools: apt-get install bcftools", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = ROOT / "workflows"
FETCH = WORKFLOWS / "scripts" / "fetch.py"

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A ``genodiff`` on the PATH that is this source tree, on one thread."""
    programs = tmp_path_factory.mktemp("bin")
    program = programs / "genodiff"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m genodiff "$@"\n')
    program.chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chromosomes of 60 people, 90 sites each, of which the first is cut into two windows."""
    folder = tmp_path_factory.mktemp("workflow")
    for k, name in enumerate(("21", "22")):
        plain = People(n=60, sites=90, contigs=(name,), seed=5 + k).write(folder, f"{name}.vcf")
        subprocess.run(["bcftools", "view", "-Oz", "-o", folder / f"{name}.vcf.gz", "--write-index=tbi", plain],
                       check=False, capture_output=True)  # fmt: skip
        if not (folder / f"{name}.vcf.gz.tbi").exists():  # bcftools before 1.17
            subprocess.run(["bcftools", "view", "-Oz", "-o", folder / f"{name}.vcf.gz", plain], check=True)
            subprocess.run(["bcftools", "index", "-t", folder / f"{name}.vcf.gz"], check=True)
    People(n=60).panel(folder)
    configuration = {
        "output": "out",
        "panel": "people.panel",
        "people": {"samples": 40},
        "windows": {"sites": 50},
        "chromosomes": {name: {"vcf": f"{name}.vcf.gz"} for name in ("21", "22")},
        "runs": {"short": {"preset": "fast", "steps": 1}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
    return folder


def snakemake(folder: Path, environment: dict[str, str], *arguments: object, snakefile: str = "Snakefile") -> list[str]:
    return [
        sys.executable, "-m", "snakemake", "-s", str(WORKFLOWS / snakefile), "--directory", str(folder),
        *map(str, arguments),
    ]  # fmt: skip


def start(
    folder: Path, environment: dict[str, str], *arguments: object, snakefile: str = "Snakefile"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        snakemake(folder, environment, *arguments, snakefile=snakefile),
        capture_output=True, text=True, env=environment, cwd=folder, check=False, timeout=900,
    )  # fmt: skip


def done(log: str) -> int:
    """Jobs that a run finished."""
    return sum(line.startswith("Finished jobid:") for line in log.splitlines())


@pytest.mark.slow
def test_a_killed_run_goes_on_and_does_only_what_is_missing(workspace: Path, environment: dict[str, str]) -> None:
    first = workspace / "out" / "windows" / "short" / "21" / "001" / "synthetic.vcf.gz"
    options = ("--cores", 1, "--configfile", "config.yaml", "--rerun-incomplete")
    with open(workspace / "first.log", "w") as log:
        process = subprocess.Popen(
            snakemake(workspace, environment, *options), stdout=log, stderr=log, env=environment, cwd=workspace,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 600
        while not any((workspace / "out" / "windows").glob("short/*/*/synthetic.vcf.gz.tbi")):
            assert process.poll() is None, (workspace / "first.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in (workspace / "out").rglob("*.vcf.gz")}
    finished = done((workspace / "first.log").read_text())
    assert finished >= 4
    again = start(workspace, environment, "--unlock", *options)
    assert again.returncode == 0, again.stderr
    again = start(workspace, environment, *options)
    assert again.returncode == 0, again.stderr
    # 2 surveys, people; 4 windows fitted and sampled; 2 × gather, 4 × split, 2 × judge; sheet, genome, all.
    total = 2 + 1 + 4 + 4 + 2 + 4 + 2 + 3
    # The file that was seen when the run was killed may not have been noted as finished.
    assert total - finished - 1 <= done(again.stderr) <= total - finished + 1
    lost = [path for path, stamp in before.items() if path.stat().st_mtime_ns != stamp]
    assert len(lost) <= 1, lost
    assert first.exists()
    third = start(workspace, environment, *options)
    assert "Nothing to be done" in third.stderr


@pytest.mark.slow
def test_everybody_is_the_same_person_on_every_chromosome(workspace: Path, environment: dict[str, str]) -> None:
    """Runs after the test above, on what it left; by itself it runs the workflow."""
    run = start(workspace, environment, "--cores", 1, "--configfile", "config.yaml", "--rerun-incomplete")
    assert run.returncode == 0, run.stderr
    out = workspace / "out"
    people = pd.read_csv(out / "people" / "people.tsv", sep="\t")
    assert len(people) == 40
    for name in ("21", "22"):
        vcf = out / "chromosomes" / "short" / name / "synthetic.vcf.gz"
        query = subprocess.run(["bcftools", "query", "-l", vcf], capture_output=True, text=True, check=True)
        assert query.stdout.split() == people["sample"].tolist()
        counted = subprocess.run(["bcftools", "index", "--nrecords", vcf], capture_output=True, text=True, check=True)
        assert int(counted.stdout) == 90
        for panel in (out / "windows" / "short" / name).glob("*/synthetic.panel.tsv"):
            assert pd.read_csv(panel, sep="\t")["label"].tolist() == people["group"].tolist()
        windows = pd.read_csv(out / "survey" / name / "windows.tsv", sep="\t")
        assert len(windows) == 2
    # The windows are drawn with seeds of their own: equal ones would make them alike.
    seeds = {line for log in (out / "windows").glob("short/*/*/synthetic.provenance.json")
             for line in log.read_text().splitlines() if line.startswith('  "seed"')}  # fmt: skip
    assert len(seeds) == 4
    metrics = pd.read_csv(out / "genome" / "short" / "metrics.csv")
    assert {"chromosomes_dimensions", "af_mae", "membership_auc"} <= set(metrics["metric"])
    assert (out / "genome" / "short" / "report.html").stat().st_size > 10_000
    benchmarks = list((out / "benchmarks").rglob("*.tsv"))
    assert len(benchmarks) >= 18
    assert "max_rss" in benchmarks[0].read_text()


@pytest.mark.slow
def test_the_judgement_alone(workspace: Path, environment: dict[str, str]) -> None:
    """Somebody else's people: here a bootstrap of the real ones, by name of the files alone."""
    vcfs = {name: workspace / f"{name}.vcf.gz" for name in ("21", "22")}
    names = People(n=60).names
    sides = {"synthetic": names[:20], "train": names[20:40], "holdout": names[40:]}
    chromosomes: dict[str, dict[str, str]] = {}
    for name, vcf in vcfs.items():
        for side, who in sides.items():
            path = workspace / f"{side}{name}.vcf.gz"
            subprocess.run(["bcftools", "view", "-s", ",".join(who), "-Oz", "-o", path, vcf], check=True)
            chromosomes.setdefault(name, {})[side] = path.name
    (workspace / "judge.yaml").write_text(yaml.safe_dump({"output": "alone", "chromosomes": chromosomes}))
    run = start(workspace, environment, "--cores", 1, "--configfile", "judge.yaml", snakefile="evaluate.smk")
    assert run.returncode == 0, run.stderr
    assert done(run.stderr) == 5
    assert (workspace / "alone" / "genome" / "report.html").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runs": {"a b": {}}}, ["runs: 'a b'"]),
        ({"runs": {"x": {"preset": "quick"}}}, ["runs/x/preset: 'quick' is not one of ['fast', 'balanced', 'best']"]),
        ({"holdout": 2, "seeed": 1}, ["holdout: 2 is", "'seeed' was unexpected"]),
        ({"chromosomes": {}}, ["chromosomes:"]),
        ({"chromosomes": {"1": {}}}, ["chromosomes/1: vcf is missing"]),
        ({"chromosomes": {1: {"vcf": "a.vcf"}, "1": {"vcf": "b.vcf"}}}, ["chromosomes: 1 is given twice"]),
        ({"people": {"labels": {False: 3}}}, ["people/labels: False is no text: put the name in quotes"]),
        (
            {"chromosomes": {"1": {"vcf": "x.vcf", "region": 1}}},
            ["region: 1 is not of type 'string': put it in quotes"],
        ),
        ({"holdout": 0.3, "holdout_samples": "h"}, ["configuration: give holdout or holdout_samples, not both"]),
        ({"people": {"labels": {"A": 3}}}, ["people/labels counts people by labels of a panel, so give panel"]),
        ({"panel_column": "pop"}, ["panel_column names a column of a panel, so give panel"]),
        ({"panel": "p", "people": {"labels": {"A": 3}, "samples": 3}}, ["people: give samples or labels, not both"]),
        (
            {"panel": "p", "holdout_samples": "h", "chromosomes": {1: {"vcf": "y.vcf", "map": "m"}}},
            ["/p does not exist", "/h does not exist", "chromosomes/1/vcf: /", "chromosomes/1/map: /"],
        ),
        ({"chromosomes": {"X": {"vcf": "x.vcf"}}}, ["chromosomes/X: X is not read here", "x.vcf does not exist"]),
        ({"chromosomes": {"a": {}}, "download": {}}, ["chromosomes/a: only 1 to 22 are downloaded"]),
        (
            {"chromosomes": {"a": {"vcf": "c.yaml"}, "b": {"vcf": "c.yaml"}}},
            ["chromosomes/b: the same file and region as of a"],
        ),
    ],
)
def test_a_bad_configuration_is_refused_a_line_a_fault(
    tmp_path: Path, environment: dict[str, str], change: dict[str, object], words: list[str]
) -> None:
    configuration = {"chromosomes": {"1": {"vcf": "x.vcf"}}, **change}
    faults = refused_faults(tmp_path, environment, configuration)
    assert len(faults) == len(words)
    for line, word in zip(sorted(faults, key=lambda text: "unexpected" in text), words, strict=True):
        assert word in line


def refused_faults(
    folder: Path, environment: dict[str, str], configuration: dict[str, object], snakefile: str = "Snakefile"
) -> list[str]:
    """The lines in which a configuration is refused."""
    (folder / "c.yaml").write_text(yaml.safe_dump(configuration))
    run = start(folder, environment, "-n", "--configfile", "c.yaml", snakefile=snakefile)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    return [line for line in run.stderr.splitlines() if line.startswith("workflow: ")]


@pytest.mark.parametrize("name", ["X", "chrX", "Y", "MT", "chrM"])
def test_chromosomes_of_one_copy_are_refused(tmp_path: Path, environment: dict[str, str], name: str) -> None:
    (tmp_path / "x.vcf").touch()
    for chromosomes in ({name: {"vcf": "x.vcf"}}, {"a": {"vcf": "x.vcf", "region": f"{name}:1-9"}}):
        (fault,) = refused_faults(tmp_path, environment, {"chromosomes": chromosomes})
        assert ("genodiff synthesize --sex" if "X" in name else "leave it out") in fault
    (fault,) = refused_faults(tmp_path, environment, {"chromosomes": {"chrX": {}}, "download": {}})
    assert "genodiff synthesize --sex" in fault


def test_the_judgement_alone_refuses_what_it_cannot_read(tmp_path: Path, environment: dict[str, str]) -> None:
    three = {"synthetic": "s.vcf", "train": "t.vcf", "holdout": "h.vcf", "map": "m"}
    configuration: dict[str, object] = {
        "synthetic_panel": "p",
        "chromosomes": {22: three, "X": {**three, "train": "x.vcf"}},
    }
    faults = refused_faults(tmp_path, environment, configuration, snakefile="evaluate.smk")
    assert "chromosomes/X: X is not read here" in faults[0]
    assert "genodiff evaluate --sex" in faults[0]
    assert "synthetic_panel" in faults[1]
    assert [fault.split(":")[1].strip() for fault in faults[2:]] == [
        f"chromosomes/{chromosome}/{name}"
        for chromosome in ("22", "X")
        for name in ("synthetic", "train", "holdout", "map")
    ]


def test_numbers_are_names_of_chromosomes_runs_and_labels(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("c22.vcf", "panel.tsv"):
        (tmp_path / name).touch()
    configuration = {
        "panel": "panel.tsv",
        "people": {"labels": {7: 30}},
        "chromosomes": {22: {"vcf": "c22.vcf"}},
        "runs": {1: {"preset": "fast"}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(configuration))
    run = start(tmp_path, environment, "-n", "-p", "--configfile", "c.yaml")
    assert run.returncode == 0, run.stderr
    assert "survey/22" in run.stdout + run.stderr
    assert "--labels 7=30" in run.stdout + run.stderr


def test_the_example_is_planned_for_one_machine_and_for_slurm(tmp_path: Path, environment: dict[str, str]) -> None:
    local = start(tmp_path, environment, "-n", "--workflow-profile", WORKFLOWS / "profiles" / "local")
    assert local.returncode == 0, local.stderr
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install snakemake-executor-plugin-slurm")
    slurm = start(tmp_path, environment, "-n", "--workflow-profile", WORKFLOWS / "profiles" / "slurm")
    assert slurm.returncode == 0, slurm.stderr
    for text in (local.stdout + local.stderr, slurm.stdout + slurm.stderr):
        assert "survey" in text
        assert "compare" in text
    assert "slurm_partition" in slurm.stdout + slurm.stderr


def served(folder: Path) -> tuple[str, str]:
    """The address of a chromosome in a local copy of the release, and its checksum."""
    name = "ALL.chr22.phase3_shapeit2_mvncall_integrated_v5b.20130502.genotypes.vcf.gz"
    release = folder / "ftp" / "release" / "20130502"
    release.mkdir(parents=True)
    plain = People(n=20, sites=10).write(folder)
    subprocess.run(["bcftools", "view", "-Oz", "-o", release / name, plain], check=True)
    return name, hashlib.md5((release / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("given", ["md5", "manifest"])
@pytest.mark.parametrize("right", [True, False])
def test_a_download_is_kept_only_with_the_right_checksum(
    tmp_path: Path, environment: dict[str, str], given: str, right: bool
) -> None:
    name, md5 = served(tmp_path)
    said = md5 if right else "0" * 32
    download: dict[str, object] = {"release": (tmp_path / "ftp" / "release" / "20130502").as_uri()}
    if given == "md5":
        download["md5"] = {name: said}
    else:
        tree = tmp_path / "ftp" / "current.tree"
        other = "f" * 32
        tree.write_text(
            f"ftp/release/20130502/{name}\tfile\t1\tThu May 2 2013\t{said}\nftp/old/{name}\tfile\t1\tThu\t{other}\n"
        )
        download["manifest"] = tree.as_uri()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"chromosomes": {"22": {}}, "download": download}))
    target = tmp_path / "results" / "download" / "chr22.vcf.gz"
    run = start(
        tmp_path, environment, "--cores", 1, "--configfile", "c.yaml", "--retries", 0, "results/download/chr22.vcf.gz"
    )
    assert (run.returncode == 0) == right, run.stderr
    assert target.exists() == right
    if right:
        assert hashlib.md5(target.read_bytes()).hexdigest() == md5
        assert target.with_name(target.name + ".tbi").exists()
    else:
        log = (tmp_path / "results" / "logs" / "download" / "22.log").read_text()
        assert f"has the MD5 {md5} where {said} is expected: it was not kept" in log
        assert [path.name for path in target.parent.glob("*")] in ([], ["manifest"])


def test_a_download_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    def fetch(*arguments: object) -> tuple[int, str]:
        run = subprocess.run([sys.executable, FETCH, *map(str, arguments)], capture_output=True, text=True, check=False)
        return run.returncode, run.stderr

    code, said = fetch((tmp_path / "absent").as_uri(), tmp_path / "x")
    assert code == 2
    assert said.startswith("fetch: ")
    assert "cannot be fetched" in said
    assert len(said.splitlines()) == 1
    file = tmp_path / "a.vcf"
    file.write_text("x")
    manifest = tmp_path / "manifest"
    manifest.write_text(f"{'0' * 32}  ./one/a.vcf\n{'1' * 32}  ./two/a.vcf\n")
    code, said = fetch(file.as_uri(), tmp_path / "x", "--manifest", manifest)
    assert (code, "2 different checksums for a.vcf" in said) == (2, True)
    manifest.write_text(f"{hashlib.md5(b'x').hexdigest()} *a.vcf\n")
    assert fetch(file.as_uri(), tmp_path / "x", "--manifest", manifest) == (0, "")
    assert (tmp_path / "x").read_text() == "x"
