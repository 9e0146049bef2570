"""The claims of the GOU paper's discussion (§6) in closed form, as numbers and figures.

1. Mode preservation: how long two groups can be told apart from X_t, and how many modes the score still has to learn.
2. Preservation of correlations: how far corr(X_t) has moved from corr(X_0), at equal time and at equal noise.

The third claim, on the error of the start law, is measured in :mod:`genodiff.reproduce.initialisation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.linalg import toeplitz
from scipy.optimize import brentq
from scipy.special import ndtr

from genodiff.core.bases import PCA
from genodiff.core.processes import LinearDiffusion, gou
from genodiff.report.style import LABELS, REAL, SYNTHETIC, grid, styled

__all__ = [
    "ACTIVE",
    "DRIFTS",
    "SLOW",
    "active_modes",
    "bayes_error",
    "block_covariance",
    "correlation_change",
    "draw_correlation",
    "draw_modes",
    "gou_of_covariance",
    "group_signal",
    "modal",
    "noise_to_signal",
    "separation",
    "time_of_error",
]

Array = NDArray[np.float64]

SLOW = 0.1
"""a of the structured drift: contraction of the leading mode relative to that of a mode without variance."""

DRIFTS = {f"GOU, a = {SLOW:g}": SLOW, "isotropic": 1.0}
"""a by name of the process, for the two that are compared."""

ACTIVE = 0.01
"""A mode counts as one the score has to learn while its signal m²λ is more than this share of its noise s²."""

LEVELS = (0.01, 0.05, 0.25)


def _coefficients(process: LinearDiffusion, times: Sequence[float] | Array) -> tuple[Array, Array]:
    """m and s² at times, (times, d) each."""
    t = torch.as_tensor(np.asarray(times, dtype=np.float64))
    return (
        process.mean_coefficient(t).double().numpy(),
        process.variance(t).double().numpy(),
    )


def modal(process: LinearDiffusion, vectors: torch.Tensor) -> Array:
    """Modal coordinates in float64; a module that is made double stays so, hence the copy."""
    return deepcopy(process.basis).double().analysis(vectors).numpy()


def separation(process: LinearDiffusion, difference: Array, times: Sequence[float] | Array) -> Array:
    """‖Δ(t)‖ of Theorem 2: √Σ α_i² e^{2 c_i t}, (times,).

    Args:
        process: the forward process.
        difference: α, difference of the two group means in modal coordinates, (d,).
        times: t.
    """
    m, _ = _coefficients(process, times)
    return np.sqrt(m**2 @ difference**2)


def bayes_error(process: LinearDiffusion, difference: Array, within: Array, times: Sequence[float] | Array) -> Array:
    """Least error of telling two equally frequent Gaussian groups apart from X_t, (times,).

    Both groups are Gaussian at every t, with means Δ(t) apart and variances m² λ_within + s², so the error is
    Φ(−½ √Σ m² α² / (m² λ_within + s²)).

    Args:
        process: the forward process.
        difference: α in modal coordinates, (d,).
        within: modal variances within groups, (d,).
        times: t.
    """
    m, s2 = _coefficients(process, times)
    return ndtr(-0.5 * np.sqrt(np.sum(m**2 * difference**2 / (m**2 * within + s2), axis=1)))


def time_of_error(process: LinearDiffusion, difference: Array, within: Array, level: float) -> float:
    """The time at which :func:`bayes_error` reaches ``level``; 0 if it starts above it."""

    def above(t: float) -> float:
        return float(bayes_error(process, difference, within, [t])[0]) - level

    if above(1e-9) >= 0:
        return 0.0
    last = 1.0
    while above(last) < 0:
        last *= 2
    return float(brentq(above, 1e-9, last))


def group_signal(
    process: LinearDiffusion, rows: Array, labels: NDArray[np.str_], times: Sequence[float] | Array
) -> pd.DataFrame:
    """How well labelled groups can be told apart from X_t along time.

    For every pair of groups D² = Σ m² α² / (m² λ_within + s²) with the variances within groups pooled, and AUC =
    Φ(D/√2), that of the best linear rule if groups are Gaussian with this diagonal covariance. α² is freed of the part
    that is sampling error of the two means, without which any two random groups would seem to differ.

    Args:
        process: the forward process; its basis gives the modes.
        rows: (n, d).
        labels: group of every row, (n,).
        times: t.

    Returns:
        time, pair, auc, ratio: the variance between the two groups over that of the noise, both summed over modes.
    """
    z = modal(process, torch.from_numpy(np.asarray(rows, dtype=np.float64)) - process.mean.double())
    names, index = np.unique(labels, return_inverse=True)
    count = np.bincount(index)
    means = np.stack([z[index == k].mean(0) for k in range(len(names))])
    within = np.square(z - means[index]).sum(0) / max(len(z) - len(names), 1)
    m, s2 = _coefficients(process, times)
    out = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            alpha2 = (means[i] - means[j]) ** 2 - within * (1 / count[i] + 1 / count[j])
            d2 = np.sum(m**2 * alpha2 / (m**2 * within + s2), axis=1).clip(0)
            between = (m**2 @ alpha2).clip(0) / 4  # of two groups of equal size
            with np.errstate(divide="ignore", invalid="ignore"):  # there is no noise at t = 0
                ratio = between / s2.sum(1)
            for t, d, r in zip(times, np.sqrt(d2), ratio, strict=True):
                out.append(
                    {"time": t, "pair": f"{names[i]}–{names[j]}", "auc": float(ndtr(d / math.sqrt(2))), "ratio": r}
                )
    return pd.DataFrame(out)


def active_modes(process: LinearDiffusion, spectrum: Array, times: Sequence[float] | Array) -> NDArray[np.int64]:
    """Number of modes with m² λ/s² > :data:`ACTIVE` at t > 0, (times,): those whose score is not yet the noise's."""
    m, s2 = _coefficients(process, times)
    return (m**2 * spectrum > ACTIVE * s2).sum(1)


def noise_to_signal(process: LinearDiffusion, spectrum: Array, times: Sequence[float] | Array) -> Array:
    """Σ s² / Σ m² λ, (times,)."""
    m, s2 = _coefficients(process, times)
    return s2.sum(1) / (m**2 @ spectrum)


def _correlation(cov: Array) -> Array:
    sd = np.sqrt(np.diag(cov))
    return cov / sd[:, None] / sd


def correlation_change(process: LinearDiffusion, spectrum: Array, times: Sequence[float] | Array) -> pd.DataFrame:
    """How far the correlations of X_t have moved from those of X_0 (Theorem 5).

    Σ_t = Q diag(m² λ + s²) Qᵀ for data with covariance Q diag(λ) Qᵀ.

    Args:
        process: the forward process.
        spectrum: λ, (d,).
        times: t.

    Returns:
        time; noise_to_signal; change, ‖corr(Σ_t) − corr(Σ_0)‖/‖corr(Σ_0) − I‖ in Frobenius norm: 0 is untouched, 1 is
        what independence would give; signal, the same for the transported covariance plus noise made equal on all
        coordinates, Q diag(m² λ) Qᵀ + mean(s²) I: correlations that the noise brings along do not count.
    """
    q = deepcopy(process.basis).double().matrix().numpy()
    start = _correlation((q * spectrum) @ q.T)
    size = np.linalg.norm(start - np.eye(len(start)))
    m, s2 = _coefficients(process, times)
    rows = []
    for t, m_t, s2_t, ratio in zip(times, m, s2, noise_to_signal(process, spectrum, times), strict=True):
        law = _correlation((q * (m_t**2 * spectrum + s2_t)) @ q.T)
        signal = _correlation((q * (m_t**2 * spectrum)) @ q.T + s2_t.mean() * np.eye(len(q)))
        rows.append(
            {
                "time": float(t),
                "noise_to_signal": float(ratio),
                "change": float(np.linalg.norm(law - start) / size),
                "signal": float(np.linalg.norm(signal - start) / size),
            }
        )
    return pd.DataFrame(rows)


def block_covariance(sites: int = 20, decay: float = 0.2) -> Array:
    """Covariance e^{−decay·|i − j|} of the latent variables of a block of the paper's simulated SNPs (§7.2)."""
    return toeplitz(np.exp(-decay * np.arange(sites)))


def gou_of_covariance(cov: Array, *, a: float, horizon: float = 1.0) -> tuple[LinearDiffusion, Array]:
    """The process for data of mean 0 and a covariance (b = ½, β = 1), and the spectrum λ, descending."""
    values, vectors = np.linalg.eigh(cov)
    spectrum = values[::-1].clip(0).copy()
    basis = PCA(torch.from_numpy(vectors[:, ::-1].copy()))
    mean = torch.zeros(len(cov), dtype=torch.float64)
    return gou(basis, mean=mean, spectrum=torch.from_numpy(spectrum), a=a, horizon=horizon), spectrum


@styled
def draw_modes(
    errors: Mapping[str, tuple[Array, Array]],
    modes: Mapping[str, tuple[Array, NDArray[np.int64]]],
    *,
    levels: Sequence[float] = LEVELS,
    label: str = "least error of telling the groups apart",
) -> Figure:
    """Claim 1: error against time, and number of modes with signal against time.

    Args:
        errors: times and errors by name of the process.
        modes: times and numbers by name of the process.
        levels: marked on the axis of errors.
        label: of the axis of errors.
    """
    figure, ((left, right),) = grid(1, 2, width=9.6, height=3.9)
    colours = (SYNTHETIC, REAL, *LABELS)
    for (name, (t, error)), colour in zip(errors.items(), colours, strict=False):
        left.plot(t, error, color=colour, label=name)
    for level in levels:
        left.axhline(level, color="#8793a0", lw=0.8, ls=":")
        left.annotate(f"{level:.0%}", (0.01, level), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    left.set(
        xscale="log",
        yscale="log",
        ylim=(1e-4, 0.6),
        xlabel="time t",
        ylabel=label,
        title="Groups told apart from $X_t$",
    )
    left.legend()
    for (name, (t, number)), colour in zip(modes.items(), colours, strict=False):
        right.plot(t, number, color=colour, label=name)
    right.yaxis.get_major_locator().set_params(integer=True)
    right.set(xscale="log", xlabel="time t", ylabel=f"modes with m²λ/s² > {ACTIVE:g}", title="Modes left to the score")
    right.legend()
    return figure


@styled
def draw_correlation(frames: Mapping[str, pd.DataFrame]) -> Figure:
    """Claim 2: change of correlations at equal time, at equal noise-to-signal ratio, and without the noise's own."""
    figure, (panels,) = grid(1, 3, width=12.0, height=3.9, sharey=True)
    views = (
        ("time", "change", "time t", "At equal time"),
        ("noise_to_signal", "change", "total noise-to-signal ratio", "At equal noise"),
        ("noise_to_signal", "signal", "total noise-to-signal ratio", "Equal noise, noise made isotropic"),
    )
    for axes, (x, y, xlabel, title) in zip(panels, views, strict=True):
        for k, (name, frame) in enumerate(frames.items()):
            axes.plot(frame[x], frame[y], color=LABELS[k % len(LABELS)], label=name)
        axes.set(xscale="log", xlabel=xlabel, title=title, ylim=(-0.02, None))
        axes.grid(visible=True)
    panels[0].set_ylabel("‖corr(Σ$_t$) − corr(Σ$_0$)‖ / ‖corr(Σ$_0$) − I‖")
    panels[1].set_xlim(1e-2, 1e3)
    panels[2].set_xlim(1e-2, 1e3)
    panels[0].legend()
    return figure
