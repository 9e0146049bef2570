"""Memory: what is needed beside what there is, and what is done about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data_prep.errors import InputError
from genodiff import memory, pipeline
from genodiff.errors import as_user_error
from genodiff.memory import available_bytes, needed_bytes, require_memory
from tests.commands import TRAINING, People, assert_refusal, run, tree


def test_more_people_sites_and_width_need_more() -> None:
    least = needed_bytes(people=100, sites=1000, width=32)
    assert least < needed_bytes(people=200, sites=1000, width=32) < needed_bytes(people=200, sites=2000, width=32)
    assert least < needed_bytes(people=100, sites=1000, width=64)
    assert least < needed_bytes(people=100, sites=1000, width=32, drawn=1000)


def test_available_is_what_the_tightest_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1e6 < (available_bytes() or 0) < 1e15
    monkeypatch.setattr(memory, "_of_groups", lambda: [3e9, 2e9])
    monkeypatch.setattr(memory, "_of_machine", lambda: 8e9)
    monkeypatch.setattr(memory, "_of_process", lambda: None)
    assert available_bytes() == 2e9
    for name in ("_of_machine", "_of_process"):
        monkeypatch.setattr(memory, name, lambda: None)
    monkeypatch.setattr(memory, "_of_groups", list)
    assert available_bytes() is None
    require_memory(1e18, what="all", remedies="none")  # nothing is known, nothing is refused


def test_far_too_little_is_refused_and_a_little_too_little_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 8e9)
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    require_memory(7.9e9, what="this", remedies="buy more")
    assert capsys.readouterr().err == ""
    require_memory(9e9, what="this", remedies="buy more")
    assert capsys.readouterr().err == "genodiff: warning: this needs about 9.0 GB, 8.0 GB available: buy more\n"
    with pytest.raises(InputError, match=r"this needs about 14 GB, 8\.0 GB available: buy more; or .*--ignore-memory"):
        require_memory(14e9, what="this", remedies="buy more")
    require_memory(14e9, what="this", remedies="buy more", anyway=True)
    assert "needs about 14 GB" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "synthesize"])
def test_the_commands_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None, command: str) -> None:
    people = People().write(tmp_path)
    for module in (memory, pipeline):
        monkeypatch.setattr(module, "available_bytes", lambda: 1e6)
    monkeypatch.setattr(memory, "_resident", lambda: 0.0)
    arguments = (command, people, "-o", tmp_path / "out", *TRAINING)
    result = run(*arguments)
    assert_refusal(
        result.exit_code, result.stderr, "40 people at 60 sites", "needs about", "--region", "--ignore-memory"
    )
    assert tree(tmp_path) == {"people.vcf"}
    if command == "fit":
        result = run(*arguments, "--ignore-memory")
        assert result.exit_code == 0
        assert result.stderr.startswith("genodiff: warning: learning from 40 people")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8. EiB for an array\nwith more below"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
    ],
)
def test_memory_that_ends_on_the_way_is_said_in_one_line(error: Exception) -> None:
    line = as_user_error(error)
    assert line is not None
    assert line.startswith("out of memory (")
    assert "--region" in line
    assert "\n" not in line


def test_another_error_of_torch_is_none_of_memory() -> None:
    assert as_user_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_torch_says_so_where_memory_is_refused() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert "out of memory" in str(as_user_error(caught.value))
