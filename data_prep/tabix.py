"""Where a region begins in a BGZF file, from its tabix index."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from data_prep.files import DAMAGED, open_binary

__all__ = ["contig_offsets", "usable_index"]

_UNSOUND: tuple[type[Exception], ...] = (*DAMAGED, struct.error, ValueError)


def usable_index(path: Path) -> Path | None:
    """The ``.tbi`` beside a file, unless it is older than the file and may describe another one."""
    index = Path(f"{path}.tbi")
    if index.is_file() and index.stat().st_mtime >= path.stat().st_mtime:
        return index
    return None


def contig_offsets(index: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """The linear index of every contig: element w is the BGZF virtual offset at or before the first record of window w.

    Windows are 16,384 bp wide. ``None`` where the file is not a sound tabix index of a VCF.
    """
    try:
        with open_binary(Path(index)) as stream:
            data = stream.read()
        magic, n_contigs, preset, *_, length = struct.unpack_from("<4s8i", data)
        if magic != b"TBI\x01" or preset & 0xFFFF != 2:
            return None
        names = data[36 : 36 + length].decode().rstrip("\x00").split("\x00")
        at = 36 + length
        offsets: dict[str, np.ndarray] = {}
        for name in names[:n_contigs]:
            (bins,) = struct.unpack_from("<i", data, at)
            at += 4
            for _ in range(bins):
                (chunks,) = struct.unpack_from("<i", data, at + 4)
                at += 8 + 16 * chunks
            (windows,) = struct.unpack_from("<i", data, at)
            offsets[name] = np.frombuffer(data, dtype="<u8", count=windows, offset=at + 4)
            at += 4 + 8 * windows
    except _UNSOUND:
        return None
    return offsets
