"""Which sites are kept, and a count of every removal by name.

Records are judged in this order; each removed record is counted once, under the first reason that applies:

1. *structure*: ``multi-allelic``, ``no-alternate-allele``, ``symbolic-allele`` (``*``, ``<*>`` and the like),
   ``structural-variant`` (if they are to be left out), ``no-position`` (POS 0), ``no-GT``, ``non-diploid``;
2. *data*: ``missing`` (too many people without a call), ``monomorphic``, ``maf``;
3. *order*: ``unsorted`` (before the last kept site), ``duplicate-position`` (judged last: the first usable one stays);
4. *choice*: ``not-chosen``, where only some sites are wanted (:mod:`data_prep.thinning`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.variants import VariantTable

__all__ = [
    "REASONS",
    "FilterReport",
    "Order",
    "Tally",
    "check_thresholds",
    "count_rows",
    "filter_table",
    "judge_data",
    "judge_order",
]

REASONS: dict[str, str] = {
    "multi-allelic": "more than one alternate allele",
    "no-alternate-allele": "no alternate allele",
    "symbolic-allele": "an allele that says nothing of its own (*, <*>) or is malformed",
    "structural-variant": "a structural variant",
    "no-position": "position 0",
    "no-GT": "no genotypes",
    "non-diploid": "calls that are not diploid",
    "missing": "too many missing calls",
    "monomorphic": "one allele only",
    "maf": "minor-allele frequency below the threshold",
    "unsorted": "position before the previous site",
    "duplicate-position": "position of an earlier site",
    "not-chosen": "linked to an earlier site, or not among the sites asked for",
}
"""Every reason for which a record is removed, in the order of judgement, and what it means."""

_REMEDY = {
    "multi-allelic": "read them with --multiallelic split",
    "no-alternate-allele": "give a file with variant sites",
    "symbolic-allele": "give a file with SNPs, indels or structural variants",
    "structural-variant": "leave --no-structural away",
    "no-position": "give a file with positions from 1",
    "no-GT": "give a file with a GT field",
    "non-diploid": "give a diploid region, as of an autosome",
    "missing": "raise the allowed share of missing calls, or impute first",
    "monomorphic": "give more people or another region",
    "maf": "lower --maf",
    "unsorted": "sort with 'bcftools sort'",
    "duplicate-position": "give a file with one record per position",
    "not-chosen": "give a file with the sites asked for",
}


def check_thresholds(*, maf: float | None, max_missing: float) -> None:
    """Refuse thresholds outside their domain: maf in [0, 0.5], max_missing in [0, 1].

    Raises:
        ValueError: a threshold out of range or not a number.
    """
    if maf is not None and not 0 <= maf <= 0.5:
        raise ValueError(f"maf must lie in [0, 0.5], got {maf}")
    if not 0 <= max_missing <= 1:
        raise ValueError(f"max_missing must lie in [0, 1], got {max_missing}")


@dataclass(frozen=True)
class FilterReport:
    """What went in, what was kept and why the rest was not.

    Attributes:
        n_records: records seen (inside the region, where one was asked for).
        kept: sites kept.
        removed: records removed by reason (a key of :data:`REASONS`), only reasons that occurred.
        missing_calls: calls (person × kept site) without both alleles.
        unphased_het_calls: heterozygous calls of kept sites that carry no phase.
        n_samples: people.
        source: the file, where there was one.
        maf: the threshold on the minor-allele frequency; sites below it are removed.
        max_missing: the largest accepted share of people without a call.
        notes: what else there is to say of the reading, in lines.
    """

    n_records: int
    kept: int
    removed: dict[str, int] = field(default_factory=dict)
    missing_calls: int = 0
    unphased_het_calls: int = 0
    n_samples: int = 0
    source: str = ""
    maf: float = 0.0
    max_missing: float = 0.1
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as lines of text for people."""
        name = f"{self.source}: " if self.source else ""
        out = [f"{name}{self.kept:,} of {self.n_records:,} records kept for {self.n_samples:,} people"]
        for reason, count in self.removed.items():
            detail = {"maf": f" ({self.maf:g})", "missing": f" (more than {self.max_missing:.0%} of people)"}
            out.append(f"removed {count:,} {reason}: {REASONS.get(reason, reason)}{detail.get(reason, '')}")
        calls = self.kept * self.n_samples
        if self.missing_calls:
            out.append(f"{self.missing_calls:,} of {calls:,} calls are missing")
        if self.unphased_het_calls:
            out.append(f"{self.unphased_het_calls:,} heterozygous calls are unphased")
        return [*out, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ready for JSON."""
        return {
            "source": self.source,
            "n_records": self.n_records,
            "kept": self.kept,
            "removed": dict(self.removed),
            "missing_calls": self.missing_calls,
            "unphased_het_calls": self.unphased_het_calls,
            "n_samples": self.n_samples,
            "maf": self.maf,
            "max_missing": self.max_missing,
            "notes": self.notes,
        }

    def require_sites(self) -> None:
        """Refuse an empty outcome, saying which filter removed what.

        Raises:
            InputError: no site was kept.
        """
        if self.kept:
            return
        name = self.source or "the table"
        if not self.n_records:
            raise InputError(f"{name} holds no records (in the region asked for): nothing to read")
        what = ", ".join(
            f"{count:,} {reason} ({REASONS.get(reason, reason)})" for reason, count in self.removed.items()
        )
        worst = max(self.removed, key=lambda reason: self.removed[reason])
        raise InputError(
            f"{name}: no site is left after the filters; of {self.n_records:,} records were removed: {what}; "
            f"{_REMEDY.get(worst, 'relax the filters')}"
        )

    def require_diploid(self) -> None:
        """Refuse an outcome where most records have haploid calls: what is left says little of the chromosome.

        Raises:
            InputError: more than half of the records were removed as not diploid.
        """
        odd = self.removed.get("non-diploid", 0)
        if 2 * odd > self.n_records:
            raise InputError(
                f"{self.source}: {odd:,} of {self.n_records:,} records have calls that are not diploid: "
                f"{_REMEDY['non-diploid']}"
            )


class Tally:
    """Running counts while records stream by; :meth:`report` freezes them."""

    def __init__(self) -> None:
        self.n_records = 0
        self.kept = 0
        self.missing_calls = 0
        self.unphased_het_calls = 0
        self._removed: Counter[str] = Counter()
        self.notes: tuple[str, ...] = ()

    def remove(self, reason: str, count: int = 1) -> None:
        """Count records removed for one reason."""
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        if count:
            self._removed[reason] += int(count)

    def report(self, *, n_samples: int, source: str, maf: float, max_missing: float) -> FilterReport:
        """The counts so far, as a report."""
        return FilterReport(
            n_records=self.n_records,
            kept=self.kept,
            removed={reason: self._removed[reason] for reason in REASONS if self._removed[reason]},
            missing_calls=self.missing_calls,
            unphased_het_calls=self.unphased_het_calls,
            n_samples=n_samples,
            source=source,
            maf=maf,
            max_missing=max_missing,
            notes=self.notes,
        )


def count_rows(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of true entries per row of a C-contiguous bool (rows, columns), several times faster than a sum."""
    whole = mask.shape[1] // 8 * 8
    eights = np.bitwise_count(mask[:, :whole].view(np.uint64))
    return eights.sum(axis=1, dtype=np.int64) + mask[:, whole:].sum(axis=1, dtype=np.int64)


def judge_data(
    haplotypes: NDArray[np.int8], *, maf: float | None, max_missing: float, tally: Tally
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Sites that pass missingness, monomorphism and MAF; removals go to the tally.

    Args:
        haplotypes: int8 (variants, samples, 2), codes 0, 1, −1.
        maf: keep a site whose minor-allele frequency among called alleles is at least this; ``None`` keeps monomorphic
            sites too.
        max_missing: keep a site if at most this share of people lacks a complete call.
        tally: receives the counts.

    Returns:
        Mask of kept sites (variants,) and the number of people without a complete call (variants,).
    """
    n_variants, n_samples = haplotypes.shape[:2]
    flat = haplotypes.reshape(n_variants, -1)
    alt = count_rows(flat == 1)
    if flat.size and flat.min() < 0:
        absent = flat < 0
        called = flat.shape[1] - count_rows(absent)
        incomplete = count_rows(absent[:, 0::2] | absent[:, 1::2])
    else:
        called = np.full(n_variants, flat.shape[1])
        incomplete = np.zeros(n_variants, dtype=np.int64)
    minor = np.minimum(alt, called - alt)
    # Counts and not rates are compared: 3 of 30 is not above 10 % by rounding.
    too_missing = incomplete > np.floor(max_missing * n_samples + 1e-9)
    if maf is None:
        tally.remove("missing", too_missing.sum())
        return ~too_missing, incomplete
    monomorphic = ~too_missing & (minor == 0)
    rare = ~too_missing & ~monomorphic & (minor < maf * called - 1e-9)
    tally.remove("missing", too_missing.sum())
    tally.remove("monomorphic", monomorphic.sum())
    tally.remove("maf", rare.sum())
    return ~(too_missing | monomorphic | rare), incomplete


def judge_order(position: NDArray[np.int64], *, last: int, tally: Tally) -> NDArray[np.bool_]:
    """Sites whose position lies after every site kept before.

    Args:
        position: (variants,) in bp, in file order.
        last: position of the last site kept before this block; 0 if none.
        tally: receives the counts.
    """
    # The running maximum is always reached by a kept site, so it equals the last kept position.
    before = np.maximum.accumulate(np.concatenate([[last], position]))[:-1]
    tally.remove("unsorted", (position < before).sum())
    tally.remove("duplicate-position", (position == before).sum())
    return position > before


class Order:
    """Which sites come in order, block by block, and are none a second time.

    Args:
        split: whether sites may share a position that are alternates of one REF; the same site twice may not.
    """

    def __init__(self, *, split: bool) -> None:
        self._split = split
        self._last = 0
        self._here: set[tuple[str, str]] = set()

    def judge(self, position: NDArray[np.int64], alleles: Iterable[tuple[str, str]], tally: Tally) -> NDArray[np.bool_]:
        """Mask (variants,) of the sites that stay, by position and by REF and ALT; removals go to the tally."""
        if not self._split:
            keep = judge_order(position, last=self._last, tally=tally)
            if keep.any():
                self._last = int(position[keep][-1])
            return keep
        keep = np.ones(len(position), dtype=bool)
        for j, (at, both) in enumerate(zip(position.tolist(), alleles, strict=True)):
            if at > self._last:
                self._last, self._here = at, {both}
            elif at < self._last:
                keep[j] = False
                tally.remove("unsorted")
            elif both in self._here or both[0] not in {ref for ref, _ in self._here}:
                keep[j] = False
                tally.remove("duplicate-position")
            else:
                self._here.add(both)
        return keep


def filter_table(
    table: VariantTable, *, maf: float | None = 0.0, max_missing: float = 0.1
) -> tuple[VariantTable, FilterReport]:
    """The same filters on a table in memory: missingness, monomorphism, MAF and duplicate positions.

    Alternates of one record stay where the table was read with them (a column ``joined`` of its sites).
    A table without people or where nothing is left gives an empty table; ``report.require_sites()`` refuses that.

    Args:
        table: any table; several contigs are allowed.
        maf: smallest minor-allele frequency kept, in [0, 0.5]; ``None`` keeps monomorphic sites too.
        max_missing: largest share of people without a complete call, in [0, 1].

    Returns:
        The kept sites and the report.

    Raises:
        ValueError: a threshold out of range.
    """
    check_thresholds(maf=maf, max_missing=max_missing)
    tally = Tally()
    tally.n_records = table.n_variants
    keep = np.zeros(table.n_variants, dtype=bool)
    contig, position = table.sites["contig"].to_numpy(), table.sites["position"].to_numpy(dtype=np.int64)
    alleles = list(zip(table.sites["ref"], table.sites["alt"], strict=True))
    for start in range(0, table.n_variants, 4096):
        block = np.ascontiguousarray(table.haplotypes[:, start : start + 4096].transpose(1, 0, 2))
        keep[start : start + 4096], _ = judge_data(block, maf=maf, max_missing=max_missing, tally=tally)
    for name in dict.fromkeys(contig):
        rows = np.flatnonzero(keep & (contig == name))
        keep[rows] = Order(split="joined" in table.sites).judge(position[rows], [alleles[j] for j in rows], tally)
    kept = table.select(variants=keep)
    tally.kept = kept.n_variants
    tally.missing_calls = kept.missing_calls
    tally.unphased_het_calls = int(kept.unphased_het.sum())
    return kept, tally.report(n_samples=table.n_people, source="", maf=maf or 0.0, max_missing=max_missing)
