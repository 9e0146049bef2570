"""What of an image survives a forward process: its structure and its edges, at equal signal-to-noise ratio.

With r the correlation of x_t with x_0 over all pixels, the signal-to-noise ratio is r²/(1 − r²): the same number for
any process, whatever part of an image it damps. At equal ratios, *structure* is the mean local correlation of x_t with
x_0, *at edges* the same weighted by the edges of x_0, and *edge maps* the correlation of what looks like edges in x_t,
noise included, with the edges of x_0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genodiff.core.edges import edge_strength, presmoothed
from genodiff.core.fields import FieldDiffusion
from genodiff.core.processes import Diffusion
from imaging.datasets import Images, from_unit
from imaging.figures import sheet
from imaging.files import writing
from imaging.reproduce.parts import new_figure, save_figure
from imaging.spde import Field, Process, equal_noise

__all__ = ["MEASURES", "RATIOS", "ROWS", "Survival", "correlation", "draw", "local_correlation", "survival"]

RATIOS = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0, -10.0)
"""Signal-to-noise ratios of the table, dB."""

ROWS: dict[str, tuple[Process, bool]] = {
    "VP": ("vp-sde", False),
    "blurring": ("blurring", False),
    "isotropic SPDE": ("spde-isotropic", False),
    "edge-preserving noise": ("edge-noise", False),
    "SPDE, edges in the drift": ("spde-drift", False),
    "SPDE, edges in the noise": ("spde-noise", False),
    "SPDE": ("spde", False),
    "SPDE, simulated": ("spde", True),
}
"""The process of each row, and whether the equation itself is simulated, with the edges of x_t, or x_t drawn from the
law that is frozen at the edges of x_0."""

MEASURES = {
    "structure": "local correlation with x₀",
    "at edges": "local correlation at the edges of x₀",
    "edge maps": "correlation of edge maps",
}

_TIMES, _EULER = 33, 4
_SEEN = (10.0, 0.0, -5.0)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Of all values of x with those of y, ()."""
    x, y = x - x.mean(), y - y.mean()
    return (x * y).mean() / (x.square().mean() * y.square().mean()).sqrt()


def local_correlation(x: Tensor, y: Tensor, *, width: float = 1.5, contrast: float = 0.03) -> Tensor:
    """(σ_xy + c)/(σ_x σ_y + c) in Gaussian windows about every pixel: structure (Wang et al. 2004), shape of x.

    Args:
        x: images (B, C, H, W).
        y: images of the same shape.
        width: of the windows, a standard deviation in pixels.
        contrast: √(2c), the contrast below which a window counts as flat, for y and x of variance 1.
    """
    x, y = (z / z.std() for z in (x, y))
    mean_x, mean_y = presmoothed(x, width), presmoothed(y, width)
    s_xx = presmoothed(x * x, width) - mean_x.square()
    s_yy = presmoothed(y * y, width) - mean_y.square()
    s_xy = presmoothed(x * y, width) - mean_x * mean_y
    c = 0.5 * contrast**2
    return (s_xy + c) / ((s_xx.clamp_min(0) * s_yy.clamp_min(0)).sqrt() + c)


def _edges(x: Tensor) -> Tensor:
    """Root of the edge strength of images after a little smoothing, (B, 1, H, W)."""
    return edge_strength(x, presmoothing=1.0, contrast=0.02).sqrt()


@dataclass(frozen=True)
class Survival:
    """What is found.

    Attributes:
        table: columns row, ratio (dB) and those of :data:`MEASURES`.
        shown: of every row, one image at some of the ratios, (times, C, H, W).
    """

    table: pd.DataFrame
    shown: Mapping[str, Tensor]


def _measures(x: Tensor, x_0: Tensor, edges: Tensor) -> tuple[float, ...]:
    local = local_correlation(x, x_0)
    at_edges = (local * edges).mean() / edges.expand_as(local).mean()
    return float(local.mean()), float(at_edges), float(correlation(_edges(x), edges))


def _states(
    process: Diffusion, x_0: Tensor, times: Tensor, *, simulated: bool, generator: torch.Generator
) -> list[Tensor]:
    """x_t at rising times, (B, d) each."""
    if not simulated:
        return [process.noised(x_0, t, generator=generator) for t in times]
    assert isinstance(process, FieldDiffusion)
    found, x, before = [], x_0, torch.zeros((), dtype=times.dtype)
    for t in times:
        x = process.simulate(x, torch.linspace(0, 1, _EULER + 1) * (t - before) + before, generator=generator)
        found.append(x)
        before = t
    return found


def survival(
    values: Tensor,
    *,
    ratios: Sequence[float] = RATIOS,
    rows: Mapping[str, tuple[Process, bool]] | None = None,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Survival:
    """Structure and edges of images under every process, between the times that were drawn by interpolation.

    Args:
        values: images (n, C, H, W) in [−1, 1].
        ratios: at which they are wanted, dB.
        rows: of the table; :data:`ROWS` if ``None``.
        seed: of the noise.
        progress: called with the name of every row.
    """
    shape = tuple(values.shape[1:])
    x_0 = ((values - values.mean()) / values.std()).flatten(1)
    lines, shown = [], {}
    real = _edges(x_0.view_as(values))
    for row, (name, simulated) in (rows or ROWS).items():
        if progress is not None:
            progress(row)
        process = Field((shape[0], shape[1], shape[2]), name).diffusion()
        times = equal_noise(process, _TIMES, last=0.02).flip(0).float()
        states = _states(process, x_0, times, simulated=simulated, generator=torch.Generator().manual_seed(seed))
        r = torch.stack([correlation(x, x_0) for x in states]).clamp(1e-4, 1 - 1e-6)
        level = 10 * torch.log10(r.square() / (1 - r.square()))
        found = np.array([_measures(x.view_as(values), x_0.view_as(values), real) for x in states])
        rising = np.argsort(level.numpy(), kind="stable")
        for ratio in ratios:
            at = [float(np.interp(ratio, level.numpy()[rising], column)) for column in found[rising].T]
            lines.append({"row": row, "ratio": ratio, **dict(zip(MEASURES, at, strict=True))})
        nearest = [int((level - ratio).abs().argmin()) for ratio in _SEEN]
        shown[row] = torch.stack([states[k][0] for k in nearest]).unflatten(1, shape)
    return Survival(pd.DataFrame(lines), shown)


def draw(found: Survival, output: Path, name: str) -> None:
    """Writes ``spde-NAME-survival.png``, structure and edges by ratio, and ``spde-NAME-forward.png``, one image."""
    figure = new_figure(12.0, 3.6)
    axes = figure.subplots(1, len(MEASURES), sharex=True)
    for axis, (column, said) in zip(axes, MEASURES.items(), strict=True):
        for row, part in found.table.groupby("row", sort=False):
            axis.plot(part["ratio"], part[column], marker=".", label=str(row))
        axis.set_xlabel("signal-to-noise ratio (dB)")
        axis.set_ylabel(said)
    axes[0].invert_xaxis()
    axes[0].legend(frameon=False, fontsize="small")
    save_figure(figure, output / f"spde-{name}-survival.png")
    strips = torch.cat([strip / strip.std() * 0.5 for strip in found.shown.values()])
    with writing(output / f"spde-{name}-forward.png", force=True) as temporary:
        sheet(Images(name, from_unit(strips)), temporary, columns=len(_SEEN), rows=len(found.shown), zoom=3)
