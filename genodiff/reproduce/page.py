"""Pages of results: Markdown that a reader opens, and the numbers behind it as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from genodiff.files import atomic_text, atomic_write
from genodiff.report.style import save_figure
from genodiff.reproduce.tables import METRICS, Check, Results

__all__ = ["markdown_table", "number", "save_figure", "save_table", "write_page"]

_FLOOR = "floor"


def number(value: float) -> str:
    """Three significant digits; nothing for a value that is not there."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    text = f"{value:.3g}"
    return f"{value:,.0f}" if "e+" in text else text


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text; the first column is aligned left, all others right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(frame: pd.DataFrame, metric: str) -> str:
    row = frame[frame["metric"] == metric]
    if row.empty:
        return ""
    mean, sd = float(row["mean"].iloc[0]), float(row["sd"].iloc[0])
    return number(mean) if math.isnan(sd) else f"{number(mean)} ± {number(sd)}"


def _result_table(frame: pd.DataFrame, against: str, paper: Mapping[str, Mapping[str, float]]) -> str:
    """The table of one reference: the paper's columns, methods held against it, and its floors (or else all floors)."""
    floor = frame["method"].str.startswith(_FLOOR)
    own = floor & (frame["against"] == against)
    floor = own if own.any() else floor
    columns: dict[str, pd.DataFrame] = {}
    for name, part in frame[(frame["against"] == against) & ~floor].groupby("method", sort=False):
        columns[str(name)] = part
    for (name, where), part in frame[floor].groupby(["method", "against"], sort=False):
        columns[f"{name}, against {where}"] = part
    used: set[str] = {str(name) for part in columns.values() for name in part["metric"]}
    used |= {name for values in paper.values() for name in values}
    # Where a metric is given per coordinate, its average would say the same thing twice.
    split = {name for name in used if f"{name}_1" in used}
    metrics = [name for name in METRICS if name in used - split] + sorted(used - set(METRICS))
    rows = []
    for metric in metrics:
        printed = [number(values[metric]) if metric in values else "" for values in paper.values()]
        rows.append([METRICS.get(metric, metric), *printed, *(_cell(part, metric) for part in columns.values())])
    return markdown_table(["metric", *(f"paper, {name}" for name in paper), *columns], rows)


def _check_table(checks: Sequence[Check]) -> str:
    rows = [
        [
            METRICS.get(check.metric, check.metric), check.what, number(check.value), number(check.limit),
            "met" if check.met else "**missed**",
        ]
        for check in checks
    ]  # fmt: skip
    return markdown_table(["metric", "what is judged", "value", "at most", "verdict"], rows)


def save_table(frame: pd.DataFrame, path: Path) -> Path:
    """Writes a table as CSV with six significant digits, whole or not at all, and returns the path."""
    with atomic_write(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")
    return path


def write_page(
    output: Path,
    *,
    name: str,
    title: str,
    intro: str,
    results: Results,
    paper: Mapping[str, Mapping[str, float]],
    checks: Sequence[Check],
    figures: Sequence[tuple[str, str]],
    command: str,
    notes: Sequence[str],
    seconds: float,
    sections: Sequence[tuple[str, str]] = (),
) -> Path:
    """Writes ``name.md`` with ``name.csv`` (means over seeds) and ``name.seeds.csv`` beside it.

    The page holds the command, one table per reference, the targets, the figures and the notes. Every file appears
    whole or not at all.

    Args:
        output: folder; created if absent.
        name: stem of the files.
        title: heading.
        intro: Markdown below the heading.
        results: what was measured.
        paper: what the paper prints, by column and metric; empty if nothing.
        checks: targets and verdicts.
        figures: file name (in ``output``) and caption.
        command: the line that makes the page again.
        notes: Markdown, one item each.
        seconds: how long the run took.
        sections: further headings with their Markdown, between figures and notes.

    Returns:
        path of the page.
    """
    frame = results.frame()
    save_table(frame, output / f"{name}.csv")
    save_table(results.long(), output / f"{name}.seeds.csv")
    seeds = ", ".join(map(str, results.seeds))
    spread = "mean ± standard deviation over seeds" if len(results.seeds) > 1 else "one seed"
    parts = [
        f"# {title}",
        intro.strip(),
        f"```\n{command}\n```",
        f"makes this page again. Seeds {seeds}; {spread}; the run took {seconds / 60:.1f} minutes. The numbers are "
        f"also in [{name}.csv]({name}.csv), by seed in [{name}.seeds.csv]({name}.seeds.csv).",
    ]
    judged = frame.loc[~frame["method"].str.startswith(_FLOOR), "against"]
    for against in dict.fromkeys(judged):
        parts += [f"## Errors against {against}", _result_table(frame, against, paper)]
    if checks:
        met = sum(check.met for check in checks)
        parts += ["## Targets", f"{met} of {len(checks)} met.", _check_table(checks)]
    if figures:
        parts += ["## Figures", *(f"![{caption}]({file})\n\n*{caption}*" for file, caption in figures)]
    for heading, text in sections:
        parts += [f"## {heading}", text.strip()]
    if notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    return atomic_text(output / f"{name}.md", "\n\n".join(parts) + "\n")
