"""Costs are those of one call in a process of its own, and code is known by what it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import GenodiffError, InputError
from genodiff.reproduce.costs import code_digest, measured


def hold(megabytes: int) -> tuple[int, int]:
    """Which process, and the sum of an array of so many megabytes."""
    return os.getpid(), int(np.ones(megabytes * 125_000, dtype=np.int64).sum())


def refuse() -> None:
    raise InputError("file.vcf: mend it")


def die() -> None:
    os._exit(9)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory of a process is read from /proc")
def test_memory_is_that_of_one_call_and_not_of_those_before() -> None:
    own = np.ones(60_000_000)  # 480 MB that must not count
    (process, total), large = measured(hold, 400)
    _, light = measured(hold, 1)
    assert process != os.getpid()
    assert total == 50_000_000
    assert own.nbytes == 480_000_000
    assert 370 < large.megabytes - light.megabytes < 430
    assert large.seconds > 0


def test_errors_cross_the_border_and_a_killed_process_is_named() -> None:
    with pytest.raises(InputError, match=r"^file\.vcf: mend it$"):
        measured(refuse)
    with pytest.raises(GenodiffError, match="die was ended from outside"):
        measured(die)


def test_the_digest_is_of_code_and_not_of_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text('"""Words."""\nX = 1\n"""More words."""\n')
    inner = package / "inner.py"
    inner.write_text('def f(x):\n    """Words."""\n    return x + 1  # a comment\n')
    first = code_digest("some_package")
    inner.write_text("def f(x):\n\n    return x + 1\n")
    assert code_digest("some_package") == first
    inner.write_text("def f(x):\n    return x + 2\n")
    assert code_digest("some_package") != first
    assert code_digest("some_package.inner") != code_digest("some_package")
    with pytest.raises(ValueError, match="no module"):
        code_digest("not_a_package")
