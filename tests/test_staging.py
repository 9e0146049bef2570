"""Two runs with one destination: the second is refused, whatever becomes of the first."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.errors import OutputError
from genodiff.staging import Staging
from tests.commands import ROOT, TRAINING, People, refused, succeed, tree

pytest.importorskip("fcntl", reason="files are not locked here")

HOLDER = """
import sys
from pathlib import Path
from genodiff.staging import Staging

with Staging(Path(sys.argv[1]), force=False, keep=True) as staging:
    (staging.path / "model").mkdir()
    staging.checkpoint.write_text("state")
    print("held", flush=True)
    if sys.stdin.readline().strip() == "fail":
        sys.exit(1)
    staging.finish()
"""


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def holder(destination: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, at work on ``destination``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(destination)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_second_run_is_refused_and_harms_nothing(tmp_path: Path, destination: Path, force: tuple[str, ...]) -> None:
    command = ("fit", People().write(tmp_path), "-o", destination, *TRAINING, *force)
    refused(tmp_path, *command, words=[destination, "another run is writing there", "another -o"])
    assert (tmp_path / ".model.partial" / "checkpoint.safetensors").read_text() == "state"


def test_a_killed_run_locks_nobody_out(
    tmp_path: Path, destination: Path, holder: subprocess.Popen[str], tiny: None
) -> None:
    holder.kill()
    assert holder.wait() == -signal.SIGKILL
    succeed("fit", People().write(tmp_path), "-o", destination, *TRAINING)
    assert {name for name in tree(tmp_path) if "/" not in name} == {"people.vcf", "model"}
    assert not (destination / "lock").exists()


def test_a_run_that_ends_gives_the_lock_back(tmp_path: Path, destination: Path, holder: subprocess.Popen[str]) -> None:
    holder.communicate("fail\n")
    assert tree(tmp_path) == {".model.partial", ".model.partial/checkpoint.safetensors", ".model.partial/model"}
    with Staging(destination, force=False, keep=True) as staging:
        staging.finish()
    assert tree(tmp_path) == {"model"}
    with Staging(destination, force=True) as staging:
        staging.discard()
    assert tree(tmp_path) == {"model"}
    with Staging(destination, force=True) as staging:
        staging.finish()


def test_a_finished_folder_holds_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.communicate("finish\n")
    assert holder.returncode == 0
    assert tree(tmp_path) == {"model", "model/model"}


def test_the_workers_of_one_run_share_its_folder(
    tmp_path: Path, destination: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    staging = Staging(destination, force=False, keep=True)
    assert staging.checkpoint.read_text() == "state"
    staging.checkpoint.unlink()
    before.remove(".model.partial/checkpoint.safetensors")
    staging.discard()
    assert tree(tmp_path) == before
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(OutputError, match="another run"):
        Staging(destination, force=False, keep=True)


def test_without_locks_a_run_goes_on(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no ``fcntl``; some network file systems refuse every lock."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError

    for patch in (lambda p: p.setitem(sys.modules, "fcntl", None), lambda p: p.setattr(fcntl, "flock", refuse)):
        with monkeypatch.context() as context:
            patch(context)
            with Staging(destination, force=True) as staging:
                staging.finish()
        assert tree(destination) == set()
