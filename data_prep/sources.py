"""What a readable format is: a source of :class:`SiteBlock`, and what all sources but VCF share.

A format that knows its sites beforehand (PLINK, Zarr, AnnData) or reads them line by line (Oxford) hands over
:class:`Records` as they stand in the file; :meth:`RecordSource.blocks` judges their structure as
:class:`data_prep.vcf.VcfSource` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.alleles import AlleleRules, of_alternate
from data_prep.errors import InputError
from data_prep.filters import Tally
from data_prep.records import SiteBlock, choose_samples, no_contig, several_contigs
from data_prep.regions import Region
from data_prep.sexes import Sexes

__all__ = ["PAD", "RecordSource", "Records", "Sites", "Source", "rows_at_once"]

PAD = -2
"""Second allele of a haploid call."""

_BYTES = 1 << 24


class Source(Protocol):
    """An opened and checked file of genotypes.

    Attributes:
        path: the file or folder.
        samples: names in the order of the blocks' second axis.
        header: the ``##contig`` and ``##reference`` lines it has or that can be made of what it has.
        declared: the ``##ALT`` and ``##INFO`` lines it has.
        n_records: records that will be read, where known, else ``None``.
        sexes: of its people, as far as it tells them; ``None`` of a format that holds none. Such a format (PLINK) has
            two equal alleles where a person has one.
    """

    path: Path
    samples: list[str]
    header: tuple[str, ...]
    declared: tuple[str, ...]
    n_records: int | None
    sexes: Sexes | None

    def contigs(self) -> dict[str, int]:
        """Number of records by contig, in the order of the file."""

    def blocks(self, region: Region | None, tally: Tally, *, rules: AlleleRules | None = None) -> Iterator[SiteBlock]:
        """Records of one contig or region that pass the structural filters, block by block."""


@dataclass(frozen=True)
class Sites:
    """Columns of consecutive records.

    Attributes:
        contig: str (records,).
        position: int64 (records,), bp, 1-based.
        id: str (records,), ``.`` where there is none.
        ref: str (records,).
        alt: str (records,), several separated by commas.
        info: str (records,), INFO fields of structural variants, empty of others; ``None`` where there are none.
    """

    contig: NDArray[np.object_]
    position: NDArray[np.int64]
    id: NDArray[np.object_]
    ref: NDArray[np.object_]
    alt: NDArray[np.object_]
    info: NDArray[np.object_] | None = None

    @classmethod
    def of(
        cls,
        contig: Iterable[str],
        position: Iterable[int],
        id: Iterable[str],
        ref: Iterable[str],
        alt: Iterable[str],
        info: Iterable[str] | None = None,
    ) -> Sites:
        """Columns from any iterables."""
        columns = (contig, id, ref, alt, info or ())
        where, names, refs, alts, infos = (np.array([*column, None], dtype=object)[:-1] for column in columns)
        return cls(where, np.array([*position], dtype=np.int64), names, refs, alts, infos if any(infos) else None)

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, rows: slice | NDArray) -> Sites:
        texts = (self.id[rows], self.ref[rows], self.alt[rows])
        return Sites(self.contig[rows], self.position[rows], *texts, None if self.info is None else self.info[rows])

    def counts(self) -> dict[str, int]:
        """Number of records by contig, in the order of the file."""
        return dict(Counter(map(str, self.contig)))

    def within(self, region: Region) -> NDArray[np.bool_]:
        """Which records lie inside, (records,)."""
        inside = (self.position >= region.start) & (self.position <= region.end)
        return inside & np.isin(self.contig, np.array(region.aliases, dtype=object))

    def unusable(self, rules: AlleleRules) -> list[str | None]:
        """Why a record cannot be used whatever its genotypes, or ``None``, by record."""
        return [_unusable(*row, rules) for row in zip(self.position.tolist(), self.ref, self.alt, strict=True)]


def _unusable(position: int, ref: str, alt: str, rules: AlleleRules) -> str | None:
    if "," in alt:
        return "multi-allelic"
    if alt in ("", ".", "0"):
        return "no-alternate-allele"
    return rules.refused(ref, alt) or ("no-position" if position < 1 else None)


@dataclass(frozen=True)
class Records:
    """Consecutive records as they stand in a file.

    Attributes:
        sites: their columns.
        alleles: int8 (records, samples, 2); negative where missing, :data:`PAD` second where haploid.
        phased: bool (records, samples), or ``None`` where all calls are phased.
    """

    sites: Sites
    alleles: NDArray[np.int8]
    phased: NDArray[np.bool_] | None

    def split(self) -> Records:
        """Every alternate as a record of its own, where all other alleles count as 0."""
        count = np.array([alt.count(",") + 1 for alt in self.sites.alt], dtype=np.intp)
        if (count == 1).all():
            return self
        row = np.repeat(np.arange(len(count)), count)
        which = np.concatenate([np.arange(1, n + 1) for n in count])
        several = (count[row] > 1)[:, None, None]
        wide = self.alleles[row]
        one = np.where(wide < 0, wide, wide == which[:, None, None]).astype(np.int8)
        sites = self.sites[row]
        alt = np.array([*(a.split(",")[k - 1] for a, k in zip(sites.alt, which, strict=True)), None], dtype=object)[:-1]
        phased = None if self.phased is None else self.phased[row]
        if sites.info is not None:
            infos = (of_alternate(i, k - 1, n) for i, k, n in zip(sites.info, which, count[row], strict=True))
            sites = replace(sites, info=np.array([*infos, None], dtype=object)[:-1])
        return Records(replace(sites, alt=alt), np.where(several, one, wide), phased)


class RecordSource(ABC):
    """A source that hands over :class:`Records`.

    Args:
        path: the file or folder.
        names: everybody in it.
        samples: people to read, in this order; all if ``None``.
        header: lines to keep.

    Raises:
        InputError: a name that occurs twice, or people who are not there.
    """

    def __init__(
        self, path: Path, names: list[str], *, samples: Sequence[str] | None, header: tuple[str, ...] = ()
    ) -> None:
        self.path, self.header = path, header
        self.declared: tuple[str, ...] = ()
        self.n_records: int | None = None
        self.sexes: Sexes | None = None
        if not names:
            raise InputError(f"{path} has no samples: give a file with genotypes")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(f"{path}: sample name {twice[0]!r} occurs twice: rename one of them")
        self.everybody = names
        self.samples = names if samples is None else choose_samples(path, names, samples)
        row = {name: i for i, name in enumerate(names)}
        self._columns = None if self.samples == names else np.array([row[name] for name in self.samples], dtype=np.intp)

    @abstractmethod
    def _records(self, region: Region | None) -> Iterator[Records]:
        """The records of everybody, at least those of the region, in file order."""

    @abstractmethod
    def contigs(self) -> dict[str, int]:
        """Number of records by contig, in the order of the file."""

    def blocks(self, region: Region | None, tally: Tally, *, rules: AlleleRules | None = None) -> Iterator[SiteBlock]:
        """Records of one contig or region, block by block; see :meth:`data_prep.vcf.VcfSource.blocks`.

        Raises:
            InputError: a malformed record, or several contigs without a region.
        """
        contigs: dict[str, None] = {}
        rules = rules or AlleleRules()
        for given in self._records(region):
            records = given if rules.multiallelic == "drop" else given.split()
            sites, alleles, phased = records.sites, records.alleles, records.phased
            contigs |= dict.fromkeys(sites.contig)
            if region is None and len(contigs) > 1:
                raise several_contigs(self.path, contigs)
            keep = np.ones(len(sites), dtype=bool) if region is None else sites.within(region)
            tally.n_records += int(keep.sum())
            for j, reason in enumerate(sites.unusable(rules)):
                if keep[j] and reason is not None:
                    tally.remove(reason)
                    keep[j] = False
            if self._columns is not None:
                alleles = alleles[:, self._columns]
                phased = None if phased is None else phased[:, self._columns]
            if keep.any():
                yield self._block(sites[keep], alleles[keep], None if phased is None else phased[keep])
        if region is not None and contigs and region.match(list(contigs)) is None:
            raise no_contig(self.path, region, list(contigs))

    def _block(self, sites: Sites, h: NDArray[np.int8], phased: NDArray[np.bool_] | None) -> SiteBlock:
        if h.max() > 1:
            j, i, _ = np.argwhere(h > 1)[0]
            raise InputError(
                f"{self.path}: {sites.contig[j]}:{sites.position[j]} is malformed: sample {self.samples[i]!r} has "
                f"allele {h[j, i].max()} where one alternate allele is listed; repair the record"
            )
        h = np.ascontiguousarray(h)
        haploid = None
        if h.min() <= PAD:
            haploid = (h[:, :, 1] <= PAD) & (h[:, :, 0] >= 0)
            h[:, :, 1] = np.where(haploid, h[:, :, 0], h[:, :, 1])
            haploid = haploid if haploid.any() else None
        if h.min() < 0:
            h[(h < 0).any(axis=2)] = -1
        if phased is not None and not (~phased & (h[:, :, 0] != h[:, :, 1])).any():
            phased = None
        return SiteBlock(
            h, phased, sites.position, sites.id.tolist(), sites.ref.tolist(), sites.alt.tolist(), str(sites.contig[0]),
            haploid, [] if sites.info is None or not any(sites.info) else sites.info.tolist(),
        )  # fmt: skip

    def _spans(self, sites: Sites, region: Region | None, *, step: int) -> Iterator[slice]:
        """Rows to read at once, where the sites are known beforehand; counts them."""
        known = list(dict.fromkeys(sites.contig))
        if region is None:
            if len(known) > 1:
                raise several_contigs(self.path, known)
            start, stop = 0, len(sites)
            self.n_records = stop
        else:
            if region.match(known) is None:
                raise no_contig(self.path, region, known)
            rows = np.flatnonzero(sites.within(region))
            start, stop = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
            self.n_records = len(rows)
        for first in range(start - start % step, stop, step):
            yield slice(max(first, start), min(first + step, stop))


def rows_at_once(n_samples: int, *, bytes_per_call: int) -> int:
    """Records that fit into a buffer of 16 MB, at least one."""
    return max(1, _BYTES // max(1, n_samples * bytes_per_call))
