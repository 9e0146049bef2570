"""docs/tutorial.md does what it says: its blocks run in order, in one folder, and print what stands below them."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"


@dataclass(frozen=True)
class Block:
    """A fenced block: the language after its fence, its text, and the line it begins in."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """All fenced blocks.

    Raises:
        ValueError: a fence that is not closed.
    """
    found: list[Block] = []
    opened: tuple[str, int] | None = None
    lines: list[str] = []
    for number, line in enumerate(markdown.splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence and opened is None:
            opened, lines = (fence[1], number), []
        elif fence and opened is not None:
            found.append(Block(opened[0], "".join(f"{text}\n" for text in lines), opened[1]))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"the fence in line {opened[1]} is not closed")
    return found


def agrees(wanted: str, got: str) -> bool:
    """Whether an output is as it is printed: ``...`` stands for anything, blanks for any number of blanks."""
    return doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def test_blocks_are_found() -> None:
    assert blocks("a\n```sh\nls\n```\nb\n```\nc\n\nd\n```\n") == [Block("sh", "ls\n", 2), Block("", "c\n\nd\n", 6)]
    with pytest.raises(ValueError, match="line 2 is not closed"):
        blocks("a\n```sh\nls\n")


def test_another_output_is_seen() -> None:
    assert agrees("a ... c\n", "a   b\nc\n")
    assert not agrees("a ... c\n", "a b\n")


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python blocks share their names, as in a notebook; the others are read by a shell that stops at an error."""
    programs, work = tmp_path / "bin", tmp_path / "work"
    for folder in (programs, work):
        folder.mkdir()
    for name, arguments in (("genodiff", "-m genodiff "), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    names: dict[str, Any] = {}
    output, last, ran = "", 0, 0
    for block in blocks(TUTORIAL.read_text(encoding="utf-8")):
        if block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, f"{TUTORIAL.name}, line {block.line}", "exec"), names)
            output = printed.getvalue()
        elif block.language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text], capture_output=True, text=True, check=False, timeout=900
            )
            assert done.returncode == 0, f"line {block.line}: {done.stderr}"
            output = done.stdout
        else:
            assert block.language == "text", f"line {block.line}: a block of {block.language!r} is not run"
            assert agrees(block.text, output), f"after line {last}, printed is\n{output}"
            continue
        last, ran = block.line, ran + 1
    assert ran >= 8
