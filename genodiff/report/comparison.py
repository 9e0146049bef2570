"""The page of a comparison: verdicts side by side, every metric beside its floor, curves over one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genodiff.files import atomic_text, atomic_write
from genodiff.report import comparison_figures as figures
from genodiff.report.glossary import FAMILIES, METRICS
from genodiff.report.page import embedded, place_of, render
from genodiff.report.panels import SECTIONS, Panel
from genodiff.report.style import RUNS, png
from genodiff.report.verdict import TARGETS, Target, Verdict, number

if TYPE_CHECKING:
    from genodiff.runs import Run

__all__ = ["write_comparison"]

_MARKS = {True: "✓", False: "✕", None: "?"}


def write_comparison(
    out_dir: Path, *, runs: Sequence[Run], verdicts: Sequence[Verdict], apart: bool, title: str
) -> Path:
    """Write ``comparison.html`` and ``figures/*`` into a folder, and return the path of the page.

    Args:
        out_dir: the folder; created if absent.
        runs: what is compared, in the order of the columns.
        verdicts: of each run.
        apart: whether the runs have different real people or sites, so that curves are drawn relative to them.
        title: heading of the page.
    """
    shown: dict[str, list[dict[str, Any]]] = {"metrics": [], **{key: [] for key in SECTIONS}}
    for panel in _panels(runs, apart=apart):
        with atomic_write(out_dir / "figures" / f"{panel.name}.png") as temporary:
            temporary.write_bytes(panel.image)
        shown[panel.section].append(embedded(panel))
    without = [run.name for run in runs if not run.curves]
    html = render(
        "comparison.html",
        title=title,
        runs=[_heading(run, place) for place, run in enumerate(runs)],
        apart=apart,
        without=without,
        checks=_checks(verdicts),
        lead=shown["metrics"],
        sections=[{"title": s.title, "panels": shown[key]} for key, s in SECTIONS.items() if shown[key]],
        families=_families(runs),
    )
    return atomic_text(out_dir / "comparison.html", html)


def _heading(run: Run, place: int) -> dict[str, Any]:
    sites = run.value("sites_compared")
    return {
        "name": run.name,
        "folder": str(run.folder),
        "colour": RUNS[place % len(RUNS)],
        "sites": f"{sites:,.0f}" if math.isfinite(sites) else "–",
        "holdout": f"{run.holdout_people:,}" if run.holdout_people else "–",
        "seed": run.provenance.get("seed", "–"),
        "started": str(run.provenance.get("started", "–"))[:10],
        "version": run.provenance.get("genodiff") or "–",
    }


def _checks(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """A row a target: the mark, the value and what was asked, of every run."""
    rows = []
    for aspect in ("fidelity", "privacy"):
        for row in zip(*(getattr(verdict, aspect).checks for verdict in verdicts), strict=True):
            label = row[0].target.label
            cells = [
                {
                    "mark": _MARKS[check.met],
                    "status": check.status,
                    "tone": {True: "met", False: "not-met", None: "open"}[check.met],
                    "value": check.value_text,
                    "asked": check.reason or check.asked,
                }
                for check in row
            ]
            rows.append({"aspect": aspect.capitalize(), "label": label[0].upper() + label[1:], "cells": cells})
    return rows


def _families(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A table a family, a row a metric, a cell a run; a metric only some runs have leaves the cells of others empty."""
    tables = [run.metrics.set_index("metric") for run in runs]
    frame = pd.concat([run.metrics for run in runs]).drop_duplicates("metric")
    present = [family for family in dict.fromkeys(frame["family"]) if family != "sites"]
    order = [f for f in FAMILIES if f in present] + [f for f in present if f not in FAMILIES]
    families = []
    for family in order:
        entry = FAMILIES.get(family)
        rows = []
        for metric, unit in frame.loc[frame["family"] == family, ["metric", "unit"]].itertuples(index=False):
            known = METRICS.get(metric)
            rows.append(
                {
                    "label": known.label if known else str(metric).replace("_", " "),
                    "meaning": known.text if known else "",
                    "unit": unit if isinstance(unit, str) else "",
                    "cells": [_cell(table, metric) for table in tables],
                }
            )
        title = entry.label if entry else family.replace("_", " ").capitalize()
        families.append({"title": title, "text": entry.text if entry else "", "rows": rows})
    return families


def _cell(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    if metric not in table.index:
        return {"value": "–", "interval": "", "floor": "–", "place": None, "ratio": ""}
    row = table.loc[metric]
    bounds = [float(row["low"]), float(row["high"])]
    ratio, place = place_of(float(row["value"]), float(row["floor"]))
    return {
        "value": number(float(row["value"])),
        "interval": "{} to {}".format(*map(number, bounds)) if all(map(math.isfinite, bounds)) else "",
        "floor": number(float(row["floor"])),
        "place": place,
        "ratio": ratio,
    }


def _panel(section: str, name: str, alt: str, figure: Figure) -> Panel:
    return Panel(section=section, name=name, alt=alt, image=png(figure), wide=True)


def _curves(runs: Sequence[Run], name: str) -> dict[str, pd.DataFrame]:
    """One curve of all runs that keep it; empty where fewer than two do."""
    found = {run.name: run.curves[name] for run in runs if len(run.curves.get(name, ()))}
    return found if len(found) >= 2 else {}


def _panels(runs: Sequence[Run], *, apart: bool) -> Iterator[Panel]:
    """All figures that the files of the runs permit."""
    names = [run.name for run in runs]
    said = f"{', '.join(names[:-1])} and {names[-1]}"
    ratios = _ratios(runs)
    if len(ratios):
        alt = f"Metrics over their floors on a logarithmic scale, for {said}."
        yield _panel("metrics", "metrics", alt, figures.against_floor(ratios))
    if tables := _curves(runs, "allele_frequency"):
        errors, floors = (
            {name: (t[column] - t["holdout"]).abs().dropna().to_numpy() for name, t in tables.items()}
            for column in ("synthetic", "train")
        )
        figure = figures.cumulative(
            errors, floors if apart else {"training people": next(iter(floors.values()))}, log=True,
            axis="|allele frequency − that of held-out people|", of="sites", title="Errors of allele frequencies",
        )  # fmt: skip
        alt = f"Share of sites by the error of their allele frequency, for {said}, and for training people."
        yield _panel("frequencies", "frequencies", alt, figure)
    for key, unit in (("ld_decay", "bp"), ("ld_decay_cm", "cM")):
        if tables := _curves(runs, key):
            alt = f"Mean r² between sites by their distance in {unit}, for {said}, beside held-out people."
            yield _panel("ld", key, alt, figures.ld_decays(tables, unit=unit, apart=apart))
    tables = {name: t for name, t in _curves(runs, "pca").items() if "PC2" in t}
    if tables:
        alt = f"Principal components 1 and 2: synthetic people over held-out people (blue), axes each for {said}."
        yield _panel("structure", "pca", alt, figures.components(tables))
    for key, reference, title, axis in (
        ("nearest_synthetic_to_train", "nearest_holdout_to_train", "How near is the nearest training row?",
         "differing alleles"),
        ("copied_run_synthetic_train", "copied_run_holdout_train", "Copied runs",
         "longest run shared with a training row (sites)"),
    ):  # fmt: skip
        if (tables := _curves(runs, key)) and (real := _curves(runs, reference)):
            values, floors = ({run: t["value"].to_numpy() for run, t in part.items()} for part in (tables, real))
            drawn = floors if apart else {"held-out people": next(iter(floors.values()))}
            figure = figures.cumulative(values, drawn, axis=axis, of="rows", title=title)
            alt = f"Share of rows by {axis}, for {said}, and for held-out people."
            yield _panel("privacy", key.removesuffix("_train").removesuffix("_to"), alt, figure)


def _ratios(runs: Sequence[Run]) -> pd.DataFrame:
    """Value over floor of what the verdict looks at, where both are above zero; metrics by their name in words."""
    ratios = {run.name: {target.label: _ratio(run, target) for target in TARGETS} for run in runs}
    frame = pd.DataFrame(ratios, dtype=float).reindex([target.label for target in TARGETS])
    return frame[np.isfinite(frame).any(axis=1)]


def _ratio(run: Run, target: Target) -> float:
    value = run.value(target.metric)
    floor = run.value(target.reference) if target.reference else run.floor(target.metric)
    return value / floor if value > 0 and floor > 0 else math.nan
