"""Plain records of a BCF, two bytes a call: what :mod:`data_prep.vcf_plain` is for text."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from data_prep.alleles import is_structural
from data_prep.errors import InputError
from data_prep.files import DAMAGED, damaged, open_binary
from data_prep.vcf_check import contig_ids
from data_prep.vcf_plain import PlainBlock, Row

__all__ = ["PlainRecords"]

_GT = re.compile(r"^##FORMAT=<ID=GT,.*?IDX=(\d+)[,>]", flags=re.MULTILINE)
_NUMBERED = re.compile(r"^##contig=<.*?IDX=(\d+)[,>]", flags=re.MULTILINE)
_FIXED = struct.Struct("<2I3i4x2I")
"""Lengths of both parts; contig, position from 0, length; behind QUAL counts of alleles, INFO, FORMAT and samples."""

_LONGEST = 1 << 24
_HIGHEST = 5
"""The largest code of an allele, 2 (allele + 1) + phase, at a site with two alleles."""

_BYTES = 1 << 21


class PlainRecords:
    """The records of a BCF from its first, up to the first that has more than diploid GT of one byte an allele.

    Args:
        path: the BCF.
        n_samples: people in the header.
        refuse: says of position, REF and alternates why a record cannot be used whatever its calls, or ``None``.
        split: whether several alternates are to be split, so that their record is not plain; one with a structural
            variant, of which INFO is wanted, never is.

    Attributes:
        n_lines: records handed over so far.
        whole: whether these are all records of the file.
    """

    def __init__(
        self, path: Path, n_samples: int, *, refuse: Callable[[int, str, list[str]], str | None], split: bool = False
    ) -> None:
        self._path, self._n, self._refuse, self._split = path, n_samples, refuse, split
        self.n_lines = 0
        self.whole = False

    def blocks(self) -> Iterator[PlainBlock]:
        """The records, block by block.

        Raises:
            InputError: damaged compression.
        """
        try:
            with open_binary(self._path) as stream:
                yield from self._blocks(stream)
        except DAMAGED as error:
            raise InputError(damaged(self._path, error)) from error

    def _blocks(self, stream: IO[bytes]) -> Iterator[PlainBlock]:
        head = stream.read(9)
        if len(head) < 9 or head[:5] != b"BCF\x02\x02":
            return
        text = stream.read(int.from_bytes(head[5:], "little")).decode("utf-8", errors="replace")
        contigs, number = contig_ids(text), _GT.search(text)
        # Without numbers, or with others than the order gives, the dictionaries are left to htslib.
        if number is None or int(number[1]) > 127 or list(map(int, _NUMBERED.findall(text))) != [*range(len(contigs))]:
            return
        start = bytes([0x11, int(number[1]), 0x21])
        size = max(1, _BYTES // (2 * self._n))
        codes = np.empty((size, 2 * self._n), dtype=np.uint8)
        rows: list[Row] = []
        removed: list[str] = []
        contig = -1
        while True:
            record = self._next(stream, start, len(contigs))
            new = record is not None and record[0] != contig
            if (rows or removed) and (record is None or new or len(rows) == size):
                block = self._block(contigs[contig], rows, removed, codes)
                if block is None:
                    self.whole = False
                    return
                self.n_lines += len(rows) + len(removed)
                yield block
                rows, removed = [], []
            if record is None:
                return
            contig, row, calls = record
            reason = self._refuse(row[0], row[2], [] if row[3] in ("", ".") else row[3].split(","))
            if reason is None:
                codes[len(rows)] = np.frombuffer(calls, dtype=np.uint8, offset=len(start))
                rows.append(row)
            else:
                removed.append(reason)

    def _next(self, stream: IO[bytes], start: bytes, n_contigs: int) -> tuple[int, Row, bytes] | None:
        """Contig, site and genotypes of the next record; ``None`` at the end and where it is not plain."""
        head = stream.read(_FIXED.size)
        if not head:
            self.whole = True
            return None
        if len(head) < _FIXED.size:
            return None
        shared, own, contig, position, _, alleles, formats = _FIXED.unpack(head)
        if own != len(start) + 2 * self._n or formats != (1 << 24 | self._n):
            return None
        if not 24 <= shared < _LONGEST or not 0 <= contig < n_contigs or position < 0:
            return None
        text, calls = stream.read(shared - 24), stream.read(own)
        if len(calls) < own or calls[: len(start)] != start:
            return None
        try:
            words, at = [], 0
            for _ in range(1 + (alleles >> 16)):
                word, at = _word(text, at)
                words.append(word)
        except (IndexError, ValueError):
            return None
        if len(words) < 2 or any("," in word for word in words[1:]) or (self._split and len(words) > 3):
            return None
        if len(words) == 3 and is_structural(words[2]):
            return None
        return contig, (position + 1, words[0] or ".", words[1], ",".join(words[2:]), ""), calls

    def _block(self, contig: str, rows: list[Row], removed: list[str], codes: NDArray[np.uint8]) -> PlainBlock | None:
        codes = codes[: len(rows)]
        if codes.size and codes.max() > _HIGHEST:
            return None
        haplotypes = ((codes >> 1).view(np.int8) - 1).reshape(len(rows), self._n, 2)
        if codes.size and codes.min() < 2:
            haplotypes[(haplotypes < 0).any(axis=2)] = -1
        phased = (codes[:, 1::2] & 1).view(np.bool_)
        return PlainBlock(contig, rows, haplotypes, None if phased.all() else phased, removed)


def _word(text: bytes, at: int) -> tuple[str, int]:
    """The text that begins at a byte, and where the next value begins.

    Raises:
        IndexError: it ends beyond the record.
        ValueError: it is no text, or no UTF-8.
    """
    length, kind = text[at] >> 4, text[at] & 15
    at += 1
    if kind != 7:
        raise ValueError(f"type {kind} where text belongs")
    if length == 15:
        width = {0x11: 1, 0x12: 2, 0x13: 4}[text[at]] if text[at] in (0x11, 0x12, 0x13) else 0
        if not width:
            raise ValueError(f"type {text[at]} where a length belongs")
        length = int.from_bytes(text[at + 1 : at + 1 + width], "little")
        at += 1 + width
    if at + length > len(text):
        raise IndexError(at + length)
    return text[at : at + length].decode(), at + length
