"""PLINK 2: a ``.pgen`` of genotypes with phase, its ``.pvar`` of sites and its ``.psam`` of people.

Hard calls are read; dosages that a ``.pgen`` may hold besides are not. A person is called by the IID; where an IID
occurs twice, all are called ``FID_IID``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from data_prep.alleles import INFO_LINES, is_structural, kept_info
from data_prep.errors import InputError, OutputError
from data_prep.files import read_text, require_file
from data_prep.formats import need
from data_prep.plink1 import SEX_CODES, columns_of, people_of, positions, sexes_of
from data_prep.regions import Region
from data_prep.sexes import Sexes
from data_prep.sources import Records, RecordSource, Sites, rows_at_once
from data_prep.variants import VariantTable
from data_prep.writers import FilesWriter, variant_major

__all__ = ["MAGIC", "PgenSource", "PgenWriter"]

MAGIC = b"\x6c\x1b"
"""The first bytes of a ``.pgen``; in a ``.bed`` the next one is 0 or 1."""

_FEWEST = 12
"""Bytes of the header of a ``.pgen``."""

_PVAR = ("CHROM", "POS", "ID", "REF", "ALT")


def _table(path: Path, *, what: str, key: str) -> tuple[list[str], list[str] | None, list[tuple[int, str]]]:
    """Lines with ``##``, the names of the columns where a line with ``#`` gives them, and the rows."""
    lines = read_text(path, what=what)
    meta = [line for _, line in lines if line.startswith("##")]
    rest = [(number, line) for number, line in lines if not line.startswith("##")]
    head = None
    if rest and rest[0][1].startswith("#"):
        head = rest.pop(0)[1][1:].split()
        if key not in head:
            raise InputError(f"{path}: its column line has no {key}: give the {what}")
    if not rest:
        raise InputError(f"{path} has no rows: give the {what}")
    return meta, head, rest


def read_pvar(path: Path) -> tuple[Sites, tuple[str, ...]]:
    """The sites of a ``.pvar``, and its ``##contig``, ``##reference``, ``##ALT`` and ``##INFO`` lines.

    Raises:
        InputError: the file is absent, compressed with Zstandard, or malformed.
    """
    if not path.exists() and path.with_name(f"{path.name}.zst").exists():
        raise InputError(f"{path}.zst is compressed: decompress it with 'zstd -d'")
    meta, head, rows = _table(path, what=".pvar of the sites", key="POS")
    info: list[str] | None = None
    if head is None:  # as a .bim: contig, ID, perhaps cM, position, ALT, REF
        columns = columns_of(path, rows, (5, 6))
        contig, name, (position, alt, ref) = columns[0], columns[1], columns[-3:]
    else:
        absent = [column for column in _PVAR if column not in head]
        if absent:
            raise InputError(f"{path}: its column line lacks {', '.join(absent)}: give the .pvar of the sites")
        # INFO and what follows may hold blanks; the columns that are needed may not.
        named = dict(zip(head, zip(*_words(path, rows, len(head)), strict=True), strict=False))
        contig, position, name, ref, alt = (list(named[column]) for column in _PVAR)
        if "INFO" in named:
            both = zip(named["INFO"], alt, strict=True)
            info = [kept_info(text) if any(map(is_structural, a.split(","))) else "" for text, a in both]
    kept = tuple(line for line in meta if line.startswith(("##contig=", "##reference=", "##ALT=", "##INFO=")))
    return Sites.of(contig, positions(path, rows, position), name, ref, alt, info), kept


def _words(path: Path, rows: Sequence[tuple[int, str]], width: int) -> Iterator[list[str]]:
    for number, line in rows:
        words = line.split("\t") if "\t" in line else line.split()
        if len(words) != width:
            raise InputError(f"{path}, line {number}: {len(words)} columns where {width} belong: repair the line")
        yield words


def read_psam(path: Path) -> tuple[list[str], Sexes]:
    """The people of a ``.psam``, and their sexes as far as it tells them.

    Raises:
        InputError: the file is absent or malformed.
    """
    _, head, rows = _table(path, what=".psam of the people", key="IID")
    columns = columns_of(path, rows, tuple(range(2, 7)) if head is None else (len(head),))
    if head is None:  # as a .fam
        names = people_of(columns[0], columns[1])
        return names, sexes_of(path, names, columns[4] if len(columns) > 4 else ["0"] * len(names))
    iids = columns[head.index("IID")]
    names = people_of(columns[head.index("FID")] if "FID" in head else iids, iids)
    return names, sexes_of(path, names, columns[head.index("SEX")] if "SEX" in head else ["NA"] * len(names))


class PgenSource(RecordSource):
    """A ``.pgen`` with its ``.pvar`` and ``.psam``, opened and checked.

    Args:
        path: the ``.pgen``.
        samples: people to read, in this order; all if ``None``.

    Raises:
        InputError: a file is absent or malformed, they do not fit together, or Pgenlib is not installed.
    """

    def __init__(self, path: Path, *, samples: Sequence[str] | None = None) -> None:
        library = need("pgenlib", extra="plink", path=path)
        require_file(path, what="PLINK 2 .pgen")
        psam, pvar = path.with_suffix(".psam"), path.with_suffix(".pvar")
        names, sexes = read_psam(psam)
        self._sites, lines = read_pvar(pvar)
        header = tuple(line for line in lines if line.startswith(("##contig=", "##reference=")))
        super().__init__(path, names, samples=samples, header=header)
        self.declared = tuple(line for line in lines if line not in header)
        self.sexes = sexes
        with path.open("rb") as handle:
            head = handle.read(_FEWEST)
        if head[:2] != MAGIC or len(head) < _FEWEST:
            raise InputError(f"{path} is no PLINK 2 .pgen: it must start with the bytes 6c 1b; make it with plink2")
        m, n = (int.from_bytes(head[k : k + 4], "little") for k in (3, 7))
        for what, there, here, file in (("people", n, len(names), psam), ("sites", m, len(self._sites), pvar)):
            if there != here:
                raise InputError(
                    f"{path} holds {there:,} {what} but {file.name} lists {here:,}: the files do not belong together"
                )
        alleles = np.array([2 + alt.count(",") for alt in self._sites.alt], dtype=np.uintp)
        offsets = np.concatenate([[0], np.cumsum(alleles)]).astype(np.uintp)
        try:
            self._pgen = library.PgenReader(
                str(path).encode(), raw_sample_ct=n, variant_ct=m, allele_idx_offsets=offsets
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        said = " ".join(str(error).split()).rstrip(".")
        return InputError(f"{self.path} is truncated or corrupt ({said}): copy the three files again")

    def contigs(self) -> dict[str, int]:
        return self._sites.counts()

    def _records(self, region: Region | None) -> Iterator[Records]:
        n = len(self.everybody)
        for rows in self._spans(self._sites, region, step=rows_at_once(n, bytes_per_call=8)):
            size = rows.stop - rows.start
            alleles, phased = np.empty((size, 2 * n), dtype=np.int32), np.empty((size, n), dtype=np.uint8)
            try:
                self._pgen.read_alleles_and_phasepresent_range(rows.start, rows.stop, alleles, phased)
            except (RuntimeError, OSError, ValueError) as error:
                raise self._damaged(error) from error
            small = alleles.astype(np.int8).reshape(size, n, 2)
            yield Records(self._sites[rows], small, phased.view(np.bool_))


class PgenWriter(FilesWriter):
    """Writes ``.pgen``, ``.pvar`` and ``.psam``, chunk by chunk; half-calls become missing ones.

    Pgenlib must be told the number of variants before the first. Where it is not known, calls wait in a compressed file
    of the hidden folder until the last has come.
    """

    haploid = "by sex"
    info = True

    def __init__(
        self,
        path: Path,
        samples: list[str],
        *,
        header: tuple[str, ...] = (),
        sexes: Mapping[str, str] | None = None,
        n_variants: int | None = None,
    ) -> None:
        self._library = need("pgenlib", extra="plink", path=path)
        super().__init__(path, samples, header=header, sexes=sexes)
        self._infos: dict[int, str] = {}
        pvar, psam = self._beside
        self._pgen: Any = None
        self._waiting: Any = None
        self._calls = self._folder / "calls.gz"
        try:
            rows = (f"{self._person(name)}\t{SEX_CODES.get(self.sexes.get(name, ''), 'NA')}\n" for name in self.samples)
            text = "#IID\tSEX\n" + "".join(rows)
            self._guard(lambda: psam.write_text(text))
            self._pvar = self._guard(lambda: pvar.open("w"))
            lines = [*header, "#" + "\t".join(_PVAR)]
            self._guard(lambda: self._pvar.writelines(f"{line}\n" for line in lines))
            if n_variants is None:
                self._waiting = self._guard(lambda: igzip.open(self._calls, "wb", 0))
            else:
                self._pgen = self._open(n_variants)
        except BaseException:
            self.abort()
            raise

    def _person(self, name: str) -> str:
        if name == "0":
            raise OutputError(f"{self.path}: the sample name '0' cannot be written to PLINK 2: rename it")
        return self.word(name, "sample name")

    def _open(self, n_variants: int) -> Any:
        if not n_variants:
            raise OutputError(f"{self.path}: there are no variants, and a .pgen must have one")
        return self._library.PgenWriter(
            str(self.hidden).encode(), len(self.samples), variant_ct=n_variants, nonref_flags=False,
            hardcall_phase_present=True,
        )  # fmt: skip

    def _append(self, chunk: VariantTable, part: slice) -> None:
        h, phased = variant_major(chunk, part)
        for contig, position, name, ref, alt in self.site_words(chunk, part):
            self._pvar.write(f"{contig}\t{position}\t{name}\t{ref}\t{alt}\n")
        if "info" in chunk.sites.columns:
            infos = enumerate(chunk.sites["info"].iloc[part], self.n_variants)
            self._infos |= {j: self.word(info, "INFO") for j, info in infos if info}
        if self._waiting is None:
            self._encode(h, phased)
            return
        # One byte a call: both alleles + 1, and the phase.
        code = (h[:, :, 0] + 1) | (h[:, :, 1] + 1) << 2
        self._waiting.write((code | (16 if phased is None else phased.astype(np.int8) << 4)).tobytes())

    def _encode(self, h: NDArray[np.int8], phased: NDArray[np.bool_] | None) -> None:
        wide = h.reshape(len(h), -1).astype(np.int32)
        if wide.size and wide.min() < 0:
            wide[np.repeat((h < 0).any(axis=2), 2, axis=1)] = -9
        try:
            if phased is None:
                self._pgen.append_alleles_batch(wide, all_phased=True)
            else:
                self._pgen.append_partially_phased_batch(wide, phased.view(np.uint8))
        except RuntimeError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> OutputError:
        said = " ".join(str(error).split()).rstrip(".")
        return OutputError(f"{self.path} cannot be written ({said}): check the folder and the free space")

    def _finish(self) -> None:
        self._pvar.close()
        if self._infos:
            self._add_infos()
        if self._waiting is not None:
            self._waiting.close()
            self._pgen = self._open(self.n_variants)
            n = len(self.samples)
            with igzip.open(self._calls, "rb") as waiting:
                while text := waiting.read(n * rows_at_once(n, bytes_per_call=8)):
                    code = np.frombuffer(text, dtype=np.int8).reshape(-1, n)
                    self._encode(np.stack([(code & 3) - 1, (code >> 2 & 3) - 1], axis=2), (code >> 4).view(np.bool_))
            self._calls.unlink()
        try:
            self._pgen.close()
        except RuntimeError as error:
            raise self._refused(error) from error

    def _add_infos(self) -> None:
        """Writes the sites again, with a column INFO."""
        whole = self._folder / "infos"
        keys = {field.partition("=")[0] for info in self._infos.values() for field in info.split(";")}
        text = "\n".join(self.header)
        lines = [INFO_LINES[key] for key in INFO_LINES if key in keys and f"##INFO=<ID={key}," not in text]
        with self._beside[0].open() as plain, whole.open("w") as out:
            j = 0
            for line in plain:
                if line.startswith("##"):
                    out.write(line)
                elif line.startswith("#"):
                    out.writelines(f"{extra}\n" for extra in lines)
                    out.write(f"{line[:-1]}\tINFO\n")
                else:
                    out.write(f"{line[:-1]}\t{self._infos.get(j, '.')}\n")
                    j += 1
        whole.replace(self._beside[0])

    def _drop(self) -> None:
        for name in ("_pvar", "_waiting"):
            handle = self.__dict__.get(name)
            if handle is not None:
                with contextlib.suppress(OSError):
                    handle.close()
