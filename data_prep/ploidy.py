"""How many copies of a chromosome a call is of, and what is made of calls that have one.

A :class:`~data_prep.variants.VariantTable` is diploid. Haploid calls belong to X outside the pseudo-autosomal regions
(PAR), where men are paired (:mod:`data_prep.sexes`), to Y and to mitochondria, which are refused; anywhere else a
record with one is removed as ``non-diploid``. From file to file they go as they are: :class:`Copies`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.builds import BUILDS, Build, Kind, kind_of
from data_prep.errors import InputError, PloidyError
from data_prep.filters import Tally
from data_prep.sexes import Pairs, Sexes
from data_prep.variants import VariantTable

if TYPE_CHECKING:
    from data_prep.records import SiteBlock
    from data_prep.regions import Region
    from data_prep.sources import Source

__all__ = ["Copies", "Ploidy", "numbered", "own_sexes", "without_haploid"]


def own_sexes(source: Source, region: Region | None, build: Build | None) -> Sexes | None:
    """The sexes that a file itself tells, where X is read and men are among the people; ``None`` elsewhere."""
    own = source.sexes
    if own is None or all(own.of.get(name) != "M" for name in source.samples):
        return None
    contigs = source.contigs() if region is None else (region.contig,)
    return own if any(kind_of(contig, build) == "X" for contig in contigs) else None


def numbered(source: Source, contig: str, build: Build | None) -> tuple[str, ...]:
    """A line on a contig that is X if the genome is human, where the file knows men and nobody knows the build."""
    men = source.sexes is not None and any(source.sexes.of.get(name) == "M" for name in source.samples)
    if not men or build is not None or kind_of(contig) or kind_of(contig, BUILDS[0]) != "X":
        return ()
    return (f"{contig} is read as diploid: if it is the human X, say the build with --build GRCh37 or --build GRCh38",)


def _as_diploid(contig: str) -> str:
    return f"{contig} is read as diploid: if some of the people are men, say so with --sex"


def _refuse(path: Path, names: Sequence[str], block: SiteBlock, wrong: np.ndarray, what: str, check: str) -> None:
    if wrong.any():
        j, i = np.argwhere(wrong)[0]
        raise InputError(
            f"{path}: {block.contig}:{block.position[j]}: sample {names[i]!r} is {what} "
            f"({int(wrong.any(axis=0).sum()):,} such people from there on): check {check}"
        )


def _no_build(path: Path, contig: str) -> InputError:
    return InputError(
        f"{path}: the header does not tell the build, and so not where the pseudo-autosomal regions of "
        f"{contig} lie: give --build GRCh37 or --build GRCh38"
    )


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
        if self.pairs is not None and self._build is not None and self._sexes is not None:
            by = f", by {self._sexes.source}" if self._sexes.own else ""
            return self.pairs.notes(f"{contig} outside the pseudo-autosomal regions of {self._build.name}{by}")
        if kind_of(contig, self._build) != "X" or self._sexes is not None:
            return ()
        if self._build is not None and not self._build.outside(table.sites["position"].to_numpy()).any():
            return ()
        return (_as_diploid(contig),)

    def _on_x(self, block: SiteBlock, sexes: Sexes) -> SiteBlock:
        if self._build is None:
            raise _no_build(self._path, block.contig)
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
        _refuse(self._path, self._names, block, wrong, what, check)

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


class Copies:
    """Marks the calls of one copy in the blocks of a file that go on to another file, with nobody paired or left out.

    Haploid calls stay what they are. On X outside PAR men have one copy by ``sexes``, and in PLINK, which has two equal
    alleles for one, everybody on Y and mitochondria. A heterozygous call stays, and is counted.

    Args:
        source: the file.
        build: of the genome, if known.
        sexes: of the people, used on X alone; people of unknown sex, whom only the file's own may have, count as women.
        mark: whether calls are marked that the file does not hold as haploid; PLINK to PLINK has no need of it.

    Raises:
        InputError: people without a sex.
    """

    def __init__(self, source: Source, *, build: Build | None, sexes: Sexes | None, mark: bool = True) -> None:
        self._mark = mark
        self._source, self._build, self._sexes = source, build, sexes
        self._contig = ""
        self._one = self._two = self._het = 0
        if sexes is None:
            self._men = self._women = np.zeros(len(source.samples), dtype=bool)
        else:
            known = np.array([name in sexes.of for name in source.samples], dtype=bool)
            self._men = np.array([sexes.of.get(name) == "M" for name in source.samples], dtype=bool)
            self._women = known & ~self._men

    def marked(self, block: SiteBlock) -> SiteBlock:
        """The block with all calls of one copy among its haploid ones.

        Raises:
            InputError: calls on X that sexes and build do not allow.
        """
        self._contig = block.contig
        kind = kind_of(block.contig, self._build)
        if self._mark and kind in ("Y", "MT") and self._source.sexes is not None:
            return self._with(block, np.ones(len(self._men), dtype=bool)[None, :])
        if kind != "X":
            return block
        if self._sexes is None:
            outside = np.ones(1, dtype=bool) if self._build is None else self._build.outside(block.position)
            self._two += int(outside.any())
            self._one += int(block.haploid is not None)
            return block
        if not self._sexes.own:
            self._sexes.men(self._source.samples)  # refuses people without a sex
        if not self._mark:
            return block
        if self._build is None:
            raise _no_build(self._source.path, block.contig)
        outside = self._build.outside(block.position)[:, None]
        if block.haploid is not None:
            said = (self._source.path, self._source.samples, block)
            name = self._build.name
            _refuse(*said, block.haploid & ~outside, f"haploid in a pseudo-autosomal region of {name}", "--build")
            _refuse(*said, block.haploid & self._women, f"haploid, but a woman in {self._sexes.source}", "the sex")
        return self._with(block, outside & self._men)

    def _with(self, block: SiteBlock, one: np.ndarray) -> SiteBlock:
        """The block whose homozygous and missing calls are haploid where there is one copy."""
        same = block.haplotypes[:, :, 0] == block.haplotypes[:, :, 1]
        self._het += int((one & ~same).sum())
        self._one += int(one.any())
        haploid = (one & same) if block.haploid is None else block.haploid | (one & same)
        return replace(block, haploid=haploid if haploid.any() else None)

    def notes(self) -> tuple[str, ...]:
        """What was done by sex, and what was not, in lines."""
        kind = kind_of(self._contig, self._build)
        if kind == "X" and self._sexes is None:
            return (_as_diploid(self._contig),) if self._two and not self._one else ()
        if not self._mark:
            return ()
        if not self._one:
            return numbered(self._source, self._contig, self._build)
        lines = []
        if kind == "X" and self._sexes is not None and self._build is not None:
            unknown = len(self._men) - int((self._men | self._women).sum())
            lines.append(
                f"{self._contig} outside the pseudo-autosomal regions of {self._build.name}: "
                f"{int(self._men.sum()):,} men with one copy, by {self._sexes.source}"
                + f"; {unknown:,} people of unknown sex are read as diploid"
                * bool(unknown)
            )
        if self._het:
            lines.append(f"{self._contig}: {self._het:,} heterozygous calls where there is one copy keep both alleles")
        return tuple(lines)
