"""Output files that are either whole or absent.

A file is written next to its destination under another name and moved there in one step, so that an interrupted run
never leaves half a report, model or table that looks like a finished one.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_text", "atomic_write", "current_umask", "sha256"]

_CHUNK = 1 << 20


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """A path to write to, in the folder of ``path``, that becomes ``path`` when the block ends without an exception.

    The temporary name keeps the suffix, since several writers choose the format by it. The folder is created if absent.

    Args:
        path: destination; replaced if it exists.

    Yields:
        The temporary path: an empty file that exists.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp gives 0600; an output has the permissions of any file the user creates.
        temporary.chmod(0o666 & ~current_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def current_umask() -> int:
    """Permissions that new files of this process lack."""
    # The umask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def atomic_text(path: Path | str, text: str) -> Path:
    """Write ``text`` as UTF-8 to ``path`` in one step and return the path."""
    path = Path(path)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def sha256(path: Path | str) -> str:
    """SHA-256 of a file in hexadecimal, read in chunks so that its size does not matter."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
