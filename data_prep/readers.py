"""One door for every input: :func:`read_variants` streams a file through the filters into a :class:`VariantTable`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.alleles import AlleleRules, kept_lines
from data_prep.annotated import HDF5, AnnDataSource
from data_prep.builds import Build, build_named, build_of
from data_prep.errors import InputError
from data_prep.files import require_file
from data_prep.filters import FilterReport, Order, Tally, check_thresholds, judge_data
from data_prep.formats import is_store, require_store
from data_prep.oxford import ENDINGS, HapsSource
from data_prep.plink1 import MAGIC, BedSource
from data_prep.plink2 import PgenSource
from data_prep.ploidy import Copies, Ploidy, numbered, own_sexes
from data_prep.records import SiteBlock, one_record, whole_records
from data_prep.regions import Region
from data_prep.sexes import Sexes
from data_prep.sources import Source
from data_prep.variants import SITE_COLUMNS, VariantTable
from data_prep.vcf import VcfSource
from data_prep.vcfzarr import VcfZarrSource

__all__ = ["open_source", "read_chunks", "read_variants"]

_PARTS = {".bim": ".bed", ".fam": ".bed", ".pvar": ".pgen", ".psam": ".pgen", ".sample": ".haps", ".samples": ".haps"}
"""Files that accompany genotypes, and the file to be named instead."""


def open_source(path: str | os.PathLike[str], *, samples: Sequence[str] | None = None) -> Source:
    """Opens and checks a file of genotypes in whatever format, recognised by its content; Oxford ``.haps`` by name.

    Args:
        path: VCF (plain, BGZF or gzip), BCF, PLINK 1 ``.bed``, PLINK 2 ``.pgen``, Oxford ``.haps``, AnnData
            ``.h5ad`` or ``.zarr``, or a VCF-Zarr folder.
        samples: people to read, in this order; all, in file order, if ``None``.

    Raises:
        InputError: the file cannot be used; the message says why.
    """
    p = Path(path)
    if is_store(p):
        if (p / "call_genotype").is_dir():
            return VcfZarrSource(p, samples=samples)
        if (p / "layers").is_dir() and (p / "obs").is_dir():
            return AnnDataSource(p, samples=samples)
        raise InputError(f"{p} is neither VCF-Zarr (it has no call_genotype) nor AnnData: give another store")
    require_store(p)
    if p.suffix in _PARTS:
        raise InputError(f"{p} holds no genotypes: give the {_PARTS[p.suffix]} it belongs to")
    require_file(p, what="file of genotypes")
    with p.open("rb") as handle:
        head = handle.read(len(HDF5))
    if head == HDF5:
        return AnnDataSource(p, samples=samples)
    if p.suffix == ".bed" or (head[:2] == MAGIC[:2] and head[2:3] in (b"\0", b"\1")):
        return BedSource(p, samples=samples)
    if p.suffix == ".pgen" or head[:2] == MAGIC[:2]:
        return PgenSource(p, samples=samples)
    if p.name.endswith(ENDINGS):
        return HapsSource(p, samples=samples)
    return VcfSource(p, samples=samples)


def read_chunks(
    path: str | os.PathLike[str],
    *,
    region: str | None = None,
    samples: Sequence[str] | None = None,
    rules: AlleleRules | None = None,
    sexes: Sexes | None = None,
    build: str | None = None,
    mark: bool = True,
    progress: bool = False,
) -> tuple[Source, Tally, Iterator[VariantTable]]:
    """Biallelic genotypes of one contig or region as they stream, without any filter of the data.

    Haploid calls stay (:class:`~data_prep.ploidy.Copies`). With ``join`` a column ``joined`` of the sites says what is
    one record: alternates beside one another of one position and REF, of which no haplotype carries two.

    Args:
        path: the file.
        region: as in :func:`read_variants`.
        samples: people to read, in this order; all if ``None``.
        rules: as in :func:`read_variants`.
        sexes: of the people, used on X alone; those that the file tells if ``None``.
        build: as in :func:`read_variants`.
        mark: whether calls of one copy are marked that the file does not hold as haploid.
        progress: show a bar on stderr.

    Returns:
        The source; counts of the records and of the structural removals, which grow as the chunks are taken, and what
        there is to say when they are; and the chunks, in file order.

    Raises:
        InputError: the file cannot be used, at once or while the chunks are taken; positions that go back.
    """
    where = None if region is None else Region.parse(region)
    source = open_source(path, samples=samples)
    tally = Tally()
    rules = rules or AlleleRules()
    people = pd.DataFrame(index=pd.Index(source.samples, name="sample"))
    known = _build(source, build)
    copies = Copies(source, build=known, sexes=sexes or own_sexes(source, where, known), mark=mark)

    def chunks() -> Iterator[VariantTable]:
        last = 0
        blocks = map(copies.marked, _shown(source, where, tally, rules=rules, progress=progress))
        for block in whole_records(blocks) if rules.multiallelic == "join" else blocks:
            if not len(block.position):
                continue
            back = np.flatnonzero(np.diff(block.position, prepend=last) < 0)
            if len(back):
                raise InputError(
                    f"{source.path}: {block.contig}:{block.position[back[0]]} lies before the record it follows: sort "
                    "the file, for example with 'bcftools sort'"
                )
            last = int(block.position[-1])
            tally.kept += len(block.position)
            columns = (*SITE_COLUMNS[1:], *["info"] * bool(block.info))
            sites = pd.DataFrame({"contig": block.contig, **{c: getattr(block, c) for c in columns}})
            yield VariantTable(
                haplotypes=block.haplotypes.transpose(1, 0, 2),
                sites=sites.assign(joined=one_record(block)) if rules.multiallelic == "join" else sites,
                samples=people,
                phased=None if block.phased is None else block.phased.T,
                header=source.header,
                haploid=None if block.haploid is None else block.haploid.T,
            )
        tally.notes += copies.notes()

    return source, tally, chunks()


def _shown(
    source: Source, region: Region | None, tally: Tally, *, rules: AlleleRules | None = None, progress: bool
) -> Iterator[SiteBlock]:
    """The blocks of a source, with a bar on stderr."""
    with tqdm(unit=" records", desc="read", file=sys.stderr, leave=False) if progress else nullcontext() as bar:
        for block in source.blocks(region, tally, rules=rules):
            if bar is not None:
                bar.total = source.n_records
                bar.update(tally.n_records - bar.n)
            yield block


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
    choose: Callable[[SiteBlock], NDArray[np.bool_]] | None = None,
    progress: bool = False,
) -> tuple[VariantTable, FilterReport]:
    """Read biallelic genotypes of one contig or region; outside PAR of X, two men make a row.

    The file is recognised by its content, see :func:`open_source`. Records pass the filters of
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
        sexes: of the people: needed on X outside PAR, not used elsewhere; those that the file tells if ``None``.
        build: of the genome, ``GRCh37`` or ``GRCh38``, where the header does not tell.
        choose: receives the sites of a block that pass, and says which of them to keep; the others count as
            ``not-chosen``. See :mod:`data_prep.thinning`.
        progress: show a bar on stderr.

    Returns:
        The table, and the report that counts every removal. ``table.phased`` is ``None`` where all heterozygous
        calls are phased.

    Raises:
        InputError: the file is missing, damaged, malformed or of no known format; nothing is left; several contigs
            without a region.
        ValueError: a threshold out of range.
    """
    check_thresholds(maf=maf, max_missing=max_missing)
    where = None if region is None else Region.parse(region)
    source = open_source(path, samples=samples)
    rules = rules or AlleleRules()
    known = _build(source, build)
    sexes = sexes or own_sexes(source, where, known)
    ploidy = Ploidy(source.path, source.samples, build=known, sexes=sexes)
    tally, order = Tally(), Order(split=rules.multiallelic != "drop")
    kept: list[SiteBlock] = []
    for raw in _shown(source, where, tally, rules=rules, progress=progress):
        block = ploidy.diploid(raw, tally)
        if not len(block.position):
            continue
        passing, incomplete = judge_data(block.haplotypes, maf=maf, max_missing=max_missing, tally=tally)
        rows = np.flatnonzero(passing)
        rows = rows[order.judge(block.position[rows], ((block.ref[j], block.alt[j]) for j in rows), tally)]
        if not len(rows):
            continue
        taken = block.take(rows)
        if choose is not None:
            chosen = np.flatnonzero(choose(taken))
            tally.remove("not-chosen", len(rows) - len(chosen))
            if not len(chosen):
                continue
            taken, rows = taken.take(chosen), rows[chosen]
        tally.kept += len(rows)
        tally.missing_calls += int(incomplete[rows].sum())
        kept.append(taken)
    report = tally.report(
        n_samples=len(source.samples), source=str(source.path), maf=maf or 0.0, max_missing=max_missing
    )
    if where is not None and not report.n_records:
        raise InputError(f"{source.path} has no record in region {region}: check contig and positions")
    report.require_sites()
    report.require_diploid()
    table, unphased = _assemble(kept, source, ploidy)
    table = _described(table, source, rules, known)
    notes = (*ploidy.notes(table), *numbered(source, str(table.sites["contig"].iloc[0]), known))
    report = replace(report, n_samples=table.n_people, unphased_het_calls=unphased, notes=notes)
    return table, report if ploidy.pairs is None else replace(report, missing_calls=table.missing_calls)


def _build(source: Source, given: str | None) -> Build | None:
    told = build_of(source.header)
    if given is None:
        return told
    named = build_named(given)
    if told is not None and named is not told:
        raise InputError(f"{source.path} is on {told.name} by its header: --build {given} contradicts it, leave it out")
    return named


def _described(table: VariantTable, source: Source, rules: AlleleRules, build: Build | None) -> VariantTable:
    """The table with all that its header and sites have to say beside positions and alleles."""
    sites = table.sites
    if rules.multiallelic != "drop":
        sites = sites.assign(joined=rules.multiallelic == "join")
    header = (*source.header, *kept_lines(source.declared, sites))
    if build is not None and not any(line.startswith("##reference=") for line in header):
        header = (f"##reference={build.name}", *header)
    return replace(table, sites=sites, header=header)


def _assemble(blocks: list[SiteBlock], source: Source, ploidy: Ploidy) -> tuple[VariantTable, int]:
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
