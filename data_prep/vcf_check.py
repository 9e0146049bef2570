"""What htslib does not say: whether header and body of a VCF fit together, which line is broken, and why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.files import DAMAGED, damaged, iter_text_lines, open_binary
from data_prep.regions import Region

__all__ = [
    "BodyScan",
    "bad_format_key",
    "contig_ids",
    "contig_lengths",
    "diagnose",
    "format_keys",
    "is_contig",
    "read_header",
    "scan_body",
    "scan_region",
    "whole_lines",
]

_FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")
_MAGIC = b"##fileformat=VCF"
_CONTIG = re.compile(r"[0-9A-Za-z!$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*")
_KEY = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")
_START = re.compile(rb"([^\t]*)\t([^\t]*)\t(?:[^\t]*\t){6}([^\t]*)")
"""Contig, position and FORMAT at the start of a line."""
_LONGEST_LINE = 1 << 28
_GENOTYPE = re.compile(r"(?:\.|\d+)(?:[/|](?:\.|\d+))*")


def contig_ids(header: str) -> list[str]:
    """Names in the ``##contig`` lines of a header."""
    return re.findall(r"^##contig=<(?:.*?,)?ID=([^,>\n]+)", header, flags=re.MULTILINE)


def contig_lengths(header: str) -> dict[str, int]:
    """Lengths in bp that the ``##contig`` lines of a header give, by name."""
    out = {}
    for line in header.splitlines():
        name, size = contig_ids(line), re.search(r"[<,]length=(\d+)", line)
        if name and size is not None:
            out[name[0]] = int(size[1])
    return out


def is_contig(name: bytes) -> bool:
    """Whether VCF allows this name for a contig."""
    return _CONTIG.fullmatch(name.decode("utf-8", errors="replace")) is not None


def format_keys(header: str) -> frozenset[str]:
    """Keys in the ``##FORMAT`` lines of a header."""
    return frozenset(re.findall(r"^##FORMAT=<(?:.*?,)?ID=([^\s,<>=:;\"]+)", header, flags=re.MULTILINE))


def read_header(path: Path) -> list[str]:
    """Sample names of a VCF in text form (plain or gzip).

    Raises:
        InputError: not a VCF, no column line, no samples, or a name twice.
    """
    try:
        with open_binary(path) as stream:
            start = stream.read(len(_MAGIC))
    except DAMAGED as error:
        raise InputError(damaged(path, error)) from error
    if start != _MAGIC:
        raise InputError(f"{path} is not a VCF or BCF file: it must start with '{_MAGIC.decode()}'")
    for number, line in iter_text_lines(path):
        if "\x00" in line:
            raise InputError(f"{path}, line {number}: the header holds a zero byte; the file is damaged")
        if line.startswith("##"):
            continue
        names = line.split("\t")
        if names[0] != "#CHROM":
            raise InputError(
                f"{path}, line {number}: the column line '#CHROM …' is absent; the file is not a whole VCF"
            )
        if tuple(names[:8]) != _FIXED[:8]:
            raise InputError(f"{path}, line {number}: the column line must be tab-separated '{' '.join(_FIXED)} …'")
        if len(names) < 10 or names[8] != "FORMAT":
            raise InputError(f"{path} has no samples: give a VCF with genotypes")
        names = names[9:]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise InputError(
                f"{path}, line {number}: sample name {twice!r} occurs twice; rename with 'bcftools reheader'"
            )
        if not all(names):
            raise InputError(f"{path}, line {number}: a sample name is empty; rename with 'bcftools reheader'")
        return names
    raise InputError(f"{path} is truncated: it ends before the column line '#CHROM …'")


@dataclass(frozen=True)
class BodyScan:
    """What a pass over the data lines of a text VCF has shown.

    Attributes:
        counts: number of data lines by contig, in the order of their first appearance.
    """

    counts: dict[str, int]

    @property
    def n_lines(self) -> int:
        """Number of data lines."""
        return sum(self.counts.values())

    @property
    def contigs(self) -> tuple[str, ...]:
        """Names of the contigs."""
        return tuple(self.counts)


def scan_body(path: Path, declared: frozenset[str] = frozenset()) -> BodyScan:
    """Read a text VCF once: does it decompress, have its lines as many columns as the header, which contigs has it?

    htslib ignores surplus columns, so that a record glued to the next one would pass, and ends the process on some
    lines that lack columns; the tabs of every line are counted at a fraction of the cost of parsing. Two more kinds of
    damage must be found before cyvcf2 reads, because they end the process instead of raising: a FORMAT key that cannot
    be declared, and a malformed line on an undeclared contig. The caller declares the contigs that the scan returns.

    Args:
        path: a VCF in text form, plain or gzip.
        declared: FORMAT keys of the header.

    Raises:
        InputError: damaged gzip, a line with another number of columns, or something that is no contig name.
    """
    even = True
    contigs: dict[bytes, int] = {}
    formats: set[bytes] = set()
    columns: int | None = None
    for text in whole_lines(path):
        start = 0
        if columns is None:
            start = text.find(b"\n#CHROM") + 1
            if not start:
                continue
            end = text.find(b"\n", start)
            columns, start = text.count(b"\t", start, end), end + 1
        data = np.frombuffer(text, dtype=np.uint8)[start:]
        ends = np.flatnonzero(data == 10)
        # Line by line: over the whole file too many here and too few there would cancel out.
        per_line = np.diff(np.searchsorted(np.flatnonzero(data == 9), ends), prepend=0)
        filled = np.diff(ends, prepend=-1) > 1
        even = even and bool((per_line[filled] == columns).all())
        begin = start
        for stop in (ends + start).tolist():
            if stop > begin:
                found = _START.match(text, begin, stop)
                if found is not None:
                    contigs[found[1]] = contigs.get(found[1], 0) + 1
                    formats.add(found[3])
            begin = stop + 1
    counts = {name.decode("utf-8", errors="replace"): count for name, count in contigs.items()}
    sound = all(_CONTIG.fullmatch(name) for name in counts) and all(
        bad_format_key(keys.decode("utf-8", errors="replace").split(":"), declared) is None for keys in formats
    )
    if not even or not sound:
        broken = diagnose(path, declared)
        if broken is None and not even:
            broken = "a data line has another number of columns than the header"
        if broken is not None:
            raise InputError(f"{path}, {broken}; repair or remove the record")
    return BodyScan(counts)


def scan_region(
    path: Path, region: Region, contig: str, *, offset: int, n_samples: int, declared: frozenset[str]
) -> int:
    """The same checks on the lines of a region in an indexed BGZF file.

    htslib's iterator ends silently at a damaged block; the number of lines tells whether it saw all of them.

    Args:
        path: the BGZF file.
        region: where to look.
        contig: its name in the file.
        offset: BGZF virtual offset at or before the first record of the region.
        n_samples: people in the header.
        declared: FORMAT keys of the header.

    Returns:
        Number of records whose position lies in the region.

    Raises:
        InputError: damaged gzip or a malformed line.
    """
    count = 0
    name = contig.encode()
    for text in whole_lines(path, offset=offset):
        begin = 0
        while begin < len(text):
            stop = text.index(b"\n", begin)
            found = _START.match(text, begin, stop)
            inside = True
            if found is not None and found[2].isdigit() and found[1] == name:
                position = int(found[2])
                if position > region.end:
                    return count
                inside = position >= region.start
            elif text.startswith(b"#", begin) or (found is not None and found[1] != name and not count):
                inside = False
            elif found is not None and found[1] != name:
                return count
            if inside and stop > begin:
                line = text[begin:stop]
                tabs = np.count_nonzero(np.frombuffer(line, dtype=np.uint8) == 9)
                keys = found[3].decode("utf-8", errors="replace").split(":") if found is not None else [""]
                if tabs != n_samples + 8 or bad_format_key(keys, declared) is not None:
                    fields = line.decode("utf-8", errors="replace")
                    reason = _malformed(fields, n_samples + 9, declared) or "it is malformed"
                    where = ":".join(fields.split("\t")[:2])[:60]
                    raise InputError(f"{path}, record {where}: {reason}; repair or remove the record")
                count += 1
            begin = stop + 1
    return count


def whole_lines(path: Path, *, offset: int = 0) -> Iterator[bytes]:
    """Pieces of a file, some MB each, that end with a line; a line end is added to the last line if it has none.

    Args:
        path: the file.
        offset: BGZF virtual offset of a line to begin with: compressed offset · 2¹⁶ + offset in the block.
    """
    rest = b""
    try:
        with open_binary(path, offset >> 16) as stream:
            stream.read(offset & 0xFFFF)
            while chunk := stream.read(1 << 22 if not offset else 1 << 18):
                cut = chunk.rfind(b"\n") + 1
                if cut:
                    yield rest + chunk[:cut]
                    rest = chunk[cut:]
                else:
                    rest += chunk
                if len(rest) > _LONGEST_LINE:
                    raise InputError(f"{path} has a line of more than {_LONGEST_LINE >> 20} MiB: it is not a VCF")
    except DAMAGED as error:
        raise InputError(damaged(path, error)) from error
    if rest:
        yield rest + b"\n"


def bad_format_key(keys: list[str], declared: frozenset[str]) -> str | None:
    """The first FORMAT key that htslib cannot handle (it ends the process), or ``None``."""
    return next((key for key in keys if not _KEY.fullmatch(key) and key not in declared), None)


def diagnose(path: Path, declared: frozenset[str] = frozenset()) -> str | None:
    """The first data line of a text VCF that is malformed: ``line 17 (22:1000): …``; ``None`` if none is found."""
    expected = 0
    for number, line in iter_text_lines(path):
        if line.startswith("##"):
            continue
        if line.startswith("#CHROM"):
            expected = line.count("\t") + 1
            continue
        reason = _malformed(line, expected, declared)
        if reason is not None:
            fields = line.split("\t", 2)
            where = f" ({fields[0][:40]}:{fields[1][:20]})" if len(fields) > 2 else ""
            return f"line {number}{where}: {reason}"
    return None


def _malformed(line: str, expected: int, declared: frozenset[str]) -> str | None:
    if not line.strip():
        return "the line is empty"
    fields = line.split("\t")
    if len(fields) != expected:
        return f"{len(fields)} columns where the header has {expected}"
    if not _CONTIG.fullmatch(fields[0]):
        return f"CHROM {fields[0][:20]!r} is not the name of a contig"
    if not fields[1].isdecimal():
        return f"POS {fields[1][:20]!r} is not a position in bp"
    if not fields[3]:
        return "REF is empty"
    keys = fields[8].split(":")
    key = bad_format_key(keys, declared)
    if key is not None:
        return f"{key[:20]!r} is not a FORMAT key"
    if "GT" in keys:
        k = keys.index("GT")
        for column, field in enumerate(fields[9:], start=10):
            parts = field.split(":")
            if k < len(parts) and not _GENOTYPE.fullmatch(parts[k]):
                return f"GT {parts[k][:20]!r} in column {column} is not a genotype"
    return None
