"""Which errors are the user's to mend, and what to say of them."""

from __future__ import annotations

import errno
import sys

from data_prep.errors import GenodiffError

__all__ = ["as_user_error"]

_NOT_WRITABLE = frozenset(
    (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG)
)


def as_user_error(error: BaseException) -> str | None:
    """The one line a user sees for an error that is theirs to mend, or ``None`` for a defect of this program."""
    if isinstance(error, GenodiffError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}): free space or choose another -o"
    if _out_of_memory(error):
        return (
            f"out of memory ({_first_line(error)}): learn from a part with --region, take fewer --threads or "
            "a smaller batch, or a machine with more"
        )
    if "torch" not in sys.modules:
        return None
    from safetensors import SafetensorError

    from genodiff.core.training import TrainingError

    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"--compile: the network cannot be compiled here ({_first_line(error)}): leave it out"
    if isinstance(error, TrainingError):
        return str(error)
    # A full disk while a checkpoint is written is no OSError.
    if isinstance(error, SafetensorError) and "os error" in str(error):
        return f"the checkpoint cannot be written ({error}): free space or choose another -o"
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused: by the system, to torch on a processor (a RuntimeError), or on a card."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
