"""Pictures of images, and of their spectra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.datasets import Images

__all__ = ["COLUMNS", "above", "sheet", "spectra"]

COLUMNS = 16
"""Images side by side in a sheet."""


def sheet(images: Images, path: Path, *, columns: int = COLUMNS, rows: int = 8, zoom: int = 2) -> None:
    """The first ``columns`` × ``rows`` images side by side, as a PNG."""
    from PIL import Image

    shown = images.pixels[: columns * rows]
    n, c, h, w = shown.shape
    columns = min(columns, n)
    blank = np.full((-n % columns, c, h, w), 255, np.uint8)
    grid = np.concatenate([shown, blank]).reshape(-1, columns, c, h, w).transpose(0, 3, 1, 4, 2)
    flat = grid.reshape(grid.shape[0] * h, columns * w, c)
    picture = Image.fromarray(flat if c == 3 else flat[:, :, 0])
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)


def above(first: Images, second: Images, *, columns: int = COLUMNS) -> Images:
    """Two equally long sets for a :func:`sheet`: rows of the first, each with its row of the second below."""
    columns = min(columns, len(first))
    blank = np.full((-len(first) % columns, *first.shape), 255, np.uint8)
    rows = [np.concatenate([s.pixels, blank]).reshape(-1, columns, *s.shape) for s in (first, second)]
    return Images(second.name, np.stack(rows, axis=1).reshape(-1, *first.shape))


def spectra(powers: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    """Mean power by radial frequency of several sets of images, a line each, on a logarithmic scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, power in powers.items():
        axes.semilogy(np.arange(1, len(power)), power[1:], label=name)
    axes.set_xlabel("radial frequency (half-periods per side)")
    axes.set_ylabel("mean squared DCT coefficient")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
