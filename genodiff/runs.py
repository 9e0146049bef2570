"""``Run``: a folder of results as tables, written by ``synthesize`` and ``evaluate`` and read back in one line.

``metrics.csv`` holds the metrics, ``curves/NAME.csv`` what a figure is drawn from, ``provenance.json`` what was done.
Curves are statistics of real people (their allele frequencies, their scores on principal components) and deserve the
care that the model folder does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.errors import InputError
from genodiff.evaluation.results import COLUMNS, Curve
from genodiff.files import atomic_text

__all__ = ["Run", "read_run", "write_curves"]

_BOUNDS = ("low", "high")

_DECAY = ("middle", "holdout", "synthetic", "train")
_TEXT = ("contig", "set", "label")
_CURVES = {
    "allele_frequency": ("contig", "position", "holdout", "synthetic", "train"),
    "ld_decay": _DECAY,
    "ld_decay_cm": _DECAY,
    "pca": ("set", "PC1"),
}
"""Columns that figures need, by curve; of arrays it is ``value``."""

_ARRAYS = ("nearest_", "copied_run_", "kinship_")


@dataclass(frozen=True)
class Run:
    """Results of one ``synthesize`` or ``evaluate``.

    Attributes:
        name: what it is called in tables and figures.
        folder: where it lies.
        metrics: columns ``family``, ``metric``, ``value``, ``floor``, ``n`` (what the figure rests on), ``unit`` (of
            value and floor; in brackets what ``n`` counts), ``low`` and ``high`` (95 % interval over people; NaN where
            there is none).
        curves: data frames by name, as the ``family`` functions of :mod:`genodiff.evaluation` list them; an array is a
            frame with the one column ``value``. Empty for folders that were written before curves were kept.
        provenance: what ``provenance.json`` says.
    """

    name: str
    folder: Path
    metrics: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]
    provenance: Mapping[str, Any]

    @property
    def holdout_people(self) -> int:
        """People the synthetic ones were judged on; 0 where the folder does not say."""
        return int(dict(self.provenance.get("judged_on") or {}).get("holdout", 0))

    def value(self, metric: str) -> float:
        """The value of one metric; NaN where it was not measured."""
        return self._of(metric, "value")

    def floor(self, metric: str) -> float:
        """The floor of one metric; NaN where it was not measured."""
        return self._of(metric, "floor")

    def _of(self, metric: str, column: str) -> float:
        found = self.metrics.loc[self.metrics["metric"] == metric, column]
        return float(found.iloc[0]) if len(found) else float("nan")


def write_curves(curves: Mapping[str, Curve], folder: Path) -> None:
    """Writes ``curves/NAME.csv`` into a folder of results, a file a curve.

    Args:
        curves: data frames, or arrays of one dimension, by name.
        folder: of the results.
    """
    for name, curve in curves.items():
        frame = curve if isinstance(curve, pd.DataFrame) else pd.DataFrame({"value": np.asarray(curve)})
        # Six digits draw any figure; more would only make the real people's scores easier to link.
        text = frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        atomic_text(folder / "curves" / f"{name}.csv", text)


def read_run(folder: Path | str, *, name: str | None = None) -> Run:
    """The results in a folder.

    Args:
        folder: output of ``genodiff synthesize`` or ``genodiff evaluate``.
        name: what to call the run; the name of the folder if ``None``.

    Raises:
        InputError: it is not such a folder, or a file in it cannot be read or is not what its name says.
    """
    folder = Path(folder)
    if not (folder / "metrics.csv").is_file():
        what = "has no metrics.csv" if folder.is_dir() else "is not a folder of results"
        raise InputError(f"{folder} {what}: give the output folder of genodiff synthesize or evaluate")
    metrics = _table(folder / "metrics.csv")
    missing = [column for column in COLUMNS if column not in (*metrics.columns, *_BOUNDS)]
    if missing:
        raise InputError(f"{folder / 'metrics.csv'} lacks the column {missing[0]}: it is no table of genodiff evaluate")
    if metrics["metric"].duplicated().any():
        twice = metrics.loc[metrics["metric"].duplicated(), "metric"].iloc[0]
        raise InputError(f"{folder / 'metrics.csv'} holds the metric {twice} twice: keep one")
    metrics = metrics.reindex(columns=list(COLUMNS))
    for column in ("value", "floor", "n", *_BOUNDS):
        try:
            metrics[column] = metrics[column].astype(float)
        except ValueError as error:
            raise InputError(f"{folder / 'metrics.csv'}, column {column}: {error}: evaluate again") from error
    curves = {path.stem: _curve(path) for path in sorted((folder / "curves").glob("*.csv"))}
    return Run(
        name or Path(os.path.abspath(folder)).name, folder, metrics, curves, _provenance(folder / "provenance.json")
    )


def _table(path: Path) -> pd.DataFrame:
    try:
        # Labels of populations may be numbers, or the letters NA.
        return pd.read_csv(path, dtype={"label": str}, keep_default_na=False, na_values=[""]).fillna({"label": ""})
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}): evaluate again") from error


def _curve(path: Path) -> pd.DataFrame:
    """A table of ``curves/``, with the columns that a curve of its name has."""
    frame = _table(path)
    needed = ("value",) if path.stem.startswith(_ARRAYS) else _CURVES.get(path.stem, ())
    bounded = not path.stem.startswith("kinship_")  # of two people who share no heterozygous site kinship is −∞
    for column in needed:
        if column not in frame.columns:
            raise InputError(f"{path} lacks the column {column}: evaluate again, or leave the table out")
    for column in frame.columns.difference(list(_TEXT)) if needed and len(frame) else ():
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
        wrong = np.flatnonzero((np.isnan(values) & frame[column].notna().to_numpy()) | (np.isinf(values) & bounded))
        if len(wrong):
            found = frame[column].iloc[wrong[0]]
            raise InputError(f"{path}, line {wrong[0] + 2}, column {column}: {found!r} is no number: evaluate again")
    if path.stem == "pca":
        absent = [name for name in ("holdout", "synthetic") if name not in set(frame["set"])]
        if absent:
            raise InputError(f"{path} has no people of the set {absent[0]}: evaluate again")
    return frame


def _provenance(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): evaluate again") from error
    if not isinstance(facts, dict):
        raise InputError(f"{path} holds no object: evaluate again")
    return facts
