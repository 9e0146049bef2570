"""The figures of utility, each a function from what was measured to a matplotlib ``Figure``."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genodiff.report.style import FAINT, REAL, SYNTHETIC, TRAIN, canvas, grid, limits, styled

__all__ = ["discoveries", "imputation_r2", "ld_score_scatter"]

WIDE = 6.4


@styled
def imputation_r2(curve: pd.DataFrame) -> Figure:
    """Mean r² of imputed dosages by minor-allele frequency, from either reference panel.

    Args:
        curve: columns ``maf``, ``sites``, ``synthetic``, ``real``.
    """
    figure, axes = canvas(width=WIDE, height=3.9)
    known = curve.dropna(subset=["synthetic", "real"])
    x = np.arange(len(known))
    axes.plot(x, known["real"], color=TRAIN, linewidth=6, alpha=0.45, label="real panel")
    axes.plot(x, known["synthetic"], color=SYNTHETIC, marker="s", markersize=5, label="synthetic panel")
    axes.set_xticks(x, [f"{maf}\n{n:,} sites" for maf, n in zip(known["maf"], known["sites"], strict=True)])
    axes.set_ylim(0, 1)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel("minor-allele frequency in held-out people")
    axes.set_ylabel("mean r² of imputed and true dosage")
    axes.set_title("Imputation of held-out people")
    axes.legend(loc="lower right")
    return figure


@styled
def ld_score_scatter(curve: pd.DataFrame) -> Figure:
    """LD scores of sites in synthetic and in training people against those in held-out people.

    Args:
        curve: columns ``holdout``, ``synthetic``, ``train``.
    """
    figure, axes = grid(1, 2, width=WIDE, height=3.5, sharex=True, sharey=True)
    bounds = limits(curve["holdout"], curve["synthetic"], curve["train"])
    for ax, column, name, colour in (
        (axes[0, 0], "synthetic", "synthetic", SYNTHETIC),
        (axes[0, 1], "train", "training", TRAIN),
    ):
        ax.plot(bounds, bounds, color=FAINT, linewidth=1.2, zorder=0)
        ax.plot(curve["holdout"], curve[column], ".", color=colour, alpha=0.5, markersize=4.5, markeredgewidth=0)
        ax.set(xlim=bounds, ylim=bounds, aspect="equal")
        ax.set_xlabel("in held-out people")
        ax.set_ylabel(f"in {name} people")
        ax.set_title(f"LD score, {name}")
    return figure


@styled
def discoveries(curve: pd.DataFrame) -> Figure:
    """Share of causal sites found, by kind of trait, in all three sets of people.

    Args:
        curve: columns ``heritability``, ``causal``, ``power``, ``power_real``, ``power_holdout``.
    """
    figure, axes = canvas(width=WIDE, height=3.7)
    x = np.arange(len(curve))
    drawn = (
        ("power_holdout", "held-out people", REAL),
        ("power_real", "training people", TRAIN),
        ("power", "synthetic people", SYNTHETIC),
    )
    for k, (column, name, colour) in enumerate(drawn):
        axes.bar(x + 0.27 * (k - 1), curve[column], width=0.25, color=colour, label=name)
    names = [f"{int(c)} causal\nh² {h:g}" for h, c in zip(curve["heritability"], curve["causal"], strict=True)]
    axes.set_xticks(x, names)
    axes.set_ylim(0, 1)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_ylabel("share of causal sites found")
    axes.set_title("Discoveries in equally many people")
    axes.legend()
    return figure
