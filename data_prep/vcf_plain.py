"""Plain lines of a VCF, four bytes a call, read at the speed of memory.

Most files hold nothing but ``0|1``, ``1/1`` or ``.|.`` behind ``GT``: such a line is as long as its number of people
says, and its calls are 32-bit words that differ from ``0|0<tab>`` in known bits. A :class:`PlainLines` hands over these
lines and stops at the first that is anything else; :class:`data_prep.vcf.VcfSource` reads on from there with cyvcf2,
which also finds out what is wrong with a line that is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.alleles import is_structural, kept_info
from data_prep.regions import Region
from data_prep.vcf_check import is_contig, whole_lines

__all__ = ["Part", "PlainBlock", "PlainLines"]

_LINE = re.compile(rb"([^\t]+)\t(\d{1,9})\t([^\t]+)\t([^\t]+)\t([^\t]+)\t(?:\.|\d+(?:\.\d+)?)\t[^\t]+\t([^\t]+)\tGT\t")
"""Contig, position, ID, REF, ALT and INFO, with a QUAL that needs no judgement and no FORMAT but GT."""

_SITE = re.compile(rb"([^\t\n]+)\t(\d{1,10})\t")

_REF = np.frombuffer(b"0|0\t", dtype="<u4")[0]
_ALLELES = np.uint32(0x00010001)
"""Bits in which a phased call without missing alleles may differ from ``0|0<tab>``."""

_UNPHASED, _MISSING = ord("|") ^ ord("/"), ord("0") ^ ord(".")
_BYTES = 1 << 21


Row = tuple[int, str, str, str, str]
"""Position (bp), ID, REF, ALT and, of a structural variant, the INFO fields that are kept."""


@dataclass(frozen=True)
class PlainBlock:
    """Some consecutive lines of one contig.

    Attributes:
        contig: as in the file.
        rows: of the lines that can be used.
        haplotypes: int8 (rows, samples, 2), codes 0, 1, −1 for both alleles of a call that lacks one.
        phased: bool (rows, samples), or ``None`` where every call is.
        removed: why the other lines cannot be used, one reason each.
    """

    contig: str
    rows: list[Row]
    haplotypes: NDArray[np.int8]
    phased: NDArray[np.bool_] | None
    removed: list[str]


@dataclass(frozen=True)
class Part:
    """A region of an indexed BGZF file, whose lines are in order.

    Attributes:
        region: of which the lines are wanted.
        contig: its name in the file.
        offset: BGZF virtual offset of a line at or before its first.
    """

    region: Region
    contig: bytes
    offset: int

    def side(self, text: bytes, begin: int) -> int:
        """-1 for a line before the region or with no place, 0 for one within, 1 for one behind it."""
        found = _SITE.match(text, begin)
        if found is None:
            return -1
        if found[1] != self.contig:
            return 1
        position = int(found[2])
        return -1 if position < self.region.start else int(position > self.region.end)


class PlainLines:
    """The lines of a text VCF or of a part of it from its first, up to the first line that is not plain.

    Args:
        path: plain, gzip or BGZF.
        n_samples: people in the header.
        refuse: says of position, REF and alternates why a line cannot be used whatever its calls, or ``None``; the
            calls of such a line are counted and not looked at.
        split: whether several alternates are to be split, so that their line is not plain.
        part: the region to read; the whole file if ``None``.

    Attributes:
        n_lines: lines handed over so far.
        whole: whether these are all lines of the file or region.
    """

    def __init__(
        self,
        path: Path,
        n_samples: int,
        *,
        refuse: Callable[[int, str, list[str]], str | None],
        split: bool = False,
        part: Part | None = None,
    ) -> None:
        self._path, self._n, self._refuse, self._split, self._part = path, n_samples, refuse, split, part
        self.n_lines = 0
        self.whole = False

    def blocks(self) -> Iterator[PlainBlock]:
        """The lines, block by block.

        Raises:
            InputError: damaged gzip.
        """
        size, width = max(1, _BYTES // (4 * self._n)), 4 * self._n
        words = np.empty((size, self._n), dtype="<u4")
        calls = words.view(np.uint8)
        rows: list[Row] = []
        removed: list[str] = []
        contig = b""
        for text, begin in self._bodies():
            data = np.frombuffer(text, dtype=np.uint8)
            while begin < len(text):
                found = _LINE.match(text, begin)
                # Where plain calls end is known: the line ends there, or is not plain.
                start = begin if found is None else found.end()
                stop = start + width
                row = None if found is None or text[stop - 1 : stop] != b"\n" else _row(found)
                if row is not None and self._split and "," in row[3]:
                    row = None
                if self._part is not None and (side := self._part.side(text, begin)):
                    self.whole = side > 0  # a line that goes back is for the other reader to judge
                    break
                new = row is not None and found is not None and found[1] != contig
                if (rows or removed) and (row is None or new or len(rows) == size):
                    block = _block(contig, rows, removed, words)
                    self.n_lines += len(block.rows) + len(block.removed)
                    yield block
                    if len(block.rows) < len(rows):
                        return
                    rows, removed = [], []
                if row is None or found is None or (new and not is_contig(found[1])):
                    return
                contig = found[1]
                reason = self._refuse(row[0], row[2], [] if row[3] == "." else row[3].split(","))
                if reason is None:
                    calls[len(rows)] = data[start:stop]
                    calls[len(rows), -1] = 9
                    rows.append(row)
                elif text.count(b"\t", start, stop) == self._n - 1:
                    removed.append(reason)
                else:
                    break
                begin = stop
            if begin < len(text):
                break
        else:
            self.whole = True
        if rows or removed:
            block = _block(contig, rows, removed, words)
            self.whole &= len(block.rows) == len(rows)
            self.n_lines += len(block.rows) + len(block.removed)
            yield block

    def _bodies(self) -> Iterator[tuple[bytes, int]]:
        """Pieces of the file below the column line or from the region on, and where in them the first line begins."""
        if self._part is not None:
            yield from self._from(self._part)
            return
        below = False
        for text in whole_lines(self._path):
            begin = 0
            if not below:
                begin = 0 if text.startswith(b"#CHROM") else text.find(b"\n#CHROM") + 1
                if not text.startswith(b"#CHROM", begin):
                    continue
                below, begin = True, text.index(b"\n", begin) + 1
            yield text, begin

    def _from(self, part: Part) -> Iterator[tuple[bytes, int]]:
        there = met = False
        for text in whole_lines(self._path, offset=part.offset):
            begin = 0
            # Before the first record of a contig an index may lead to the header or into another contig.
            while not there and begin < len(text):
                side = part.side(text, begin)
                met |= text.startswith(part.contig + b"\t", begin)
                there = side == 0 or (side > 0 and met)
                begin = begin if there else text.index(b"\n", begin) + 1
            if begin < len(text):
                yield text, begin


def _row(found: re.Match[bytes]) -> Row | None:
    try:
        alt = found[5].decode()
        info = kept_info(found[6].decode()) if is_structural(alt) else ""
        return int(found[2]), found[3].decode(), found[4].decode(), alt, info
    except UnicodeDecodeError:
        return None


def _block(contig: bytes, rows: list[Row], removed: list[str], words: NDArray[np.uint32]) -> PlainBlock:
    """The lines in the buffer, or those before the first whose calls are not plain."""
    differs = words[: len(rows)] ^ _REF
    parts = differs.view(np.uint8).reshape(*differs.shape, 4)
    odd = np.flatnonzero(np.bitwise_or.reduce(differs, axis=1) & ~_ALLELES)
    phased = None
    for j in odd:
        if not _plain(parts[j]):
            # Of the lines that were removed it is not known here which came before: they are read again.
            return _block(contig, rows[:j], [], words) if not removed else _block(contig, [], [], words)
    haplotypes = np.ascontiguousarray(parts[:, :, ::2]).view(np.int8)
    if len(odd):
        phased = np.ones(haplotypes.shape[:2], dtype=bool)
        phased[odd] = parts[odd, :, 1] == 0
        calls = haplotypes[odd]
        calls[(calls == _MISSING).any(axis=2)] = -1
        haplotypes[odd] = calls
    return PlainBlock(contig.decode(), rows, haplotypes, phased, removed)


def _plain(parts: NDArray[np.uint8]) -> bool:
    """Whether the calls of a line, as they differ from ``0|0<tab>`` (samples, 4), are calls at all."""
    a, between, b, after = parts.T
    alleles = (((a <= 1) | (a == _MISSING)) & ((b <= 1) | (b == _MISSING))).all()
    return bool(alleles and ((between == 0) | (between == _UNPHASED)).all() and not after.any())
