"""Alternate alleles: several at one site, and such as stand for structural variants.

A record with several alternates is *split* as ``bcftools norm -m-`` does: every alternate becomes a site of its own, in
the order of the record, where all other alleles count as 0. Sites of one record share contig, position and REF.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.variants import VariantTable

__all__ = [
    "INFO_LINES",
    "AlleleRules",
    "info_of",
    "is_structural",
    "joined_calls",
    "joined_to_last",
    "kept_info",
    "kept_lines",
    "of_alternate",
    "one_alternate_each",
    "same_record",
]

Multiallelic = Literal["drop", "split", "join"]

_SEQUENCE = re.compile(r"[ACGTNacgtn]+")
_SYMBOL = re.compile(r"<[^<>\s,]+>")
_BREAKEND = re.compile(r"[ACGTNacgtn.]*[][][^][\s,]+:\d+[][][ACGTNacgtn.]*|\.[ACGTNacgtn]+|[ACGTNacgtn]+\.")
_UNSPECIFIED = frozenset(("<*>", "<NON_REF>", "<X>"))

INFO_LINES = {
    "END": '##INFO=<ID=END,Number=1,Type=Integer,Description="End position of the variant">',
    "SVTYPE": '##INFO=<ID=SVTYPE,Number=1,Type=String,Description="Type of structural variant">',
    "SVLEN": '##INFO=<ID=SVLEN,Number=.,Type=Integer,Description="Difference in length between REF and ALT">',
    "MATEID": '##INFO=<ID=MATEID,Number=.,Type=String,Description="ID of the mate breakend">',
    "CIPOS": '##INFO=<ID=CIPOS,Number=2,Type=Integer,Description="Confidence interval around POS">',
    "CIEND": '##INFO=<ID=CIEND,Number=2,Type=Integer,Description="Confidence interval around END">',
    "IMPRECISE": '##INFO=<ID=IMPRECISE,Number=0,Type=Flag,Description="Imprecise structural variation">',
}
"""INFO fields that are kept of structural variants, and how the header declares them where the input does not."""


@dataclass(frozen=True)
class AlleleRules:
    """What becomes of records that are not a choice between two sequences.

    Attributes:
        multiallelic: of records with several alternates: ``drop``, ``split``, or ``join``: split to learn from and
            written again as one record.
        structural: whether structural variants (``<DEL>``, breakends) are read, as biallelic sites.
    """

    multiallelic: Multiallelic = "drop"
    structural: bool = True

    def refused(self, ref: str, alt: str) -> str | None:
        """Why a site with these alleles cannot be used, or ``None``."""
        if not _SEQUENCE.fullmatch(ref):
            return "symbolic-allele"
        if _SEQUENCE.fullmatch(alt):
            return None
        if alt in _UNSPECIFIED or not (_SYMBOL.fullmatch(alt) or _BREAKEND.fullmatch(alt)):
            return "symbolic-allele"
        return None if self.structural else "structural-variant"


def is_structural(alt: str) -> bool:
    """Whether an alternate is a symbol or a breakend."""
    return not _SEQUENCE.fullmatch(alt)


def info_of(record: Any, allele: int, n_alleles: int) -> str:
    """The INFO fields of :data:`INFO_LINES` that a record has, as text.

    Args:
        record: a ``cyvcf2.Variant``.
        allele: index of the alternate.
        n_alleles: number of alternates; a field with as many values gives the one of this alternate.
    """
    out = []
    for key in INFO_LINES:
        value = record.INFO.get(key)
        if value is None or value is False:
            continue
        if isinstance(value, tuple) and key == "SVLEN" and len(value) == n_alleles > 1:
            value = value[allele]
        if value is True:
            out.append(key)
        else:
            out.append(f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return ";".join(out)


def kept_info(text: str) -> str:
    """Those of the INFO fields of a line that :data:`INFO_LINES` names, in its order."""
    fields = {field.partition("=")[0]: field for field in text.split(";")}
    return ";".join(fields[key] for key in INFO_LINES if key in fields)


def of_alternate(info: str, allele: int, n_alleles: int) -> str:
    """INFO fields of one alternate of a record: a length for each alternate gives the one of this."""
    fields = info.split(";")
    for k, field in enumerate(fields):
        lengths = field.removeprefix("SVLEN=").split(",")
        if field.startswith("SVLEN=") and len(lengths) == n_alleles > 1:
            fields[k] = f"SVLEN={lengths[allele]}"
    return ";".join(fields)


def kept_lines(header: Sequence[str], sites: pd.DataFrame) -> tuple[str, ...]:
    """Lines of a header that the sites need: ``##ALT`` of their symbols, ``##INFO`` of their fields."""
    symbols = {alt for alt in sites["alt"].unique() if str(alt).startswith("<")}
    keys = set()
    if "info" in sites.columns:
        keys = {field.split("=")[0] for text in sites["info"].unique() for field in text.split(";") if field}
    out, declared = [], set()
    for line in header:
        found = re.match(r"##(ALT|INFO)=<ID=([^,>]+)", line)
        if found is None:
            continue
        if (found[1] == "ALT" and f"<{found[2]}>" in symbols) or (found[1] == "INFO" and found[2] in keys):
            out.append(line)
            declared.add(found[2])
    return (*out, *(INFO_LINES[key] for key in INFO_LINES if key in keys - declared))


def same_record(sites: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each site (variants,) is a further alternate of the record of the site before it."""
    before = sites[["contig", "position", "ref"]].shift()
    return (sites[["contig", "position", "ref"]] == before).all(axis=1).to_numpy()


def joined_to_last(sites: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each site (variants,) is written in the record of the site before it: a column ``joined`` says so."""
    if "joined" not in sites.columns or not sites["joined"].any():
        return np.zeros(len(sites), dtype=bool)
    return same_record(sites) & sites["joined"].to_numpy(dtype=bool)


def joined_calls(haplotypes: NDArray[np.int8], kind: NDArray[np.int8]) -> bytes:
    """The genotype columns of one record, with the end of the line.

    Args:
        haplotypes: int8 (alternates, people, 2); no haplotype carries two alternates. One that lacks the call of an
            alternate has none.
        kind: per row of people, 0 without phase, 1 with phase, 2 two haploid calls, 3 one, the first.
    """
    numbers = np.arange(1, len(haplotypes) + 1)[:, None, None]
    allele = np.where((haplotypes < 0).any(axis=0), -1, ((haplotypes == 1) * numbers).max(axis=0))
    names = [".", *map(str, range(len(haplotypes) + 1))]
    between = "/|\t"
    calls = (
        names[a + 1] if k == 3 else f"{names[a + 1]}{between[k]}{names[b + 1]}"
        for (a, b), k in zip(allele.tolist(), kind.tolist(), strict=True)
    )
    return ("\t".join(calls) + "\n").encode()


def one_alternate_each(table: VariantTable) -> VariantTable:
    """The table with at most one alternate of a record on a haplotype, as it can be.

    Alternates of one record are drawn as sites of their own. Where a haplotype has drawn two, it keeps the one that is
    rarer among the people of the table, by which the frequencies change least; where phase is unknown, a person who has
    drawn more than two keeps the two rarest. The first of the record goes first among equals.
    """
    further = same_record(table.sites)
    if not further.any():
        return table
    haplotypes = np.array(table.haplotypes)
    starts = np.flatnonzero(~further & np.append(further[1:], False))
    for start in starts:
        stop = start + 1
        while stop < len(further) and further[stop]:
            stop += 1
        part = haplotypes[:, start:stop]
        order = start + np.argsort((part == 1).sum(axis=(0, 2)), kind="stable")
        if table.is_phased:
            taken = np.zeros((len(part), 2), dtype=bool)
            for site in order:
                carries = haplotypes[:, site] == 1
                haplotypes[:, site][carries & taken] = 0
                taken |= carries
            continue
        room = np.full(len(part), 2)
        for site in order:
            dosage = np.minimum((haplotypes[:, site] == 1).sum(axis=1), room)
            known = (haplotypes[:, site] >= 0).all(axis=1)
            # Places are filled from the second: 0/1 and, beside it, 2/1.
            filled = np.stack([(dosage > 0) & (dosage == room), (dosage > 0) & (room == 2)], axis=1)
            haplotypes[known, site] = filled[known]
            room = np.where(known, room - dosage, room)
    return replace(table, haplotypes=haplotypes)
