"""Rows of states kept as they are drawn, so that drawing that is interrupted goes on where it was."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_prep.errors import OutputError
from genodiff.files import atomic_write

__all__ = ["Drafts", "digest_of"]


class Drafts:
    """Batches of rows, each in a file of its own that is whole or absent.

    Args:
        folder: where they are kept; made if absent. Nothing is kept if ``None``.
        name: all that the rows depend on, as a file name; what was kept under another one is not used.

    Raises:
        OutputError: a batch cannot be written.
    """

    def __init__(self, folder: Path | None, name: str = "") -> None:
        self.folder, self.name = folder, name

    def batch(self, number: int, draw: Callable[[], NDArray[np.int8]]) -> NDArray[np.int8]:
        """A batch that was kept, or else what ``draw`` returns, which then is."""
        if self.folder is None:
            return draw()
        path = self.folder / f"{self.name}-{number}.npy"
        # A power cut can leave a file that is there and not whole.
        with contextlib.suppress(OSError, ValueError, EOFError):
            return _unsealed(path.read_bytes())
        states = draw()
        # Not by ndarray.tofile, whose error does not say what the system said.
        content = io.BytesIO()
        np.save(content, states)
        try:
            with atomic_write(path) as temporary:
                temporary.write_bytes(content.getvalue() + hashlib.sha256(content.getvalue()).digest())
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written ({error.strerror}): check the folder and the free space"
            ) from error
        return states


def _unsealed(content: bytes) -> NDArray[np.int8]:
    """The array of a file that ends with its own hash.

    Raises:
        ValueError: the hash is that of something else.
    """
    body, digest = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("damaged")
    return np.load(io.BytesIO(body), allow_pickle=False)


def digest_of(module: nn.Module, *others: NDArray[np.integer], **settings: object) -> str:
    """First 16 hexadecimal digits of a hash of all weights and buffers of a module, and of what else is given."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    for array in others:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
