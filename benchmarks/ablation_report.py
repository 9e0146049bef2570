r"""The page of the ablations: tables and figures from the cells that ``benchmarks/ablations.py run`` left.

    python benchmarks/ablation_report.py runs/ablations -o docs/results

Writes ``ablations.md``, ``ablations.csv`` and figures under ``ablations/``. What stands between the two marks of the
conclusions in a page that is there is kept: a person wrote it.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genodiff.files import atomic_text
from genodiff.report.style import LABELS, REAL, SYNTHETIC, TRAIN, grid, styled
from genodiff.reproduce.page import markdown_table, save_figure

SHOWN = {
    "af_mae": ("AF MAE", 0.0),
    "cov_frobenius": ("covariance (Frobenius)", 0.0),
    "ld_decay_mae": ("LD-decay MAE", 0.0),
    "near_pair_r2_ratio": ("near-pair r² ratio", 1.0),
    "three_point_r": ("three-point r", 1.0),
    "pca_w2": ("PCA-W2", 0.0),
    "recall": ("recall", 1.0),
    "f_is": ("F_IS", math.nan),
    "c2st_auc": ("C2ST", 0.5),
    "aa_truth": ("AA real half", math.nan),
    "aa_syn": ("AA synthetic half", math.nan),
    "privacy_loss": ("privacy loss", 0.0),
    "membership_auc": ("membership AUC", 0.5),
}
"""Metric → heading and ideal value; NaN where the floor is the ideal."""

GROUPS = {
    "Drift": ("drift/", "a: contraction of the leading mode, 1 isotropic, .5 the default; fp-noise: learned"),
    "Modes of the drift": ("basis/", "default: principal components within LD blocks"),
    "Shrinkage of covariances": ("shrink/", "default: every lag between sites by itself"),
    "Anchors": ("anchors/", "none: one component and noise alone, the start of an isotropic diffusion"),
    "Spread of the start law": ("start/", "default: means of clusters, variance within them"),
    "Base of the denoiser": ("base/", "default: the anchors' Gaussian mixture"),
    "Without haplotype backgrounds": ("bare/", "the network and the Gaussian base alone"),
}

OPEN, CLOSE = "<!-- conclusions -->", "<!-- end of conclusions -->"


def load(runs: Path) -> pd.DataFrame:
    """All cells as one row per cell, seed and metric."""
    rows = []
    for path in sorted((runs / "cells").glob("*.json")):
        cell = json.loads(path.read_text())
        base = {k: v for k, v in cell.items() if k not in ("metrics", "floors")}
        rows += [{**base, "metric": m, "value": v, "floor": cell["floors"][m]} for m, v in cell["metrics"].items()]
        for cost in ("fit_seconds", "sample_seconds"):
            rows.append({**base, "metric": cost, "value": cell[cost], "floor": math.nan})
    return pd.DataFrame(rows)


def _wide(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Values of a metric, names × seeds."""
    return cells[cells["metric"] == metric].pivot_table(index="name", columns="seed", values="value")


def _error(values: pd.Series, metric: str, floor: pd.Series) -> pd.Series:
    ideal = SHOWN[metric][1]
    return (values - (floor if math.isnan(ideal) else ideal)).abs()


def _entry(cells: pd.DataFrame, name: str, metric: str, reference: str) -> str:
    """Mean ± sd over seeds, with a mark where every seed is better or worse than the reference."""
    part = cells[(cells["metric"] == metric)].set_index(["name", "seed"])
    if name not in part.index:
        return ""
    mine = part.loc[name]
    text = f"{mine['value'].mean():.4g}" + (f" ± {mine['value'].std():.2g}" if len(mine) > 1 else "")
    if name == reference or metric not in SHOWN:
        return text
    other = part.loc[reference].reindex(mine.index)
    gain = _error(other["value"], metric, other["floor"]) - _error(mine["value"], metric, mine["floor"])
    if len(gain.dropna()) < 2:
        return text
    return text + (" ▲" if (gain > 0).all() else " ▼" if (gain < 0).all() else "")


def _table(cells: pd.DataFrame, names: Sequence[str], reference: str) -> str:
    metrics = [*SHOWN, "fit_seconds", "sample_seconds"]
    header = ["", *(SHOWN[m][0] for m in SHOWN), "fit, s", "sample, s"]
    floor = cells[cells["name"] == reference].groupby("metric")["floor"].mean()
    rows = [["*floor*", *(f"{floor.get(m, math.nan):.4g}" for m in SHOWN), "", ""]]
    rows += [[name, *(_entry(cells, name, m, reference) for m in metrics)] for name in names]
    return markdown_table(header, rows)


@styled
def sampler_figure(cells: pd.DataFrame) -> Figure:
    """Errors against the number of steps, one line per sampler."""
    chosen = cells[cells["name"].str.startswith("sampler/")].copy()
    chosen[["rule", "steps"]] = chosen["name"].str.split("/", expand=True)[[1, 2]]
    chosen["steps"] = chosen["steps"].astype(int)
    figure, axes = grid(2, 2, width=9.0, height=6.4)
    for ax, metric in zip(np.ravel(axes), ("af_mae", "cov_frobenius", "ld_decay_mae", "c2st_auc"), strict=True):
        part = chosen[chosen["metric"] == metric]
        for colour, (rule, rows) in zip(LABELS, part.groupby("rule", sort=False), strict=False):
            mean = rows.groupby("steps")["value"].mean()
            ax.plot(mean.index, mean.to_numpy(), marker="o", markersize=3.5, color=colour, label=rule)
        ax.axhline(part["floor"].mean(), color=TRAIN, linewidth=1.0, linestyle=(0, (4, 3)))
        ax.set_xscale("log")
        ax.set_xticks([5, 25, 100], ["5", "25", "100"])
        ax.minorticks_off()
        ax.set_title(SHOWN[metric][0])
        ax.set_yscale("log" if metric == "ld_decay_mae" else "linear")
        ax.set_xlabel("steps")
    np.ravel(axes)[0].legend()
    return figure


@styled
def early_figure(cells: pd.DataFrame) -> Figure:
    """Errors against the start, GOU beside the isotropic drift, for rules and numbers of steps."""
    chosen = cells[cells["name"].str.startswith("early/")].copy()
    pattern = r"early/(?P<rule>[a-z-]+)/a=(?P<a>[\d.]+)/rho=(?P<rho>[\d.]+)/(?P<steps>\d+)"
    chosen[["rule", "a", "rho", "steps"]] = chosen["name"].str.extract(pattern)
    for column in ("a", "rho", "steps"):
        chosen[column] = chosen[column].astype(float)
    chosen.loc[chosen["rho"] == 0, "rho"] = math.inf
    figure, axes = grid(1, 3, width=11.0, height=3.9)
    drifts = {1.0: (REAL, "isotropic"), 0.2: (SYNTHETIC, "GOU, a = .2")}
    dashes = {("euler-maruyama", 5.0): (0, (1, 1.5)), ("euler-maruyama", 25.0): (0, (4, 2)),
              ("ancestral", 5.0): "solid"}  # fmt: skip
    for ax, metric in zip(np.ravel(axes), ("ld_decay_mae", "c2st_auc", "recall"), strict=True):
        part = chosen[chosen["metric"] == metric]
        for (rule, steps, a), rows in part.groupby(["rule", "steps", "a"]):
            colour, drift = drifts[a]
            mean = rows.groupby("rho")["value"].mean()
            ax.plot(np.arange(len(mean)), mean.to_numpy(), color=colour, linestyle=dashes[rule, steps], marker="o",
                    markersize=3, label=f"{drift}, {rule}, {steps:.0f}")  # fmt: skip
        ax.axhline(part["floor"].mean(), color=TRAIN, linewidth=1.0, linestyle=(0, (4, 3)))
        starts = sorted(part["rho"].unique())
        ax.set_xticks(np.arange(len(starts)), [f"{r:g}" if math.isfinite(r) else "full" for r in starts])
        ax.set_xlabel("start: noise ratio ρ of the fast modes")
        ax.set_title(SHOWN[metric][0])
    np.ravel(axes)[0].legend(fontsize=7)
    return figure


def _early_table(cells: pd.DataFrame) -> str:
    names = [n for n in cells["name"].unique() if n.startswith("early/")]
    metrics = ["af_mae", "cov_frobenius", "ld_decay_mae", "three_point_r", "pca_w2", "recall", "c2st_auc"]
    rows = []
    for name in sorted(names, key=_early_key):
        _, rule, a, rho, steps = name.split("/")
        start = rho.removeprefix("rho=")
        head = [rule, steps, "full" if start == "0" else start, a]
        rows.append([*head, *(_entry(cells, name, m, name) for m in metrics)])
    return markdown_table(["rule", "steps", "start ρ", "drift", *(SHOWN[m][0] for m in metrics)], rows)


def _early_key(name: str) -> tuple[str, float, float, float]:
    _, rule, a, rho, steps = name.split("/")
    start = float(rho.removeprefix("rho=")) or math.inf
    return (rule, float(steps), start, -float(a.removeprefix("a=")))


def _people_table(cells: pd.DataFrame) -> str:
    metrics = list(SHOWN)
    rows = []
    sizes = sorted({int(n.split("/")[1]) for n in cells["name"].unique() if n.startswith("people/")})
    for people in [*sizes, None]:
        gou = "default" if people is None else f"people/{people}/a=0.5"
        iso = "drift/a=1" if people is None else f"people/{people}/a=1"
        count = cells.loc[cells["name"] == gou, "people"].max()
        floor = cells[cells["name"] == gou].groupby("metric")["floor"].mean()
        rows.append([f"*floor, {count:,} people*", *(f"{floor.get(m, math.nan):.4g}" for m in metrics)])
        rows.append(["isotropic", *(_entry(cells, iso, m, iso) for m in metrics)])
        rows.append(["GOU, a = .5", *(_entry(cells, gou, m, iso) for m in metrics)])
    return markdown_table(["", *(SHOWN[m][0] for m in metrics)], rows)


def _conclusions(path: Path) -> str:
    if path.exists() and OPEN in (text := path.read_text()):
        return text.split(OPEN)[1].split(CLOSE)[0].strip()
    return "*Not written yet.*"


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--command", default="", help="The command that made the cells, for the page.")
def main(runs: Path, *, output: Path, command: str) -> None:
    """Write the page of the ablations."""
    cells = load(runs)
    default = cells[cells["name"] == "default"].iloc[0]
    seeds = sorted(int(s) for s in cells["seed"].unique())
    made = command or (
        "python benchmarks/ablations.py run ../shared/data/kg_chr22_50Mb.b38.vcf.gz "
        f"--panel ../shared/data/panel.tsv -o runs/ablations --seeds {len(seeds)}"
    )
    page = output / "ablations.md"
    text = io.StringIO()
    text.write(
        f"# Ablations\n\n```\n{made}\npython benchmarks/ablation_report.py runs/ablations -o docs/results\n```\n\n"
    )
    text.write(
        f"{default['people']:,} people to learn from and {default['held_out']:,} to judge by, split anew for each of "
        f"the seeds {', '.join(map(str, seeds))} among the *training* people of the panel; its test people are not "
        f"touched. About {default['sites']:,} sites at the start of the region, {default['training_steps']:,} training "
        "steps (a third of the preset `balanced`), one change from the default at a time. Mean ± sd over seeds; ▲ or ▼ "
        "where every seed is better or worse than the default (nearer to or farther from the ideal value, which is the "
        "floor for F_IS and the AA halves). With three seeds a mark arises by chance in one cell of four: read rows, "
        "not single marks. Seconds are those of one processor thread, with another run beside it.\n\n"
    )
    text.write(f"## What follows\n\n{OPEN}\n{_conclusions(page)}\n{CLOSE}\n\n")
    for title, (prefix, note) in GROUPS.items():
        names = sorted(n for n in cells["name"].unique() if n.startswith(prefix))
        if names:
            text.write(f"## {title}\n\n{note[0].upper()}{note[1:]}.\n\n")
            reference = "default" if prefix != "bare/" else "bare/a=1"
            shown = ["default", *(n for n in names if n != "default")]
            text.write(_table(cells, shown, reference) + "\n\n")
            if reference != "default":
                text.write(f"Marks compare with `{reference}`.\n\n")
    if cells["name"].str.startswith("sampler/").any():
        save_figure(sampler_figure(cells), output / "ablations" / "samplers.png")
        names = [n for n in cells["name"].unique() if n.startswith("sampler/")]
        names.sort(key=lambda n: (n.split("/")[1], int(n.split("/")[2])))
        text.write("## Sampler and number of steps\n\n![Errors against steps](ablations/samplers.png)\n\n")
        metrics = ["af_mae", "cov_frobenius", "ld_decay_mae", "three_point_r", "pca_w2", "recall", "f_is", "c2st_auc"]
        rows = [[n.removeprefix("sampler/"), *(_entry(cells, n, m, "sampler/ancestral/25") for m in metrics),
                 _entry(cells, n, "sample_seconds", n)] for n in names]  # fmt: skip
        header = ["sampler/steps", *(SHOWN[m][0] for m in metrics), "sample, s"]
        text.write(
            markdown_table(header, rows)
            + "\n\nOne seed, as many people drawn as are held out; dashed lines are floors.\n\n"
        )
    if cells["name"].str.startswith("early/").any():
        save_figure(early_figure(cells), output / "ablations" / "early.png")
        text.write("## Start time and steps\n\n![Errors against the start](ablations/early.png)\n\n")
        text.write(_early_table(cells) + "\n\nOne seed, as many people drawn as are held out.\n\n")
    if cells["name"].str.startswith("people/").any():
        text.write(
            "## Number of people\n\n" + _people_table(cells) + "\n\nMarks compare GOU with the isotropic drift.\n"
        )
    atomic_text(page, text.getvalue())
    long = cells[["name", "seed", "metric", "value", "floor"]].sort_values(["name", "metric", "seed"])
    atomic_text(output / "ablations.csv", long.to_csv(index=False, float_format="%.6g"))
    print(page)


if __name__ == "__main__":
    main()
