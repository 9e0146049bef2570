"""Writing VCF fast: numpy lays out the bytes of the genotype columns, BGZF blocks are deflated by ISA-L.

A file appears under its name only when it is whole: everything goes to a temporary file in the same folder, which
replaces the target at the end, index included.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pysam
import pysam.bcftools
from isal import isal_zlib
from numpy.typing import NDArray

from data_prep.alleles import joined_calls, joined_to_last
from data_prep.errors import OutputError
from data_prep.files import BGZF_EOF
from data_prep.filters import count_rows
from data_prep.records import SiteOrder
from data_prep.variants import VariantTable
from data_prep.vcf_check import contig_ids, contig_lengths

__all__ = ["VcfWriter", "write_vcf"]

_BLOCK = 65_280
"""Bytes of text in a BGZF block: what htslib uses, small enough that incompressible text still fits in 64 KiB."""

_LEVEL = 2
_TBI_LAST = (1 << 29) - 1
_CHUNK = 1 << 24


def _genotype_codes() -> NDArray[np.uint32]:
    """The four bytes ``a|b<tab>`` as one little-endian integer, by code = (a + 1) + 3 (b + 1) + 9 kind.

    Kind 0 is a call without phase, 1 one with phase, 2 the haploid calls ``a<tab>b<tab>`` of two men, 3 one haploid
    call ``a<tab>`` behind two bytes of 0, which are not written.
    """
    codes = np.zeros(36, dtype="<u4")
    for kind, between in enumerate(("/", "|", "\t", "")):
        for a in (-1, 0, 1):
            for b in (-1, 0, 1):
                text = f"{'.01'[a + 1]}{between}{'.01'[b + 1]}\t" if between else f"\0\0{'.01'[a + 1]}\t"
                codes[(a + 1) + 3 * (b + 1) + 9 * kind] = int.from_bytes(text.encode(), "little")
    return codes


_GENOTYPES = _genotype_codes()


def _bgzf_block(text: bytes | memoryview) -> bytes:
    body = isal_zlib.compress(text, _LEVEL, wbits=-15)
    size = len(body) + 26
    if size > 1 << 16:  # incompressible: stored blocks add 5 bytes
        raise ValueError(f"BGZF block of {size} bytes")
    head = struct.pack("<4BI2BH2B2H", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
    return head + body + struct.pack("<2I", isal_zlib.crc32(text), len(text))


class _Bgzf:
    """A byte sink that writes BGZF blocks, deflated on a few threads."""

    def __init__(self, handle: IO[bytes], *, threads: int) -> None:
        self._handle = handle
        self._pending = bytearray()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def write(self, text: bytes) -> None:
        self._pending += text
        whole = len(self._pending) // _BLOCK * _BLOCK
        if whole:
            self._flush(bytes(self._pending[:whole]))
            del self._pending[:whole]

    def _flush(self, text: bytes) -> None:
        view = memoryview(text)
        parts = [view[i : i + _BLOCK] for i in range(0, len(text), _BLOCK)]
        blocks = self._pool.map(_bgzf_block, parts) if self._pool else map(_bgzf_block, parts)
        self._handle.writelines(blocks)

    def finish(self) -> None:
        if self._pending:
            self._flush(bytes(self._pending))
        self._handle.write(BGZF_EOF)
        self.shutdown()

    def shutdown(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class VcfWriter:
    """Write a VCF chunk by chunk of variants; the file appears, indexed, when the block ends without an error.

    ``.vcf`` gives plain text, ``.gz`` BGZF with a tabix index (``.csi`` where a position is beyond 2²⁹), ``.bcf`` BCF
    with a CSI index.

    Args:
        path: the target; an existing file is replaced at the end.
        samples: names of the people of every chunk, in order; both where a row is of two men.
        header: ``##contig``, ``##reference``, ``##ALT`` and ``##INFO`` lines to keep; contigs they lack are added.
        contigs: contigs that will occur, where the header does not list them.
        source: for the ``##source`` line.
        threads: threads that compress.

    Raises:
        OutputError: the file cannot be written (folder absent, read-only, disk full).
        ValueError: chunks that do not fit together, or text that VCF cannot hold.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        samples: list[str],
        *,
        header: tuple[str, ...] = (),
        contigs: tuple[str, ...] = (),
        source: str = "genodiff",
        threads: int = 1,
    ) -> None:
        self.path = Path(path)
        self.samples = [_clean(str(name), "sample name") for name in samples]
        self._kind = {".gz": "bgzf", ".bgz": "bgzf", ".bcf": "bcf"}.get(self.path.suffix, "text")
        self._temporary = self.path.with_name(
            f".{self.path.name}.{os.getpid()}.tmp{'.vcf' if self._kind == 'text' else '.vcf.gz'}"
        )
        self._order = SiteOrder()
        head = _header(self.samples, header=header, contigs=contigs, source=source)
        self._known = set(contig_ids(head))
        self._lengths = contig_lengths(head)
        self._beyond: str | None = None
        self._handle = self._guard(lambda: self._temporary.open("wb"))
        self._sink: Any = self._handle if self._kind == "text" else _Bgzf(self._handle, threads=threads)
        try:
            self._guard(lambda: self._sink.write(head.encode()))
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> VcfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, chunk: VariantTable) -> None:
        """Append the variants of a table whose people are those of the file.

        Raises:
            ValueError: other people, a contig the header does not list, or positions that go back.
        """
        if list(chunk.people) != self.samples:
            raise ValueError("the people of the chunk are not those of the file")
        step = max(1, _CHUNK // max(1, 4 * chunk.n_samples))
        further = joined_to_last(chunk.sites)
        start = 0
        while start < chunk.n_variants:
            stop = min(start + step, chunk.n_variants)
            while stop < chunk.n_variants and further[stop]:
                stop += 1
            text = self._text(chunk, slice(start, stop), further[start:stop])
            self._guard(lambda text=text: self._sink.write(text))
            start = stop

    def _text(self, chunk: VariantTable, part: slice, further: NDArray[np.bool_]) -> bytes:
        # Pairs of alleles move as one 16-bit number: (variants, samples, 2), contiguous.
        pairs = np.ascontiguousarray(chunk.haplotypes[:, part]).view(np.int16)[:, :, 0]
        h = np.ascontiguousarray(pairs.T)[:, :, None].view(np.int8)
        kind = np.ones((1, 1), dtype=np.int8) if chunk.phased is None else chunk.phased[:, part].T.astype(np.int8)
        if "second" in chunk.samples.columns:
            kind = np.where(chunk.people_per_row == 2, np.int8(2), kind)
        haploid = None if chunk.haploid is None else chunk.haploid[:, part].T
        if haploid is not None:
            kind = np.where(haploid, np.int8(3), kind)
            h = np.array(h)
            h[:, :, 1][haploid] = -1  # is counted once
        code = (h[:, :, 0] + 4) + 3 * h[:, :, 1]
        code += 9 * kind
        alt = count_rows(h.reshape(len(h), -1) == 1)
        called = count_rows(h.reshape(len(h), -1) >= 0)
        lines = _GENOTYPES[code]
        lines.view(np.uint8).reshape(len(lines), -1)[:, -1] = 10
        sites = chunk.sites.iloc[part]
        out: list[Any] = []
        columns = (sites[c].tolist() for c in ("contig", "position", "id", "ref", "alt"))
        infos = sites["info"].tolist() if "info" in sites.columns else [""] * len(sites)
        for k, (contig, position, name, ref, other) in enumerate(zip(*columns, strict=True)):
            if further[k]:
                continue
            record = slice(k, k + 1)
            while record.stop < len(further) and further[record.stop]:
                record = slice(k, record.stop + 1)
            self._place(str(contig), int(position))
            name = "." if name is None or name != name or name == "" else name
            calls: Any = lines[k].data
            if haploid is not None and haploid[k].any():
                line = lines[k].view(np.uint8)
                calls = line[line != 0].tobytes()
            if record.stop > k + 1:
                other = ",".join(sites["alt"].iloc[record])
                called[k] = ((h[record] >= 0).all(axis=0)).sum()
                calls = joined_calls(h[record], np.broadcast_to(kind, h.shape[:2])[record].min(axis=0))
            fields = f"{contig}\t{position}\t{_clean(str(name), 'ID')}\t{_clean(ref, 'REF')}\t{_clean(other, 'ALT')}"
            counts = alt[record].tolist()
            frequency = ",".join(f"{count / called[k]:.6g}" if called[k] else "." for count in counts)
            more = f";{_clean(infos[k], 'INFO')}" if infos[k] else ""
            facts = f"AC={','.join(map(str, counts))};AN={called[k]};AF={frequency}{more}"
            out.append(f"{fields}\t.\tPASS\t{facts}\tGT\t".encode())
            out.append(calls)
        return b"".join(out)

    def _place(self, contig: str, position: int) -> None:
        if contig not in self._known:
            raise ValueError(f"contig {contig} is not in the header")
        self._order.place(contig, position)
        if self._beyond is None and position > self._lengths.get(contig, position):
            self._beyond = f"{contig}:{position} lies beyond the {self._lengths[contig]:,} bp that the header gives it"

    def close(self) -> None:
        """Finish, index and move into place. On failure nothing is left."""
        try:
            self._guard(self._finish)
        except BaseException:
            self.abort()
            raise

    def _finish(self) -> None:
        if self._kind != "text":
            self._sink.finish()
        self._handle.close()
        pysam.set_verbosity(0)
        index: Path | None = None
        made = self._temporary
        if self._kind == "bgzf":
            csi = self._order.highest > _TBI_LAST
            pysam.tabix_index(str(made), preset="vcf", force=True, csi=csi)
            index = Path(f"{made}{'.csi' if csi else '.tbi'}")
        elif self._kind == "bcf":
            made = Path(f"{self._temporary}.bcf")
            pysam.bcftools.view("-Ob", "-o", str(made), str(self._temporary), catch_stdout=False)
            try:
                pysam.bcftools.index("-f", str(made), catch_stdout=False)
            except pysam.SamtoolsError as error:
                if self._beyond is None:
                    raise
                raise OutputError(
                    f"{self.path} cannot be indexed: {self._beyond}: mend length= in the ##contig line of the input "
                    "with 'bcftools reheader', or write .vcf.gz"
                ) from error
            self._temporary.unlink()
            index = Path(f"{made}.csi")
        os.replace(made, self.path)
        if index is not None:
            os.replace(index, f"{self.path}{index.suffix}")
            # An index left by another run would be found first.
            for suffix in {".tbi", ".csi"} - {index.suffix}:
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def abort(self) -> None:
        """Drop what was written; the target is as it was before."""
        if isinstance(self._sink, _Bgzf):
            self._sink.shutdown()
        with contextlib.suppress(OSError):
            self._handle.close()
        for left in self.path.parent.glob(f"{self._temporary.name}*"):
            left.unlink(missing_ok=True)

    def _guard(self, action: Any) -> Any:
        try:
            return action()
        except (OSError, pysam.SamtoolsError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(
                f"{self.path} cannot be written ({reason}): check the folder and the free space"
            ) from error


_KEPT = ("##contig=", "##reference=", "##ALT=", "##INFO=")
_BREAK = re.compile(r"[\t\r\n]")


def _clean(text: str, what: str) -> str:
    """Refuse text that would break a line into other columns."""
    if not text or _BREAK.search(text):
        raise ValueError(f"{what} {text!r} cannot be written to a VCF")
    return text


def _header(samples: list[str], *, header: tuple[str, ...], contigs: tuple[str, ...], source: str) -> str:
    kept = [line for line in header if line.startswith(_KEPT) and not re.match(r"##INFO=<ID=(AC|AN|AF),", line)]
    listed = set(contig_ids("\n".join(kept)))
    kept += [f"##contig=<ID={_clean(str(name), 'contig')}>" for name in dict.fromkeys(contigs) if name not in listed]
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]
    lines = [
        "##fileformat=VCFv4.3",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        f"##source={' '.join(source.split())}",
        *kept,
        '##INFO=<ID=AC,Number=A,Type=Integer,Description="Allele count in genotypes">',
        '##INFO=<ID=AN,Number=1,Type=Integer,Description="Number of alleles in called genotypes">',
        '##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency among called alleles">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(columns),
    ]
    return "\n".join(lines) + "\n"


def write_vcf(table: VariantTable, path: str | os.PathLike[str], *, source: str = "genodiff", threads: int = 1) -> None:
    """Write a table as VCF (``.vcf``), BGZF VCF with tabix index (``.gz``) or BCF with CSI index (``.bcf``).

    Calls are written ``a|b`` where phased and ``a/b`` where not, missing alleles as ``.``; AC, AN, AF are recomputed.

    Args:
        table: what to write; contigs must not alternate.
        path: the target, replaced only when the new file is whole.
        source: for the ``##source`` header line.
        threads: threads that compress.

    Raises:
        OutputError: the file cannot be written.
        ValueError: a name or allele that VCF cannot hold.
    """
    contigs = tuple(dict.fromkeys(map(str, table.sites["contig"])))
    names = list(table.people)
    with VcfWriter(path, names, header=table.header, contigs=contigs, source=source, threads=threads) as writer:
        writer.write(table)
