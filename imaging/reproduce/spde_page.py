"""The page of anisotropic fields: Markdown and figures, computed from the cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from imaging.datasets import Images
from imaging.figures import sheet
from imaging.files import writing
from imaging.models import ImageModel
from imaging.reproduce.geometry import MEASURES, Survival
from imaging.reproduce.parts import (
    Verdict,
    deviation,
    judged,
    markdown,
    new_figure,
    number,
    save_figure,
    verdict_table,
    write_text,
)
from imaging.reproduce.table import floor_of
from imaging.samples import draw
from imaging.spde import FieldModel
from imaging.strokes import revise, strokes

if TYPE_CHECKING:
    from imaging.reproduce.spde import Settings

__all__ = ["draw_samples", "draw_strokes", "verdicts", "write_page"]

_SHEET, _DRAWN = 16, 10
"""Images of a row shown; strokes shown."""

_DISTANCE, _COST = "distance to the strokes", "noise beside network"
_HALF = 0.5


def _distance_name(frame: pd.DataFrame) -> str:
    """The Fréchet distance of as many images as its floor has."""
    return min((str(name) for name in frame["metric"].unique() if str(name).startswith("FD-")), key=len, default="")


def _metrics(frame: pd.DataFrame) -> list[str]:
    return [_distance_name(frame), "precision", "recall", "spectrum (dB)"]


def _values(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Values of a metric, a line for each seed, a column for each row of the table and its sampler."""
    chosen = frame[(frame["metric"] == metric) & (frame["sampler"] != "strokes")].astype({"value": float})
    return chosen.pivot_table(index="seed", columns=["row", "sampler"], values="value", sort=False)


def best(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """By seed and row, the values of the sampler whose mean over seeds is least."""
    values = _values(frame, metric)
    rows = dict.fromkeys(values.columns.get_level_values("row"))
    return pd.DataFrame({row: values[row][values[row].mean().idxmin()] for row in rows})


def _compared(said: str, values: pd.DataFrame, a: str, b: str) -> list[Verdict]:
    if a not in values or b not in values:
        return []
    gap = values[a] - values[b]
    what = f"{said}, {a} less {b} ({deviation(float(gap.std()))})".removesuffix(" ()")
    return [judged(what, float(gap.mean()), 0.0)]


def half_life(table: pd.DataFrame, row: str, measure: str) -> float:
    """The signal-to-noise ratio, dB, at which a measure of a row falls to a half; not a number if it never does."""
    part = table[table["row"] == row].sort_values(measure)
    values = part[measure].to_numpy(float)
    if not values[0] < _HALF < values[-1]:
        return math.nan
    return float(np.interp(_HALF, values, part["ratio"].to_numpy(float)))


def curve(frame: pd.DataFrame, row: str) -> pd.DataFrame:
    """Of strokes: distance to them and Fréchet distance of a row; columns seed, level, far, fd."""
    part = frame[(frame["sampler"] == "strokes") & (frame["row"] == row)].astype({"value": float})
    wide = part.pivot_table(index=["seed", "level"], columns="metric", values="value").reset_index()
    return pd.DataFrame({
        "seed": wide["seed"], "level": wide["level"], "far": wide[_DISTANCE], "fd": wide[_distance_name(part)]
    })  # fmt: skip


def _at_equal_distance(frame: pd.DataFrame, a: str, b: str) -> pd.Series:
    """By seed, mean of log FD of row a less that of row b where their distances to the strokes overlap."""
    found = {}
    ours, theirs = curve(frame, a), curve(frame, b)
    for seed in ours["seed"].unique():
        lines = [part[part["seed"] == seed].sort_values("far") for part in (ours, theirs)]
        low, high = max(line["far"].min() for line in lines), min(line["far"].max() for line in lines)
        if low < high:
            at = np.linspace(low, high, 33)
            logs = [np.interp(at, line["far"], np.log(line["fd"])) for line in lines]
            found[seed] = float(np.mean(logs[0] - logs[1]))
    return pd.Series(found, dtype=float)


def verdicts(frame: pd.DataFrame, geometry: Mapping[str, Survival]) -> list[Verdict]:
    """The claims of the abstract and the targets.

    Args:
        frame: cells; columns data, row, sampler, seed, level, metric, value, floor, n.
        geometry: what survives of the images of each set.
    """
    found = []
    for name, survival in geometry.items():
        for row in ("SPDE", "SPDE, simulated"):
            gap = half_life(survival.table, row, "at edges") - half_life(survival.table, "VP", "at edges")
            found.append(judged(f"{name}: dB at which half the structure at edges is left, {row} less VP", gap, 0.0))
    for name, part in frame.groupby("data", sort=False):
        metric = _distance_name(part)
        values = best(part[part["training_seconds"].notna()], metric)
        for other in ("VP", "flow matching", "isotropic SPDE", "edge-preserving noise", "SPDE, edges in the noise"):
            found += _compared(f"{name}: {metric}, better sampler", values, "SPDE", other)
        stroked = set(part[part["sampler"] == "strokes"]["row"])
        for other in ("VP", "flow matching"):
            if {"SPDE", other} <= stroked:
                gap = _at_equal_distance(part, "SPDE", other)
                what = f"{name}, strokes: log FD at equal distance to them, SPDE less {other}"
                said = f"{what} ({deviation(float(gap.std()))})".removesuffix(" ()")
                found.append(judged(said, float(gap.mean()), 0.0))
        cost = part[(part["metric"] == _COST) & (part["row"] == "SPDE")]["value"].astype(float)
        found.append(judged(f"{name}: processor time of noising over that of the network", float(cost.mean()), 2.0))
    return found


def _section(frame: pd.DataFrame, name: str) -> list[str]:
    metrics = _metrics(frame)
    tables = {metric: _values(frame, metric) for metric in metrics}
    (floor, n), calls = floor_of(frame), frame["nfe"].dropna()
    seconds = frame.drop_duplicates(["row", "seed"]).groupby("row")["training_seconds"].mean()
    lines = []
    for row, sampler in tables[metrics[0]].columns:
        cells = [tables[metric][row, sampler] for metric in metrics]
        said = [f"{number(float(cell.mean()))} {deviation(float(cell.std()))}".rstrip() for cell in cells]
        lines.append(
            [row, sampler if row in seconds.dropna() else "", *said, number(float(seconds.get(row, math.nan)))]
        )
    lines.sort(key=lambda line: list(dict.fromkeys(frame["row"])).index(line[0]))
    parts = [
        f"## {name}",
        f"Calls of the network for an image: {int(calls.min())} to {int(calls.max())}. Floor of the distance at {n:,} "
        f"images: {number(floor)}.",
        markdown(["row", "sampler", *metrics, "training (s)"], lines),
        f"![Images of every row, one line each.](spde-{_file(name)}-samples.png)\n\n*Images of every row, by its usual "
        "sampler, one line each.*",
    ]
    if (frame["sampler"] == "strokes").any():
        parts += _strokes_section(frame, name)
    return parts


def _strokes_section(frame: pd.DataFrame, name: str) -> list[str]:
    lines = []
    for row in dict.fromkeys(frame[frame["sampler"] == "strokes"]["row"]):
        for level, part in curve(frame, row).groupby("level"):
            pair = [
                f"{number(float(part[c].mean()))} {deviation(float(part[c].std()))}".rstrip() for c in ("far", "fd")
            ]
            lines.append([row, f"{level:g}", *pair])
    return [
        f"### Strokes to {name}",
        "Test images as strokes (median filter, six colours), carried forward until noise has *level* times the "
        "deviation of the data, and back. Faithful images are near the strokes, realistic ones near the training set.",
        markdown(["row", "level", _DISTANCE, _distance_name(frame)], lines),
        f"![Realism by faithfulness.](spde-{name}-curve.png)\n\n*Realism by faithfulness; left and below is better.*",
        f"![Strokes and what becomes of them.](spde-{name}-strokes.png)\n\n*Strokes, and what VP, flow matching and "
        "SPDE make of them, a line for every level each.*",
    ]


def write_page(
    output: Path,
    frame: pd.DataFrame,
    geometry: Mapping[str, Survival],
    *,
    settings: Settings,
    command: str,
    spent: float,
) -> Path:
    """Writes ``spde.md``; its figures and ``spde.csv`` lie beside it.

    Args:
        output: folder.
        frame: cells; see :func:`verdicts`.
        geometry: what survives of the images of each set.
        settings: of the run.
        command: what makes the page again.
        spent: seconds of this run.
    """
    seeds = range(settings.seed, settings.seed + settings.seeds)
    several = f"seeds {seeds[0]}–{seeds[-1]}, mean ± standard deviation" if len(seeds) > 1 else f"seed {seeds[0]}"
    recipes = "; ".join(
        f"{task.name}: widths {', '.join(map(str, task.network.widths))}, {task.training.steps:,} steps of "
        f"{task.training.batch} in {task.precision}, {task.samples:,} images a cell, "
        f"ν {task.smoothing:g}, κ {task.edge:g}"
        for task in settings.tasks
    )
    for name in dict.fromkeys(frame["data"]):
        part = frame[frame["data"] == name]
        if (part["sampler"] == "strokes").any():
            save_figure(_curves(part), output / f"spde-{name}-curve.png")
    parts = [
        "# Anisotropic fields beside isotropic ones and flow matching, in small",
        "Rows differ in the forward process alone: equal networks, steps, batches, and equal noise-to-signal ratios in "
        "training and sampling (EDM has its own). *bridge* adds noise at every step, *flow* does not. Distances are in "
        "the features of a small classifier of the set and are not FID.",
        f"```\n{command}\n```",
        f"makes this page again; models of {several}. {recipes}. This run took {spent / 60:.1f} minutes, without what "
        "was finished before. All measures are in [spde.csv](spde.csv).",
        "## Verdicts",
        verdict_table(verdicts(frame, geometry)),
        "## What of an image survives",
        f"{settings.shown} test images under every process, at equal signal-to-noise ratios r²/(1 − r²), r the "
        "correlation of x_t with x_0. *Simulated* is the equation itself, with the edges of x_t; the others are drawn "
        "from the law that networks are trained on, frozen at the edges of x_0.",
    ]
    for name, survival in geometry.items():
        for measure, said in MEASURES.items():
            wide = survival.table.pivot_table(index="row", columns="ratio", values=measure, sort=False)
            wide = wide[sorted(wide.columns, reverse=True)]
            lines = [
                [str(row), *(f"{value:.3f}" for value in line)]
                for row, line in zip(wide.index, wide.to_numpy(), strict=True)
            ]
            parts.append(markdown([f"{name}: {said}", *(f"{ratio:g} dB" for ratio in wide.columns)], lines))
        parts.append(
            f"![What survives.](spde-{name}-survival.png)\n\n![One image.](spde-{name}-forward.png)\n\n*One image at "
            "10, 0 and −5 dB, a line for every row of the tables.*"
        )
    for name, part in frame.groupby("data", sort=False):
        parts += _section(part, str(name))
    parts += [
        "## Not run here",
        "CUDA, CIFAR-10, and latents of a published `AutoencoderKL`:\n\n```\n"
        "genodiff imaging train --data cifar10 --data-path cifar-10-batches-bin --process spde \\\n"
        "    --widths 128,256,256 --blocks 4 --patch 1 --steps 400000 --batch 512 -o spde/\n"
        "genodiff imaging train --data ffhq --data-path ffhq-256x256.zip --size 256 --autoencoder sd-vae-ft-mse/ \\\n"
        "    --process spde --widths 128,256,256 --blocks 4 --patch 1 --steps 400000 --batch 256 -o latents/\n```",
    ]
    return write_text(parts, output / "spde.md")


def _file(name: str) -> str:
    return name.replace(" ", "-")


def _curves(frame: pd.DataFrame) -> Figure:
    figure = new_figure(5.5)
    axes = figure.add_subplot()
    for row in dict.fromkeys(frame[frame["sampler"] == "strokes"]["row"]):
        mean = curve(frame, row).groupby("level").mean()
        axes.plot(mean["far"], mean["fd"], marker="o", label=row)
    axes.set_yscale("log")
    axes.set_xlabel("distance to the strokes")
    axes.set_ylabel(_distance_name(frame))
    axes.legend(frameon=False, fontsize="small")
    return figure


def draw_samples(output: Path, name: str, models: Mapping[str, ImageModel], *, calls: int, seed: int) -> None:
    """Writes ``spde-NAME-samples.png``: a line of images of every row."""
    drawn = []
    for model in models.values():
        steps = calls // (model.calls_a_step if isinstance(model, FieldModel) else 2)
        drawn.append(draw(model, _SHEET, steps=steps, seed=seed).pixels)
    with writing(output / f"spde-{_file(name)}-samples.png", force=True) as temporary:
        sheet(Images(name, np.concatenate(drawn)), temporary, columns=_SHEET, rows=len(drawn))


def draw_strokes(output: Path, name: str, models: Mapping[str, ImageModel], test: Images, settings: Settings) -> None:
    """Writes ``spde-NAME-strokes.png``: strokes, and what every row makes of them at every level."""
    given = strokes(Images(name, test.pixels[:_DRAWN]))
    lines = [given.pixels]
    for model in models.values():
        if isinstance(model, FieldModel) and model.design.process in ("vp-sde", "flow", "spde"):
            for level in settings.levels:
                steps = settings.calls // model.calls_a_step
                lines.append(revise(model, given, level=level, steps=steps, seed=settings.seed).pixels)
    with writing(output / f"spde-{name}-strokes.png", force=True) as temporary:
        sheet(Images(name, np.concatenate(lines)), temporary, columns=_DRAWN, rows=len(lines))
