"""No file is large without a reason."""

from __future__ import annotations

from pathlib import PurePosixPath

from tests.test_architecture import ROOT, project_files

LIMIT = 1_000_000
"""Bytes; 1 MB."""

LARGE = {
    "imaging/weights/toad/*.safetensors": "networks the imaging tests and `imaging reproduce toad` start from; 1.5 MB "
    "each in half precision, hours of training to make again",
}
"""Patterns of files that may be larger, and why."""


def _may_be_large(name: str) -> bool:
    return any(PurePosixPath(name).match(pattern) for pattern in LARGE)


def test_no_file_is_large_without_a_reason() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in project_files()}
    large = {name: size for name, size in sizes.items() if size > LIMIT}
    assert not [f"{name}: {size:,} bytes" for name, size in large.items() if not _may_be_large(name)]
    unused = [p for p in LARGE if not any(PurePosixPath(name).match(p) for name in large)]
    assert not unused, "nothing is large there any more: take it off the list"
