"""The error of the start law (GOU paper, §5.3, Lemma 10) on real genotypes: its figure and table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.variants import VariantTable
from genodiff.files import atomic_write
from genodiff.genotypes.units import units_of
from genodiff.reproduce.initialisation import (
    draw_initialisation,
    genotype_anchorings,
    genotype_process,
    initialisation_error,
)
from genodiff.reproduce.page import save_figure

__all__ = ["HORIZONS", "start_errors", "start_figure"]

HORIZONS = tuple(float(t) for t in np.geomspace(0.1, 10.0, 7))
"""Horizons T; a mode without variance contracts by exp(−T)."""

CONTRACTION = 0.1
"""Contraction a of the leading mode relative to one without variance."""

MODES = 10


def start_errors(train: VariantTable, *, sites: int, people: int, seed: int = 1) -> pd.DataFrame:
    """The error of the start law against T on neighbouring sites from the middle of the region.

    Args:
        train: the people.
        sites: number of sites; the algebra is dense.
        people: most people.
        seed: of the people taken, the clusters and the samples.

    Returns:
        as :func:`genodiff.reproduce.initialisation.initialisation_error`.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(train.n_samples)[:people])
    first = max(0, (train.n_variants - sites) // 2)
    units = units_of(train.select(variants=slice(first, first + sites), samples=chosen))
    process, rows = genotype_process(units, a=CONTRACTION)
    return initialisation_error(
        process, rows, genotype_anchorings(units, seed=seed), horizons=HORIZONS, modes=min(MODES, rows.shape[1]),
        samples=400, seed=seed,
    )  # fmt: skip


def start_figure(train: VariantTable, output: Path, stem: str, *, sites: int, people: int) -> tuple[str, str]:
    """Writes ``stem.png`` and ``stem.csv`` into a folder; returns the figure's file name and caption."""
    frame = start_errors(train, sites=sites, people=people)
    save_figure(draw_initialisation({f"GOU, a = {CONTRACTION:g}": frame}), output / f"{stem}.png")
    with atomic_write(output / f"{stem}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    return f"{stem}.png", (
        f"Error of the start law against the horizon T on {min(people, train.n_samples):,} training people and "
        f"{min(sites, train.n_variants):,} neighbouring sites: W₂ of the marginals of the {MODES} leading modes for "
        f"anchors by kind and spread and for the stationary law, and the bound of Lemma 10. Data: {stem}.csv."
    )
