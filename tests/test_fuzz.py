"""Files that once crashed a command or left a traceback: every one is refused in one line, or read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT

FOUND = ROOT / "tests" / "data" / "fuzz"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="every case runs in a forked process")
def test_what_was_found_is_found_no_more(tmp_path: Path) -> None:
    files = [path for path in FOUND.iterdir() if "--" in path.name]
    assert len(files) > 15
    done = subprocess.run(
        [sys.executable, "benchmarks/fuzz.py", "--replay", str(FOUND), "-o", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(files)} replayed, 0 left" in done.stdout
