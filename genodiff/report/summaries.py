"""From genotypes to the arrays the heatmaps draw: r² in windows of sites, covariances over the region.

A table is *rows*: haplotypes (0/1) where it is phased, dosages (0/1/2) where it is not. A missing call counts as the
mean of its site, which neither adds nor hides structure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.variants import VariantTable

__all__ = [
    "aligned",
    "centred",
    "common_sites",
    "correlation_squared",
    "covariance",
    "label_codes",
    "rows",
    "thinned",
    "windows",
]

FloatArray = NDArray[np.float32]

WINDOW_SITES = 400
COVARIANCE_SITES = 400
_COMMON = 0.05


def centred(codes: NDArray[np.int8]) -> FloatArray:
    """Allele codes or dosages (rows, variants), −1 missing, minus their site's mean; missing becomes 0."""
    values = codes.astype(np.float32)
    missing = codes < 0
    if missing.any():
        values[missing] = np.nan
        called = np.maximum((~missing).sum(axis=0), 1)
        values -= np.nansum(values, axis=0) / called
        values[missing] = 0.0
    elif len(values):
        values -= values.mean(axis=0)
    return values


def rows(table: VariantTable, *, phased: bool) -> NDArray[np.int8]:
    """Haplotypes (2 · samples, variants) or dosages (samples, variants)."""
    return table.haplotype_rows() if phased else table.dosage()


def aligned(a: VariantTable, b: VariantTable) -> tuple[VariantTable, VariantTable]:
    """Both tables at the sites they share, in the order of ``a``; the tables themselves where no site differs."""
    if a.site_keys.equals(b.site_keys):
        return a, b
    places = b.site_keys.get_indexer(a.site_keys) if b.site_keys.is_unique else _first_places(b, a.site_keys)
    shared = np.flatnonzero(places >= 0)
    return a.select(variants=shared), b.select(variants=places[shared])


def _first_places(table: VariantTable, keys: pd.Index) -> NDArray[np.intp]:
    unique = np.flatnonzero(~table.site_keys.duplicated())
    found = table.site_keys[unique].get_indexer(keys)
    return np.where(found >= 0, unique[found], -1)


def common_sites(table: VariantTable) -> NDArray[np.intp]:
    """Indices of sites with a minor-allele frequency of at least 5 %, or of all where fewer than ten are so common."""
    frequency = table.allele_frequency()
    common = np.flatnonzero(np.minimum(frequency, 1 - frequency) >= _COMMON)
    return common if len(common) >= 10 else np.arange(table.n_variants)


def windows(sites: NDArray[np.intp], *, size: int = WINDOW_SITES, count: int = 2) -> list[NDArray[np.intp]]:
    """Up to ``count`` runs of at most ``size`` neighbouring sites, spread evenly and chosen blindly."""
    if len(sites) <= size:
        return [sites]
    count = min(count, len(sites) // size)
    centres = (np.arange(count) + 0.5) / count * len(sites)
    starts = np.clip((centres - size / 2).astype(int), 0, len(sites) - size)
    return [sites[s : s + size] for s in starts]


def thinned(sites: NDArray[np.intp], *, size: int = COVARIANCE_SITES) -> NDArray[np.intp]:
    """At most ``size`` of the sites, evenly spaced."""
    if len(sites) <= size:
        return sites
    return sites[np.linspace(0, len(sites) - 1, size).round().astype(int)]


def covariance(values: FloatArray) -> NDArray[np.float64]:
    """Covariance (variants, variants) of centred rows."""
    wide = values.astype(np.float64)
    return wide.T @ wide / max(len(wide) - 1, 1)


def correlation_squared(values: FloatArray) -> NDArray[np.float64]:
    """r² (variants, variants) of centred rows; NaN in the rows and columns of sites that do not vary."""
    cov = covariance(values)
    variance = np.diag(cov)
    scale = np.where(variance > 1e-9, variance, np.nan)
    return cov**2 / np.outer(scale, scale)


def label_codes(labels: NDArray[Any], names: list[str]) -> NDArray[np.intp]:
    """Index of each label in ``names``; a label that is not there gets ``len(names)``."""
    index = {name: i for i, name in enumerate(names)}
    return np.array([index.get(str(label), len(names)) for label in labels], dtype=np.intp)
