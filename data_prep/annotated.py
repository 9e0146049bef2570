"""AnnData on disk, ``.h5ad`` and ``.zarr``: the layout of :meth:`data_prep.variants.VariantTable.to_anndata`.

AnnData is read and written whole: memory grows with the number of genotypes, unlike with all other formats.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.alleles import is_structural, kept_info
from data_prep.errors import InputError, OutputError
from data_prep.formats import need
from data_prep.regions import Region
from data_prep.sources import PAD, Records, RecordSource, Sites, rows_at_once
from data_prep.variants import VariantTable
from data_prep.writers import FilesWriter, variant_major

__all__ = ["HDF5", "AnnDataSource", "AnnDataWriter"]

HDF5 = b"\x89HDF\r\n\x1a\n"
"""The first bytes of an ``.h5ad``."""


class AnnDataSource(RecordSource):
    """An ``.h5ad`` file or AnnData ``.zarr`` folder with the two haplotypes as layers.

    Args:
        path: the file or folder.
        samples: people to read, in this order; all if ``None``.

    Raises:
        InputError: not AnnData, or without haplotypes or sites.
    """

    def __init__(self, path: Path, *, samples: Sequence[str] | None = None) -> None:
        import anndata

        if path.is_dir():
            need("zarr", extra="zarr", path=path)
        try:
            data = anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
        except Exception as error:  # h5py, zarr and anndata each raise their own
            said = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path} is no AnnData that can be read ({said}): write it again") from error
        try:
            self._table = VariantTable.from_anndata(data)
        except (ValueError, KeyError) as error:
            raise InputError(f"{path}: {error}") from error
        lines = self._table.header
        header = tuple(line for line in lines if line.startswith(("##contig=", "##reference=")))
        super().__init__(path, [str(n) for n in self._table.samples.index], samples=samples, header=header)
        self.declared = tuple(line for line in lines if line.startswith(("##ALT=", "##INFO=")))

    def contigs(self) -> dict[str, int]:
        return dict(Counter(map(str, self._table.sites["contig"])))

    def _records(self, region: Region | None) -> Iterator[Records]:
        columns = (self._table.sites[c] for c in ("contig", "position", "id", "ref", "alt"))
        contig, position, name, ref, alt = (c.astype(str) if c.name != "position" else c for c in columns)
        info: list[str] | None = None
        if "info" in self._table.sites.columns:
            both = zip(self._table.sites["info"].astype(str), alt, strict=True)
            info = [kept_info(text) if is_structural(a) else "" for text, a in both]
        sites = Sites.of(contig, position, name, ref, alt, info)
        for rows in self._spans(sites, region, step=rows_at_once(self._table.n_samples, bytes_per_call=4)):
            alleles, phased = variant_major(self._table, rows)
            if self._table.haploid is not None:
                alleles = np.array(alleles)
                alleles[:, :, 1][self._table.haploid[:, rows].T] = PAD
            yield Records(sites[rows], alleles, phased)


class AnnDataWriter(FilesWriter):
    """Writes an ``.h5ad`` file or an AnnData ``.zarr`` folder, at the end and whole."""

    haploid = "yes"
    info = True

    def __init__(self, path: Path, samples: list[str], *, header: tuple[str, ...] = ()) -> None:
        if path.suffix == ".zarr":
            need("zarr", extra="zarr", path=path)
        super().__init__(path, samples, header=header)
        self._chunks: list[VariantTable] = []

    def _append(self, chunk: VariantTable, part: slice) -> None:
        self._chunks.append(chunk.select(variants=part))

    def _finish(self) -> None:
        if not self._chunks:
            raise OutputError(f"{self.path}: there are no variants to write")
        data = _joined(self._chunks, header=self.header).to_anndata()
        self._chunks = []
        if self.hidden.suffix == ".zarr":
            with warnings.catch_warnings():
                # That the default will be another Zarr format one day is nothing to tell whoever runs this.
                warnings.simplefilter("ignore", UserWarning)
                data.write_zarr(self.hidden)
        else:
            data.write_h5ad(self.hidden)


def _joined(chunks: list[VariantTable], *, header: tuple[str, ...]) -> VariantTable:
    """Consecutive variants of the same people as one table."""
    shapes = [chunk.haplotypes.shape[:2] for chunk in chunks]

    def mask(parts: list[NDArray[np.bool_] | None], *, otherwise: bool) -> NDArray[np.bool_] | None:
        if all(part is None for part in parts):
            return None
        whole = [np.full(s, otherwise) if p is None else p for p, s in zip(parts, shapes, strict=True)]
        return np.concatenate(whole, axis=1)

    sites = pd.concat([chunk.sites for chunk in chunks], ignore_index=True)
    return replace(
        chunks[0],
        haplotypes=np.concatenate([chunk.haplotypes for chunk in chunks], axis=1),
        sites=sites.fillna({"info": ""}) if "info" in sites.columns else sites,
        phased=mask([chunk.phased for chunk in chunks], otherwise=True),
        haploid=mask([chunk.haploid for chunk in chunks], otherwise=False),
        header=header,
    )
