"""One door for every output: :func:`write_variants` for a table, :func:`open_writer` for chunks that stream."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from data_prep.builds import build_of, kind_of
from data_prep.errors import OutputError
from data_prep.formats import FORMATS, companions, output_format
from data_prep.records import SiteOrder
from data_prep.variants import VariantTable
from data_prep.vcf_write import VcfWriter

__all__ = ["FilesWriter", "Writer", "open_writer", "variant_major", "write_variants"]

T = TypeVar("T")

_BYTES = 1 << 24
_BLANK = re.compile(r"\s")


class Writer(Protocol):
    """Takes chunks of variants of the same people; the files appear when the block ends without an error."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def write(self, chunk: VariantTable) -> None:
        """Append the variants of a table whose people are those of the file."""


class FilesWriter(ABC):
    """What all writers but that of VCF share: files in a hidden folder that move into place at the end.

    Args:
        path: the target, whose ending is one of the format's.
        samples: names of the people, in the order of the rows of every chunk.
        header: ``##contig`` and ``##reference`` lines, for formats that keep them.
        sexes: ``M`` or ``F`` by sample name, for formats that keep them.

    Attributes:
        haploid: whether the format holds haploid calls as they are; ``by sex`` where it has two equal alleles instead
            and the sex tells that they are one.
        info: whether it holds the INFO fields of structural variants.

    Raises:
        OutputError: the folder cannot be written to.
    """

    haploid: Literal["yes", "by sex", "no"] = "no"
    info = False

    def __init__(
        self,
        path: Path,
        samples: list[str],
        *,
        header: tuple[str, ...] = (),
        sexes: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.samples, self.header = path, [str(name) for name in samples], header
        self.sexes = sexes or {}
        self.n_variants = 0
        self._described = 0
        self._build = build_of(header)
        self._order = SiteOrder()
        self._folder = self._guard(lambda: Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}-")))
        self.hidden: Path = self._folder / path.name
        self._beside = companions(self.hidden)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, chunk: VariantTable) -> None:
        """Append the variants of a table whose people are those of the file.

        Raises:
            ValueError: other people, a contig that comes back, or positions that go back.
        """
        if list(map(str, chunk.samples.index)) != self.samples:
            raise ValueError("the people of the chunk are not those of the file")
        if chunk.haploid is not None:
            self._take_haploid(chunk, chunk.haploid)
        if "info" in chunk.sites.columns:
            self._described += int((chunk.sites["info"] != "").sum())
        step = max(1, _BYTES // max(1, 8 * chunk.n_samples))
        for start in range(0, chunk.n_variants, step):
            part = slice(start, min(start + step, chunk.n_variants))
            self._place(chunk, part)
            self._guard(partial(self._append, chunk, part))
            self.n_variants += part.stop - part.start

    def _take_haploid(self, chunk: VariantTable, haploid: NDArray[np.bool_]) -> None:
        """Refuses haploid calls that could not be told from homozygous ones.

        Raises:
            OutputError: the format holds none, or not of this contig or these people.
        """
        if self.haploid == "yes":
            return
        kind = FORMATS[output_format(self.path)].name
        instead = "name a .vcf.gz, .bcf, .vcz or .h5ad"
        j, i = np.argwhere(haploid.T)[0]
        site = f"{chunk.sites['contig'].iloc[j]}:{chunk.sites['position'].iloc[j]}"
        told = f"{self.path}: {site}: the call of sample {self.samples[i]!r} is haploid"
        if self.haploid == "no":
            raise OutputError(f"{told}, which {kind} does not hold: {instead}, or with --sex a .pgen or .bed")
        of = kind_of(str(chunk.sites["contig"].iloc[0]), self._build)
        if not of:
            raise OutputError(f"{told}, which {kind} holds of X, Y and mitochondria alone: {instead}")
        men = np.array([self.sexes.get(name) == "M" for name in self.samples])
        # Of a woman on Y nothing but missing calls are expected.
        wrong = haploid & ~men[:, None] & (chunk.haplotypes >= 0).any(axis=2)
        if of != "MT" and wrong.any():
            j, i = np.argwhere(wrong.T)[0]
            raise OutputError(
                f"{self.path}: {chunk.sites['contig'].iloc[j]}:{chunk.sites['position'].iloc[j]}: the call of sample "
                f"{self.samples[i]!r} is haploid, which {kind} tells by sex: give --sex, in which {self.samples[i]!r} "
                f"is a man, or {instead}"
            )

    def _place(self, chunk: VariantTable, part: slice) -> None:
        rows = chunk.sites.iloc[part]
        for contig, position in zip(rows["contig"], rows["position"], strict=True):
            self._order.place(str(contig), int(position))

    @abstractmethod
    def _append(self, chunk: VariantTable, part: slice) -> None:
        """Writes some variants of a chunk, a buffer of 16 MB at most, into the hidden folder."""

    @abstractmethod
    def _finish(self) -> None:
        """Completes the files in the hidden folder."""

    def _drop(self) -> None:  # noqa: B027 - most writers hold nothing open
        """Closes what is open when the output is given up."""

    def notes(self) -> list[str]:
        """What the format could not hold of what was written, in lines of text."""
        if self.info or not self._described:
            return []
        kind = FORMATS[output_format(self.path)].name
        return [f"{kind} holds no INFO: END, SVTYPE and the like of {self._described:,} structural variants are lost"]

    def close(self) -> None:
        """Finish and move into place. On failure nothing is left."""
        try:
            self._guard(self._finish)
            self._guard(self._publish)
        finally:
            self.abort()

    def _publish(self) -> None:
        for made in [*self._beside, self.hidden]:
            target = self.path.with_name(made.name)
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(made, target)

    def abort(self) -> None:
        """Drop what was written; the target is as it was before."""
        self._drop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _guard(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror or error}): check the folder and the free space"
            ) from error

    def word(self, text: object, what: str) -> str:
        """A name as one word of a line.

        Raises:
            OutputError: it is empty or has a blank, which would break the line.
        """
        name = str(text)
        if not name or _BLANK.search(name):
            kind = FORMATS[output_format(self.path)].name
            raise OutputError(f"{self.path}: {what} {name!r} cannot be written to {kind}: rename it, without blanks")
        return name

    def site_words(self, chunk: VariantTable, part: slice) -> list[tuple[str, int, str, str, str]]:
        """Contig, position, id (``.`` where there is none), REF and ALT of some variants, each one word."""
        rows = chunk.sites.iloc[part]
        columns = (rows[c].tolist() for c in ("contig", "position", "id", "ref", "alt"))
        return [
            (
                self.word(contig, "contig"),
                int(position),
                "." if name is None or name != name or name == "" else self.word(name, "ID"),
                self.word(ref, "REF"),
                self.word(alt, "ALT"),
            )
            for contig, position, name, ref, alt in zip(*columns, strict=True)
        ]


def variant_major(chunk: VariantTable, part: slice) -> tuple[NDArray[np.int8], NDArray[np.bool_] | None]:
    """Alleles (variants, samples, 2) and phase (variants, samples) of some variants, contiguous."""
    # Both alleles of a call move as one 16-bit number: a transposition of pairs, not of bytes.
    turned = chunk.haplotypes[:, part].transpose(1, 0, 2)
    if not turned.flags.c_contiguous:
        pairs = np.ascontiguousarray(chunk.haplotypes[:, part]).view(np.int16)[:, :, 0]
        turned = np.ascontiguousarray(pairs.T)[:, :, None].view(np.int8)
    return turned, None if chunk.phased is None else np.ascontiguousarray(chunk.phased[:, part].T)


def open_writer(
    path: str | os.PathLike[str],
    samples: list[str],
    *,
    header: tuple[str, ...] = (),
    contigs: tuple[str, ...] = (),
    n_variants: int | None = None,
    sexes: Mapping[str, str] | None = None,
    source: str = "genodiff",
    threads: int = 1,
) -> Writer:
    """A writer of the format that the ending of ``path`` asks for.

    Args:
        path: the target, replaced only when the new files are whole.
        samples: names of the people, in the order of the rows of every chunk.
        header: ``##contig`` and ``##reference`` lines to keep.
        contigs: contigs that will occur, where the header does not list them.
        n_variants: how many variants will be written, where known: PLINK 2 then needs no intermediate file.
        sexes: ``M`` or ``F`` by sample name, which PLINK keeps.
        source: for the ``##source`` line, or what corresponds to it.
        threads: threads that compress.

    Raises:
        InputError: the format needs a library that is not installed.
        OutputError: no such format, or the file cannot be written.
    """
    target = Path(path)
    kind = output_format(target)
    if kind == "vcf":
        return VcfWriter(target, samples, header=header, contigs=contigs, source=source, threads=threads)
    if kind == "plink1":
        from data_prep.plink1 import BedWriter

        return BedWriter(target, samples, header=header, sexes=sexes)
    if kind == "plink2":
        from data_prep.plink2 import PgenWriter

        return PgenWriter(target, samples, header=header, sexes=sexes, n_variants=n_variants)
    if kind == "oxford":
        from data_prep.oxford import HapsWriter

        return HapsWriter(target, samples, header=header)
    if kind == "vcfzarr":
        from data_prep.vcfzarr import VcfZarrWriter

        return VcfZarrWriter(target, samples, header=header, source=source)
    from data_prep.annotated import AnnDataWriter

    return AnnDataWriter(target, samples, header=header)


def write_variants(table: VariantTable, path: str | os.PathLike[str], *, threads: int = 1) -> list[str]:
    """Write a table in the format that the ending of ``path`` asks for.

    Args:
        table: what to write; contigs must not alternate.
        path: the target; it and the files beside it are replaced only when the new ones are whole.
        threads: threads that compress.

    Returns:
        What the format could not hold, in lines of text.

    Raises:
        InputError: the format needs a library that is not installed.
        OutputError: no such format, a name or haploid calls it cannot hold, or the file cannot be written.
        ValueError: contigs that alternate, or text that VCF cannot hold.
    """
    contigs = tuple(dict.fromkeys(map(str, table.sites["contig"])))
    names = list(table.people)
    if output_format(Path(path)) != "vcf" and len(names) > table.n_samples:
        raise OutputError(
            f"{path}: men have one copy of X, which is written to VCF alone: name a .vcf.gz or .bcf, and convert that"
        )
    writer = open_writer(
        path, names, header=table.header, contigs=contigs, n_variants=table.n_variants, threads=threads
    )
    with writer:
        writer.write(table)
    return writer.notes() if isinstance(writer, FilesWriter) else []
