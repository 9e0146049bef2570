"""PLINK 1: a ``.bed`` of genotypes without phase, its ``.bim`` of sites and its ``.fam`` of people.

A1 (the fifth column of the ``.bim``) is ALT and A2 is REF, as PLINK 2 writes them; PLINK 1.9 without
``--keep-allele-order`` makes the rarer allele A1. A person is called by the IID; where an IID occurs twice, all are
called ``FID_IID``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.files import read_text, require_file
from data_prep.formats import need
from data_prep.regions import Region
from data_prep.sexes import Sexes, sex_of
from data_prep.sources import Records, RecordSource, Sites, rows_at_once
from data_prep.variants import VariantTable
from data_prep.writers import FilesWriter, variant_major

__all__ = ["MAGIC", "SEX_CODES", "BedSource", "BedWriter", "columns_of", "people_of", "read_bim", "sexes_of"]

SEX_CODES = {"M": "1", "F": "2"}
"""Of men and women in .fam and .psam."""

MAGIC = b"\x6c\x1b\x01"
"""The first bytes of a ``.bed`` that has one site after the other."""

_ABSENT = -127
_CODES = np.array([1, 3, 2, 0], dtype=np.uint8)
"""The two bits of a call, by dosage + 1: missing, no A1, one, two."""


def columns_of(path: Path, lines: Sequence[tuple[int, str]], counts: tuple[int, ...]) -> list[list[str]]:
    """Columns of a table of words, one line after the other.

    Raises:
        InputError: a line with another number of words than any of ``counts``, or than the first line has.
    """
    rows = [(number, line.split()) for number, line in lines]
    width = len(rows[0][1]) if rows else counts[0]
    for number, words in rows:
        if len(words) not in counts or len(words) != width:
            wanted = " or ".join(map(str, counts)) if width not in counts else width
            raise InputError(f"{path}, line {number}: {len(words)} columns where {wanted} belong: repair the line")
    return [list(column) for column in zip(*(words for _, words in rows), strict=True)]


def positions(path: Path, lines: Sequence[tuple[int, str]], texts: Sequence[str]) -> list[int]:
    """Positions in bp.

    Raises:
        InputError: a text that is no whole number.
    """
    try:
        return [int(text) for text in texts]
    except ValueError:
        j = next(j for j, text in enumerate(texts) if not text.lstrip("+-").isdigit())
        raise InputError(f"{path}, line {lines[j][0]}: the position {texts[j]!r} is no whole number of bp") from None


def people_of(fids: Sequence[str], iids: Sequence[str]) -> list[str]:
    """Names of people: the IID, or ``FID_IID`` for all where an IID occurs twice."""
    if len(set(iids)) == len(iids):
        return list(iids)
    return [f"{fid}_{iid}" for fid, iid in zip(fids, iids, strict=True)]


def sexes_of(path: Path, names: Sequence[str], texts: Sequence[str]) -> Sexes:
    """Sexes of the people of a ``.fam`` or ``.psam``; whose is not told is absent."""
    found = zip(names, map(sex_of, texts), strict=True)
    return Sexes({name: sex for name, sex in found if sex is not None}, source=str(path), own=True)


def read_bim(path: Path) -> Sites:
    """The sites of a ``.bim``; negative positions (PLINK skips such sites) become 0.

    Raises:
        InputError: the file is absent or malformed.
    """
    lines = read_text(path, what=".bim of the sites")
    contig, name, _, position, a1, a2 = columns_of(path, lines, (6,))
    return Sites.of(contig, [max(0, p) for p in positions(path, lines, position)], name, a2, a1)


class BedSource(RecordSource):
    """A ``.bed`` with its ``.bim`` and ``.fam``, opened and checked.

    Args:
        path: the ``.bed``.
        samples: people to read, in this order; all if ``None``.

    Raises:
        InputError: a file is absent or malformed, they do not fit together, or bed-reader is not installed.
    """

    def __init__(self, path: Path, *, samples: Sequence[str] | None = None) -> None:
        library = need("bed_reader", extra="plink", path=path)
        require_file(path, what="PLINK 1 .bed")
        fam = path.with_suffix(".fam")
        fids, iids, _, _, sex, _ = columns_of(fam, read_text(fam, what=".fam of the people"), (6,))
        names = people_of(fids, iids)
        super().__init__(path, names, samples=samples)
        self.sexes = sexes_of(fam, names, sex)
        self._sites = read_bim(path.with_suffix(".bim"))
        with path.open("rb") as handle:
            head = handle.read(3)
        if head != MAGIC:
            kind = "has one person after the other" if head[:2] == MAGIC[:2] else "is no PLINK 1 .bed"
            raise InputError(f"{path} {kind}: it must start with the bytes 6c 1b 01; make it with 'plink2 --make-bed'")
        n, m = len(self.everybody), len(self._sites)
        size, wanted = path.stat().st_size, 3 + m * -(-n // 4)
        if size != wanted:
            state = "truncated" if size < wanted else "too long"
            raise InputError(
                f"{path} is {state}: {size:,} bytes where {n:,} people of {fam.name} at {m:,} sites of its .bim "
                f"take {wanted:,}; copy the three files again"
            )
        # Its own readers of .bim and .fam stay unused: nothing is to be found out by them.
        self._bed = library.open_bed(path, iid_count=n, sid_count=m, skip_format_check=True)

    def contigs(self) -> dict[str, int]:
        return self._sites.counts()

    def _records(self, region: Region | None) -> Iterator[Records]:
        step = rows_at_once(len(self.everybody), bytes_per_call=4)
        for rows in self._spans(self._sites, region, step=step):
            dosage = self._bed.read(np.s_[:, rows], dtype="int8", order="F", num_threads=1).T
            alleles = np.empty((*dosage.shape, 2), dtype=np.int8)
            alleles[:, :, 0], alleles[:, :, 1] = dosage == 2, dosage >= 1
            alleles[dosage == _ABSENT] = -1
            yield Records(self._sites[rows], alleles, np.zeros(dosage.shape, dtype=bool))


class BedWriter(FilesWriter):
    """Writes ``.bed``, ``.bim`` and ``.fam``, chunk by chunk; half-calls become missing ones, phase is lost.

    The two bits are packed here, since the writer of bed-reader must be told the number of sites beforehand.
    """

    haploid = "by sex"

    def __init__(
        self,
        path: Path,
        samples: list[str],
        *,
        header: tuple[str, ...] = (),
        sexes: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, samples, header=header, sexes=sexes)
        self._unphased = 0
        bim, fam = self._beside
        try:
            rows = (
                f"0\t{self.word(name, 'sample name')}\t0\t0\t{SEX_CODES.get(self.sexes.get(name, ''), '0')}\t-9\n"
                for name in self.samples
            )
            self._guard(lambda: fam.write_text("".join(rows)))
            self._bim = self._guard(lambda: bim.open("w"))
            self._bed = self._guard(lambda: self.hidden.open("wb"))
            self._guard(lambda: self._bed.write(MAGIC))
        except BaseException:
            self.abort()
            raise

    def _append(self, chunk: VariantTable, part: slice) -> None:
        h, phased = variant_major(chunk, part)
        words = self.site_words(chunk, part)
        self._bim.writelines(f"{contig}\t{name}\t0\t{bp}\t{alt}\t{ref}\n" for contig, bp, name, ref, alt in words)
        dosage = h[:, :, 0] + h[:, :, 1]
        dosage[(h < 0).any(axis=2)] = -1
        het = dosage == 1
        self._unphased += int((het if phased is None else het & phased).sum())
        self._bed.write(_packed(_CODES[dosage + 1]).tobytes())

    def _finish(self) -> None:
        self._bim.close()
        self._bed.close()

    def _drop(self) -> None:
        for handle in ("_bim", "_bed"):
            if handle in self.__dict__:
                self.__dict__[handle].close()

    def notes(self) -> list[str]:
        """How many calls have lost their phase."""
        if not self._unphased:
            return super().notes()
        return [
            *super().notes(),
            f"PLINK 1 holds no phase: {self._unphased:,} heterozygous calls are written without theirs",
        ]


def _packed(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Four two-bit codes to a byte, the first lowest: (variants, samples) → (variants, ⌈samples/4⌉)."""
    full = np.zeros((len(codes), -(-codes.shape[1] // 4) * 4), dtype=np.uint8)
    full[:, : codes.shape[1]] = codes
    return full[:, 0::4] | full[:, 1::4] << 2 | full[:, 2::4] << 4 | full[:, 3::4] << 6
