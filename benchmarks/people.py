"""The people of a benchmark: who is learned from and who judges, by the column ``split`` of a panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.filters import filter_table
from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from data_prep.variants import VariantTable

__all__ = ["at_sites_of", "development", "sides"]


def sides(table: VariantTable, panel: Path) -> tuple[VariantTable, VariantTable]:
    """The people whose row of the panel says ``train``, and those whose row says ``test``."""
    side = read_panel(panel, "split").reindex(table.samples.index).to_numpy()
    train, test = (table.select(samples=np.flatnonzero(side == name)) for name in ("train", "test"))
    return train, test


def at_sites_of(table: VariantTable, like: VariantTable) -> VariantTable:
    """The same people at the sites of another table."""
    return table.select(variants=table.site_keys.get_indexer(like.site_keys))


def development(vcf: Path, panel: Path, *, region: str) -> tuple[VariantTable, VariantTable]:
    """Labelled people to learn from, at sites of MAF ≥ 1 % among them, and held-out people at the same sites."""
    table, _ = read_variants(vcf, region=region, maf=0.005, max_missing=0.1, progress=False)
    train, test = sides(attach_panel(table, read_panel(panel), source=panel), panel)
    train, _ = filter_table(train, maf=0.01, max_missing=0.1)
    return train, at_sites_of(test, train)
