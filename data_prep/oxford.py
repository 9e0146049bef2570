"""Oxford ``.haps`` and ``.sample``, as SHAPEIT, PLINK 2 and ``bcftools convert --hapsample`` write them.

A line is a site: contig, ID, position, first and second allele, then two alleles of every person as 0, 1, ``?``
(missing); ``*`` behind both alleles of a call says that it is unphased. bcftools may write CONTIG:POS_REF_ALT for the
contig. The first allele is taken for REF, as bcftools writes it, and PLINK 2 with ``--export haps ref-first`` alone.
A person is called by the column ``ID_2``; where one occurs twice, all are called ``ID_1_ID_2``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.files import check_whole, iter_text_lines, read_text, require_file, sniff
from data_prep.plink1 import columns_of, people_of
from data_prep.regions import Region
from data_prep.sources import Records, RecordSource, Sites, rows_at_once
from data_prep.variants import VariantTable
from data_prep.writers import FilesWriter, variant_major

__all__ = ["ENDINGS", "HapsSource", "HapsWriter"]

ENDINGS = (".haps.gz", ".hap.gz", ".haps", ".hap")
"""Of names that are read; bcftools writes ``.hap.gz``."""

_CALLS = np.frombuffer(b"?01", dtype=np.uint8)


def read_sample(path: Path) -> list[str]:
    """The people of a ``.sample``: two lines of columns and their kinds, then one person a line.

    Raises:
        InputError: the file is absent or malformed.
    """
    lines = read_text(path, what=".sample of the people")
    head = lines[0][1].split()
    if head[:1] not in (["ID_1"], ["ID"]) or len(lines) < 3 or set(lines[1][1].split()) - set("0DBCP"):
        raise InputError(f"{path} is no Oxford .sample: it must start with the lines 'ID_1 ID_2 missing' and '0 0 0'")
    columns = columns_of(path, lines[2:], (len(head),))
    return people_of(columns[0], columns[1] if head[:2] == ["ID_1", "ID_2"] else columns[0])


class HapsSource(RecordSource):
    """A ``.haps`` with its ``.sample``, opened and checked.

    Args:
        path: the ``.haps``, plain or gzip.
        samples: people to read, in this order; all if ``None``.

    Raises:
        InputError: a file is absent, damaged or malformed.
    """

    def __init__(self, path: Path, *, samples: Sequence[str] | None = None) -> None:
        require_file(path, what="Oxford .haps")
        check_whole(path, sniff(path))
        start = path.name.removesuffix(next(e for e in ENDINGS if path.name.endswith(e)))
        beside = [path.with_name(f"{start}{ending}") for ending in (".sample", ".samples")]
        super().__init__(path, read_sample(next((p for p in beside if p.exists()), beside[0])), samples=samples)

    def contigs(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for _, line in iter_text_lines(self.path):
            words = line.split(maxsplit=5)
            if words:
                contig = _contig(words)
                counts[contig] = counts.get(contig, 0) + 1
        return counts

    def _records(self, region: Region | None) -> Iterator[Records]:
        n = len(self.everybody)
        step = rows_at_once(n, bytes_per_call=4)
        rows: list[tuple[str, ...]] = []
        alleles, phased = np.empty((step, n, 2), dtype=np.int8), np.empty((step, n), dtype=bool)
        for number, line in iter_text_lines(self.path):
            words = line.split(maxsplit=5)
            if not words:
                continue
            if len(words) < 6 or not words[2].isdigit():
                raise InputError(
                    f"{self.path}, line {number} is malformed: contig, ID, position, two alleles and the calls of "
                    f"{n:,} people belong there"
                )
            _, name, position, ref, alt, calls = words
            contig = _contig(words)
            k = len(rows)
            self._calls(number, calls, alleles[k], phased[k])
            rows.append((contig, position, name, ref, alt))
            if len(rows) == step:
                yield _filled(rows, alleles, phased)
                rows = []
        if rows:
            yield _filled(rows, alleles[: len(rows)], phased[: len(rows)])

    def _calls(self, number: int, text: str, alleles: NDArray[np.int8], phased: NDArray[np.bool_]) -> None:
        """The calls of one line."""
        line = np.frombuffer(text.rstrip().encode(), dtype=np.uint8)
        n = len(alleles)
        star = line == ord("*")
        marks: NDArray[np.intp] | None = None
        if star.any():
            # Behind which allele a star stands.
            marks = np.cumsum(~star)[star] // 2
            line = line[~star]
        codes = line[0::2].astype(np.int16) - ord("0")
        codes[line[0::2] == ord("?")] = -1
        if len(line) != 4 * n - 1 or (line[1::2] != ord(" ")).any() or (codes < -1).any() or (codes > 1).any():
            found = len(text.split())
            what = f"{found:,} alleles" if found != 2 * n else "something that is neither 0, 1 nor ?"
            raise InputError(f"{self.path}, line {number}: {what} where {2 * n:,} alleles belong: repair the line")
        alleles[:] = codes.reshape(n, 2)
        phased[:] = True
        if marks is not None:
            phased[marks // 2] = False


def _contig(words: list[str]) -> str:
    """The contig of a line, without what bcftools may add to it."""
    return words[0].removesuffix(f":{words[2]}_{words[3]}_{words[4]}") if len(words) > 4 else words[0]


def _filled(rows: list[tuple[str, ...]], alleles: NDArray[np.int8], phased: NDArray[np.bool_]) -> Records:
    contig, position, name, ref, alt = zip(*rows, strict=True)
    return Records(Sites.of(contig, map(int, position), name, ref, alt), alleles, phased)


class HapsWriter(FilesWriter):
    """Writes ``.haps`` (or ``.haps.gz``) and ``.sample``, chunk by chunk; unphased heterozygous calls have stars."""

    def __init__(self, path: Path, samples: list[str], *, header: tuple[str, ...] = ()) -> None:
        super().__init__(path, samples, header=header)
        (sample,) = self._beside
        self._haps: Any = None
        try:
            names = [self.word(name, "sample name") for name in self.samples]
            text = "ID_1 ID_2 missing\n0 0 0\n" + "".join(f"{name} {name} 0\n" for name in names)
            self._guard(lambda: sample.write_text(text))
            pack = self.hidden.suffix == ".gz"
            self._haps = self._guard(lambda: igzip.open(self.hidden, "wb") if pack else self.hidden.open("wb"))
        except BaseException:
            self.abort()
            raise

    def _append(self, chunk: VariantTable, part: slice) -> None:
        h, phased = variant_major(chunk, part)
        text = np.full((*h.shape, 3), ord(" "), dtype=np.uint8)
        text[..., 0] = _CALLS[h + 1]
        text[..., 1] = 0
        if phased is not None:
            text[..., 1][~phased & (h[:, :, 0] != h[:, :, 1])] = ord("*")
        for j, (contig, position, name, ref, alt) in enumerate(self.site_words(chunk, part)):
            line = text[j].reshape(-1)
            line[-1] = ord("\n")
            self._haps.write(f"{contig} {name} {position} {ref} {alt} ".encode())
            self._haps.write(line[line != 0].tobytes())

    def _finish(self) -> None:
        self._haps.close()

    def _drop(self) -> None:
        if self._haps is not None:
            self._haps.close()
