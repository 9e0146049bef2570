"""What a file is, by its first bytes, and whether it is whole.

Extensions lie and htslib is lenient: it prints a warning and stops early where a compressed file was cut. Everything is
therefore opened here first, and a file that cannot be read to its end is refused before anything is computed from it.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from isal import igzip, isal_zlib

from data_prep.errors import InputError

__all__ = [
    "DAMAGED",
    "FileKind",
    "check_whole",
    "damaged",
    "is_stream",
    "iter_text_lines",
    "open_binary",
    "read_text",
    "require_file",
    "sniff",
]

FileKind = Literal["text", "bgzf", "gzip", "bcf"]

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that closes every BGZF file."""

DAMAGED: tuple[type[Exception], ...] = (EOFError, zlib.error, isal_zlib.error, OSError)  # type: ignore[assignment]
"""What a decompressor raises on a damaged file."""


def require_file(path: str | os.PathLike[str], *, what: str = "file") -> Path:
    """The path of a regular, readable, non-empty file.

    Raises:
        InputError: nothing is there, it is a directory or a pipe, it may not be read, or it is empty.
    """
    p = Path(path)
    try:
        if is_stream(p):
            raise InputError(f"{p} is a pipe or device, which is not read: write the {what} to disk and name that")
        if p.is_dir():
            raise InputError(f"{p} is a directory: give the {what} itself")
        if not p.exists():
            raise InputError(f"{p} does not exist: check the path of the {what}")
        with p.open("rb") as handle:
            if not handle.read(1):
                raise InputError(f"{p} is empty: give a {what} with content")
    except (OSError, ValueError) as error:
        raise InputError(f"{p} cannot be read ({_reason(error)}): check the path of the {what}") from error
    return p


def is_stream(path: Path) -> bool:
    """Whether a path is ``-``, a pipe or a device, which cannot be read twice or replaced as a whole."""
    if str(path) == "-":
        return True
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def sniff(path: Path) -> FileKind:
    """The container of a file: plain text, BGZF, other gzip, or BCF.

    Raises:
        InputError: BCF without compression, which carries no checksums: a damaged one can crash the parser.
    """
    with path.open("rb") as handle:
        head = handle.read(18)
    if head[:3] == b"BCF":
        raise InputError(f"{path} is uncompressed BCF, which is not supported: compress it with 'bcftools view -Ob'")
    if head[:2] != b"\x1f\x8b":
        return "text"
    bgzf = len(head) >= 16 and head[3] & 4 and head[12:14] == b"BC"
    with open_binary(path) as stream:
        try:
            if stream.read(3) == b"BCF":
                return "bcf"
        except DAMAGED as error:
            raise InputError(damaged(path, error)) from error
    return "bgzf" if bgzf else "gzip"


@contextlib.contextmanager
def open_binary(path: Path, offset: int = 0) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a plain, gzip or BGZF file.

    Args:
        path: the file.
        offset: where to begin in the compressed file; a gzip member (a BGZF block) must begin there.
    """
    with path.open("rb") as handle:
        compressed = handle.read(2) == b"\x1f\x8b"
        handle.seek(offset)
        if not compressed:
            yield handle
            return
        with igzip.IGzipFile(fileobj=handle, mode="rb") as stream:
            # IGzipFile reads lines byte by byte; the buffer makes them cheap.
            yield io.BufferedReader(stream, 1 << 16)


def check_whole(path: Path, kind: FileKind) -> None:
    """Refuse a compressed file that was cut short or damaged at its end.

    BGZF announces its end, so its last bytes suffice (damage inside is met while reading). Other gzip files have no
    such marker and are decompressed once.

    Raises:
        InputError: the file is truncated or corrupt.
    """
    with path.open("rb") as handle:
        compressed = handle.read(2) == b"\x1f\x8b"
        if not compressed:
            return
        if kind != "gzip":
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - len(BGZF_EOF)))
            if handle.read() != BGZF_EOF:
                raise InputError(
                    f"{path} is truncated: its BGZF end-of-file block is absent; copy or download the file again"
                )
            return
    try:
        with open_binary(path) as stream:
            while stream.read(1 << 22):
                pass
    except DAMAGED as error:
        raise InputError(damaged(path, error)) from error


def damaged(path: Path, error: Exception) -> str:
    """The message for a compressed file that failed with one of :data:`DAMAGED`."""
    state = "truncated" if isinstance(error, EOFError) else "corrupt"
    return f"{path} is {state} gzip ({_reason(error)}): copy or download the file again"


def iter_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of every line, decompressed, without the line end.

    Bytes that are not UTF-8 are replaced, so that they fail where the line is understood and not here.

    Raises:
        InputError: truncated or corrupt gzip.
    """
    with open_binary(path) as stream:
        number = 0
        while True:
            try:
                line = stream.readline()
            except DAMAGED as error:
                raise InputError(damaged(path, error)) from error
            if not line:
                return
            number += 1
            yield number, line.decode("utf-8", errors="replace").rstrip("\r\n")


def read_text(path: str | os.PathLike[str], *, what: str) -> list[tuple[int, str]]:
    """Numbered lines of a small text file (plain or gzip), without blank lines.

    Raises:
        InputError: the file is missing, empty, binary or damaged.
    """
    p = require_file(path, what=what)
    lines = [(n, line) for n, line in iter_text_lines(p) if line.strip()]
    if not lines:
        raise InputError(f"{p} is empty: give a {what} with content")
    if "\x00" in lines[0][1] or "\ufffd" in lines[0][1]:
        raise InputError(f"{p} is not text: give a {what}")
    if lines[0][1].startswith("\ufeff"):
        lines[0] = (lines[0][0], lines[0][1][1:])
    return lines
