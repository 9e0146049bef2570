"""Consecutive records of a file as arrays, and what all readers say of people and contigs that are not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.regions import Region

__all__ = [
    "SiteBlock",
    "SiteOrder",
    "choose_samples",
    "no_contig",
    "one_record",
    "several_contigs",
    "whole_records",
]


@dataclass(frozen=True)
class SiteBlock:
    """Some consecutive records that passed the structural filters.

    Attributes:
        haplotypes: int8 (variants, samples, 2), codes 0, 1, −1; a half-call is −1 in both alleles.
        phased: bool (variants, samples), or ``None`` where every heterozygous call is phased.
        position: int64 (variants,), bp, 1-based.
        id: str per variant, ``.`` where there is none.
        ref: str per variant.
        alt: str per variant.
        contig: the one contig of the block, as in the file.
        haploid: bool (variants, samples), calls of one allele, which is then in both places; ``None`` without any.
        info: INFO fields of structural variants, empty of others.
    """

    haplotypes: NDArray[np.int8]
    phased: NDArray[np.bool_] | None
    position: NDArray[np.int64]
    id: list[str]
    ref: list[str]
    alt: list[str]
    contig: str
    haploid: NDArray[np.bool_] | None = None
    info: list[str] = field(default_factory=list)

    def take(self, rows: NDArray[np.intp]) -> SiteBlock:
        """Some of the variants."""
        h = self.haplotypes[rows]
        phased = None if self.phased is None else self.phased[rows]
        if phased is not None and not ((h[:, :, 0] != h[:, :, 1]) & ~phased).any():
            phased = None
        return SiteBlock(
            haplotypes=h,
            phased=phased,
            position=self.position[rows],
            id=[self.id[j] for j in rows],
            ref=[self.ref[j] for j in rows],
            alt=[self.alt[j] for j in rows],
            contig=self.contig,
            haploid=None if self.haploid is None else self.haploid[rows],
            info=[self.info[j] for j in rows] if self.info else [],
        )

    def followed_by(self, other: SiteBlock) -> SiteBlock:
        """The variants of both, of one contig and the same people."""
        shapes = (self.haplotypes.shape[:2], other.haplotypes.shape[:2])

        def mask(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None, *, no: bool) -> NDArray[np.bool_] | None:
            if a is None and b is None:
                return None
            return np.concatenate([np.full(s, no) if m is None else m for m, s in zip((a, b), shapes, strict=True)])

        infos = [block.info or [""] * len(block.position) for block in (self, other)]
        return SiteBlock(
            haplotypes=np.concatenate([self.haplotypes, other.haplotypes]),
            phased=mask(self.phased, other.phased, no=True),
            position=np.concatenate([self.position, other.position]),
            id=self.id + other.id,
            ref=self.ref + other.ref,
            alt=self.alt + other.alt,
            contig=self.contig,
            haploid=mask(self.haploid, other.haploid, no=False),
            info=infos[0] + infos[1] if self.info or other.info else [],
        )


def whole_records(blocks: Iterable[SiteBlock]) -> Iterator[SiteBlock]:
    """The same variants in other blocks, so that consecutive sites of one position and REF are in one."""
    held: SiteBlock | None = None
    for block in blocks:
        if not len(block.position):
            continue
        whole = block if held is None else held.followed_by(block)
        start = len(whole.position) - 1
        while start and _same_place(whole, start):
            start -= 1
        if start:
            yield whole.take(np.arange(start))
        held = whole.take(np.arange(start, len(whole.position)))
    if held is not None:
        yield held


def _same_place(block: SiteBlock, j: int) -> bool:
    return bool(block.position[j] == block.position[j - 1] and block.ref[j] == block.ref[j - 1])


def one_record(block: SiteBlock) -> NDArray[np.bool_]:
    """Whether each site (variants,) can be a further alternate of the record of the site before it.

    It can be where position and REF are the same, the alternate is a new one, calls are missing or haploid in the same
    people, and no haplotype carries two alternates.
    """
    out = np.zeros(len(block.position), dtype=bool)
    alts: set[str] = set()
    taken = np.zeros(0, dtype=bool)
    for j, h in enumerate(block.haplotypes):
        carries = h == 1
        if j and _same_place(block, j) and block.alt[j] not in alts and not (taken & carries).any():
            out[j] = ((h < 0) == (block.haplotypes[j - 1] < 0)).all()
            if block.haploid is not None:
                out[j] &= (block.haploid[j] == block.haploid[j - 1]).all()
        alts, taken = (alts | {block.alt[j]}, taken | carries) if out[j] else ({block.alt[j]}, carries)
    return out


class SiteOrder:
    """Sites as they follow one another in a file: every contig in one place, positions that never go back.

    Attributes:
        contigs: met so far, in their order.
        highest: position met so far, bp, on any of them.
    """

    def __init__(self) -> None:
        self.contigs: dict[str, None] = {}
        self.highest = 0
        self._last = ("", 0)

    def place(self, contig: str, position: int) -> None:
        """Puts a site behind those before it.

        Raises:
            ValueError: its contig was left before, or its position lies before the last.
        """
        here, last = self._last
        if contig != here and contig in self.contigs:
            raise ValueError(f"contig {contig} occurs in two places")
        if contig == here and position < last:
            raise ValueError(f"{contig}:{position} lies before {contig}:{last}")
        self.contigs[contig] = None
        self.highest = max(self.highest, position)
        self._last = (contig, position)


def choose_samples(path: Path, names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The people to read, in the order they are wanted in.

    Args:
        path: the file, for messages.
        names: everybody in it.
        wanted: people to read.

    Raises:
        InputError: nobody is wanted, or somebody twice or who is not there.
    """
    chosen = [str(name) for name in wanted]
    if not chosen:
        raise InputError(f"{path}: the list of samples to read is empty")
    known = set(names)
    absent = [name for name in chosen if name not in known]
    if absent:
        raise InputError(
            f"{path} lacks {len(absent):,} of {len(chosen):,} requested samples, the first is {absent[0]!r}: "
            "check the sample list"
        )
    twice = next((name for name, count in Counter(chosen).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path}: sample {twice!r} is requested twice")
    return chosen


def no_contig(path: Path, region: Region, known: Sequence[str]) -> InputError:
    """The error of a region whose contig a file lacks."""
    return InputError(
        f"{path} has no contig {region.contig!r} (it has {', '.join(known[:8]) or 'none'}): check the region"
    )


def several_contigs(path: Path, contigs: Iterable[str]) -> InputError:
    """The error of a file with several contigs of which none was chosen."""
    names = list(contigs)
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return InputError(
        f"{path} holds several contigs ({listed}): choose one, for example --region {names[0]}, or let "
        "workflows/Snakefile run one after another"
    )
