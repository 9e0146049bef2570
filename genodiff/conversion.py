"""Genotypes from one format into another, chunk by chunk in bounded memory."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path

from data_prep.alleles import INFO_LINES
from data_prep.errors import OutputError
from data_prep.filters import FilterReport
from data_prep.formats import companions, output_format
from data_prep.readers import read_chunks
from data_prep.splits import read_sample_list
from data_prep.writers import FilesWriter, open_writer
from genodiff.staging import check_vcf_output, write_together

__all__ = ["convert"]

_KEPT = re.compile(rf"##(ALT=|INFO=<ID=({'|'.join(INFO_LINES)}),)")
"""Lines of a header that structural variants need."""


def convert(
    path: Path,
    output: Path,
    *,
    region: str | None = None,
    samples: Path | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> tuple[FilterReport, list[str]]:
    """``genodiff convert``: every biallelic diploid record of one contig or region, unfiltered.

    Args:
        path: genotypes in any format that :func:`data_prep.readers.open_source` knows.
        output: the target, in the format of its ending.
        region: ``contig`` or ``contig:from-to`` (bp, 1-based, inclusive).
        samples: file with the names of the people to write, in this order; all if ``None``.
        threads: processor threads that compress; all if ``None``.
        force: replace an output that exists.
        progress: show a bar.

    Returns:
        Counts of what was read and kept, and what was left out or could not be held, in lines of text.

    Raises:
        InputError: the input cannot be used, or nothing of it is left.
        OutputError: the output cannot be written, or would replace the input.
    """
    there = {p.resolve() for p in (path, *companions(path))}
    for target in (output, *companions(output)):
        if target.resolve() in there:
            raise OutputError(f"{target} is read: choose another -o")
    check_vcf_output(output, force=force)
    people = None if samples is None else read_sample_list(samples)
    source, tally, chunks = read_chunks(path, region=region, samples=people, progress=progress)

    def counts() -> FilterReport:
        return tally.report(n_samples=len(source.samples), source=str(path), maf=0.0, max_missing=1.0)

    first = next(chunks, None)
    if first is None:
        counts().require_sites()
        raise AssertionError("a source without chunks has no sites")
    notes: list[str] = []

    # Sites to come may need any of them.
    kept = tuple(line for line in source.declared if _KEPT.match(line)) if output_format(output) == "vcf" else ()

    def write(target: Path) -> None:
        writer = open_writer(
            target,
            source.samples,
            header=(*source.header, *kept),
            contigs=(str(first.sites["contig"].iloc[0]),),
            threads=threads or os.cpu_count() or 1,
        )
        with writer:
            for chunk in chain([first], chunks):
                writer.write(chunk)
        if isinstance(writer, FilesWriter):
            notes.extend(f"{output}: {note}" for note in writer.notes())

    write_together(output, write, force=force)
    report = counts()
    return report, [*(report.lines()[1:] if report.removed else []), *notes]
