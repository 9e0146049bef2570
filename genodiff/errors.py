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
    if "torch" not in sys.modules:
        return None
    from safetensors import SafetensorError

    from genodiff.core.training import TrainingError

    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"--compile: the network cannot be compiled here ({str(error).splitlines()[0]}): leave it out"
    if isinstance(error, TrainingError):
        return str(error)
    # A full disk while a checkpoint is written is no OSError.
    if isinstance(error, SafetensorError) and "os error" in str(error):
        return f"the checkpoint cannot be written ({error}): free space or choose another -o"
    return None
