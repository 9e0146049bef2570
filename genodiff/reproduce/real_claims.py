"""The claims of the GOU paper's discussion (§5.3, §6) on real genotypes: start law, groups, correlations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_prep.variants import VariantTable
from genodiff.core.processes import LinearDiffusion
from genodiff.genotypes.units import Units, units_of
from genodiff.reproduce.claims import (
    DRIFTS,
    active_modes,
    correlation_change,
    draw_correlation,
    draw_modes,
    group_signal,
    modal,
)
from genodiff.reproduce.initialisation import (
    draw_initialisation,
    genotype_anchorings,
    genotype_process,
    initialisation_error,
)
from genodiff.reproduce.page import save_figure, save_table

__all__ = ["HORIZONS", "TIMES", "claim_figures", "correlations", "groups", "start_errors"]

HORIZONS = tuple(float(t) for t in np.geomspace(0.1, 10.0, 7))
"""Horizons T of the start law; a mode without variance contracts by exp(−T)."""

TIMES = np.geomspace(0.01, 20.0, 40)

MODES = 10

Processes = dict[str, tuple[LinearDiffusion, NDArray[np.float64]]]


def _processes(units: Units) -> Processes:
    return {name: genotype_process(units, a=a) for name, a in DRIFTS.items()}


def start_errors(units: Units, *, seed: int = 1) -> dict[str, pd.DataFrame]:
    """The error of the start law against T by name of the process, as ``initialisation_error`` gives it."""
    anchors = genotype_anchorings(units, seed=seed)
    return {
        name: initialisation_error(
            process, rows, anchors, horizons=HORIZONS, modes=min(MODES, rows.shape[1]), samples=400, seed=seed
        )
        for name, (process, rows) in _processes(units).items()
    }


def groups(units: Units, labels: NDArray[Any]) -> tuple[dict[str, pd.DataFrame], dict[str, NDArray[np.int64]]]:
    """How well labels can be told apart along :data:`TIMES`, and the number of modes with signal.

    Args:
        units: the rows.
        labels: of the people.

    Returns:
        by name of the process: what ``group_signal`` gives, and the numbers of ``active_modes``.
    """
    signals, active = {}, {}
    of_rows = np.repeat(np.asarray(labels, dtype=str), units.per_person)
    for name, (process, rows) in _processes(units).items():
        signals[name] = group_signal(process, rows, of_rows, TIMES)
        active[name] = active_modes(process, _spectrum(process, rows), TIMES)
    return signals, active


def correlations(units: Units) -> dict[str, pd.DataFrame]:
    """How far correlations have moved along :data:`TIMES`, by name of the process.

    A fixed site has no correlation: it is left out.
    """
    free = np.flatnonzero(units.states.max(0) > np.where(units.states < 0, 9, units.states).min(0))
    return {
        name: correlation_change(process, _spectrum(process, rows), TIMES)
        for name, (process, rows) in _processes(units.at(free)).items()
    }


def _spectrum(process: LinearDiffusion, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(np.square(modal(process, torch.from_numpy(rows) - process.mean.double())).mean(0), 1e-12)


def _draw_groups(signals: dict[str, pd.DataFrame], active: dict[str, NDArray[np.int64]]) -> tuple[Figure, str]:
    """Draws the pair of labels that is hardest to tell apart, and names it."""
    first = next(iter(signals.values()))
    pair = str(first.loc[first["time"] == first["time"].min()].sort_values("auc")["pair"].iloc[0])
    errors = {name: (TIMES, 1 - f.loc[f["pair"] == pair, "auc"].to_numpy()) for name, f in signals.items()}
    modes = {name: (TIMES, number) for name, number in active.items()}
    return draw_modes(errors, modes, label=f"1 − AUC, {pair}"), pair


def claim_figures(
    train: VariantTable, output: Path, name: str, *, sites: int, people: int, seed: int = 1
) -> list[tuple[str, str]]:
    """Writes figures and their tables, ``name.initialisation``, ``name.modes`` and ``name.correlation``.

    They are made from neighbouring sites in the middle of the region, since the algebra is dense. The figure of modes
    needs labels.

    Args:
        train: people.
        output: folder.
        name: stem of the files.
        sites: number of sites.
        people: most people.
        seed: of the people taken, the clusters and the samples.

    Returns:
        file name and caption of every figure.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(train.n_samples)[:people])
    first = max(0, (train.n_variants - sites) // 2)
    part = train.select(variants=slice(first, first + sites), samples=chosen)
    units = units_of(part)
    where = f"{part.n_samples:,} training people and {part.n_variants:,} neighbouring sites"

    def save(kind: str, frames: dict[str, pd.DataFrame], draw: Callable[[], Figure]) -> str:
        everything = pd.concat([frame.assign(process=process) for process, frame in frames.items()])
        save_table(everything, output / f"{name}.{kind}.csv")
        return save_figure(draw(), output / f"{name}.{kind}.png").name

    starts = start_errors(units, seed=seed)
    found = [
        (
            save("initialisation", starts, lambda: draw_initialisation(starts)),
            f"Error of the start law against the horizon T on {where}: W₂ of the marginals of the {MODES} leading "
            "modes for anchors by kind and spread and for the stationary law, and the bound of Lemma 10.",
        )
    ]
    moved = correlations(units)
    found.append(
        (
            save("correlation", moved, lambda: draw_correlation(moved)),
            f"How far the correlations of X_t have moved from those of the data (Theorem 5), on {where}.",
        )
    )
    labels = part.labels
    if labels is not None and len(set(labels)) > 1:
        signals, active = groups(units, labels)
        figure, pair = _draw_groups(signals, active)
        found.append(
            (
                save("modes", signals, lambda: figure),
                f"How well {pair}, the pair of labels hardest to tell apart, can be told apart from X_t by the best "
                f"linear rule, and how many modes carry signal, on {where}.",
            )
        )
    return found
