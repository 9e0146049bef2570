"""Reading VCF and BCF through cyvcf2, in blocks of bounded memory.

Genotypes are taken from ``Variant.genotype.array()`` and copied at once. ``Variant.gt_types`` is never used: it is a
view of memory that cyvcf2 frees with the record (retained views hold garbage, silently), and it cannot tell a haploid
call from a homozygous one.

:func:`write_vcf` and :class:`VcfWriter` live in :mod:`data_prep.vcf_write` and are re-exported here.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cyvcf2
import numpy as np
from numpy.typing import NDArray

from data_prep.alleles import AlleleRules, info_of, is_structural
from data_prep.bcf_plain import PlainRecords
from data_prep.errors import InputError
from data_prep.files import FileKind, check_whole, require_file, sniff
from data_prep.filters import Tally
from data_prep.records import SiteBlock, choose_samples, no_contig, several_contigs
from data_prep.regions import Region
from data_prep.sexes import Sexes
from data_prep.tabix import contig_offsets, require_sound_index, usable_index
from data_prep.vcf_check import contig_ids, diagnose, format_keys, read_header, scan_body, scan_region
from data_prep.vcf_plain import Part, PlainLines
from data_prep.vcf_write import VcfWriter, write_vcf

__all__ = ["VcfSource", "VcfWriter", "write_vcf"]

_PAD = -2
"""cyvcf2's filler where a call has fewer alleles than the widest call of its record."""

_BLOCK_BYTES = 1 << 21
"""Small enough that a block is judged while it is in cache."""


_Row = tuple[int, str, str, str, str]
"""Position, ID, REF, ALT and INFO of a site."""


class VcfSource:
    """One VCF or BCF file, opened and checked.

    Args:
        path: ``.vcf``, ``.vcf.gz`` (BGZF or plain gzip) or ``.bcf``; recognised by content.
        samples: people to read, in this order; all, in file order, if ``None``.

    Attributes:
        samples: names in the order of the blocks' second axis.
        header: the ``##contig`` and ``##reference`` lines.
        declared: the ``##ALT`` and ``##INFO`` lines.
        n_records: data lines in the file, where they have been counted (text without an index), else ``None``.

    Raises:
        InputError: the file cannot be used; the message says why.
    """

    def __init__(self, path: str | os.PathLike[str], *, samples: Sequence[str] | None = None) -> None:
        self.path: Path = require_file(path, what="VCF or BCF file")
        self.kind: FileKind = sniff(self.path)
        if self.kind != "bcf":
            self._names = read_header(self.path)
        check_whole(self.path, self.kind)
        # htslib writes to stderr by itself; what matters of it is said in the InputError instead.
        cyvcf2.cyvcf2.set_htslib_log_level(0)
        self._vcf = self._open()
        try:
            names = list(self._vcf.samples)
            self._format_keys = format_keys(self._vcf.raw_header)
            lines = self._vcf.raw_header.splitlines()
            self.header: tuple[str, ...] = tuple(s for s in lines if s.startswith(("##contig=", "##reference=")))
            self.declared: tuple[str, ...] = tuple(s for s in lines if s.startswith(("##ALT=", "##INFO=")))
        except Exception as error:
            raise InputError(
                f"{self.path}: the header cannot be read ({error}); check it with 'bcftools head'"
            ) from error
        if not names:
            raise InputError(f"{self.path} has no samples: give a file with genotypes")
        if self.kind != "bcf" and len(names) != len(self._names):
            raise InputError(
                f"{self.path}: the column line names {len(self._names)} samples but htslib finds {len(names)}"
            )
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise InputError(
                f"{self.path}: sample name {twice!r} occurs twice in the header; rename with 'bcftools reheader'"
            )
        self.samples: list[str] = names if samples is None else choose_samples(self.path, names, samples)
        index = {name: i for i, name in enumerate(names)}
        self._columns: NDArray[np.intp] | None = (
            None if self.samples == names else np.array([index[name] for name in self.samples], dtype=np.intp)
        )
        self.n_records: int | None = None
        self.sexes: Sexes | None = None

    def _open(self) -> Any:
        require_sound_index(self.path)
        try:
            return cyvcf2.VCF(os.path.abspath(self.path))
        except Exception as error:
            raise InputError(f"{self.path} is not a VCF or BCF file that htslib can open: {_line(error)}") from error

    def _place(self, region: Region) -> tuple[str, int] | None:
        """Contig of a region and where it begins, by a tabix index; ``None`` where there is none to rely on.

        Raises:
            InputError: the index has no such contig.
        """
        index = usable_index(self.path) if self.kind == "bgzf" else None
        offsets = None if index is None else contig_offsets(index)
        if offsets is None:
            return None
        contig = region.match(list(offsets))
        if contig is None:
            raise no_contig(self.path, region, list(offsets))
        windows = offsets[contig]
        return contig, int(windows[min((region.start - 1) >> 14, len(windows) - 1)]) if len(windows) else 0

    def _indexed(self, region: Region) -> Iterator[Any] | None:
        """The records of a region through a tabix index; ``None`` where there is none to rely on."""
        place = self._place(region)
        if place is None:
            return None
        contig, offset = place
        count = scan_region(
            self.path, region, contig, offset=offset, n_samples=len(self._names), declared=self._format_keys
        )
        self.n_records = count
        return self._counted(self._vcf(region.query(contig)), region, count)

    def _counted(self, records: Iterator[Any], region: Region, count: int) -> Iterator[Any]:
        seen = 0
        for record in records:
            seen += region.holds(record.CHROM, record.POS)
            yield record
        if seen != count:
            raise InputError(
                f"{self.path}: {seen:,} of {count:,} records of the region are found through the index: "
                "index the file again with 'bcftools index -f -t'"
            )

    def _records(self, region: Region | None) -> Iterator[Any]:
        records = None if region is None else self._indexed(region)
        if records is not None:
            return records
        if self.kind != "bcf":
            scan = scan_body(self.path, self._format_keys)
            self.n_records = scan.n_lines
            if region is None and len(scan.contigs) > 1:
                raise several_contigs(self.path, scan.contigs)
            if region is not None and scan.contigs and region.match(scan.contigs) is None:
                raise no_contig(self.path, region, scan.contigs)
            declared = set(contig_ids("\n".join(self.header)))
            for name in scan.contigs:
                if name not in declared:
                    self._vcf.add_to_header(f"##contig=<ID={name}>")
        return iter(self._vcf)

    def contigs(self) -> dict[str, int]:
        """Number of records by contig, in the order of the file.

        Raises:
            InputError: the file is damaged or malformed.
        """
        if self.kind != "bcf":
            return scan_body(self.path, self._format_keys).counts
        counts: dict[str, int] = {}
        try:
            for record in self._open():
                counts[record.CHROM] = counts.get(record.CHROM, 0) + 1
        except Exception as error:
            raise self._malformed(sum(counts.values()), [], error) from error
        return counts

    def _plain(self, plain: PlainLines | PlainRecords, tally: Tally) -> Generator[SiteBlock, None, str]:
        """Blocks of the plain lines a file begins with; returns their contig."""
        contig = ""
        for block in plain.blocks():
            if contig and block.contig != contig:
                # It is read again, and refused with the names of all contigs.
                plain.whole, plain.n_lines = False, plain.n_lines - len(block.rows) - len(block.removed)
                break
            contig = block.contig
            tally.n_records += len(block.rows) + len(block.removed)
            for reason in block.removed:
                tally.remove(reason)
            if not block.rows:
                continue
            h, phased = block.haplotypes, block.phased
            if self._columns is not None:
                h, phased = h[:, self._columns], None if phased is None else phased[:, self._columns]
            if phased is not None and not (~phased & (h[:, :, 0] != h[:, :, 1])).any():
                phased = None
            position, ids, refs, alts, infos = (list(column) for column in zip(*block.rows, strict=True))
            yield SiteBlock(
                h, phased, np.array(position, dtype=np.int64), ids, refs, alts, contig,
                info=infos if any(infos) else [],
            )  # fmt: skip
        return contig

    def blocks(self, region: Region | None, tally: Tally, *, rules: AlleleRules | None = None) -> Iterator[SiteBlock]:
        """Records of one contig or region, block by block.

        Args:
            region: where to read; ``None`` for the whole file, which must then hold one contig.
            tally: receives the number of records, of alternates where they are split, and the structural removals.
            rules: what becomes of several alternates and of structural variants; ``AlleleRules()`` if ``None``.

        Raises:
            InputError: a malformed record, or several contigs without a region.
        """
        width = len(self._names) if self.kind != "bcf" else len(self._vcf.samples)
        size = int(np.clip(_BLOCK_BYTES // (6 * width), 16, 2048))
        calls = np.empty((size, width, 3), dtype=np.int16)
        rules = rules or AlleleRules()
        split = rules.multiallelic != "drop"
        rows: list[_Row] = []
        contig = ""
        number = 0
        plain = self._plain_reader(region, width, rules)
        if plain is not None:
            contig = yield from self._plain(plain, tally)
            if plain.whole:
                return
            number = plain.n_lines
        # What was read is read over: of a region, records that lie in it; others reach into it.
        held = self._records(region) if region is None else self._within(region)
        records = islice(held, number, None)
        while True:
            try:
                record = next(records, None)
            except StopIteration:
                record = None
            except InputError:
                raise
            except Exception as error:
                raise self._malformed(number, rows, error) from error
            if record is None:
                break
            number += 1
            try:
                here, position = record.CHROM, record.POS
                if here != contig:
                    if contig and region is None:
                        raise several_contigs(self.path, [contig, here, "…"])
                    contig = here
                tally.n_records += 1
                ref, alts = record.REF, record.ALT
                if split and len(alts) > 1 and position > 0:
                    if len(rows) + len(alts) > len(calls):
                        yield from self._block(calls[: len(rows)], rows, contig)
                        rows, calls = [], calls if len(alts) <= len(calls) else calls.repeat(len(alts), axis=0)
                    rows += self._split(record, rules, calls[len(rows) :], tally)
                    continue
                reason = _structure(position, ref, alts, rules)
                if reason is None:
                    reason = _genotypes(record, calls[len(rows)])
                if reason is not None:
                    tally.remove(reason)
                    continue
                info = info_of(record, 0, 1) if is_structural(alts[0]) else ""
                rows.append((position, record.ID or ".", ref, alts[0], info))
            except InputError:
                raise
            except Exception as error:
                raise self._malformed(number, rows, error) from error
            if len(rows) >= size:
                yield from self._block(calls[: len(rows)], rows, contig)
                rows = []
        if rows:
            yield from self._block(calls[: len(rows)], rows, contig)

    def _plain_reader(self, region: Region | None, width: int, rules: AlleleRules) -> PlainLines | PlainRecords | None:
        """What reads plain records of the file or region; ``None`` for a region that no index leads to."""
        refuse, split = partial(_structure, rules=rules), rules.multiallelic != "drop"
        if region is None:
            lines = PlainRecords if self.kind == "bcf" else PlainLines
            return lines(self.path, width, refuse=refuse, split=split)
        place = self._place(region)
        if place is None:
            return None
        contig, offset = place
        part = Part(region, contig.encode(), offset)
        return PlainLines(self.path, width, refuse=refuse, split=split, part=part)

    def _within(self, region: Region) -> Iterator[Any]:
        """Records of a region; those that merely reach into it are left out."""
        return (record for record in self._records(region) if region.holds(record.CHROM, record.POS))

    def _split(self, record: Any, rules: AlleleRules, out: NDArray[np.int16], tally: Tally) -> list[_Row]:
        """One row for every alternate of a record; its calls go to ``out`` (rows, samples, 3)."""
        ref, alts = record.REF, record.ALT
        tally.n_records += len(alts) - 1
        calls = np.empty(out.shape[1:], dtype=np.int16)
        reason = _genotypes(record, calls)
        if reason is not None:
            tally.remove(reason, len(alts))
            return []
        alleles = calls[:, :2]
        if alleles.max() > len(alts):
            i = int(alleles.max(axis=1).argmax())
            raise InputError(
                f"{self.path}: {record.CHROM}:{record.POS} is malformed: sample {self._vcf.samples[i]!r} has allele "
                f"{alleles[i].max()} where {len(alts)} alternate alleles are listed; repair the record"
            )
        rows: list[_Row] = []
        for k, alt in enumerate(alts):
            refused = rules.refused(ref, alt)
            if refused is not None:
                tally.remove(refused)
                continue
            out[len(rows), :, :2] = np.where(alleles == k + 1, 1, np.minimum(alleles, 0))
            out[len(rows), :, 2] = calls[:, 2]
            info = info_of(record, k, len(alts)) if is_structural(alt) else ""
            rows.append((record.POS, record.ID or ".", ref, alt, info))
        return rows

    def _block(self, calls: NDArray[np.int16], rows: list[_Row], contig: str) -> Iterator[SiteBlock]:
        if self._columns is not None:
            calls = calls[:, self._columns]
        alleles = calls[:, :, :2]
        # The third number of a call is its phase, 0 or 1, so that extremes may be taken over the whole buffer.
        if calls.max() > 1:
            j, i, _ = np.argwhere(alleles > 1)[0]
            raise InputError(
                f"{self.path}: {contig}:{rows[j][0]} is malformed: sample {self.samples[i]!r} has allele "
                f"{alleles[j, i].max()} where one alternate allele is listed; repair the record"
            )
        lowest = calls.min()
        small = calls.astype(np.int8)
        haploid = None
        if lowest <= _PAD:
            # A lone "." is a missing call; a lone "0" or "1" is a haploid one.
            haploid = (small[:, :, 1] <= _PAD) & (small[:, :, 0] >= 0)
            small[:, :, 1] = np.where(haploid, small[:, :, 0], small[:, :, 1])
            haploid = haploid if haploid.any() else None
        haplotypes = np.empty((*small.shape[:2], 2), dtype=np.int8)
        haplotypes[:, :, 0], haplotypes[:, :, 1] = small[:, :, 0], small[:, :, 1]
        if lowest < 0:
            haplotypes[(haplotypes < 0).any(axis=2)] = -1
        phased = None
        if not small[:, :, 2].all():
            phased = small[:, :, 2] != 0
            if not (~phased & (haplotypes[:, :, 0] != haplotypes[:, :, 1])).any():
                phased = None
        position, ids, refs, alts, infos = zip(*rows, strict=True)
        yield SiteBlock(
            haplotypes, phased, np.array(position, dtype=np.int64), list(ids), list(refs), list(alts), contig,
            haploid, list(infos) if any(infos) else [],
        )  # fmt: skip

    def _malformed(self, number: int, rows: list[_Row], error: Exception) -> InputError:
        found = diagnose(self.path, self._format_keys) if self.kind != "bcf" else None
        if found is not None:
            return InputError(f"{self.path}, {found}; repair or remove the record")
        after = f" (after position {rows[-1][0]})" if rows else ""
        return InputError(
            f"{self.path}: record {number + 1}{after} cannot be read: {_line(error)}; "
            "the file is corrupt or malformed there, check it with 'bcftools view'"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _structure(position: int, ref: str, alts: list[str], rules: AlleleRules) -> str | None:
    """Why a record cannot be used whatever its genotypes, or ``None``."""
    if len(alts) > 1:
        return "multi-allelic"
    if not alts or alts[0] == ".":
        return "no-alternate-allele"
    return rules.refused(ref, alts[0]) or ("no-position" if position < 1 else None)


def _genotypes(record: Any, out: NDArray[np.int16]) -> str | None:
    """Copy the calls of a record into ``out`` (samples, 3), or say why it has none that fit."""
    try:
        genotype = record.genotype
        if genotype.ploidy < 1:  # a BCF may say so, and the array of it ends the process
            return "no-GT"
        calls = genotype.array()
    except Exception:  # cyvcf2 raises a bare Exception (or finds None) where the record has no GT
        return "no-GT"
    if calls.shape[1] == 3:
        out[:] = calls
        return None
    if calls.shape[1] != 2:
        return "non-diploid"
    out[:, 0], out[:, 1], out[:, 2] = calls[:, 0], _PAD, 1
    return None
