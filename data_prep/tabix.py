"""Where a region begins in a BGZF file, from its tabix index."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.files import DAMAGED, open_binary

__all__ = ["contig_offsets", "require_sound_index", "usable_index"]

_OF_VCF = (2, 1, 2, 0, ord("#"), 0)
"""Format, columns of contig, begin and end, sign of a comment, lines to skip."""

_LAST_BIN = 37450
_MOST_WINDOWS = 1 << 15

_UNSOUND: tuple[type[Exception], ...] = (*DAMAGED, struct.error, ValueError)


def usable_index(path: Path) -> Path | None:
    """The ``.tbi`` beside a file, unless it is older than the file and may describe another one."""
    index = Path(f"{path}.tbi")
    if index.is_file() and index.stat().st_mtime >= path.stat().st_mtime:
        return index
    return None


def _after_bins(data: bytes, at: int, *, last: int = _LAST_BIN, offsets: bool = False) -> int:
    """Where the bins of a contig end; those of CSI have a number up to ``last`` and an offset each.

    Raises:
        ValueError: a bin that cannot be. htslib asks for memory by such numbers, or ends the process.
    """
    (bins,) = struct.unpack_from("<i", data, at)
    at += 4
    seen: set[int] = set()
    if not 0 <= bins <= last + 1:
        raise ValueError(f"{bins} bins")
    for _ in range(bins):
        number, *_, chunks = struct.unpack_from("<IQi" if offsets else "<Ii", data, at)
        at += 16 if offsets else 8
        if number > last or number in seen or not 0 <= chunks <= (len(data) - at) // 16:
            raise ValueError(f"bin {number} with {chunks} chunks")
        seen.add(number)
        if number < last:  # the last is no bin but holds counts
            ends = np.frombuffer(data, dtype="<u8", count=2 * chunks, offset=at).reshape(-1, 2)
            if (ends[:, 0] > ends[:, 1]).any():
                raise ValueError(f"bin {number} ends before it begins")
        elif chunks != 2:
            raise ValueError(f"{chunks} counts")
        at += 16 * chunks
    return at


def require_sound_index(path: Path) -> None:
    """Refuses a file beside which lies an index that htslib, which opens it unasked, would crash on.

    Raises:
        InputError: the index is damaged.
    """
    for index, magic, sound in ((".tbi", b"TBI\x01", contig_offsets), (".csi", b"CSI\x01", _csi_contigs)):
        file = Path(f"{path}{index}")
        if file.is_file() and _begins(file, magic) and sound(file) is None:
            raise InputError(f"{file} is a damaged index: remove it, or make it again with 'bcftools index -f'")


def _begins(index: Path, magic: bytes) -> bool:
    """Whether a file says it is an index; others htslib lets be."""
    try:
        with open_binary(index) as stream:
            return stream.read(4) == magic
    except _UNSOUND:
        return False


def _csi_contigs(index: Path) -> int | None:
    """Number of contigs of a CSI index; ``None`` where the file is not a sound one."""
    try:
        with open_binary(index) as stream:
            data = stream.read()
        magic, shift, depth, length = struct.unpack_from("<4s3i", data)
        if magic != b"CSI\x01" or not 0 < shift < 32 or not 0 < depth < 10 or not 0 <= length <= len(data):
            return None
        at = 16 + length
        (contigs,) = struct.unpack_from("<i", data, at)
        at += 4
        if not 0 <= contigs <= len(data) or not _sound_names(data[16 : 16 + length], contigs):
            return None
        last = ((1 << 3 * (depth + 1)) - 1) // 7 + 1
        for _ in range(contigs):
            at = _after_bins(data, at, last=last, offsets=True)
        return contigs if len(data) - at in (0, 8) else None
    except _UNSOUND:
        return None


def _sound_names(extra: bytes, contigs: int) -> bool:
    """Whether what CSI says beside its bins is nothing, as for BCF, or what a tabix index says first."""
    if not extra:
        return True
    *columns, length = struct.unpack_from("<7i", extra)
    return tuple(columns) == _OF_VCF and length == len(extra) - 28 and extra.count(b"\x00", 28) == contigs


def contig_offsets(index: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """The linear index of every contig: element w is the BGZF virtual offset at or before the first record of window w.

    Windows are 16,384 bp wide. ``None`` where the file is not a sound tabix index of a VCF.
    """
    try:
        with open_binary(Path(index)) as stream:
            data = stream.read()
        magic, n_contigs, *columns, length = struct.unpack_from("<4s8i", data)
        if magic != b"TBI\x01" or tuple(columns) != _OF_VCF or not 0 < length <= len(data):
            return None
        names = data[36 : 36 + length].decode().removesuffix("\x00").split("\x00")
        if len(names) != n_contigs or len(set(names)) != n_contigs or not all(names):
            return None
        at = 36 + length
        offsets: dict[str, np.ndarray] = {}
        for name in names:
            at = _after_bins(data, at)
            (windows,) = struct.unpack_from("<i", data, at)
            if not 0 <= windows <= _MOST_WINDOWS:
                return None
            offsets[name] = np.frombuffer(data, dtype="<u8", count=windows, offset=at + 4)
            at += 4 + 8 * windows
        # At the end there may be the number of records without a position.
        if len(data) - at not in (0, 8):
            return None
    except _UNSOUND:
        return None
    return offsets
