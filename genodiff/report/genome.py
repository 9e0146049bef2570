"""The page of several chromosomes: how each was judged, and whether they belong to the same people."""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from genodiff.evaluation.results import Curve
from genodiff.files import atomic_text, atomic_write
from genodiff.report import style
from genodiff.report.verdict import TARGETS, Verdict, judge, number

__all__ = ["Judged", "agreement", "write_genome"]

_MOST_PAIRS = 30
"""Pairs of chromosomes that the figure names one by one; of more it shows their spread."""

_LABELS = {
    "chromosomes_dimensions": "directions shared by two chromosomes",
    "chromosomes_r": "agreement of chromosomes",
    "chromosomes_r_train": "agreement of chromosomes, training people",
    "chromosomes_r_shuffled": "agreement of chromosomes, synthetic people shuffled",
    "chromosomes_within_dimensions": "directions shared within labels",
    "chromosomes_within_r": "agreement within labels",
    "chromosomes_within_r_train": "agreement within labels, training people",
    "chromosomes_within_r_shuffled": "agreement within labels, synthetic people shuffled",
}


@dataclass(frozen=True)
class Judged:
    """A chromosome as ``genodiff evaluate`` judged it.

    Attributes:
        chromosome: its name.
        frame: its metrics.
        link: its own page, relative to this one; empty if there is none.
        holdout_haplotypes: haplotypes of the people it was judged by.
    """

    chromosome: str
    frame: pd.DataFrame
    link: str
    holdout_haplotypes: int

    @cached_property
    def verdict(self) -> Verdict:
        """Its targets, met and missed."""
        return judge(self.frame, holdout_haplotypes=self.holdout_haplotypes)


@style.styled
def agreement(pairs: pd.DataFrame) -> Figure:
    """Correlation of the scores of two chromosomes, a place on x per pair, a mark per set of people."""
    kinds = [k for k in ("all", "within") if (pairs.loc[pairs["kind"] == k, "dimensions"] > 0).any()]
    figure, axes = style.grid(max(len(kinds), 1), 1, width=6.4, height=2.6 * max(len(kinds), 1) + 0.4)
    marks = {
        "train": ("o", style.TRAIN, "training"), "holdout": ("o", style.REAL, "held-out"),
        "synthetic": ("D", style.SYNTHETIC, "synthetic"), "shuffled": ("x", "#22303c", "synthetic, shuffled"),
    }  # fmt: skip
    for place, kind in zip(axes[:, 0], kinds, strict=False):
        rows = pairs[(pairs["kind"] == kind) & (pairs["dimensions"] > 0)].reset_index(drop=True)
        for column, (mark, colour, name) in marks.items():
            place.plot(rows.index, rows[column], mark, color=colour, label=name, markersize=5)
        place.axhline(0, color=style.FAINT, linewidth=1, zorder=0)
        named = len(rows) <= _MOST_PAIRS
        place.set_xticks(rows.index if named else [])
        place.set_xticklabels([f"{a}–{b}" for a, b in zip(rows["one"], rows["other"], strict=True)] if named else [])
        place.tick_params(axis="x", labelrotation=90 if len(rows) > 8 else 0)
        place.set_ylim(min(-0.3, float(rows[list(marks)].min().min()) - 0.05), 1.05)
        place.set_ylabel("correlation over people")
        place.set_title("ancestry" if kind == "all" else "ancestry within labels")
    axes[-1, 0].set_xlabel("pair of chromosomes")
    if kinds:
        axes[0, 0].legend(ncols=4, loc="lower left", fontsize=8)
    return figure


@style.styled
def first_direction(people: pd.DataFrame, *, one: str, other: str) -> Figure:
    """Scores of the same people by two chromosomes along the direction they agree on best."""
    figure, axes = style.grid(1, 2, width=6.4, height=3.2, sharex=True, sharey=True)
    for place, (side, colour, name) in zip(
        axes[0], (("holdout", style.REAL, "held-out"), ("synthetic", style.SYNTHETIC, "synthetic")), strict=True
    ):
        rows = people[people["set"] == side]
        place.plot(rows["one"], rows["other"], ".", color=colour, alpha=0.5, markersize=5, markeredgewidth=0)
        place.set_title(f"{name} people")
        place.set_xlabel(f"score by chromosome {one}")
    axes[0, 0].set_ylabel(f"score by chromosome {other}")
    return figure


@style.styled
def against_floor(judged: Sequence[Judged]) -> Figure:
    """Some metrics of every chromosome as multiples of their floor, on a logarithmic scale."""
    shown = {"af_mae": "allele frequency error", "ld_decay_mae": "LD-decay error", "pca_w2": "PCA distance"}
    figure, axes = style.canvas(width=6.4, height=3.0)
    for (metric, name), colour in zip(shown.items(), style.LABELS, strict=False):
        found = [each.frame[each.frame["metric"] == metric] for each in judged]
        ratio = [
            float(f["value"].iloc[0] / f["floor"].iloc[0]) if len(f) and f["floor"].iloc[0] > 0 else math.nan
            for f in found
        ]
        axes.plot(np.arange(len(judged)), ratio, "o-", color=colour, label=name, markersize=5, linewidth=0.8)
    axes.axhline(1, color=style.REAL, linewidth=1)
    axes.set_yscale("log")
    axes.set_xticks(np.arange(len(judged)), [each.chromosome for each in judged])
    axes.set_xlabel("chromosome")
    axes.set_ylabel("times the floor")
    axes.legend()
    return figure


def write_genome(
    folder: Path,
    *,
    judged: Sequence[Judged],
    together: pd.DataFrame,
    curves: Mapping[str, Curve],
    lines: Sequence[str],
    people: Mapping[str, int],
    provenance: Mapping[str, Any],
    title: str,
) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into a folder and return the path of the page.

    Args:
        folder: created if absent.
        judged: the chromosomes.
        together: tidy metrics of :mod:`genodiff.evaluation.chromosomes`.
        curves: of the same.
        lines: the verdict.
        people: number of people learned from, held out and synthetic.
        provenance: as :meth:`genodiff.provenance.Provenance.to_dict` gives it.
        title: heading.
    """
    pairs, first = curves["chromosomes"], curves["people"]
    assert isinstance(pairs, pd.DataFrame)
    assert isinstance(first, pd.DataFrame)
    one, other = (str(pairs[name].iloc[0]) for name in ("one", "other"))
    figures = {
        "agreement": (agreement(pairs), "Correlation of what two chromosomes say of a person, by pair"),
        "first_direction": (first_direction(first, one=one, other=other), f"Scores by chromosomes {one} and {other}"),
        "against_floor": (against_floor(judged), "Metrics of every chromosome against their floor"),
    }
    shown = []
    for name, (figure, text) in figures.items():
        image = style.png(figure)
        with atomic_write(folder / "figures" / f"{name}.png") as temporary:
            temporary.write_bytes(image)
        shown.append({"data": base64.b64encode(image).decode("ascii"), "alt": text})
    # Names of chromosomes and files are the user's: everything that reaches the page is escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    command = provenance.get("command")
    html = environment.get_template("genome.html").render(
        title=title,
        colours={"real": style.REAL, "synthetic": style.SYNTHETIC},
        lines=lines,
        judged=judged,
        targets=[_target_row(k, judged) for k in range(len(TARGETS))],
        together=[_together_row(row) for row in together.to_dict("records")],
        figures=shown,
        people=people,
        command=shlex.join(map(str, command)) if command else "",
        provenance=json.dumps(dict(provenance), indent=2, ensure_ascii=False, default=str),
    )
    return atomic_text(folder / "report.html", html)


def _target_row(k: int, judged: Sequence[Judged]) -> dict[str, Any]:
    """One target on all chromosomes."""
    checks = [(*each.verdict.fidelity.checks, *each.verdict.privacy.checks)[k] for each in judged]
    return {"label": checks[0].target.label, "aspect": checks[0].target.aspect, "checks": checks}


def _together_row(row: Mapping[Any, Any]) -> dict[str, str]:
    low, high = float(row["low"]), float(row["high"])
    return {
        "label": _LABELS.get(str(row["metric"]), str(row["metric"])),
        "value": number(float(row["value"])),
        "interval": f"{number(low)} to {number(high)}" if math.isfinite(low) and math.isfinite(high) else "",
        "floor": number(float(row["floor"])),
        "n": f"{int(row['n']):,}",
        "unit": str(row["unit"]),
    }
