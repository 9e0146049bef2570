"""One door for every input: :func:`read_variants` streams a file through the filters into a :class:`VariantTable`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from data_prep.alleles import AlleleRules, kept_lines
from data_prep.builds import Build, build_named, build_of
from data_prep.errors import InputError
from data_prep.filters import FilterReport, Order, Tally, check_thresholds, judge_data
from data_prep.ploidy import Ploidy
from data_prep.regions import Region
from data_prep.sexes import Sexes
from data_prep.variants import VariantTable
from data_prep.vcf import SiteBlock, VcfSource

__all__ = ["read_variants"]


def read_variants(
    path: str | os.PathLike[str],
    *,
    region: str | None = None,
    maf: float | None = 0.0,
    max_missing: float = 0.1,
    samples: Sequence[str] | None = None,
    rules: AlleleRules | None = None,
    sexes: Sexes | None = None,
    build: str | None = None,
    progress: bool = False,
) -> tuple[VariantTable, FilterReport]:
    """Read biallelic genotypes of one contig or region; outside PAR of X, two men make a row.

    The file is recognised by its content: VCF, VCF in BGZF or gzip, BCF. Records pass the filters of
    :mod:`data_prep.filters` block by block, so that memory follows what is kept and not the size of the file. An index
    beside the file is used for a region; without one the file is scanned.

    Args:
        path: the file.
        region: ``22``, ``22:1-2000000``; ``22`` and ``chr22`` mean the same. Needed if the file holds several contigs.
        maf: smallest minor-allele frequency kept, in [0, 0.5]; with 0 every polymorphic site is kept,
            with ``None`` monomorphic ones too.
        max_missing: largest share of people without a complete call, in [0, 1].
        samples: people to read, in this order; frequencies are those among them. All if ``None``.
        rules: what becomes of several alternates and of structural variants; ``AlleleRules()`` if ``None``.
        sexes: of the people: needed on X outside PAR, not used elsewhere.
        build: of the genome, ``GRCh37`` or ``GRCh38``, where the header does not tell.
        progress: show a bar on stderr.

    Returns:
        The table, and the report that counts every removal. ``table.phased`` is ``None`` where all heterozygous
        calls are phased.

    Raises:
        InputError: the file is missing, damaged, malformed or not a VCF; nothing is left; several contigs without a
            region.
        ValueError: a threshold out of range.
    """
    check_thresholds(maf=maf, max_missing=max_missing)
    where = None if region is None else Region.parse(region)
    source = VcfSource(path, samples=samples)
    rules = rules or AlleleRules()
    known = _build(source, build)
    ploidy = Ploidy(source.path, source.samples, build=known, sexes=sexes)
    tally, order = Tally(), Order(split=rules.multiallelic != "drop")
    kept: list[SiteBlock] = []
    with tqdm(unit=" records", desc="read", file=sys.stderr, leave=False) if progress else nullcontext() as bar:
        for raw in source.blocks(where, tally, rules=rules):
            block = ploidy.diploid(raw, tally)
            if not len(block.position):
                continue
            if bar is not None:
                bar.total = source.n_records
                bar.update(tally.n_records - bar.n)
            passing, incomplete = judge_data(block.haplotypes, maf=maf, max_missing=max_missing, tally=tally)
            rows = np.flatnonzero(passing)
            alleles = [(block.ref[j], block.alt[j]) for j in rows]
            rows = rows[order.judge(block.position[rows], alleles, tally)]
            if not len(rows):
                continue
            tally.kept += len(rows)
            tally.missing_calls += int(incomplete[rows].sum())
            kept.append(block.take(rows))
    report = tally.report(
        n_samples=len(source.samples), source=str(source.path), maf=maf or 0.0, max_missing=max_missing
    )
    if where is not None and not report.n_records:
        raise InputError(f"{source.path} has no record in region {region}: check contig and positions")
    report.require_sites()
    report.require_diploid()
    table, unphased = _assemble(kept, source, ploidy)
    table = _described(table, source, rules, known)
    notes = ploidy.notes(table)
    report = replace(report, n_samples=table.n_people, unphased_het_calls=unphased, notes=notes)
    return table, report if ploidy.pairs is None else replace(report, missing_calls=table.missing_calls)


def _build(source: VcfSource, given: str | None) -> Build | None:
    told = build_of(source.header)
    if given is None:
        return told
    named = build_named(given)
    if told is not None and named is not told:
        raise InputError(f"{source.path} is on {told.name} by its header: --build {given} contradicts it, leave it out")
    return named


def _described(table: VariantTable, source: VcfSource, rules: AlleleRules, build: Build | None) -> VariantTable:
    """The table with all that its header and sites have to say beside positions and alleles."""
    sites = table.sites
    if rules.multiallelic != "drop":
        sites = sites.assign(joined=rules.multiallelic == "join")
    header = (*source.header, *kept_lines(source.declared, sites))
    if build is not None and not any(line.startswith("##reference=") for line in header):
        header = (f"##reference={build.name}", *header)
    return replace(table, sites=sites, header=header)


def _assemble(blocks: list[SiteBlock], source: VcfSource, ploidy: Ploidy) -> tuple[VariantTable, int]:
    """One table of all blocks, which are released on the way, and its number of unphased heterozygous calls."""
    samples = pd.DataFrame(index=pd.Index(source.samples, name="sample"))
    if ploidy.pairs is not None:
        samples = ploidy.pairs.samples()
    n_samples, n_variants = len(samples), sum(len(block.position) for block in blocks)
    sites = pd.DataFrame(
        {
            "contig": blocks[0].contig,
            "position": np.concatenate([block.position for block in blocks]),
            "id": [name for block in blocks for name in block.id],
            "ref": [name for block in blocks for name in block.ref],
            "alt": [name for block in blocks for name in block.alt],
        }
    )
    if any(block.info for block in blocks):
        sites["info"] = [text for block in blocks for text in block.info or [""] * len(block.position)]
    # Both alleles of a call move as one 16-bit number: a transposition of pairs, not of bytes.
    pairs = np.empty((n_samples, n_variants), dtype=np.int16)
    some_unphased = any(block.phased is not None for block in blocks)
    phased = np.ones((n_samples, n_variants), dtype=bool) if some_unphased else None
    unphased = start = 0
    for k in range(len(blocks)):
        block, blocks[k] = blocks[k], None  # type: ignore[call-overload]
        stop = start + len(block.position)
        pairs[:, start:stop] = block.haplotypes.view(np.int16)[:, :, 0].T
        if phased is not None and block.phased is not None:
            phased[:, start:stop] = block.phased.T
            h = block.haplotypes
            unphased += int(((h[:, :, 0] != h[:, :, 1]) & ~block.phased).sum())
        start = stop
    table = VariantTable(
        haplotypes=pairs.view(np.int8).reshape(n_samples, n_variants, 2),
        sites=sites,
        samples=samples,
        phased=phased,
        header=source.header,
    )
    return table, unphased
