"""Training that is killed, diverges or runs out of disk: what is kept, and that the same command goes on from it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from genodiff.genotypes import config
from genodiff.genotypes.engine import AlleleProblem, Engine
from genodiff.staging import drafted
from tests.commands import TINY, TRAINING, People, assert_refusal, run, shell, succeed, tree

HIDDEN = ".model.partial"

KILLED = """
import os, signal, sys
import torch
from genodiff.genotypes import config
from genodiff.genotypes.engine import AlleleProblem, Engine
from tests.commands import TINY

config.PRESETS["fast"] = TINY
true_loss, calls = AlleleProblem.loss, 0

def loss(self, generator, workers):
    global calls
    calls += 1
    if calls == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    return true_loss(self, generator, workers)

AlleleProblem.loss = loss
from genodiff.cli import main
main()
"""


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return People().write(tmp_path)


@pytest.fixture
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny: None) -> dict[str, str]:
    """Digests of the model that the same command gives when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("whole")
    succeed("fit", People().write(folder), "-o", folder / "model", *TRAINING)
    return digests(folder / "model")


def digests(model: Path) -> dict[str, str]:
    return json.loads((model / "model.json").read_text())["sha256"]


def steps_in(checkpoint: Path) -> int:
    """Steps taken in a checkpoint whose numbers are all finite."""
    with safe_open(checkpoint, framework="pt") as handle:
        assert all(torch.isfinite(handle.get_tensor(key)).all() for key in handle.keys())  # noqa: SIM118 - not a dict
        return json.loads(handle.metadata()["state"])["steps"]


def patch_loss(patch: pytest.MonkeyPatch, change: Callable[[int, torch.Tensor], torch.Tensor]) -> list[int]:
    """``change`` receives the number of the call and the loss; returns a list that grows with every call."""
    true_loss = AlleleProblem.loss
    calls: list[int] = []

    def loss(self: AlleleProblem, *arguments: Any) -> torch.Tensor:
        calls.append(len(calls) + 1)
        return change(len(calls), true_loss(self, *arguments))

    patch.setattr(AlleleProblem, "loss", loss)
    return calls


def test_killed_training_goes_on_to_the_same_model(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, str]
) -> None:
    command = ("fit", people, "-o", tmp_path / "model", *TRAINING)
    killed = shell(*command, code=KILLED)
    assert killed.returncode == -signal.SIGKILL
    assert tree(tmp_path) == {"people.vcf", HIDDEN, f"{HIDDEN}/checkpoint.safetensors", f"{HIDDEN}/lock"}
    assert steps_in(tmp_path / HIDDEN / "checkpoint.safetensors") == 13
    # What else a kill can leave: a checkpoint that was being written, half a model.
    (tmp_path / HIDDEN / "checkpoint.safetensors.tmp").write_bytes(b"half")
    (tmp_path / HIDDEN / "model").mkdir()
    calls = patch_loss(monkeypatch, lambda _, loss: loss)
    succeed(*command)
    assert len(calls) == TINY.training.steps - 13
    assert digests(tmp_path / "model") == uninterrupted
    assert tree(tmp_path) == {
        "people.vcf",
        "model",
        *(f"model/{n}" for n in (*uninterrupted, "model.json", "provenance.json")),
    }


@pytest.mark.parametrize("change", ["seed", "people", "steps"])
def test_a_checkpoint_of_another_run_is_not_used(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None, change: str
) -> None:
    command = ["fit", people, "-o", tmp_path / "model", *TRAINING]
    with monkeypatch.context() as patch:
        patch_loss(patch, lambda k, loss: loss * float("nan") if k == 9 else loss)
        assert run(*command).exit_code == 2
    if change == "people":
        People(seed=6).write(tmp_path)
    else:
        command += ["--seed", "2"] if change == "seed" else ["--steps", "20"]
    calls = patch_loss(monkeypatch, lambda _, loss: loss)
    succeed(*command)
    assert len(calls) == (20 if change == "steps" else 30)


def test_a_damaged_checkpoint_is_put_aside(people: Path, tmp_path: Path, uninterrupted: dict[str, str]) -> None:
    (tmp_path / HIDDEN).mkdir()
    (tmp_path / HIDDEN / "checkpoint.safetensors").write_bytes(b"\x08" + bytes(40))
    succeed("fit", people, "-o", tmp_path / "model", *TRAINING)
    assert digests(tmp_path / "model") == uninterrupted


@pytest.mark.parametrize("spoil", ["loss", "gradient"])
def test_a_loss_that_is_not_a_number_stops_training(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dict[str, str], spoil: str
) -> None:
    command = ("fit", people, "-o", tmp_path / "model", *TRAINING)

    def change(k: int, loss: torch.Tensor) -> torch.Tensor:
        if k < 9:
            return loss
        # (x - x).sqrt() is 0 with an infinite slope.
        return loss * float("nan") if spoil == "loss" else loss + (loss - loss.detach()).abs().sqrt()

    with monkeypatch.context() as patch:
        patch_loss(patch, change)
        result = run(*command)
    kept = tmp_path / HIDDEN / "checkpoint.safetensors"
    assert_refusal(result.exit_code, result.stderr, spoil, "nan", "at step 9", "last good state", kept)
    assert tree(tmp_path) == {"people.vcf", HIDDEN, f"{HIDDEN}/checkpoint.safetensors"}
    assert steps_in(kept) == 8
    succeed(*command)
    assert digests(tmp_path / "model") == uninterrupted


def test_a_failure_before_the_first_checkpoint_leaves_nothing(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None
) -> None:
    patch_loss(monkeypatch, lambda _, loss: loss * float("inf"))
    result = run("synthesize", people, "-o", tmp_path / "new" / "out", *TRAINING)
    assert_refusal(result.exit_code, result.stderr, "loss became inf at step 1")
    assert tree(tmp_path) == {"people.vcf"}


def test_a_full_disk_after_training_costs_no_training(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None
) -> None:
    import data_prep.vcf_write

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    command = ("synthesize", people, "-o", tmp_path / "out", "-n", "20", *TRAINING)
    with monkeypatch.context() as patch:
        patch.setattr(data_prep.vcf_write._Bgzf, "write", full)
        draws = count_draws(patch)
        result = run(*command)
    assert draws
    assert_refusal(result.exit_code, result.stderr, "synthetic.vcf.gz", "No space left on device", "free space")
    assert not (tmp_path / "out").exists()
    calls, draws = patch_loss(monkeypatch, lambda _, loss: loss), count_draws(monkeypatch)
    succeed(*command)
    assert not calls
    assert not draws
    assert {name for name in tree(tmp_path) if "/" not in name} == {"people.vcf", "out"}
    assert not (tmp_path / "out" / "drafts").exists()


SAMPLE_KILLED = """
import os, signal
from genodiff.genotypes import model
from genodiff.genotypes.engine import Engine

model._SAMPLE_ROWS = 16
true_sample, calls = Engine.sample, 0

def sample(self, *arguments, **given):
    global calls
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return true_sample(self, *arguments, **given)

Engine.sample = sample
from genodiff.cli import main
main()
"""


def count_draws(patch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every batch of people that is drawn."""
    calls, true_sample = [], Engine.sample

    def counted(self: Engine, *arguments: Any, **given: Any) -> torch.Tensor:
        calls.append(1)
        return true_sample(self, *arguments, **given)

    patch.setattr(Engine, "sample", counted)
    return calls


@pytest.mark.parametrize("again", ["alike", "damaged", "of another seed", "of other people", "of another model"])
def test_killed_drawing_goes_on_to_the_same_people(
    fitted: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None, again: str
) -> None:
    monkeypatch.setattr("genodiff.genotypes.model._SAMPLE_ROWS", 16)
    killed = shell(
        "sample", fitted, "-n", "24", "--seed", "3", "--threads", "1", "-o", tmp_path / "s.vcf", code=SAMPLE_KILLED
    )
    assert killed.returncode == -signal.SIGKILL
    left = sorted(name for name in tree(tmp_path) if name.startswith(".s.drafts/") and name.endswith(".npy"))
    assert len(left) == 2
    model, n, seed, drawn = fitted, "24", "3", 3
    if again == "alike":
        drawn = 1
    elif again == "damaged":
        (tmp_path / left[0]).write_bytes(b"")
        (tmp_path / left[1]).write_bytes((tmp_path / left[1]).read_bytes()[:150])
    elif again == "of another seed":
        seed = "4"
    elif again == "of other people":
        n, drawn = "16", 2
    else:
        succeed("fit", people, "-o", tmp_path / "other", *TRAINING, "--steps", "3")
        model = tmp_path / "other"
    command = ("sample", model, "-n", n, "--seed", seed, "--threads", "1", "-o")
    succeed(*command, tmp_path / "whole.vcf")
    calls = count_draws(monkeypatch)
    succeed(*command, tmp_path / "s.vcf")
    assert len(calls) == drawn
    assert (tmp_path / "s.vcf").read_text() == (tmp_path / "whole.vcf").read_text()
    assert not any("drafts" in name for name in tree(tmp_path))


def test_two_runs_do_not_draw_into_one_file(fitted: Path, tmp_path: Path) -> None:
    with drafted(tmp_path / "s.vcf.gz"):
        result = run("sample", fitted, "-n", "4", "-o", tmp_path / "s.vcf")
    assert_refusal(result.exit_code, result.stderr, "s.vcf", "another run")
    assert not tree(tmp_path)


def test_interrupted_before_anybody_was_drawn_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), drafted(tmp_path / "new" / "s.vcf"):
        raise KeyboardInterrupt
    assert not tree(tmp_path)


def limit(size: int) -> Callable[[], None]:
    """Files of a child process cannot grow beyond ``size`` bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_files_that_cannot_grow(fitted: Path, people: Path, tmp_path: Path) -> None:
    """A real failure of the system: in drafts and VCF of ``sample`` and in the checkpoint of ``fit``."""
    before = tree(tmp_path)
    for people_asked, where in (("3000", ".s.drafts"), ("100", "s.vcf")):
        command = ("sample", fitted, "-n", people_asked, "-o", tmp_path / "new" / "s.vcf", "--threads", "1")
        done = shell(*command, before=limit(20000))
        assert_refusal(done.returncode, done.stderr, where, "cannot be written", "free space")
        assert tree(tmp_path) == before
    code = KILLED.replace("calls == 14", "False")
    done = shell("fit", people, "-o", tmp_path / "model", *TRAINING, code=code, before=limit(20000))
    assert_refusal(done.returncode, done.stderr, "checkpoint cannot be written", "free space")
    assert tree(tmp_path) == before


def test_a_place_that_was_taken_during_training_is_spared(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None
) -> None:
    mine = tmp_path / "model"

    def take(_: int, loss: torch.Tensor) -> torch.Tensor:
        mine.mkdir(exist_ok=True)
        (mine / "notes.txt").write_text("mine")
        return loss

    with monkeypatch.context() as patch:
        patch_loss(patch, take)
        result = run("fit", people, "-o", mine, *TRAINING)
    assert_refusal(result.exit_code, result.stderr, "model exists", "another -o")
    assert tree(mine) == {"notes.txt"}
    (mine / "notes.txt").unlink()
    mine.rmdir()
    calls = patch_loss(monkeypatch, lambda _, loss: loss)
    succeed("fit", people, "-o", mine, *TRAINING)
    assert not calls


def test_no_training_at_all(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a step there is no checkpoint and no history, and the report says so rather than fail."""
    monkeypatch.setitem(config.PRESETS, "fast", replace(TINY, training=replace(TINY.training, steps=0)))
    succeed("synthesize", people, "-o", tmp_path / "out", "-n", "20", *TRAINING)
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["model"]["training_steps"] == 0
