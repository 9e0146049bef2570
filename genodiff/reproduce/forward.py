"""Figures of two groups in the plane: forward marginals (Figure 1), mode separation (Theorem 2), generated points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genodiff.core.processes import LinearDiffusion
from genodiff.report.style import LABELS, REAL, SYNTHETIC, TRAIN, canvas, grid, styled
from genodiff.reproduce.claims import separation

__all__ = ["draw_forward", "draw_samples", "draw_separation", "simulate"]

Array = NDArray[np.float64]

_SHOWN = 600


def simulate(
    process: LinearDiffusion, rows: Array, times: Sequence[float], *, step: float = 0.01, seed: int = 1
) -> list[Array]:
    """Paths of the forward SDE by Euler–Maruyama, seen at some times: what the closed forms are held against.

    Args:
        process: drift and noise, with the unit clock.
        rows: points at time 0, (n, d).
        times: increasing, ≥ 0.
        step: largest step.
        seed: of the noise.

    Returns:
        states at every time, (n, d) each.
    """
    generator = torch.Generator().manual_seed(seed)
    x, now, out = torch.from_numpy(rows).to(process.mean), 0.0, []
    for time in times:
        count = max(1, round((time - now) / step)) if time > now else 0
        h = (time - now) / max(count, 1)
        for k in range(count):
            t = torch.tensor(now + k * h, dtype=x.dtype)
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + h * process.drift(x, t) + torch.sqrt(h * process.diffusion(t)) * noise
        now = time
        out.append(x.double().numpy())
    return out


@styled
def draw_forward(
    processes: Mapping[str, LinearDiffusion], rows: Array, component: NDArray[np.int64], times: Sequence[float]
) -> Figure:
    """Figure 1: forward marginals at some times, a row per process, points coloured by component."""
    width, height = 2.35 * len(times), 2.35 * len(processes)
    figure, panels = grid(len(processes), len(times), width=width, height=height, sharex=True, sharey=True)
    few = np.random.default_rng(1).permutation(len(rows))[:_SHOWN]
    colours = np.array([REAL, SYNTHETIC])[component[few]]
    for line, (name, process) in zip(panels, processes.items(), strict=True):
        for axes, time, x in zip(line, times, simulate(process, rows[few], times), strict=True):
            axes.scatter(x[:, 0], x[:, 1], c=colours, s=5, alpha=0.6, linewidths=0)
            axes.set_title(f"{name}, t = {time:g}", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("x₁")
    for line in panels:
        line[0].set_ylabel("x₂")
    return figure


@styled
def draw_separation(
    processes: Mapping[str, LinearDiffusion], rows: Array, component: NDArray[np.int64], times: Sequence[float]
) -> Figure:
    """Theorem 2: ‖Δ(t)‖ between the group means of simulated paths, with the formula drawn through them."""
    figure, axes = canvas(width=5.6, height=3.9)
    fine = np.linspace(0, max(times), 200)
    for (name, process), colour in zip(processes.items(), (REAL, SYNTHETIC, *LABELS), strict=False):
        paths = simulate(process, rows, times)
        measured = [np.linalg.norm(x[component == 1].mean(0) - x[component == 0].mean(0)) for x in paths]
        difference = torch.from_numpy(rows[component == 1].mean(0) - rows[component == 0].mean(0))
        modal = process.basis.analysis(difference.to(process.mean)).double().numpy()
        axes.plot(fine, separation(process, modal, fine), color=colour, label=f"{name}, Theorem 2")
        axes.plot(times, measured, "o", ms=5, color=colour, mfc="white", label=f"{name}, simulated")
    axes.set(xlabel="time t", ylabel="‖Δ(t)‖", title="Distance of the group means", ylim=(0, None))
    axes.legend()
    return figure


@styled
def draw_samples(generated: Mapping[str, Array], train: Array) -> Figure:
    """Generated points over training points, a panel per method, all with axes around the training points."""
    columns = min(4, len(generated))
    lines = -(-len(generated) // columns)
    figure, panels = grid(lines, columns, width=2.9 * columns, height=2.6 * lines, sharex=True, sharey=True)
    low, high = train.min(0), train.max(0)
    room = 0.35 * (high - low)
    for axes, (name, x) in zip(panels.ravel(), generated.items(), strict=False):
        few = np.random.default_rng(1).permutation(len(x))[:_SHOWN]
        axes.scatter(train[:_SHOWN, 0], train[:_SHOWN, 1], s=7, color=TRAIN, alpha=0.5, linewidths=0)
        axes.scatter(x[few, 0], x[few, 1], s=5, color=SYNTHETIC, alpha=0.6, linewidths=0)
        axes.set_title("\n".join(wrap(name, 34)), fontsize=9)
        axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
    for axes in panels.ravel()[len(generated) :]:
        axes.set_axis_off()
    return figure
