"""What htslib does not say: whether header and body of a VCF fit together, which line is broken, and why."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data_prep.errors import InputError
from data_prep.files import DAMAGED, damaged, iter_text_lines, open_binary

__all__ = ["diagnose", "read_header", "scan_body"]

_FIXED = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")
_MAGIC = b"##fileformat=VCF"
_GENOTYPE = re.compile(r"(?:\.|\d+)(?:[/|](?:\.|\d+))*")


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


def scan_body(path: Path) -> int:
    """Read a text VCF once, check that it decompresses and that its lines have as many columns as the header.

    htslib ignores surplus columns, so that a record glued to the next one would pass; one count of tabs and line ends
    over the whole file finds that at about 0.1 times the cost of parsing.

    Returns:
        Number of data lines.

    Raises:
        InputError: damaged gzip, or a line with another number of columns.
    """
    tabs = lines = columns = 0
    last = b"\n"
    in_body = False
    tail = b""
    try:
        with open_binary(path) as stream:
            while chunk := stream.read(1 << 22):
                if not in_body:
                    tail += chunk
                    start = tail.find(b"\n#CHROM")
                    end = tail.find(b"\n", start + 1) if start >= 0 else -1
                    if end < 0:
                        continue
                    columns = tail.count(b"\t", start, end)
                    chunk, in_body = tail[end + 1 :], True
                if chunk:
                    data = np.frombuffer(chunk, dtype=np.uint8)
                    tabs += int(np.count_nonzero(data == 9))
                    newline = data == 10
                    # An empty line is not a record: a line end counts only behind something else.
                    blank = int(np.count_nonzero(newline[1:] & newline[:-1])) + int(newline[0] and last == b"\n")
                    lines += int(np.count_nonzero(newline)) - blank
                    last = chunk[-1:]
    except DAMAGED as error:
        raise InputError(damaged(path, error)) from error
    lines += last != b"\n"
    if tabs != lines * columns:
        found = diagnose(path)
        if found is not None:
            raise InputError(f"{path}, {found}; repair or remove the record")
    return int(lines)


def diagnose(path: Path) -> str | None:
    """The first data line of a text VCF that is malformed: ``line 17 (22:1000): …``; ``None`` if none is found."""
    expected = 0
    for number, line in iter_text_lines(path):
        if line.startswith("##"):
            continue
        if line.startswith("#CHROM"):
            expected = line.count("\t") + 1
            continue
        reason = _malformed(line, expected)
        if reason is not None:
            fields = line.split("\t", 2)
            where = f" ({fields[0][:40]}:{fields[1][:20]})" if len(fields) > 2 else ""
            return f"line {number}{where}: {reason}"
    return None


def _malformed(line: str, expected: int) -> str | None:
    if not line.strip():
        return "the line is empty"
    fields = line.split("\t")
    if len(fields) != expected:
        return f"{len(fields)} columns where the header has {expected}"
    if not fields[1].isdecimal():
        return f"POS {fields[1][:20]!r} is not a position in bp"
    if not fields[3]:
        return "REF is empty"
    keys = fields[8].split(":")
    if "GT" in keys:
        k = keys.index("GT")
        for column, field in enumerate(fields[9:], start=10):
            parts = field.split(":")
            if k < len(parts) and not _GENOTYPE.fullmatch(parts[k]):
                return f"GT {parts[k][:20]!r} in column {column} is not a genotype"
    return None
