"""Provenance and the files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from genodiff.files import atomic_text, atomic_write, sha256
from genodiff.provenance import Provenance, package_versions, peak_memory_mb


@dataclass(frozen=True)
class Options:
    maf: float
    out: Path


def test_provenance_gathers_and_writes_json(tmp_path: Path) -> None:
    source = tmp_path / "a.vcf.gz"
    source.write_bytes(b"genotypes")
    provenance = Provenance(
        command=("genodiff", "synthesize", "a.vcf.gz"),
        seed=np.int64(7),  # type: ignore[arg-type]
        configuration={
            "options": Options(maf=0.01, out=Path("out")),
            "shape": (2, np.float32(0.5)),
            "bad": float("nan"),
        },
        device="cpu",
    )
    provenance.add_input(source, role="genotypes")
    provenance.record("filters", {"multi-allelic": np.int64(3)})
    with provenance.stage("fit"):
        pass
    with provenance.stage("fit"):
        pass
    written = json.loads(provenance.write(tmp_path / "out" / "provenance.json").read_text())
    assert written["command"] == ["genodiff", "synthesize", "a.vcf.gz"]
    assert written["seed"] == 7
    assert written["configuration"] == {"options": {"maf": 0.01, "out": "out"}, "shape": [2, 0.5], "bad": "nan"}
    assert written["inputs"][str(source)] == {
        "role": "genotypes",
        "bytes": 9,
        "sha256": hashlib.sha256(b"genotypes").hexdigest(),
    }
    assert written["filters"] == {"multi-allelic": 3}
    assert list(written["seconds"]) == ["fit"]
    assert written["seconds"]["fit"] >= 0
    assert written["packages"]["numpy"] == np.__version__
    assert written["started"].endswith("+00:00")


def test_a_stage_is_timed_even_where_it_fails() -> None:
    provenance = Provenance(command=())
    with pytest.raises(ZeroDivisionError), provenance.stage("fit"):
        _ = 1 / 0
    assert "fit" in provenance.to_dict()["seconds"]


def test_a_fact_cannot_hide_what_provenance_says_itself() -> None:
    provenance = Provenance(command=(), facts={})
    with pytest.raises(ValueError, match="'seed'"):
        provenance.record("seed", 3)


def test_absent_packages_are_left_out() -> None:
    assert package_versions(("numpy", "no-such-package-at-all")) == {"numpy": np.__version__}


def test_peak_memory_is_in_megabytes() -> None:
    code = "from genodiff.provenance import peak_memory_mb as p; a = p(); x = bytearray(10**8); print(a, p())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, run.stdout.split())
    # bytearray(n) may stay untouched by calloc, so only the order of magnitude of the start is certain.
    assert 1 < before < 500
    assert before <= after < 700
    assert (peak_memory_mb() or 2) > 1


def test_sha256_reads_across_chunks(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(data)
    assert sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_atomic_write_leaves_nothing_behind_on_failure(tmp_path: Path) -> None:
    target = atomic_text(tmp_path / "deep" / "report.html", "old – ü")
    seen: list[Path] = []

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            seen.append(temporary)
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert seen[0].suffix == ".html"
    assert target.read_text(encoding="utf-8") == "old – ü"
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_atomic_write_uses_the_ordinary_permissions(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    assert atomic_text(tmp_path / "a", "x").stat().st_mode == ordinary.stat().st_mode
