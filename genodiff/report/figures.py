"""The figures of the report, each a function from arrays to a matplotlib ``Figure``.

No function here computes a statistic: what is drawn is what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from genodiff.report.style import (
    DIVERGING,
    FAINT,
    INK,
    LABELS,
    REAL,
    SEQUENTIAL,
    SYNTHETIC,
    TRAIN,
    canvas,
    limits,
    styled,
)
from genodiff.report.summaries import label_codes

__all__ = [
    "covariance_heatmap",
    "distance_axis",
    "distance_histogram",
    "frequency_scatter",
    "label_scatter",
    "ld_decay",
    "ld_triangles",
    "overlay_scatter",
    "run_histogram",
    "training_curve",
]

Array = NDArray[Any]

WIDE = 6.4
"""Width in inches of a figure that stands alone on its line; more would make its type too small on a phone."""


@styled
def frequency_scatter(real: Array, other: Array, *, name: str, colour: str) -> Figure:
    """Allele frequency per site: held-out people on x, ``name`` on y, with the diagonal and the mean difference."""
    figure, axes = canvas(height=4.4)
    known = np.isfinite(real) & np.isfinite(other)
    faint = _faintness(int(known.sum()))
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=0)
    axes.plot(real[known], other[known], ".", color=colour, alpha=faint, markersize=4.5, markeredgewidth=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("frequency in held-out people")
    axes.set_ylabel(f"frequency in {name} people")
    axes.set_title(f"{name.capitalize()} against held-out")
    if known.any():
        error = np.abs(real[known] - other[known]).mean()
        axes.text(0.03, 0.97, f"mean |difference| {error:.4f}", transform=axes.transAxes, va="top", fontsize=9)
    return figure


@styled
def ld_decay(curve: pd.DataFrame, *, unit: str) -> Figure:
    """Mean r² by distance.

    Args:
        curve: columns ``middle`` (of the distance bin) and mean r² as ``holdout``, ``synthetic``, ``train``.
        unit: of the distances, ``bp`` or ``cM``.
    """
    figure, axes = canvas(width=WIDE, height=3.9)
    drawing: dict[str, tuple[str, dict[str, Any]]] = {
        "train": ("training people", {"color": TRAIN, "linewidth": 6, "alpha": 0.45}),
        "holdout": ("held-out people", {"color": REAL, "marker": "o", "markersize": 4}),
        "synthetic": ("synthetic people", {"color": SYNTHETIC, "marker": "s", "markersize": 4}),
    }
    known = curve.dropna(subset=list(drawing))  # a bin without pairs would break the line
    for column, (label, look) in drawing.items():
        axes.plot(known["middle"], known[column], label=label, **look)
    distance_axis(axes, unit=unit)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean r²")
    axes.set_title("Linkage disequilibrium by distance")
    axes.legend()
    return figure


def distance_axis(axes: Any, *, unit: str) -> None:
    """Distances between sites on a logarithmic x axis, in ``bp`` (ticks say kb and Mb) or ``cM``."""
    axes.set_xscale("log")
    if unit == "bp":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _bases(x)))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("distance between sites" + ("" if unit == "bp" else f" ({unit})"))


def _bases(x: float) -> str:
    if x >= 1e6:
        return f"{x / 1e6:g} Mb"
    return f"{x / 1e3:g} kb" if x >= 1e3 else f"{x:g} bp"


@styled
def ld_triangles(real: Array, synthetic: Array, *, title: str) -> Figure:
    """One square of r² (sites, sites): held-out people above the diagonal, synthetic people below it."""
    figure, axes = canvas(height=4.9)
    upper = np.triu(np.ones(real.shape, dtype=bool), 1)
    both = np.where(upper, real, synthetic)
    np.fill_diagonal(both, np.nan)
    axes.set_facecolor("#f3f5f7")  # sites that do not vary, and the diagonal
    image = axes.imshow(both, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    _bare(axes)
    axes.text(0.97, 0.95, "real", transform=axes.transAxes, ha="right", va="top", color=REAL, **_TAG)
    axes.text(0.03, 0.05, "synthetic", transform=axes.transAxes, ha="left", va="bottom", color=SYNTHETIC, **_TAG)
    axes.set_title(title)
    _colorbar(figure, image, axes, "r²")
    return figure


_TAG: dict[str, Any] = {
    "fontsize": 11,
    "fontweight": "bold",
    "bbox": {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
}


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT)


def _colorbar(figure: Figure, image: Any, axes: Any, label: str) -> None:
    bar: Any = figure.colorbar(image, ax=axes, label=label, shrink=0.75, aspect=28, pad=0.02)
    bar.outline.set_visible(False)


@styled
def covariance_heatmap(matrix: Array, *, bound: float, name: str, colour: str) -> Figure:
    """Covariances (sites, sites) on a scale from −bound to bound, shared by the figures that are compared."""
    figure, axes = canvas(height=4.6)
    image = axes.imshow(matrix, cmap=DIVERGING, vmin=-bound, vmax=bound, interpolation="nearest")
    _bare(axes)
    axes.set_title(name, color=colour, fontweight="bold")
    _colorbar(figure, image, axes, "covariance of dosages")
    return figure


def _components(axes: Any, x: int, y: int) -> None:
    # Scores have no unit a reader could use.
    axes.set(xlabel=f"PC{x + 1}", ylabel=f"PC{y + 1}", xticks=[], yticks=[])


def _solid_legend(axes: Any, **look: Any) -> None:
    """A legend whose markers are opaque, while the points themselves let others shine through."""
    for handle in axes.legend(loc="best", handletextpad=0.3, **look).legend_handles:
        handle.set_alpha(1)


def _faintness(points: int) -> float:
    """Opacity at which that many points still show where they are dense."""
    return float(np.clip(600 / max(points, 1), 0.1, 0.6))


@styled
def overlay_scatter(real: Array, synthetic: Array, *, x: int, y: int) -> Figure:
    """Two principal components (rows, k): synthetic people over held-out people."""
    figure, axes = canvas(height=4.5)
    # Which set is drawn last must not decide which is seen: synthetic points are smaller, the real ones look out.
    for scores, label, colour, size in (
        (real, "held-out people", REAL, 5.2),
        (synthetic, "synthetic people", SYNTHETIC, 3.4),
    ):
        look: dict[str, Any] = {"color": colour, "markersize": size, "markeredgewidth": 0}
        axes.plot(scores[:, x], scores[:, y], "o", label=label, alpha=_faintness(len(scores)), **look)
    axes.set(xlim=limits(real[:, x], synthetic[:, x]), ylim=limits(real[:, y], synthetic[:, y]))
    _components(axes, x, y)
    axes.set_title(f"PC{x + 1} and PC{y + 1}")
    _solid_legend(axes)
    return figure


@styled
def label_scatter(scores: Array, labels: Array, *, names: list[str], frame: Any, title: str) -> Figure:
    """The first two principal components, coloured by population label.

    Args:
        scores: (rows, k).
        labels: (rows,).
        names: labels that have a colour of their own; the others share one.
        frame: limits of x and y, shared by the figures that are compared.
        title: of the figure.
    """
    figure, axes = canvas(height=4.5)
    codes = label_codes(labels, names)
    look: dict[str, Any] = {"alpha": _faintness(len(scores)), "markersize": 4.5, "markeredgewidth": 0}
    for code, name in enumerate([*names, "other"]):
        chosen = codes == code
        if chosen.any():
            colour = LABELS[min(code, len(LABELS) - 1)]
            axes.plot(scores[chosen, 0], scores[chosen, 1], "o", color=colour, label=name, **look)
    axes.set(xlim=frame[0], ylim=frame[1])
    _components(axes, 0, 1)
    axes.set_title(title)
    _solid_legend(axes, markerscale=1.4)
    return figure


@styled
def distance_histogram(distances: Mapping[str, Array], *, title: str) -> Figure:
    """Distances to the nearest neighbour, one outline for each set of people, by its name."""
    figure, axes = canvas(height=3.9)
    low, high = limits(*distances.values(), pad=0.0)
    # Distances are whole numbers: a bin holds equally many of them, or the histogram shows a comb.
    width = max(round((high - low) / 40), 1)
    bins = np.arange(np.floor(low) - 0.5, high + width + 0.5, width)
    for name, values in distances.items():
        look: dict[str, Any] = {"bins": bins, "weights": np.full(len(values), 1 / len(values)), "color": _role(name)}
        axes.hist(values, histtype="stepfilled", alpha=0.15, **look)
        axes.hist(values, histtype="step", linewidth=1.6, label=name, **look)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.margins(y=0.25)  # room for the legend above the curves
    axes.set_ylim(bottom=0)
    axes.set_xlabel("differing alleles")
    axes.set_ylabel("share of rows")
    axes.set_title(title)
    axes.legend(loc="upper right")
    return figure


def _role(name: str) -> str:
    return {"synthetic": SYNTHETIC, "training": TRAIN}.get(name.split()[0], REAL)


@styled
def run_histogram(runs: Mapping[str, Array]) -> Figure:
    """Longest run shared with a training row, one outline for each set of people; dashed lines mark the means."""
    figure, axes = canvas(width=WIDE, height=3.4)
    longest = max(float(np.max(values)) for values in runs.values())
    width = max(round(longest / 60), 1)
    bins = np.arange(-0.5, longest + width + 0.5, width)
    for name, values in runs.items():
        look: dict[str, Any] = {"bins": bins, "weights": np.full(len(values), 1 / len(values)), "color": _role(name)}
        mean = float(values.mean())
        axes.hist(values, histtype="stepfilled", alpha=0.15, **look)
        axes.hist(values, histtype="step", linewidth=1.6, label=f"{name}, mean {mean:,.0f}", **look)
        axes.axvline(mean, color=_role(name), linewidth=1, linestyle=(0, (3, 2)))
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("longest run shared with a training row (sites)")
    axes.set_ylabel("share of rows")
    axes.set_title("Copied runs")
    axes.legend()
    return figure


@styled
def training_curve(history: pd.DataFrame) -> Figure:
    """Loss by step, on training people and on people left out of the fit; the lowest of the latter is marked."""
    figure, axes = canvas(width=WIDE, height=3.4)
    for column, label, colour in (
        ("train_loss", "training people", TRAIN),
        ("holdout_loss", "people left out of the fit", REAL),
    ):
        if column in history.columns:
            known = history[["step", column]].dropna()
            axes.plot(known["step"], known[column], color=colour, label=label)
    if "holdout_loss" in history.columns and history["holdout_loss"].notna().any():
        best = history.loc[history["holdout_loss"].idxmin()]
        axes.plot([best["step"]], [best["holdout_loss"]], "o", color=REAL, markersize=6)
        axes.annotate(
            f"best {best['holdout_loss']:.4g}",
            (best["step"], best["holdout_loss"]),
            textcoords="offset points",
            xytext=(0, 10),
            ha="center",
            fontsize=9,
            color=INK,
        )
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.set_title("Training")
    axes.legend()
    return figure
