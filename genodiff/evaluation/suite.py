"""Every metric with its floor, as one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm import tqdm

from data_prep.variants import VariantTable
from genodiff.evaluation import covariance, frequencies, ld, privacy, structure
from genodiff.evaluation.panels import Comparison, align
from genodiff.evaluation.results import Curve, FamilyResult, Measurements, to_frame

__all__ = ["FAMILIES", "Evaluation", "evaluate", "evaluate_full"]

FAMILIES: dict[str, Callable[[Comparison], FamilyResult]] = {
    "frequencies": frequencies.family,
    "covariance": covariance.family,
    "ld": ld.family,
    "structure": structure.family,
    "privacy": privacy.family,
}
"""Families of metrics, in the order of the table."""


@dataclass(frozen=True)
class Evaluation(Measurements):
    """Synthetic people judged against real ones."""


def evaluate_full(
    synthetic: VariantTable,
    *,
    train: VariantTable,
    holdout: VariantTable,
    genetic_map: Any = None,
    seed: int = 1,
    families: Sequence[str] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Judge synthetic people against held-out people, and their privacy against training people.

    Every figure comes with its floor, the same code on real people: training people in the place of synthetic ones, or,
    where synthetic people are compared with training people, held-out people in their place. Sites are matched by
    ``contig:position:ref:alt``; those not in all three tables are left out and counted (``sites_dropped``).

    Args:
        synthetic: synthetic people, S.
        train: the real people the generator was fitted on, R.
        holdout: real people it has not seen, T.
        genetic_map: object with ``cM(position)`` from bp to cM; adds ``ld_decay_mae_cm``.
        seed: seed of every random draw; the same seed gives the same table.
        families: some of :data:`FAMILIES`; all if ``None``.
        progress: show a progress bar over families.

    Raises:
        ValueError: an unknown family, no site in common, or fewer than two people in a table.
    """
    chosen = list(FAMILIES) if families is None else list(families)
    unknown = [name for name in chosen if name not in FAMILIES]
    if unknown:
        raise ValueError(f"unknown families {unknown}: expected some of {list(FAMILIES)}")
    comparison = align(synthetic, train=train, holdout=holdout, genetic_map=genetic_map, seed=seed)
    metrics = comparison.site_metrics()
    curves: dict[str, Curve] = {}
    with tqdm(chosen, desc="evaluate", unit="family", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            result = FAMILIES[name](comparison)
            metrics += result.metrics
            curves |= result.curves
    return Evaluation(to_frame(metrics), curves)


def evaluate(
    synthetic: VariantTable,
    *,
    train: VariantTable,
    holdout: VariantTable,
    genetic_map: Any = None,
    seed: int = 1,
    families: Sequence[str] | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """The table of :func:`evaluate_full` alone: family, metric, value, floor, n, unit, low, high."""
    return evaluate_full(
        synthetic,
        train=train,
        holdout=holdout,
        genetic_map=genetic_map,
        seed=seed,
        families=families,
        progress=progress,
    ).frame
