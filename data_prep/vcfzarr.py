"""VCF-Zarr: a folder of arrays with the names of its specification (``call_genotype``, ``variant_position`` …).

Stores of bio2zarr and sgkit are read, of Zarr format 2 and 3. Written is format 2: variable-length text is settled
there, so that every reader of VCF-Zarr has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.formats import need
from data_prep.regions import Region
from data_prep.sources import PAD, Records, RecordSource, Sites, rows_at_once
from data_prep.variants import VariantTable
from data_prep.vcf_check import contig_ids
from data_prep.writers import FilesWriter, variant_major

__all__ = ["VcfZarrSource", "VcfZarrWriter"]

_VERSION = "0.4"
"""Of the specification that is written."""

_CHUNK = (1000, 10_000)
"""Variants and samples in a chunk: about what a thread decodes at once."""

_NO_QUALITY = np.uint32(0x7F800001).view(np.float32)
"""The NaN that stands for a missing QUAL in BCF and VCF-Zarr."""


class VcfZarrSource(RecordSource):
    """A VCF-Zarr store, opened and checked.

    Args:
        path: the folder.
        samples: people to read, in this order; all if ``None``.

    Raises:
        InputError: an array is absent or does not fit the others, or zarr is not installed.
    """

    def __init__(self, path: Path, *, samples: Sequence[str] | None = None) -> None:
        zarr = need("zarr", extra="zarr", path=path)
        try:
            self._store = zarr.open_group(path, mode="r")
            names = [str(name) for name in self._whole("sample_id")]
            contigs, lengths = self._contigs()
            contig, position, allele = (self._whole(f"variant_{k}") for k in ("contig", "position", "allele"))
            name = self._whole("variant_id") if "variant_id" in self._store else np.full(len(position), ".")
            self._calls = self._array("call_genotype")
            self._phase = self._store.get("call_genotype_phased")
        except InputError:
            raise
        except Exception as error:  # zarr and its codecs each raise their own
            raise self._broken(path, error) from error
        super().__init__(path, names, samples=samples, header=self._header(contigs, lengths))
        n, m = len(names), len(position)
        shape = self._calls.shape
        if len(shape) != 3 or shape[:2] != (m, n) or shape[2] not in (1, 2) or len(contig) != m or len(allele) != m:
            raise InputError(
                f"{path}: call_genotype has the shape {shape} where ({m}, {n}, 2) is expected: the store is incomplete"
            )
        if m and not 0 <= int(contig.min()) <= int(contig.max()) < len(contigs):
            raise InputError(f"{path}: variant_contig {contig.max()} is none of the {len(contigs)} contigs")
        alts = [",".join(filter(None, row[1:])) or "." for row in allele.astype(object)]
        self._sites = Sites.of(
            [contigs[k] for k in contig], position, [str(x) or "." for x in name], [str(r) for r in allele[:, 0]], alts
        )

    def _array(self, name: str) -> Any:
        if name not in self._store:
            raise InputError(f"{self._store.store_path} has no array {name}: give a VCF-Zarr store")
        return self._store[name]

    def _whole(self, name: str) -> NDArray[Any]:
        return np.asarray(self._array(name)[:])

    def _contigs(self) -> tuple[list[str], list[int | None]]:
        # Before contig_id was an array, sgkit kept the names as an attribute.
        if "contig_id" not in self._store and "contigs" in self._store.attrs:
            names = [str(name) for name in self._store.attrs["contigs"]]
            return names, [None] * len(names)
        names = [str(name) for name in self._whole("contig_id")]
        if "contig_length" not in self._store:
            return names, [None] * len(names)
        return names, [int(n) if n > 0 else None for n in self._whole("contig_length")]

    def _header(self, contigs: list[str], lengths: list[int | None]) -> tuple[str, ...]:
        """The lines of the VCF where the store has kept them, else made of names and lengths."""
        meta = [f"##{key}={value}" for key, value in self._store.attrs.get("vcf_meta_information", [])]
        kept = [line for line in meta if line.startswith(("##contig=", "##reference="))]
        known = set(contig_ids("\n".join(kept)))
        for name, length in zip(contigs, lengths, strict=True):
            if name not in known:
                kept.append(f"##contig=<ID={name}{'' if length is None else f',length={length}'}>")
        return tuple(kept)

    @staticmethod
    def _broken(path: Path, error: Exception) -> InputError:
        said = " ".join(str(error).split()) or type(error).__name__
        return InputError(f"{path} cannot be read as VCF-Zarr ({said}): make the store again")

    def contigs(self) -> dict[str, int]:
        return self._sites.counts()

    def _records(self, region: Region | None) -> Iterator[Records]:
        # A chunk of the store is decoded whole, so that it is read whole if it fits.
        fits = rows_at_once(len(self.everybody), bytes_per_call=2)
        step = max(1, fits // self._calls.chunks[0]) * self._calls.chunks[0]
        for rows in self._spans(self._sites, region, step=step):
            try:
                alleles = np.asarray(self._calls[rows])
                phased = None if self._phase is None else np.asarray(self._phase[rows], dtype=bool)
            except Exception as error:
                raise self._broken(self.path, error) from error
            if alleles.shape[2] == 1:
                alleles = np.concatenate([alleles, np.full_like(alleles, PAD)], axis=2)
            if phased is None:
                phased = np.zeros(alleles.shape[:2], dtype=bool)
            yield Records(self._sites[rows], alleles.astype(np.int8, copy=False), phased)


class VcfZarrWriter(FilesWriter):
    """Writes a VCF-Zarr store, chunk by chunk."""

    haploid = "yes"

    def __init__(
        self, path: Path, samples: list[str], *, header: tuple[str, ...] = (), source: str = "genodiff"
    ) -> None:
        zarr = need("zarr", extra="zarr", path=path)
        super().__init__(path, samples, header=header)
        self._rows: list[tuple[str, int, str, str, str]] = []
        self._pending: list[tuple[NDArray[np.int8], NDArray[np.bool_]]] = []
        try:
            self._store = self._guard(lambda: zarr.open_group(self.hidden, mode="w", zarr_format=2))
            self._store.attrs.update({"vcf_zarr_version": _VERSION, "source": source})
            self._store.attrs["vcf_meta_information"] = [line[2:].split("=", 1) for line in header]
            n = len(self.samples)
            chunk = (_CHUNK[0], min(n, _CHUNK[1]))
            self._calls = self._create("call_genotype", (0, n, 2), "int8", (*chunk, 2), fill=-1)
            self._phase = self._create("call_genotype_phased", (0, n), "bool", chunk, fill=False)
        except BaseException:
            self.abort()
            raise

    def _create(self, name: str, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...], *, fill: Any) -> Any:
        dimensions = ["variants", "samples", "ploidy"][: len(shape)]
        return self._store.create_array(
            name, shape=shape, dtype=dtype, chunks=chunks, fill_value=fill,
            attributes={"_ARRAY_DIMENSIONS": dimensions},
        )  # fmt: skip

    def _append(self, chunk: VariantTable, part: slice) -> None:
        h, phased = variant_major(chunk, part)
        columns = (chunk.sites[c].iloc[part].tolist() for c in ("contig", "position", "id", "ref", "alt"))
        for contig, position, name, ref, alt in zip(*columns, strict=True):
            label = "." if name is None or name != name or name == "" else str(name)
            self._rows.append((str(contig), int(position), label, str(ref), str(alt)))
        half = np.any(h < 0, axis=2)
        known = np.ones(half.shape, dtype=bool) if phased is None else phased
        calls = np.where(half[:, :, None], np.int8(-1), h)
        if chunk.haploid is not None:
            calls[:, :, 1][chunk.haploid[:, part].T] = PAD
        self._pending.append((calls, known))
        if sum(len(h) for h, _ in self._pending) >= _CHUNK[0]:
            self._flush(whole=True)

    def _flush(self, *, whole: bool) -> None:
        """Appends what is pending; with ``whole`` only as much as fills chunks, so that none is written twice."""
        h, phased = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        stop = len(h) // _CHUNK[0] * _CHUNK[0] if whole else len(h)
        self._calls.append(h[:stop])
        self._phase.append(phased[:stop])
        self._pending = [(h[stop:], phased[stop:])] if stop < len(h) else []

    def _finish(self) -> None:
        if self._pending:
            self._flush(whole=False)
        contig, position, name, ref, alt = zip(*self._rows, strict=True) if self._rows else ((),) * 5
        text = "\n".join(self.header)
        contigs = list(dict.fromkeys([*contig_ids(text), *contig]))
        number = {c: k for k, c in enumerate(contigs)}
        m = len(position)
        self._column("sample_id", "samples", np.array(self.samples, dtype=object))
        self._column("contig_id", "contigs", np.array(contigs, dtype=object))
        self._column("filter_id", "filters", np.array(["PASS"], dtype=object))
        self._column("variant_contig", "variants", np.array([number[c] for c in contig], dtype=np.int16))
        self._column("variant_position", "variants", np.array(position, dtype=np.int32))
        self._column("variant_length", "variants", np.array([len(r) for r in ref], dtype=np.int32))
        self._column("variant_id", "variants", np.array([*name, ""], dtype=object)[:-1])
        self._column("variant_id_mask", "variants", np.array([x == "." for x in name], dtype=bool))
        self._column("variant_quality", "variants", np.full(m, _NO_QUALITY, dtype=np.float32))
        alleles = np.array([*ref, *alt, ""], dtype=object)[:-1].reshape(2, m).T
        self._column("variant_allele", ["variants", "alleles"], alleles)
        self._column("variant_filter", ["variants", "filters"], np.ones((m, 1), dtype=bool))

    def _column(self, name: str, dimensions: str | list[str], data: NDArray[Any]) -> None:
        names = [dimensions] if isinstance(dimensions, str) else dimensions
        array = self._store.create_array(
            name, shape=data.shape, dtype="str" if data.dtype == object else data.dtype,
            chunks=tuple(max(1, min(n, 100_000)) for n in data.shape), attributes={"_ARRAY_DIMENSIONS": names},
        )  # fmt: skip
        if data.size:
            array[...] = data
