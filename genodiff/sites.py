"""People of a file at the sites of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.alleles import AlleleRules
from data_prep.builds import build_of
from data_prep.errors import InputError
from data_prep.readers import read_variants
from data_prep.sexes import read_sexes
from data_prep.variants import VariantTable

__all__ = ["read_at", "read_learned", "site_keys"]

_FEWEST = 20
"""People from whom bounds can be taken: as many as a model is learned from at least."""


def site_keys(sites: pd.DataFrame) -> pd.Index:
    """``contig:position:ref:alt`` of every site, as :attr:`VariantTable.site_keys` has them."""
    columns = (sites[c].astype(str) for c in ("contig", "position", "ref", "alt"))
    return pd.Index([":".join(key) for key in zip(*columns, strict=True)])


def read_at(
    path: Path,
    sites: pd.DataFrame,
    *,
    header: Sequence[str] = (),
    sex: Path | None = None,
    progress: bool = False,
) -> VariantTable:
    """Reads those of some sites that a file has, in their order.

    Args:
        path: VCF, bgzipped VCF or BCF.
        sites: sites of a model, of one contig; two are the same by contig, position, REF and ALT.
        header: that of the model, for the build where the file does not tell it.
        sex: file of the sexes of people, for X.
        progress: show a bar.

    Raises:
        InputError: the file cannot be used, or has none of the sites.
    """
    contig, first, last = sites["contig"].iloc[0], sites["position"].min(), sites["position"].max()
    build = build_of(header)
    table, _ = read_variants(
        path,
        region=f"{contig}:{first}-{last}",
        maf=None,
        max_missing=1.0,
        rules=AlleleRules("split" if "joined" in sites.columns else "drop"),
        sexes=None if sex is None else read_sexes(sex),
        build=None if build is None else build.name,
        progress=progress,
    )
    there = np.flatnonzero(~table.site_keys.duplicated())
    found = table.site_keys[there].get_indexer(site_keys(sites))
    if (found < 0).all():
        raise InputError(
            f"{path} has none of the {len(sites):,} sites of the model ({contig}:{first}-{last}; they match by contig, "
            "position, REF and ALT): give genotypes of the same build and calls"
        )
    return table.select(variants=there[found[found >= 0]])


def read_learned(
    path: Path,
    sites: pd.DataFrame,
    *,
    header: Sequence[str] = (),
    sex: Path | None = None,
    progress: bool = False,
) -> VariantTable:
    """Reads the people a model was learned from, at all of its sites; arguments as for :func:`read_at`.

    Raises:
        InputError: the file cannot be used, lacks a site, or holds fewer than 20 people.
    """
    table = read_at(path, sites, header=header, sex=sex, progress=progress)
    if table.n_variants < len(sites):
        raise InputError(
            f"{path} lacks {len(sites) - table.n_variants:,} of the {len(sites):,} sites of the model: give the file "
            "it was learned from"
        )
    if table.n_samples < _FEWEST:
        raise InputError(
            f"{path} has {table.n_samples} people: at least {_FEWEST} are needed to say what real ones share"
        )
    return table
