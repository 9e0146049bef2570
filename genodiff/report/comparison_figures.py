"""The figures of a comparison: curves of several runs over one another, on the axes of the report's own figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from genodiff.report.figures import WIDE, distance_axis, many
from genodiff.report.style import FAINT, INK, REAL, RUNS, TRAIN, canvas, grid, limits, styled

__all__ = ["against_floor", "components", "cumulative", "ld_decays", "look_of"]

Array = NDArray[Any]

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = "osD^vP"


def look_of(place: int) -> dict[str, Any]:
    """Colour, dashes and marker of the run at that place; what colours cannot tell apart, dashes and markers do."""
    return {
        "color": RUNS[place % len(RUNS)],
        "linestyle": _DASHES[place // len(RUNS) % len(_DASHES)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 3.6,
    }


@styled
def against_floor(ratios: pd.DataFrame) -> Figure:
    """Value over floor of every metric and run, on a logarithmic scale.

    Args:
        ratios: a row a metric (the index: its name in words), a column a run; NaN where there is none.
    """
    figure, axes = canvas(width=WIDE, height=1.3 + 0.3 * len(ratios))
    rows = np.arange(len(ratios))[::-1]
    axes.axvline(1, color=REAL, linewidth=1.4, zorder=0)
    offsets = (np.arange(ratios.shape[1]) - (ratios.shape[1] - 1) / 2) * min(0.12, 0.7 / ratios.shape[1])
    for place, (name, offset) in enumerate(zip(ratios.columns, offsets, strict=True)):
        look = look_of(place) | {"linestyle": "none", "markersize": 5, "markeredgewidth": 0}
        axes.plot(ratios[name].to_numpy(), rows - offset, label=str(name), **look)
    axes.set_xscale("log")
    low, high = (f(ratios.to_numpy()[np.isfinite(ratios.to_numpy())], initial=1.0) for f in (np.min, np.max))
    digits = (1, 2, 5) if high < 100 * low else (1,)  # more would be written over one another
    ticks = [digit * 10.0**power for power in range(-6, 7) for digit in digits]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low / 2.5 <= t <= high * 2.5]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g} ×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low / 1.3, high * 1.3)
    axes.set_yticks(rows, list(ratios.index))
    axes.set_ylim(-0.6, len(ratios) - 0.4)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("value of the synthetic people ÷ floor (1 = real people)")
    axes.set_title("Metrics beside their floors")
    figure.legend(loc="outside lower center", ncols=min(4, ratios.shape[1]))
    return figure


@styled
def ld_decays(curves: Mapping[str, pd.DataFrame], *, unit: str, apart: bool) -> Figure:
    """Mean r² by distance of several runs.

    Args:
        curves: by run, as :func:`genodiff.report.figures.ld_decay` draws them.
        unit: of the distances, ``bp`` or ``cM``.
        apart: the runs have held-out people or sites of their own: drawn is r² over theirs.
    """
    figure, axes = canvas(width=WIDE, height=4.2)
    known = {name: curve.dropna(subset=["holdout", "synthetic", "train"]) for name, curve in curves.items()}
    if apart:
        axes.axhline(1, color=REAL, linewidth=1.4, label="held-out people")
    else:
        first = next(iter(known.values()))
        axes.plot(first["middle"], first["train"], color=TRAIN, linewidth=6, alpha=0.45, label="training people")
        axes.plot(first["middle"], first["holdout"], color=REAL, linewidth=2.2, label="held-out people")
    for place, (name, curve) in enumerate(known.items()):
        height = curve["synthetic"] / curve["holdout"] if apart else curve["synthetic"]
        axes.plot(curve["middle"], height, label=name, **(look_of(place) | {"linewidth": 1.4}))
    distance_axis(axes, unit=unit)
    if not apart:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("mean r² ÷ that of held-out people" if apart else "mean r²")
    axes.set_title("Linkage disequilibrium by distance")
    axes.legend(ncols=1 + len(known) // 8)
    return figure


@styled
def cumulative(
    values: Mapping[str, Array], floors: Mapping[str, Array], *, axis: str, of: str, title: str, log: bool = False
) -> Figure:
    """Share of sites or rows with at most that value, a line a run; floors are thin.

    Args:
        values: by run.
        floors: the same of real people: by run, or one under the name the legend shall give it.
        axis: name and unit of the values.
        of: what is counted, for example ``sites``.
        title: of the figure.
        log: whether the axis is logarithmic; zeros then lie at its left end.
    """
    figure, axes = canvas(width=WIDE, height=3.9)
    for name, floor in floors.items():
        if name in values:
            place = list(values).index(name)
            axes.ecdf(floor, color=RUNS[place % len(RUNS)], linewidth=0.9, linestyle=(0, (1, 1.5)))
        else:
            axes.ecdf(floor, color=TRAIN if name.startswith("training") else REAL, linewidth=2.4, label=name)
    for place, (name, value) in enumerate(values.items()):
        look = {k: v for k, v in look_of(place).items() if not k.startswith("marker")}
        axes.ecdf(value, label=name, **look)
    if set(floors) & set(values):
        axes.plot([], [], color=INK, linewidth=0.9, linestyle=(0, (1, 1.5)), label="its floor")
    if log:
        positive = np.concatenate([v[v > 0] for v in (*values.values(), *floors.values())])
        axes.set_xscale("log")
        if positive.size:
            axes.set_xlim(float(np.quantile(positive, 0.005)), float(positive.max()) * 1.1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(axis)
    axes.set_ylabel(f"share of {of} at or below (%)")
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def components(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """The first two principal components, axes of its own for each run: synthetic people over held-out people.

    Args:
        tables: by run, with ``set``, ``PC1`` and ``PC2``.
    """
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    figure, all_axes = grid(rows, columns, width=max(WIDE, 2.6 * columns), height=2.7 * rows)
    for place, (axes, (name, table)) in enumerate(zip(all_axes.flat, tables.items(), strict=False)):
        sets = [table.loc[table["set"] == which, ["PC1", "PC2"]].to_numpy() for which in ("holdout", "synthetic")]
        n = min(map(len, sets))
        # Equally many points of both, so that a difference in density is one of the people.
        sets = [points[np.linspace(0, len(points) - 1, n).round().astype(int)] for points in sets]
        faint = float(np.clip(400 / max(n, 1), 0.1, 0.6))
        for points, colour, size in zip(sets, (REAL, RUNS[place % len(RUNS)]), (4.2, 2.8), strict=True):
            axes.plot(*points.T, "o", color=colour, alpha=faint, markersize=size, markeredgewidth=0,
                      rasterized=many(points))  # fmt: skip
        axes.set(xlim=limits(*(p[:, 0] for p in sets)), ylim=limits(*(p[:, 1] for p in sets)), xticks=[], yticks=[])
        axes.set(xlabel="PC1 (score)", ylabel="PC2 (score)")
        axes.set_title(name, color=RUNS[place % len(RUNS)], fontweight="bold")
        for spine in axes.spines.values():
            spine.set(visible=True, color=FAINT)
    for axes in list(all_axes.flat)[len(tables) :]:
        axes.set_visible(False)
    return figure
