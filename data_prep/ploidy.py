"""How many copies of a chromosome a call is of, and what is made of calls that have one.

A :class:`~data_prep.variants.VariantTable` is diploid. Haploid calls belong to X outside the pseudo-autosomal regions
(PAR), where men are paired (:mod:`data_prep.sexes`), to Y and to mitochondria, which are refused; anywhere else a
record with one is removed as ``non-diploid``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.builds import Build, Kind, kind_of
from data_prep.errors import InputError, PloidyError
from data_prep.filters import Tally
from data_prep.sexes import Pairs, Sexes
from data_prep.variants import VariantTable

if TYPE_CHECKING:
    from data_prep.records import SiteBlock

__all__ = ["Ploidy", "without_haploid"]


def without_haploid(block: SiteBlock, tally: Tally) -> SiteBlock:
    """The block without the records in which some call is haploid; they count as ``non-diploid``."""
    if block.haploid is None:
        return block
    rows = block.haploid.any(axis=1)
    tally.remove("non-diploid", int(rows.sum()))
    return replace(block.take(np.flatnonzero(~rows)), haploid=None)


class Ploidy:
    """Turns the blocks of a file into diploid ones.

    Args:
        path: the file, for messages.
        names: its people.
        build: of the genome, if known.
        sexes: of the people, if given; used on X alone.

    Attributes:
        pairs: the rows of X outside PAR, once such records have been seen.
    """

    def __init__(self, path: Path, names: Sequence[str], *, build: Build | None, sexes: Sexes | None) -> None:
        self._path, self._names, self._build, self._sexes = path, names, build, sexes
        self.pairs: Pairs | None = None
        self._outside: bool | None = None

    def diploid(self, block: SiteBlock, tally: Tally) -> SiteBlock:
        """The block with two haplotypes a row, and without haploid calls.

        Raises:
            InputError: Y or mitochondria; on X calls that sexes and build do not allow, or no sexes where calls are
                haploid.
        """
        kind = kind_of(block.contig, self._build)
        if block.haploid is None and not (kind and (kind != "X" or self._sexes is not None)):
            return block
        if kind in ("Y", "MT"):
            raise self._not_diploid(block.contig, kind)
        if kind != "X":
            return without_haploid(block, tally)
        if self._sexes is None:
            raise self._no_sexes(block)
        return self._on_x(block, self._sexes)

    def notes(self, table: VariantTable) -> tuple[str, ...]:
        """What there is to say of the people of a table that was read, in lines."""
        contig = str(table.sites["contig"].iloc[0])
        if self.pairs is not None and self._build is not None:
            return self.pairs.notes(f"{contig} outside the pseudo-autosomal regions of {self._build.name}")
        if kind_of(contig, self._build) != "X" or self._sexes is not None or self._build is None:
            return ()
        if not self._build.outside(table.sites["position"].to_numpy()).any():
            return ()
        return (f"{contig} is read as diploid: if some of the people are men, say so with --sex",)

    def _on_x(self, block: SiteBlock, sexes: Sexes) -> SiteBlock:
        if self._build is None:
            raise InputError(
                f"{self._path}: the header does not tell the build, and so not where the pseudo-autosomal regions of "
                f"{block.contig} lie: give --build GRCh37 or --build GRCh38"
            )
        outside = self._build.outside(block.position)
        seen = set(outside.tolist()) | ({self._outside} - {None})
        if len(seen) > 1:
            raise InputError(
                f"{self._path} has records of {block.contig} on both sides of a border of a pseudo-autosomal region of "
                f"{self._build.name}: give one --region of {self._build.parts(block.contig)}"
            )
        self._outside = bool(seen.pop()) if seen else self._outside
        pairs = self.pairs or Pairs.of(self._names, sexes)
        haploid = np.zeros(block.haplotypes.shape[:2], dtype=bool) if block.haploid is None else block.haploid
        if not self._outside:
            self._refuse(block, haploid, f"haploid in a pseudo-autosomal region of {self._build.name}", "--build")
            return replace(block, haploid=None)
        self.pairs = pairs
        self._refuse(block, haploid & ~pairs.men, f"haploid, but a woman in {sexes.source}", "the sex")
        het = (block.haplotypes[:, :, 0] != block.haplotypes[:, :, 1]) & pairs.men
        where = f"outside the pseudo-autosomal regions of {self._build.name}"
        self._refuse(block, het, f"heterozygous {where}, but a man in {sexes.source}", "the sex, or the build")
        return replace(
            block,
            haplotypes=pairs.haplotypes(block.haplotypes),
            phased=None if block.phased is None else pairs.phased(block.phased),
            haploid=None,
        )

    def _refuse(self, block: SiteBlock, wrong: np.ndarray, what: str, check: str) -> None:
        if wrong.any():
            j, i = np.argwhere(wrong)[0]
            raise InputError(
                f"{self._path}: {block.contig}:{block.position[j]}: sample {self._names[i]!r} is {what} "
                f"({int(wrong.any(axis=0).sum()):,} such people from there on): check {check}"
            )

    def _no_sexes(self, block: SiteBlock) -> PloidyError:
        assert block.haploid is not None
        j, i = np.argwhere(block.haploid)[0]
        return PloidyError(
            f"{self._path}: {block.contig}:{block.position[j]}: the call of sample {self._names[i]!r} is haploid",
            "say who is a man with --sex (a table of sample and sex), or in a column sex of the panel",
        )

    def _not_diploid(self, contig: str, kind: Kind) -> PloidyError:
        what = "mitochondria have" if kind == "MT" else "Y has"
        return PloidyError(
            f"{self._path}: {contig} is not read, for {what} one copy and what is learned are pairs of haplotypes",
            "give an autosome or X with --region",
        )
