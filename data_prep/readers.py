"""One door for every input: :func:`read_variants` streams a file through the filters into a :class:`VariantTable`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.filters import FilterReport, Tally, check_thresholds, judge_data, judge_order
from data_prep.regions import Region
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
    choose: Callable[[SiteBlock], NDArray[np.bool_]] | None = None,
    progress: bool = False,
) -> tuple[VariantTable, FilterReport]:
    """Read biallelic diploid genotypes of one contig or region.

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
        choose: receives the sites of a block that pass, and says which of them to keep; the others count as
            ``not-chosen``. See :mod:`data_prep.thinning`.
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
    tally = Tally()
    kept: list[SiteBlock] = []
    last = 0
    with tqdm(unit=" records", desc="read", file=sys.stderr, leave=False) if progress else nullcontext() as bar:
        for block in source.blocks(where, tally):
            if bar is not None:
                bar.total = source.n_records
                bar.update(tally.n_records - bar.n)
            passing, incomplete = judge_data(block.haplotypes, maf=maf, max_missing=max_missing, tally=tally)
            rows = np.flatnonzero(passing)
            rows = rows[judge_order(block.position[rows], last=last, tally=tally)]
            if not len(rows):
                continue
            last = int(block.position[rows[-1]])
            taken = _take(block, rows)
            if choose is not None:
                chosen = np.flatnonzero(choose(taken))
                tally.remove("not-chosen", len(rows) - len(chosen))
                if not len(chosen):
                    continue
                taken, rows = _take(taken, chosen), rows[chosen]
            tally.kept += len(rows)
            tally.missing_calls += int(incomplete[rows].sum())
            kept.append(taken)
    report = tally.report(
        n_samples=len(source.samples), source=str(source.path), maf=maf or 0.0, max_missing=max_missing
    )
    if where is not None and not report.n_records:
        raise InputError(f"{source.path} has no record in region {region}: check contig and positions")
    report.require_sites()
    table, unphased = _assemble(kept, source)
    return table, FilterReport(**{**report.to_dict(), "unphased_het_calls": unphased})


def _take(block: SiteBlock, rows: NDArray[np.intp]) -> SiteBlock:
    h = block.haplotypes[rows]
    phased = None if block.phased is None else block.phased[rows]
    if phased is not None and not ((h[:, :, 0] != h[:, :, 1]) & ~phased).any():
        phased = None
    return SiteBlock(
        haplotypes=h,
        phased=phased,
        position=block.position[rows],
        id=[block.id[j] for j in rows],
        ref=[block.ref[j] for j in rows],
        alt=[block.alt[j] for j in rows],
        contig=block.contig,
    )


def _assemble(blocks: list[SiteBlock], source: VcfSource) -> tuple[VariantTable, int]:
    """One table of all blocks, which are released on the way, and its number of unphased heterozygous calls."""
    n_samples, n_variants = len(source.samples), sum(len(block.position) for block in blocks)
    sites = pd.DataFrame(
        {
            "contig": blocks[0].contig,
            "position": np.concatenate([block.position for block in blocks]),
            "id": [name for block in blocks for name in block.id],
            "ref": [name for block in blocks for name in block.ref],
            "alt": [name for block in blocks for name in block.alt],
        }
    )
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
        samples=pd.DataFrame(index=pd.Index(source.samples, name="sample")),
        phased=phased,
        header=source.header,
    )
    return table, unphased
