"""Chromosomes as the commands for several of them read them: those of which everybody has two copies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_prep.errors import InputError, PloidyError
from data_prep.filters import FilterReport
from data_prep.readers import read_variants
from data_prep.variants import VariantTable

__all__ = ["Parts", "read_autosome"]


def read_autosome(path: str | os.PathLike[str], **options: Any) -> tuple[VariantTable, FilterReport]:
    """What :func:`data_prep.readers.read_variants` returns of a chromosome, without sexes.

    Args:
        path: genotypes of one chromosome.
        options: those of :func:`data_prep.readers.read_variants`.

    Raises:
        InputError: the file cannot be used, or has haploid calls of X, or Y or mitochondria.
    """
    try:
        return read_variants(path, **options)
    except PloidyError as error:
        raise InputError(
            f"{error.found}: where chromosomes of the same people go together, autosomes alone are read; "
            "X goes by itself through genodiff synthesize --sex"
        ) from error


class Parts:
    """The parts of the genome that were read, none of them twice: two of the same place would agree by themselves."""

    def __init__(self) -> None:
        self._known: list[tuple[str, int, int, Path]] = []

    def add(self, path: Path, table: VariantTable) -> None:
        """Notes where the sites of a file lie.

        Raises:
            InputError: they lie among those of a file before, on the same contig.
        """
        contig = str(table.sites["contig"].iloc[0])
        start, end = int(table.sites["position"].min()), int(table.sites["position"].max())
        name = contig.removeprefix("chr")
        for other, first, last, before in self._known:
            if other == name and start <= last and first <= end:
                raise InputError(
                    f"{path}: {contig}:{start}-{end} overlaps {first}-{last} of {before}: "
                    "give every part of the genome once, in one file"
                )
        self._known.append((name, start, end, path))
