"""Wheel and source distribution: built without a network, complete, and at work outside the checkout."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, project_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="build is absent: pip install build"),
    pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="setuptools is absent"),
]

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PACKAGES = ("data_prep/", "genodiff/", "imaging/")
BESIDE = ("tests/", "docs/", "workflows/", "benchmarks/")
NOT_SHIPPED = (".gitignore", "docs/results/")


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """Names of the files of the project."""
    return [path.relative_to(ROOT).as_posix() for path in project_files()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, sources: list[str]) -> Path:
    """A folder with the source distribution of a copy of the checkout, and the wheel that is built from that."""
    folder = tmp_path_factory.mktemp("built")
    for name in sources:
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "copy" / name)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder / "copy"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_source_distribution_is_the_project(built: Path, sources: list[str]) -> None:
    with tarfile.open(built / f"genodiff-{VERSION}.tar.gz") as archive:
        found = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {name for name in sources if not name.startswith(NOT_SHIPPED)}
    assert wanted - found == set()
    assert not [name for name in found if name.startswith(NOT_SHIPPED) or name.endswith(".pyc")]


def test_the_wheel_is_the_packages_alone(built: Path, sources: list[str]) -> None:
    with zipfile.ZipFile(built / f"genodiff-{VERSION}-py3-none-any.whl") as archive:
        found = set(archive.namelist())
        licence = archive.read(f"genodiff-{VERSION}.dist-info/licenses/LICENSE")
        metadata = archive.read(f"genodiff-{VERSION}.dist-info/METADATA").decode()
    own = {name for name in found if not name.startswith(f"genodiff-{VERSION}.dist-info/")}
    assert own == {name for name in sources if name.startswith(PACKAGES)}
    assert {
        "genodiff/py.typed", "data_prep/py.typed", "imaging/py.typed", "genodiff/report/page.html",
        "genodiff/report/comparison.html", "genodiff/data/example.vcf.gz", "imaging/weights/toad/emoji-ani.safetensors",
    } <= own  # fmt: skip
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert "License-Expression: MIT" in metadata
    assert "Requires-Python: >=3.11" in metadata
    tried = [line.split(":: ")[-1] for line in metadata.splitlines() if line.startswith("Classifier: Programming")]
    assert tried == ["3", "Only", "3.11"]


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment with the wheel alone; this one lends what it needs, nothing is fetched."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    lent = sysconfig.get_path("purelib")
    where = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", where,
         built / f"genodiff-{VERSION}-py3-none-any.whl"],
        check=True, timeout=300,
    )  # fmt: skip
    # A line with a path is no package: the checkout this environment may know by a finder of its own stays unknown.
    (Path(where) / "lent.pth").write_text(f"{lent}\n")
    program = folder / "bin" / "genodiff"
    program.write_text(f"#!{folder / 'bin' / 'python'}\nfrom genodiff.cli import main\nmain(prog_name='genodiff')\n")
    program.chmod(0o755)
    return folder / "bin"


def outside(installed: Path, work: Path, *arguments: object) -> str:
    """Output of a program of the environment, in a folder that is no checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [installed / str(arguments[0]), *map(str, arguments[1:])],
        capture_output=True, text=True, check=False, timeout=300, cwd=work, env=kept | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.name == "nt", reason="environments have another layout on Windows")
def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import genodiff, data_prep, imaging; print(*(m.__file__ for m in (genodiff, data_prep, imaging)))"
    for place in outside(installed, tmp_path, "python", "-c", code).split():
        assert Path(place).is_relative_to(installed.parent)
    assert outside(installed, tmp_path, "genodiff", "--version").split()[-1] == VERSION
    code = "from importlib.resources import files; print(files('genodiff') / 'data' / 'example.vcf.gz')"
    example = outside(installed, tmp_path, "python", "-c", code).strip()
    assert Path(example).is_relative_to(installed.parent)
    assert "300" in outside(installed, tmp_path, "genodiff", "inspect", example).splitlines()[0]
    size = ("--people", "12", "--sites", "40")
    outside(installed, tmp_path, "genodiff", "simulate", "ld-blocks", *size, "-o", "people.vcf.gz")
    assert {path.name for path in tmp_path.iterdir()} == {"people.vcf.gz", "people.vcf.gz.tbi"}
    assert outside(installed, tmp_path, "genodiff", "imaging", "--help").startswith("Usage: genodiff imaging")
