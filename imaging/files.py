"""Outputs that are whole or absent: files moved into place in one step, folders that appear when all is done."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from imaging.errors import ImagingError

__all__ = ["MARK", "Output", "check_file", "drop_damaged", "writing"]

MARK = "imaging.json"
"""Name of the file by which a folder of results is known to be ours, and may be replaced."""

_CHECKPOINTS = "*checkpoint.safetensors"


def check_file(path: Path, *, force: bool = False) -> None:
    """Refuses a file that could not be written, before anything is spent on what it is to hold.

    Raises:
        ImagingError: ``path`` exists and ``force`` is false, is a folder, or cannot be written.
    """
    try:
        if path.is_dir() or (path.exists() and not force):
            what = "is a folder" if path.is_dir() else "exists"
            raise ImagingError(f"{path} {what}: choose another -o" + ", or replace it with --force" * path.is_file())
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise ImagingError(f"{path}: cannot be written (its folder is read-only): choose another -o")
    except OSError as error:
        raise ImagingError(f"{path}: cannot be written ({error.strerror}): choose another -o") from error


@contextmanager
def writing(path: Path, *, force: bool = False) -> Iterator[Path]:
    """A path beside ``path`` to write to, that becomes ``path`` when the block ends without an exception.

    Raises:
        ImagingError: ``path`` exists and ``force`` is false, or it cannot be written.
    """
    check_file(path, force=force)
    hidden: Path | None = None
    try:
        hidden = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.stem}-"))
        yield hidden / path.name
        # Some writers make files that only their owner may read.
        (hidden / path.name).chmod(0o666 & ~_umask())
        os.replace(hidden / path.name, path)
    except OSError as error:
        raise ImagingError(f"{path}: cannot be written ({error.strerror}): choose another -o") from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)


def _umask() -> int:
    """Permissions that new files of this process lack; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def drop_damaged(checkpoint: Path) -> None:
    """Removes a checkpoint that cannot be read, as a power cut can leave one: training then starts anew."""
    from safetensors import SafetensorError, safe_open

    try:
        if checkpoint.exists():
            with safe_open(checkpoint, framework="pt"):
                pass
    except SafetensorError:
        checkpoint.unlink(missing_ok=True)


class Output:
    """A folder of results: hidden while it is made, and in its place once :meth:`finish` has been called.

    As a context it is removed when the block fails, unless it holds a checkpoint for the same command to go on from.

    Args:
        destination: the folder to appear.
        force: replace a folder of results that is there.

    Raises:
        ImagingError: the folder exists, was not made by this program, or cannot be written.
    """

    def __init__(self, destination: Path, *, force: bool = False) -> None:
        self.destination = destination
        try:
            if destination.is_symlink():
                raise ImagingError(f"{destination} is a link: give the folder itself, or choose another -o")
            if destination.exists():
                if not force:
                    raise ImagingError(f"{destination} exists: choose another -o, or replace it with --force")
                if not (destination / MARK).is_file():
                    raise ImagingError(f"{destination} was not made by imaging: choose another -o")
            self.path = destination.absolute().with_name(f".{destination.absolute().name}.partial")
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImagingError(f"{destination}: cannot be written ({error.strerror}): choose another -o") from error
        for checkpoint in self._checkpoints():
            drop_damaged(checkpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not self._checkpoints():
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def checkpoint(self) -> Path:
        """Where training keeps its state."""
        return self.checkpoint_of("")

    def checkpoint_of(self, stage: str) -> Path:
        """Where one of several stages of training keeps its state."""
        return self.path / f"{stage}checkpoint.safetensors"

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob(_CHECKPOINTS))

    def finish(self, facts: str) -> None:
        """Writes ``facts``, JSON, beside the results and moves the folder into place."""
        (self.path / MARK).write_text(facts, encoding="utf-8")
        if self.destination.exists():
            shutil.rmtree(self.destination)
        os.replace(self.path, self.destination)
        # Only now: were the folder not to come into its place, the same command should go on from here.
        for checkpoint in self.destination.glob(_CHECKPOINTS):
            checkpoint.unlink()
