"""Folders and groups of files that appear when all of it is done, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from data_prep.errors import OutputError
from data_prep.formats import companions, is_store, need_to_write, stem

__all__ = ["Staging", "beside", "check_vcf_output", "drafted", "drop_damaged", "stem", "write_together"]

_OURS = {"provenance.json": lambda facts: "genodiff" in facts, "model.json": lambda facts: "genodiff_version" in facts}
"""What a file of results holds when this program wrote it, by name."""

_COMPANIONS = (".panel.tsv", ".ancestry.tsv.gz", ".provenance.json")
"""What the names of the files end in that this program puts beside a VCF."""

_LOCK = "lock"
"""Name of the file in a hidden folder that the run at work holds locked."""


class Staging:
    """A folder beside the destination that becomes the destination when all is done.

    As a context it is discarded when the block fails; :meth:`finish` is for the block to call. The folder is locked
    against other runs for as long as this one lives. Of the workers under ``torchrun`` the first alone makes, locks and
    removes it: the others know where it is and read the checkpoint.

    Args:
        destination: folder to appear at the end; a link is followed.
        force: replace a folder of results that is there.
        keep: leave the checkpoint and the drafts of an earlier attempt in place.
        inputs: files that are read; none of them may lie in a folder that is replaced.

    Raises:
        OutputError: the destination exists and ``force`` is false, or is not something this program made, or its
            parent cannot be written to, or another run is writing there.
    """

    def __init__(
        self, destination: Path, *, force: bool, keep: bool = False, inputs: Iterable[Path | None] = ()
    ) -> None:
        self.destination, self._force = destination, force
        self._inputs = [path.resolve() for path in inputs if path is not None]
        self._owned = _leads()
        self._handle: int | None = None
        try:
            self._target = destination.resolve()
            self._refuse()
            self.path = self._target.with_name(f".{self._target.name}.partial")
            if self._owned:
                self._claim(keep=keep)
        except OSError as error:
            raise _not_writable(destination, error) from error

    def _claim(self, *, keep: bool) -> None:
        """Makes the folder, or takes over and clears what an earlier attempt left of it."""
        kept = {self.path / _LOCK} | ({self.checkpoint, self.drafts} if keep else set())
        self._made, self._handle = _locked_folder(self.path, destination=self.destination)
        try:
            for left in self.path.iterdir():
                if left in kept:
                    continue
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left)
                else:
                    left.unlink()
        except OSError:
            self._release()
            raise

    def _release(self) -> None:
        self._owned = False
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _refuse(self) -> None:
        """Refuses a destination that may not be replaced."""
        if not self._target.exists():
            return
        if not self._force:
            raise OutputError(f"{self.destination} exists: choose another -o, or replace it with --force")
        if not _is_ours(self._target):
            raise OutputError(f"{self.destination} exists and was not made by genodiff: choose another -o")
        for path in self._inputs:
            if self._target in path.parents:
                raise OutputError(f"{self.destination} holds the input {path.name}: choose another -o")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.discard()

    @property
    def checkpoint(self) -> Path:
        """Where training keeps its state."""
        return self.path / "checkpoint.safetensors"

    @property
    def drafts(self) -> Path:
        """Folder where people are kept as they are drawn."""
        return self.path / "drafts"

    def discard(self) -> None:
        """Removes the folder and those made for it, unless it holds a checkpoint to go on from."""
        if not self._owned:
            return
        if self.checkpoint.exists():
            (self.path / _LOCK).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_empty(self._made)
        self._release()

    def finish(self) -> None:
        """Moves everything into place; what was there is removed only now.

        Raises:
            OutputError: something that may not be replaced has appeared there.
        """
        self._refuse()
        self.checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.drafts, ignore_errors=True)
        if self._target.exists():
            shutil.rmtree(self._target)
        os.replace(self.path, self._target)
        # Not before: a run that finds the folder without its lock takes it for one left behind, and clears it.
        (self._target / _LOCK).unlink(missing_ok=True)
        self._release()


def _leads() -> bool:
    """Whether this process is the first, or only, worker; the environment tells it before torch is loaded."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _not_writable(destination: Path, error: OSError) -> OutputError:
    return OutputError(f"{destination}: cannot write there ({error.strerror}): choose another -o")


def _locked_folder(path: Path, *, destination: Path) -> tuple[list[Path], int | None]:
    """Makes a hidden folder and locks it; the folders above it that had to be made, and the handle of the lock.

    Raises:
        OutputError: another run has it.
    """
    made = _make_folder(path)[1:]
    try:
        return made, _lock(path / _LOCK)
    except (BlockingIOError, FileNotFoundError) as error:
        raise OutputError(
            f"{destination}: another run is writing there: wait for it to end, or choose another -o"
        ) from error


def _lock(path: Path) -> int | None:
    """Locks a file, made if absent, for this process; returns its handle, or ``None`` where files cannot be locked.

    The system takes the lock back when the process ends, however it ends.

    Raises:
        BlockingIOError: another process has the lock.
        FileNotFoundError: another process had it and took the folder away just now.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had the lock may have ended, and taken the file away, after it was opened here.
        if not os.path.samestat(os.fstat(handle), path.stat()):
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise
    except OSError:  # some network file systems have no locks
        os.close(handle)
        return None
    return handle


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty or holds results of this program."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    for name, ours in _OURS.items():
        try:
            facts = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(facts, dict) and ours(facts):
            return True
    return False


def _make_folder(path: Path) -> list[Path]:
    """Creates a folder and those above it; returns the ones that were absent, innermost first."""
    absent = [path] if not path.exists() else []
    absent += [above for above in path.parents if not above.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return absent


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextlib.contextmanager
def drafted(output: Path) -> Iterator[Path]:
    """A hidden folder beside a file, for what is drawn before it can be written.

    It goes when the block ends, well or badly; a run that is killed or interrupted leaves it to go on from. It is
    locked against other runs for as long as this one lives.

    Raises:
        OutputError: it cannot be made, or another run is writing there.
    """
    folder = output.absolute().with_name(f".{stem(output)}.drafts")
    try:
        made, handle = _locked_folder(folder, destination=output)
    except OSError as error:
        raise _not_writable(output, error) from error
    kept = False
    try:
        yield folder
    except Exception:
        raise
    except BaseException:
        kept = any(folder.glob("*.npy"))
        raise
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
            if not output.exists():
                _remove_empty(made)
        if handle is not None:
            os.close(handle)


def drop_damaged(checkpoint: Path) -> None:
    """Removes a checkpoint that cannot be read, as a power cut can leave one: training then starts anew."""
    from safetensors import SafetensorError, safe_open

    try:
        if checkpoint.exists():
            with safe_open(checkpoint, framework="pt"):
                pass
    except SafetensorError:
        checkpoint.unlink(missing_ok=True)


def beside(output: Path, ending: str) -> Path:
    """``synthetic.vcf.gz`` → ``synthetic.panel.tsv``, in the same folder."""
    return output.parent / f"{stem(output)}{ending}"


def check_vcf_output(output: Path, *, force: bool) -> None:
    """Refuses a destination that would fail, overwrite or come to lie beside files of another run."""
    try:
        if output.is_dir() and not is_store(output):
            raise OutputError(f"{output} is a folder: give the name of a file, for example {output}/synthetic.vcf.gz")
        need_to_write(output)
        for path in (output, *companions(output), *(beside(output, ending) for ending in _COMPANIONS)):
            if path.exists() and not force:
                raise OutputError(f"{path} exists: choose another -o, or replace it with --force")
        above = next(folder for folder in output.absolute().parents if folder.exists())
    except OSError as error:
        raise OutputError(f"{output}: cannot write there ({error.strerror}): choose another -o") from error
    if not above.is_dir():
        raise OutputError(f"{output}: {above} is not a folder: choose another -o")
    if not os.access(above, os.W_OK):
        raise OutputError(f"{output}: {above} cannot be written to: choose another -o")


def write_together(output: Path, write: Callable[[Path], None], *, force: bool) -> None:
    """Genotypes and the files beside them that appear together.

    Args:
        output: the genotypes, in any format.
        write: receives their name in a hidden folder, and puts all files there.
        force: remove the panel and the provenance of an earlier run where this one writes none.

    Raises:
        OutputError: the files cannot be written.
    """
    made: list[Path] = []
    hidden: Path | None = None
    try:
        made = _make_folder(output.absolute().parent)
        hidden = Path(tempfile.mkdtemp(dir=output.absolute().parent, prefix=f".{stem(output)}-"))
        write(hidden / output.name)
        written = sorted((path.name for path in hidden.iterdir()), key=lambda name: name == output.name)
        for name in written:
            if is_store(output.with_name(name)):  # a folder that is not empty cannot be replaced
                shutil.rmtree(output.with_name(name))
            os.replace(hidden / name, output.with_name(name))
        # An index left by another run would be found first; a panel would be taken for that of the new people.
        left = [output.with_name(output.name + suffix) for suffix in (".tbi", ".csi")]
        left += [beside(output, ending) for ending in _COMPANIONS if force]
        for path in left:
            if path.name not in written and not path.is_dir():
                path.unlink(missing_ok=True)
    except OutputError as error:
        # Where it was to be written is nothing to the user, who named where it should appear.
        raise OutputError(str(error).replace(str(hidden), str(output.parent))) from error
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written ({error.strerror}): check the folder and the free space"
        ) from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)
        _remove_empty(made)
