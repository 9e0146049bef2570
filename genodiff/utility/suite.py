"""Every task with its floor, as one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from tqdm import tqdm

from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, align
from genodiff.evaluation.results import Curve, FamilyResult, Measurements, Metric, to_frame
from genodiff.utility import TASKS, ancestry, association, imputation, scores
from genodiff.utility.beagle import Beagle
from genodiff.utility.errors import Unmeasurable

__all__ = ["Utility", "measure", "measure_full"]


@dataclass(frozen=True)
class Utility(Measurements):
    """What synthetic people are good for; intervals are over held-out people.

    A task that was left out has the one row ``<task>_skipped`` in the frame: no value, ``n`` 0, and the reason in the
    place of the unit.

    Attributes:
        skipped: why a task was left out, by task.
    """

    skipped: dict[str, str] = field(default_factory=dict)


def measure_full(
    synthetic: VariantTable,
    *,
    train: VariantTable,
    holdout: VariantTable,
    tasks: Sequence[str] | None = None,
    genetic_map: Any = None,
    seed: int = 1,
    threads: int = 1,
    memory_gb: int = 4,
    progress: bool = False,
) -> Utility:
    """Do with synthetic people what one does with real ones, and compare.

    Every figure comes with its floor: as many training people in the place of the synthetic ones. Sites are matched by
    ``contig:position:ref:alt``; those not in all three tables are left out and counted.

    Args:
        synthetic: synthetic people, S.
        train: the real people the generator was fitted on, R.
        holdout: real people it has not seen, T.
        tasks: some of :data:`genodiff.utility.TASKS`, each of which must then be possible; if ``None`` all, and those
            that are not possible are left out with the reason.
        genetic_map: object with ``cM(position)`` from bp to cM; without it 1 cM per Mb.
        seed: seed of every random draw; the same seed gives the same table.
        threads: processor threads of Beagle.
        memory_gb: memory of Beagle in GB.
        progress: show a progress bar over tasks.

    Raises:
        InputError: a task that was asked for cannot be measured, or Beagle failed.
        ValueError: an unknown task, no site in common, several contigs, or fewer than two people in a table.
    """
    chosen = list(TASKS) if tasks is None else list(dict.fromkeys(tasks))
    unknown = [name for name in chosen if name not in TASKS]
    if unknown or not chosen:
        raise ValueError(f"unknown tasks {unknown}: expected some of {', '.join(TASKS)}")
    comparison = align(synthetic, train=train, holdout=holdout, genetic_map=genetic_map, seed=seed)
    contigs = pd.unique(comparison.sites["contig"])
    if len(contigs) > 1:
        raise ValueError(f"sites on several contigs ({', '.join(map(str, contigs[:4]))}): choose one by region")
    families: dict[str, Callable[[Comparison], FamilyResult]] = {
        "imputation": lambda c: imputation.family(c, beagle=Beagle(threads=threads, memory_gb=memory_gb)),
        "ancestry": ancestry.family,
        "association": association.family,
        "scores": scores.family,
    }
    nan = float("nan")
    metrics = comparison.site_metrics()
    curves: dict[str, Curve] = {}
    skipped: dict[str, str] = {}
    with tqdm(chosen, desc="utility", unit="task", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            try:
                result = families[name](comparison)
            except Unmeasurable as error:
                if tasks is not None:
                    raise
                skipped[name] = str(error)
                metrics.append(Metric(name, f"{name}_skipped", nan, nan, 0, str(error)))
                continue
            metrics += result.metrics
            curves |= result.curves
    return Utility(to_frame(metrics), curves, skipped)


def measure(synthetic: VariantTable, *, train: VariantTable, holdout: VariantTable, **options: Any) -> pd.DataFrame:
    """The table of :func:`measure_full` alone, which see for the options: family, metric, value, floor, n, unit."""
    return measure_full(synthetic, train=train, holdout=holdout, **options).frame
