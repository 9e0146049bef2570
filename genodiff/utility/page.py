"""The page of utility: what was compared, the goal, one table per task."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from genodiff.files import atomic_text
from genodiff.report.style import save_figure
from genodiff.utility import figures
from genodiff.utility.suite import Utility

__all__ = ["GOAL", "verdict", "write_utility"]

GOAL = 0.95
"""Imputation is as good as it has to be where its r² is at least this share of the real panel's."""

_TABLES = {
    "imputation": (
        "imputation",
        "Mean r² of imputed and true dosage over the sites of T in a bin of minor-allele frequency.",
        {"maf": "MAF in T", "sites": "sites", "synthetic": "synthetic panel", "real": "real panel", "ratio": "ratio"},
    ),
    "ancestry": (
        "ancestry",
        "Share of the people of T whose label is told rightly.",
        {"label": "label", "people": "people", "synthetic": "trained on synthetic", "real": "trained on real"},
    ),
    "association": (
        "association",
        "Correlation over sites with the study of T, and share of causal sites found.",
        {
            "heritability": "h²", "causal": "causal sites",
            "effect_r": "effects r", "effect_r_real": "effects r, real", "z_r": "z r", "z_r_real": "z r, real",
            "power": "power", "power_real": "power, real", "power_holdout": "power, held-out",
        },
    ),
    "pgs": (
        "scores",
        "r² of the true genetic value of T's people and scores by the weights of other people.",
        {"heritability": "h²", "causal": "causal sites", "synthetic": "of synthetic", "real": "of real"},
    ),
}  # fmt: skip

_FIGURES = {
    "imputation_r2": ("imputation", figures.imputation_r2, "imputation"),
    "discoveries": ("association", figures.discoveries, "association"),
    "ld_scores": ("ld_scores", figures.ld_score_scatter, "scores"),
}
"""File, curve, function, task."""


def verdict(utility: Utility) -> list[str]:
    """What a reader wants to know first, a line per task; tasks left out with their reason."""
    rows = utility.frame.set_index("metric")
    lines = []

    def figure(metric: str) -> str:
        return f"{_number(rows.loc[metric, 'value'])} (real people {_number(rows.loc[metric, 'floor'])})"

    if "imputation_r2_ratio" in rows.index:
        ratio, low, high = (float(rows.loc["imputation_r2_ratio", name]) for name in ("value", "low", "high"))
        met = "met" if ratio >= GOAL else "missed"
        lines.append(
            f"Imputation: r² {figure('imputation_r2')}, {100 * ratio:.1f} % of the real panel's "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}); "
            f"goal of {100 * GOAL:.0f} % {met}."
        )
    if "ancestry_accuracy" in rows.index:
        lines.append(f"Ancestry: accuracy {figure('ancestry_accuracy')}, AUC {figure('ancestry_auc')}.")
    if "association_z_r" in rows.index:
        lines.append(f"Association: z correlation {figure('association_z_r')}, power {figure('association_power')}.")
    if "ld_score_r" in rows.index:
        lines.append(f"Scores: LD-score correlation {figure('ld_score_r')}, polygenic r² {figure('pgs_r2')}.")
    lines += [f"{task.capitalize()} left out: {reason}." for task, reason in utility.skipped.items()]
    return lines


def write_utility(utility: Utility, folder: Path, *, title: str, people: Sequence[str]) -> Path:
    """Writes ``utility.csv``, ``utility.md`` and ``figures/*.png`` into a folder.

    Args:
        utility: what was measured.
        folder: created if absent.
        title: heading of the page.
        people: who was compared, one line each.

    Returns:
        path of the page.
    """
    atomic_text(folder / "utility.csv", utility.frame.to_csv(index=False, lineterminator="\n"))
    # What shows Markdown shows HTML within it: names of files and labels are the user's.
    lines = [html.escape(line, quote=False) for line in [*people, *verdict(utility)]]
    parts = [f"# {html.escape(title, quote=False)}", "\n".join(f"- {line}" for line in lines)]
    parts.append(
        "Floor: as many training people in the place of the synthetic ones. n: what a figure rests on, named in "
        "brackets after the unit. Intervals: over held-out people, left out in "
        "groups. Also in [utility.csv](utility.csv)."
    )
    for task in dict.fromkeys(utility.frame["family"]):
        parts.append(f"## {task.capitalize()}")
        if task in utility.skipped:
            parts.append(f"Left out: {html.escape(utility.skipped[task], quote=False)}.")
            continue
        mine = utility.frame[utility.frame["family"] == task]
        rows = [
            [r.metric, _number(r.value), _interval(r.low, r.high), _number(r.floor), f"{r.n:,}", r.unit]
            for r in mine.itertuples()
        ]
        parts.append(_table(["metric", "value", "95 % interval", "floor", "n", "unit"], rows))
        for name, (of, caption, columns) in _TABLES.items():
            curve = utility.curves.get(name)
            if of == task and isinstance(curve, pd.DataFrame):
                cells = [[_number(value) for value in row] for row in curve[list(columns)].itertuples(index=False)]
                parts += [caption, _table(list(columns.values()), cells)]
        for name, (of, draw, where) in _FIGURES.items():
            curve = utility.curves.get(of)
            if where == task and isinstance(curve, pd.DataFrame):
                save_figure(draw(curve), folder / "figures" / f"{name}.png")
                parts.append(f"![{task}](figures/{name}.png)")
    return atomic_text(folder / "utility.md", "\n\n".join(parts) + "\n")


def _number(value: object) -> str:
    """Whole numbers with separators, others with three significant digits, nothing for a value that is not there."""
    if isinstance(value, str):
        return html.escape(value, quote=False)
    number = float(value)  # type: ignore[arg-type]
    if math.isnan(number):
        return "–"
    return f"{number:,.0f}" if number.is_integer() and abs(number) >= 2 else f"{number:.3g}"


def _interval(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}" if math.isfinite(low) and math.isfinite(high) else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])
