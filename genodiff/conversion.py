"""Genotypes from one format into another, chunk by chunk in bounded memory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from data_prep.alleles import INFO_LINES, AlleleRules, Multiallelic
from data_prep.errors import OutputError
from data_prep.filters import FilterReport
from data_prep.formats import FORMATS, companions, output_format
from data_prep.readers import read_chunks
from data_prep.sexes import Sexes, read_sexes
from data_prep.splits import read_sample_list
from data_prep.writers import FilesWriter, open_writer
from genodiff.staging import check_vcf_output, write_together

__all__ = ["ReadOptions", "convert"]

_KEPT = re.compile(rf"##(ALT=|INFO=<ID=({'|'.join(INFO_LINES)}),)")
"""Lines of a header that structural variants need."""

_DESCRIBED = ("vcf", "plink2", "anndata")
"""Formats that keep them."""

_BY_SEX = ("plink1", "plink2")
"""Formats that keep the sexes of people, and haploid calls by them."""


@dataclass(frozen=True)
class ReadOptions:
    """What is read of a file, and how.

    Attributes:
        region: ``contig`` or ``contig:from-to`` (bp, 1-based, inclusive).
        samples: file with the names of the people to write, in this order; all if ``None``.
        sex: file of the sexes of people, instead of those that the input tells.
        build: of the genome, ``GRCh37`` or ``GRCh38``, where the header does not tell.
        multiallelic: of records with several alternates: ``drop``, ``split`` or ``join``.
        structural: whether structural variants are read.
    """

    region: str | None = None
    samples: Path | None = None
    sex: Path | None = None
    build: str | None = None
    multiallelic: Multiallelic = "drop"
    structural: bool = True


def convert(
    path: Path,
    output: Path,
    options: ReadOptions | None = None,
    *,
    threads: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> tuple[FilterReport, list[str]]:
    """``genodiff convert``: every biallelic record of one contig or region, unfiltered.

    Args:
        path: genotypes in any format that :func:`data_prep.readers.open_source` knows.
        output: the target, in the format of its ending.
        options: what is read.
        threads: processor threads that compress; all if ``None``.
        force: replace an output that exists.
        progress: show a bar.

    Returns:
        Counts of what was read and kept, and what was left out or could not be held, in lines of text.

    Raises:
        InputError: the input cannot be used, or nothing of it is left.
        OutputError: the output cannot be written, or would replace the input.
    """
    o = options or ReadOptions()
    kind = output_format(output)
    if o.multiallelic == "join" and kind != "vcf":
        raise OutputError(
            f"{output}: {FORMATS[kind].name} is written with one alternate a record: give --multiallelic split"
        )
    there = {p.resolve() for p in (path, *companions(path))}
    for target in (output, *companions(output)):
        if target.resolve() in there:
            raise OutputError(f"{target} is read: choose another -o")
    check_vcf_output(output, force=force)
    people = None if o.samples is None else read_sample_list(o.samples)
    given = None if o.sex is None else read_sexes(o.sex)
    source, tally, chunks = read_chunks(
        path, region=o.region, samples=people, rules=AlleleRules(o.multiallelic, o.structural), sexes=given,
        build=o.build, mark=kind not in _BY_SEX, progress=progress,
    )  # fmt: skip
    sexes = _all_sexes(source.sexes, given)

    def counts() -> FilterReport:
        return tally.report(n_samples=len(source.samples), source=str(path), maf=0.0, max_missing=1.0)

    first = next(chunks, None)
    if first is None:
        counts().require_sites()
        raise AssertionError("a source without chunks has no sites")
    notes: list[str] = []

    reference: tuple[str, ...] = ()
    if o.build is not None and not any(line.startswith("##reference=") for line in source.header):
        reference = (f"##reference={o.build}",)
    # Sites to come may need any of them.
    kept = tuple(line for line in source.declared if _KEPT.match(line)) if kind in _DESCRIBED else ()

    def write(target: Path) -> None:
        writer = open_writer(
            target,
            source.samples,
            header=(*reference, *source.header, *kept),
            contigs=(str(first.sites["contig"].iloc[0]),),
            sexes=sexes,
            threads=threads or os.cpu_count() or 1,
        )
        with writer:
            for chunk in chain([first], chunks):
                writer.write(chunk)
        if isinstance(writer, FilesWriter):
            notes.extend(f"{output}: {note}" for note in writer.notes())

    write_together(output, write, force=force)
    own = source.sexes
    lost = 0 if own is None else sum(name in own.of for name in source.samples)
    if own is not None and lost and kind not in _BY_SEX:
        notes.append(f"{output}: {FORMATS[kind].name} holds no sexes: those of {lost:,} people stay in {own.source}")
    report = counts()
    return report, [*report.lines()[1:], *notes]


def _all_sexes(own: Sexes | None, given: Sexes | None) -> Mapping[str, str]:
    """Sexes by name: those that are given, and those of the file where none is."""
    return {**(own.of if own else {}), **(given.of if given else {})}
