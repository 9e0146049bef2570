"""AnnData on disk, ``.h5ad`` and ``.zarr``: the layout of :meth:`data_prep.variants.VariantTable.to_anndata`.

AnnData is read and written whole: memory grows with the number of genotypes, unlike with all other formats.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import InputError, OutputError
from data_prep.formats import need
from data_prep.regions import Region
from data_prep.sources import Records, RecordSource, Sites, rows_at_once
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
        super().__init__(path, [str(n) for n in self._table.samples.index], samples=samples, header=self._table.header)

    def _records(self, region: Region | None) -> Iterator[Records]:
        columns = (self._table.sites[c] for c in ("contig", "position", "id", "ref", "alt"))
        contig, position, *texts = (c.astype(str) if c.name != "position" else c for c in columns)
        sites = Sites.of(contig, position, *texts)
        for rows in self._spans(sites, region, step=rows_at_once(self._table.n_samples, bytes_per_call=4)):
            alleles, phased = variant_major(self._table, rows)
            yield Records(sites[rows], alleles, phased)


class AnnDataWriter(FilesWriter):
    """Writes an ``.h5ad`` file or an AnnData ``.zarr`` folder, at the end and whole."""

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
    phased = None
    if any(chunk.phased is not None for chunk in chunks):
        known = [np.ones(c.haplotypes.shape[:2], dtype=bool) if c.phased is None else c.phased for c in chunks]
        phased = np.concatenate(known, axis=1)
    return replace(
        chunks[0],
        haplotypes=np.concatenate([chunk.haplotypes for chunk in chunks], axis=1),
        sites=pd.concat([chunk.sites for chunk in chunks], ignore_index=True),
        phased=phased,
        header=header,
    )
