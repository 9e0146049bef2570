"""The sheet of ``genodiff genome``: one chromosome a line, and where its files lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import InputError
from data_prep.files import read_text

__all__ = ["COLUMNS", "Entry", "read_sheet"]

COLUMNS = ("chromosome", "synthetic", "train", "holdout", "judged")
"""Columns of a sheet, in any order; further ones are passed over."""


@dataclass(frozen=True)
class Entry:
    """A chromosome.

    Attributes:
        chromosome: its name on the page.
        synthetic, train, holdout: VCFs of the three sets of people.
        judged: folder that ``genodiff evaluate`` or ``synthesize`` wrote.
    """

    chromosome: str
    synthetic: Path
    train: Path
    holdout: Path
    judged: Path

    @property
    def files(self) -> Iterator[Path]:
        """What is read of it."""
        yield from (self.synthetic, self.train, self.holdout, self.judged / "metrics.csv")


def read_sheet(path: Path) -> list[Entry]:
    """Lines of a tab-separated sheet; relative paths count from its folder.

    Raises:
        InputError: a column or a field is absent, a chromosome occurs twice, files do not exist (all are named), or
            there is only one chromosome.
    """
    lines = [(number, line) for number, line in read_text(path, what="sheet") if not line.startswith("##")]
    head = lines[0][1].lstrip("#").split("\t") if lines else []
    absent = [name for name in COLUMNS if name not in head]
    if absent:
        raise InputError(f"{path} has no column {absent[0]!r}: give {', '.join(COLUMNS)}, separated by tabs")
    out: dict[str, Entry] = {}
    faults = []
    for number, line in lines[1:]:
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != len(head) or not all(fields[head.index(name)] for name in COLUMNS):
            raise InputError(f"{path}, line {number}: {len(head)} fields are needed, none of them empty")
        row = dict(zip(head, fields, strict=True))
        if row["chromosome"] in out:
            raise InputError(f"{path}, line {number}: chromosome {row['chromosome']!r} occurs twice")
        places = {name: path.parent / row[name] for name in COLUMNS[1:]}
        entry = out[row["chromosome"]] = Entry(row["chromosome"], **places)
        gone = [f"{name} {file}" for name, file in zip(COLUMNS[1:], entry.files, strict=True) if not file.exists()]
        if gone:
            faults.append(f"line {number} (chromosome {entry.chromosome}): {', '.join(gone)}")
    if faults:
        raise InputError(f"{path} names files that do not exist: {'; '.join(faults)}")
    if len(out) < 2:
        raise InputError(f"{path} names {len(out)} chromosome: give at least 2, or read the report of the only one")
    return list(out.values())
