"""How every figure looks: two accent colours, one type size, thin axes, PNG at one resolution.

Figures are built with matplotlib's object interface on the Agg canvas; ``pyplot`` would keep global state, and a
library must not touch that of the program it runs in.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from genodiff.files import atomic_write

__all__ = [
    "DIVERGING",
    "LABELS",
    "REAL",
    "RUNS",
    "SEQUENTIAL",
    "SYNTHETIC",
    "TRAIN",
    "canvas",
    "grid",
    "png",
    "save_figure",
    "styled",
]

P = ParamSpec("P")

REAL = "#0f5c8c"
"""Colour of real people who were held out, in every figure and in the page."""

SYNTHETIC = "#d9600a"
"""Colour of synthetic people; it differs from :data:`REAL` in lightness too, so the pair survives colour blindness."""

TRAIN = "#8b97a3"
"""Colour of the training people, who are context and not the comparison."""

INK = "#22303c"
FAINT = "#d5dbe1"

LABELS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#222255", "#8a8a8a")
"""Colours of population labels (Tol's bright scheme and a dark blue); further labels share the last one."""

RUNS = ("#d9600a", "#77ccff", "#440099", "#9933ff", "#553311", "#eeaa77")
"""Colours of runs that are compared; held-out and training people keep theirs beside them."""

SEQUENTIAL = LinearSegmentedColormap.from_list(
    "genodiff", ["#ffffff", "#d9e4ec", "#93b7cd", "#3f81a8", "#15527a", "#0a2540"]
)
"""White to ink, even in lightness: for r²."""

DIVERGING = LinearSegmentedColormap.from_list(
    "genodiff-diverging", ["#0a3d62", "#4f92b8", "#c9dde8", "#ffffff", "#f6d5b8", "#e08a45", "#8a3b00"]
)
"""Blue through white to orange: for covariances."""

DPI = 150
_MARGIN = 0.06

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so figures are the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8793a0",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": "#566472",
    "ytick.color": "#566472",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "savefig.facecolor": "white",
}


def canvas(*, width: float = 5.2, height: float = 4.2) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes.

    The default size makes two figures fill a line of the page, and keeps the type legible where one fills a phone.

    Args:
        width: inches.
        height: inches.
    """
    figure, axes = grid(1, 1, width=width, height=height)
    return figure, axes[0, 0]


def grid(
    rows: int, columns: int, *, width: float, height: float, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """An empty figure with a grid of axes, (rows, columns).

    Args:
        rows: number of rows.
        columns: number of columns.
        width: inches.
        height: inches.
        sharex: all axes show the same range of x.
        sharey: all axes show the same range of y.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a drawing function so that it draws under the settings of this module."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return wrapped


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, whole or not at all, and returns the path."""
    content = png(figure)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path


def png(figure: Figure) -> bytes:
    """The figure as PNG with a palette of 256 colours: a third of the bytes, and no difference one can see."""
    from PIL import Image

    buffer = io.BytesIO()
    with rc_context(_SETTINGS):
        figure.savefig(buffer, format="png", dpi=DPI, pad_inches=_MARGIN)
    buffer.seek(0)
    small = io.BytesIO()
    with Image.open(buffer) as image:
        # An adaptive palette without dithering keeps lines and type clean.
        paletted = image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        paletted.save(small, format="png", optimize=True, dpi=(DPI, DPI))
    return small.getvalue()


def limits(*arrays: Any, pad: float = 0.04) -> tuple[float, float]:
    """Common axis limits of several arrays, a little wider than their finite range."""
    finite = np.concatenate([np.asarray(a, dtype=float).ravel() for a in arrays])
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = (high - low) * pad or 0.5
    return low - room, high + room
