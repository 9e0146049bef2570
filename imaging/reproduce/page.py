"""The page of the table: Markdown and figures, computed from the cells."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from genodiff.core.samplers import HeunFlow
from genodiff.core.schedules import uniform_grid
from imaging.datasets import Images, from_unit
from imaging.figures import sheet
from imaging.files import writing
from imaging.reproduce.parts import deviation, markdown, new_figure, number, save_figure, verdict_table, write_text
from imaging.reproduce.table import PAPER, distance_name, floor_of, summary, verdicts
from imaging.samples import draw
from imaging.toad import ToadModel

__all__ = ["draw_figures", "write_page"]

_SHOWN, _COLUMNS, _PATH = 4, 10, 20
"""Images of figure 1, its columns, and the steps of the path that it shows."""

_SHEET = 16
"""Images of a row shown."""

_NOT_RUN = """\
CUDA, and the data and size of the paper's experiments (CIFAR-10 at 32×32, AFHQv2 and FFHQ at 64×64, networks of tens
of millions of weights, 50,000 images, FID). With the data and days of processors:

```
genodiff imaging train --data cifar10 --data-path cifar-10-batches-bin --widths 128,256,256 --blocks 4 --patch 1 \\
    --steps 400000 --batch 512 -o edm/
genodiff imaging learn-schedule edm/ --data-path cifar-10-batches-bin --subspaces 2 --method constant-speed \\
    --steps 2000 --batch 512 -o fitted/
genodiff imaging learn-schedule fitted/ --data-path cifar-10-batches-bin --subspaces 2 --steps 400 --batch 512 -o ani/
genodiff imaging learn-time ani/ --data-path cifar-10-batches-bin --steps 200 -o ani-time/
genodiff imaging sample ani-time/ -n 50000 --steps 5 -o few.npz
genodiff imaging train-features --data cifar10 --data-path cifar-10-batches-bin -o cifar10.safetensors
genodiff imaging evaluate few.npz --data cifar10 --data-path cifar-10-batches-bin --features cifar10.safetensors \\
    --fid-weights weights-inception-2015-12-05-6726825d.pth -o judged/
```

For AFHQv2 and FFHQ add `--data afhq|ffhq --data-path FOLDER_OR_ZIP --size 64 --widths 128,256,256,256` to `train`."""


def _table(frame: pd.DataFrame, metric: str) -> str:
    """Rows by counted NFE, the least value of each column in bold."""
    found = summary(frame, metric)
    by = found.set_index(["row", "nfe"])
    calls = sorted(set(found["nfe"]))
    least = found.groupby("nfe")["mean"].min()
    rows = []
    for row in dict.fromkeys(found["row"]):
        cells = []
        for nfe in calls:
            value, spread = (float(by.loc[(row, nfe), name]) for name in ("mean", "sd"))
            text = f"{number(value)} {deviation(spread)}".rstrip()
            cells.append(f"**{text}**" if value == least[nfe] else text)
        rows.append([str(row), *cells])
    return markdown([metric, *(f"NFE {nfe}" for nfe in calls)], rows)


def _exchanged(frame: pd.DataFrame, controls: pd.DataFrame) -> list[str]:
    """What EDM and the best learned row become when one has the network of the other."""
    metric = distance_name(controls)
    rows = pd.concat([frame[frame["row"].isin(["EDM", "g_iso_w"])], controls])
    same = rows["seed"].isin(controls["seed"]) & rows["steps"].isin(controls["steps"])
    return [
        f"Networks and steps exchanged (seed {controls['seed'].iloc[0]}): how much of the gain is the network's, which "
        "was trained on where the learned schedule puts its noise, and how much the sampler's:",
        _table(rows[same], metric),
    ]


def _paper_table() -> str:
    columns = [(data, nfe) for data, rows in PAPER.items() for nfe in rows["EDM"]]
    rows = [[row, *(f"{PAPER[data][row][nfe]:.2f}" for data, nfe in columns)] for row in PAPER["FFHQ"]]
    return markdown(["FID, paper", *(f"{data}, {nfe}" for data, nfe in columns)], rows)


def _section(frame: pd.DataFrame, controls: pd.DataFrame, data: str) -> list[str]:
    """The tables of a set with their floors, and its figures."""
    metric = distance_name(frame)
    floor, n = floor_of(frame)
    few = frame[frame["metric"].str.startswith("FD-") & frame["floor"].notna()]["metric"].iloc[0]
    parts = [f"## {data}"]
    if metric == few:
        parts.append(f"Floor, the distance of {n:,} images of the test set: **{number(floor)}**.")
        parts.append(_table(frame, metric))
    else:
        drawn = int(frame.loc[frame["metric"] == metric, "n"].iloc[0])
        parts.append(f"All {drawn:,} images of a cell against the training set:")
        parts.append(_table(frame, metric))
        parts.append(
            f"As many images as the test set has, {n:,}, to be read beside the floor **{number(floor)}**, the "
            "distance of the test set itself:"
        )
        parts.append(_table(frame, str(few)))
    spectrum = "spectrum (dB)"
    level = float(frame.loc[frame["metric"] == spectrum, "floor"].iloc[0])
    parts.append(f"Power by frequency, root mean square difference from the training set; floor {number(level)} dB:")
    parts.append(_table(frame, spectrum))
    parts += _exchanged(frame, controls)
    captions = {
        "distance": "Distance by network calls (figure 2 of the paper); the dotted line is the floor.",
        "schedules": "Schedules by time (figure 3) and log g1/g2 (figure 4).",
        "path": "Posterior means along paths from equal noise, isotropic above, anisotropic below (figure 1).",
        "samples": "Images of EDM, g_iso, g_iso_w, (g1, g2)_ani, (g1, g2)_ani_w, two lines each, in the fewest calls.",
    }
    return parts + [f"![{text}](toad-{data}-{name}.png)\n\n*{text}*" for name, text in captions.items()]


def write_page(
    output: Path,
    frame: pd.DataFrame,
    controls: pd.DataFrame,
    *,
    seconds: Mapping[tuple[str, str], float],
    recipe: Mapping[str, Any],
    samples: int,
    seeds: Sequence[int],
    command: str,
    spent: float,
    size: int,
    trained: bool,
) -> Path:
    """Writes ``toad.md``; its figures and ``toad.csv`` lie beside it.

    Args:
        output: folder.
        frame: cells; see :func:`imaging.reproduce.table.verdicts`.
        controls: more of them, rows with the network of one row and the steps of another.
        seconds: processor seconds of learning, by set and model.
        recipe: how the models were trained: the network, and steps and batch of each stage.
        samples: images of a cell.
        seeds: of sampling.
        command: what makes the page again.
        spent: seconds of this run.
        size: bytes of the published models.
        trained: whether the models are the run's own.
    """
    found = verdicts(frame, seconds)
    several = f"seeds {seeds[0]}–{seeds[-1]}, mean ± standard deviation" if len(seeds) > 1 else f"seed {seeds[0]}"
    stages = "; ".join(
        f"{name}: {stage['steps']:,} steps of {stage['batch']}" for name, stage in recipe["stages"].items()
    )
    costs = [
        [data, *(f"{seconds[data, name]:,.0f}" for name in ("edm", "iso", "ani"))]
        for data in dict.fromkeys(data for data, _ in seconds)
    ]
    parts = [
        "# Learned, anisotropic schedules: table 1 of the paper in small",
        "Rows are those of the paper (trajectory-optimal anisotropic diffusion): EDM, learned schedules for one band "
        "of frequency and for two, and both with a learned clock (`_w`). Columns are calls of the network for each "
        "image, counted inside it. Values are Fréchet distances in the features of a small classifier of the "
        "set; they are not FID.",
        f"```\n{command}\n```",
        f"makes this page again. {samples:,} images a cell, sampling {several}. "
        + ("" if trained else "Models: as published, nothing trained here. ")
        + f"This run took {spent / 60:.1f} minutes, without what was finished before. "
        "All measures of all cells are in [toad.csv](toad.csv).",
        "## Verdicts",
        verdict_table(found),
    ]
    for data, part in frame.groupby("data", sort=False):
        parts += _section(part, controls[controls["data"] == data], str(data))
    parts += [
        "## What the paper prints",
        "Other data, networks of tens of millions of weights and another distance: only the order of rows compares.",
        _paper_table(),
        "## How the models were learned",
        f"U-Net {recipe['network']}, seed {recipe['seed']}. {stages}. *Fitted*: the schedule of constant speed for the "
        "error that EDM leaves, without a gradient of the schedule, and the network trained on it; *refined*: schedule "
        "and network together by trajectory-level score matching; *timed*: the clock. Processor seconds of learning, "
        "those of `iso` and `ani` without EDM's:",
        markdown(["processor seconds", "edm", "iso (all stages)", "ani (all stages)"], costs),
        f"The models are published in half precision, {size / 1e6:.1f} MB together; every cell is drawn from those.",
        "## Not run here",
        _NOT_RUN,
    ]
    return write_text(parts, output / "toad.md")


def draw_figures(
    output: Path, data: str, models: Mapping[str, ToadModel], frame: pd.DataFrame, *, steps: int, seed: int
) -> None:
    """Writes ``toad-DATA-….png``: distances, schedules, a path and samples.

    Args:
        output: folder.
        data: name of the set.
        models: of the rows.
        frame: cells of the set.
        steps: of the sampler, for the samples shown.
        seed: of what is drawn.
    """
    save_figure(_distances(frame), output / f"toad-{data}-distance.png")
    save_figure(_schedules(models), output / f"toad-{data}-schedules.png")
    paths = torch.cat([_path(models[row], seed) for row in ("g_iso", "(g1, g2)_ani")])
    with writing(output / f"toad-{data}-path.png", force=True) as temporary:
        sheet(Images(data, from_unit(paths)), temporary, columns=_COLUMNS)
    drawn = torch.cat([
        torch.from_numpy(draw(model, 2 * _SHEET, steps=steps, seed=seed).pixels) for model in models.values()
    ])  # fmt: skip
    with writing(output / f"toad-{data}-samples.png", force=True) as temporary:
        sheet(Images(data, drawn.numpy()), temporary, columns=_SHEET, rows=2 * len(models))


def _distances(frame: pd.DataFrame) -> Figure:
    metric = distance_name(frame)
    figure = new_figure(5.5)
    axes = figure.add_subplot()
    for row, part in summary(frame, metric).groupby("row", sort=False):
        axes.errorbar(part["nfe"], part["mean"], yerr=part["sd"].fillna(0.0), marker=".", label=str(row))
    floor, _ = floor_of(frame)
    axes.axhline(floor, color="black", linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted(frame["nfe"].unique())
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("NFE")
    axes.set_ylabel(metric)
    axes.legend(frameon=False, fontsize="small")
    return figure


@torch.no_grad()
def _schedules(models: Mapping[str, ToadModel]) -> Figure:
    figure = new_figure(10.0)
    levels, ratio = figure.subplots(1, 2)
    for row, model in models.items():
        process = model.process
        t = torch.linspace(0.0, process.horizon, 1001, dtype=torch.float64)
        log_g = process.schedule.log_levels(t)
        for j in range(log_g.shape[1]):
            name = row if log_g.shape[1] == 1 else f"{row}, g{j + 1}"
            levels.plot(t, log_g[:, j], label=name)
        if log_g.shape[1] == 2:
            ratio.plot(t, log_g[:, 0] - log_g[:, 1], label=row)
    levels.set_xlabel("t")
    levels.set_ylabel("log g(t)")
    ratio.set_xlabel("t")
    ratio.set_ylabel("log g1(t) − log g2(t)")
    ratio.axhline(0.0, color="black", linestyle=":")
    levels.legend(frameon=False, fontsize="small")
    ratio.legend(frameon=False, fontsize="small")
    return figure


@torch.no_grad()
def _path(model: ToadModel, seed: int) -> torch.Tensor:
    """Posterior means of x_0 at falling times along the sampler's path, (images · columns, C, H, W)."""
    denoiser = model.denoiser
    process = model.process
    rule = HeunFlow(denoiser, second=0.5)
    x = process.start(_SHOWN, generator=torch.Generator().manual_seed(seed))
    grid = uniform_grid(process.horizon, _PATH).to(x.dtype)
    shown = []
    for k, (t, s) in enumerate(itertools.pairwise(grid)):
        if k % (_PATH // _COLUMNS) == 0:
            shown.append(denoiser(x, t).unflatten(1, denoiser.shape))
        x = rule.step(x, t, s)
    return torch.stack(shown, dim=1).flatten(0, 1)
