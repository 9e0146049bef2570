"""Figure 2 of the GOU paper: covariances of real and drawn people side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genodiff.report.style import DIVERGING, FAINT, REAL, SYNTHETIC, grid, styled

__all__ = ["covariance_figure"]

# Few colours survive the palette of the file as they are, and noise between them needs no bytes.
_COLOURS = DIVERGING.resampled(17)


@styled
def covariance_figure(dosages: Mapping[str, NDArray[np.int8]], *, zoom: int) -> Figure:
    """Covariances of dosages in site order, one column per entry: all sites above, ``zoom`` of them below.

    One symmetric scale for all: that which the real people, the first entry, fill except for one entry in fifty
    of the zoom.

    Args:
        dosages: int8 (people, sites) by title; the real people first.
        zoom: number of neighbouring sites of the lower row, from the middle.
    """
    matrices = {name: np.cov(x.astype(np.float32), rowvar=False) for name, x in dosages.items()}
    real = next(iter(matrices.values()))
    sites = len(real)
    zoom = min(zoom, sites)
    part = slice((sites - zoom) // 2, (sites - zoom) // 2 + zoom)
    off = real[part, part][~np.eye(zoom, dtype=bool)]
    bound = float(np.quantile(np.abs(off), 0.98)) or 1.0
    figure, axes = grid(2, len(matrices), width=2.1 * len(matrices) + 0.7, height=4.7)
    for column, (name, matrix) in enumerate(matrices.items()):
        for row, shown in enumerate((matrix, matrix[part, part])):
            ax = axes[row, column]
            # Averaged where sites are finer than pixels, or single sites would come and go with the size of the page.
            image = ax.imshow(shown, cmap=_COLOURS, vmin=-bound or -1.0, vmax=bound or 1.0, interpolation="antialiased")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(visible=True, color=FAINT)
        axes[0, column].set_title(name, color=SYNTHETIC if column else REAL, fontweight="bold")
    axes[0, 0].set_ylabel(f"all {sites:,} sites")
    axes[1, 0].set_ylabel(f"{zoom:,} neighbouring sites")
    bar: Any = figure.colorbar(
        image, ax=axes, label="covariance of dosages", shrink=0.6, aspect=30, pad=0.01, extend="both"
    )
    bar.outline.set_visible(False)
    return figure
