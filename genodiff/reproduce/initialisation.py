"""The error of the start law, W2(p_T, p̂_T), against the horizon T (GOU paper, §5.3, Lemma 10).

p_T is the forward marginal of the empirical law of the data. The start law p̂_T is a mixture over anchors, each carried
to T and spread by a covariance of choice, or a single Gaussian: the stationary law, where a sampler without anchors
starts. Lemma 10 bounds the first by how far rows lie from their anchors; its proof spreads by the noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtr

from genodiff.core.bases import BlockPCA
from genodiff.core.denoisers import AnchorCovariance
from genodiff.core.processes import LinearDiffusion, gou
from genodiff.genotypes.anchors import fit_anchors
from genodiff.genotypes.units import Units
from genodiff.report.style import LABELS, TRAIN, grid, styled

__all__ = [
    "COVARIANCES",
    "STATIONARY",
    "Anchoring",
    "anchorings",
    "draw_initialisation",
    "gelbrich",
    "genotype_anchorings",
    "genotype_process",
    "initialisation_error",
    "sampled_w2",
]

Array = NDArray[np.float64]

COVARIANCES: tuple[AnchorCovariance, ...] = ("noise", "within", "total")

STATIONARY = "none: stationary law"
"""Name of the start without anchors, N(μ, −β/(2c))."""

FULL_PCA_SITES = 1_000
_SHARES = 4_000
LEAST_SHOWN = 1e-3


@dataclass(frozen=True)
class Anchoring:
    """Anchors, and which one each row belongs to.

    Attributes:
        points: (K, d).
        assignment: anchor of every row, (n,); weights are the shares of rows.
    """

    points: Array
    assignment: NDArray[np.int64]

    @property
    def weights(self) -> Array:
        """Share of rows per anchor, (K,)."""
        return np.bincount(self.assignment, minlength=len(self.points)) / len(self.assignment)


def _medoids(rows: Array, means: Array, assignment: NDArray[np.int64]) -> Array:
    away = np.square(rows - means[assignment]).sum(1)
    return np.stack([rows[np.where(assignment == k, away, np.inf).argmin()] for k in range(len(means))])


def anchorings(rows: Array, *, k: int, seed: int = 1) -> dict[str, Anchoring]:
    """The choices of anchors for plain vectors: one mean, k-means, medoids of the same clusters, every row."""
    from sklearn.cluster import KMeans

    fit = KMeans(k, n_init=4, random_state=seed).fit(rows)
    labels = fit.labels_.astype(np.int64)
    means = np.stack([rows[labels == j].mean(0) for j in range(k)])
    n = len(rows)
    return {
        "one anchor: the mean": Anchoring(rows.mean(0, keepdims=True), np.zeros(n, dtype=np.int64)),
        f"means of {k} clusters": Anchoring(means, labels),
        f"medoids of {k} clusters": Anchoring(_medoids(rows, means, labels), labels),
        "every training point": Anchoring(rows, np.arange(n)),
    }


def _states(units: Units) -> Array:
    """Rows with unknown states at the site mean, float64."""
    return np.where(units.states < 0, units.frequency() * units.ploidy, units.states).astype(np.float64)


def genotype_anchorings(units: Units, *, n: int | None = None, seed: int = 1) -> dict[str, Anchoring]:
    """The same choices for genotypes, with the clusters of :func:`genodiff.genotypes.anchors.fit_anchors`."""
    rows = _states(units)
    means = fit_anchors(units, n=n, seed=seed)
    medoids = fit_anchors(units, n=n, kind="medoids", seed=seed)
    return {
        "one anchor: the mean": Anchoring(rows.mean(0, keepdims=True), np.zeros(len(rows), dtype=np.int64)),
        f"means of {means.n} clusters": Anchoring(means.starts.astype(np.float64), means.assignment),
        f"medoids of {medoids.n} clusters": Anchoring(medoids.starts.astype(np.float64), medoids.assignment),
        "every training row": Anchoring(rows, np.arange(len(rows))),
    }


def genotype_process(units: Units, *, a: float = 0.1, horizon: float = 1.0) -> tuple[LinearDiffusion, Array]:
    """A process in the full PCA basis of genotype rows (float64), and the rows it belongs to.

    Raises:
        ValueError: more sites than the dense algebra below is meant for.
    """
    rows = _states(units)
    if rows.shape[1] > FULL_PCA_SITES:
        raise ValueError(f"at most {FULL_PCA_SITES:,} sites, got {rows.shape[1]:,}: take a part of them")
    mean = torch.from_numpy(rows.mean(0))
    basis, spectrum = BlockPCA.from_data(torch.from_numpy(rows) - mean, [0, rows.shape[1]], dtype=torch.float64)
    return gou(basis, mean=mean, spectrum=spectrum, a=a, horizon=horizon), rows


def sampled_w2(a: Array, b: Array) -> float:
    """W2 of two equally large samples (n, d), by the best assignment. Its mean is above that of the laws."""
    if a.shape != b.shape:
        raise ValueError(f"samples must have the same shape, got {a.shape} and {b.shape}")
    cost = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    rows, columns = linear_sum_assignment(cost)
    return math.sqrt(max(float(cost[rows, columns].mean()), 0.0))


def _root(symmetric: Array) -> Array:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def gelbrich(mean_a: Array, root_a: Array, mean_b: Array, cov_b: Array) -> float:
    """Gelbrich's distance: the least W2 of any two laws with these means and covariances.

    Args:
        mean_a, mean_b: (d,).
        root_a: symmetric square root of the first covariance, (d, d).
        cov_b: second covariance, (d, d).
    """
    cross = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0)).sum()
    spread = np.square(root_a).sum() + np.trace(cov_b) - 2 * cross
    return math.sqrt(max(float(np.square(mean_a - mean_b).sum() + spread), 0.0))


class _Forward:
    """The forward marginal at T in modal coordinates, with rows sampled evenly along the leading mode."""

    def __init__(self, process: LinearDiffusion, rows: Array, *, modes: int | None) -> None:
        self.process = process
        self.centre = process.mean
        z = process.basis.analysis(torch.from_numpy(rows) - self.centre).numpy()
        self.z = z
        self.cov = np.cov(z, rowvar=False, bias=True).reshape(z.shape[1], z.shape[1])
        order = np.argsort(-self.cov.diagonal(), kind="stable")
        self.shown = order if modes is None else order[:modes]
        self.along = np.argsort(z[:, order[0]], kind="stable")

    def at(self, horizon: float) -> tuple[Array, Array]:
        """m(T) and s²(T), (d,) each."""
        t = torch.tensor(horizon, dtype=torch.float64)
        return self.process.mean_coefficient(t).numpy(), self.process.variance(t).numpy()

    def rows(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """n rows at even ranks of the leading mode, so that clusters keep their share."""
        ranks = ((np.arange(n) + rng.random(n)) * len(self.z) / n).astype(np.int64)
        return self.along[ranks]


def _even(points: Array, weights: Array, *, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Anchors of n draws by systematic resampling along the widest axis: every region gets its expected number."""
    along = np.argsort(points[:, np.argmax(points.var(0))], kind="stable")
    ticks = (np.arange(n) + rng.random()) / n
    return along[np.searchsorted(weights[along].cumsum(), ticks, side="right").clip(0, len(points) - 1)]


def initialisation_error(
    process: LinearDiffusion,
    data: Array,
    anchors: Mapping[str, Anchoring],
    *,
    horizons: Sequence[float],
    covariances: Sequence[AnchorCovariance] = COVARIANCES,
    modes: int | None = None,
    samples: int = 1_000,
    seed: int = 1,
) -> pd.DataFrame:
    """W2 between start law and forward marginal for every choice of anchors, covariance and horizon.

    All of it happens in modal coordinates, where distances are those of x. The stationary law is always among the
    starts. It has a bound of the kind of Lemma 10 too: under the same noise a stationary X̂_0 gives
    W2² ≤ Σ m_i² λ_i + (s_i(∞) − s_i(T))² ≤ e^{2 c_max T} Σ (λ_i + s_i²(∞)).

    Args:
        process: basis, centre and rates; its own horizon plays no part.
        data: rows (n, d), whose empirical law is p_0.
        anchors: by name.
        horizons: times T.
        covariances: spreads around anchors.
        modes: number of leading modes (by variance of the data) for the sampled W2; all if ``None``.
        samples: size of the samples whose W2 is computed exactly, at most the number of rows.
        seed: of the samples.

    Returns:
        one row per start and horizon: start, k, covariance, horizon; w2 of two independent samples in ``modes`` modes,
        with floor, the same for two samples of p_T itself; two lower bounds on W2, gelbrich (from means and
        covariances, in all modes) and w2_marginals (from the marginals of ``modes`` modes, without sampling; W2 itself
        for laws that are products over modes); bound_matrix and bound_scalar (eq. (14)); modes, samples.
    """
    process = type(process)(
        deepcopy(process.basis).double().cpu(), mean=process.mean.double().cpu(), rates=process.rates.double().cpu(),
        beta=process.beta, horizon=process.horizon, clock=process.clock,
    )  # fmt: skip
    forward = _Forward(process, data, modes=modes)
    n = min(samples, len(data))
    spectrum, shown = forward.cov.diagonal(), forward.shown
    slowest = float(process.rates.max())
    stationary = process.stationary_variance().numpy()
    laws = {}
    for name, chosen in anchors.items():
        points = process.basis.analysis(torch.from_numpy(chosen.points) - forward.centre).numpy()
        away = np.square(forward.z - points[chosen.assignment]).mean(0)
        centred = points - chosen.weights @ points
        between = (centred.T * chosen.weights) @ centred
        laws[name] = (points, chosen.weights, away, between)

    out = []
    for step, horizon in enumerate(horizons):
        rng = np.random.default_rng([seed, step])
        m, s2 = forward.at(horizon)
        decay = math.exp(slowest * float(process.clock(torch.tensor(horizon, dtype=torch.float64))))
        scale = m[:, None] * m
        root, centre = _root(scale * forward.cov + np.diag(s2)), m * forward.z.mean(0)
        s = np.sqrt(s2[shown])
        carried = m[shown] * forward.z[:, shown]
        target, other = (carried[forward.rows(n, rng)] + s * rng.normal(size=(n, len(shown))) for _ in range(2))
        common = {"horizon": horizon, "floor": sampled_w2(target, other), "modes": len(shown), "samples": n}
        even = np.full(len(carried), 1 / len(carried))
        marginals = [_quantiles(carried[:, j], even, s[j]) for j in range(len(shown))]

        moved = m**2 * spectrum + (np.sqrt(stationary) - np.sqrt(s2)) ** 2
        start = (np.zeros((1, len(m))), np.ones(1), stationary)
        out.append(
            {"start": STATIONARY, "k": 0, "covariance": "stationary"}
            | common
            | _distances(target, marginals, *start, shown=shown, rng=rng)
            | {"gelbrich": gelbrich(centre, root, np.zeros_like(m), np.diag(stationary))}
            | {"bound_matrix": math.sqrt(moved.sum()), "bound_scalar": decay * math.sqrt((spectrum + stationary).sum())}
        )
        for name, (points, weights, away, between) in laws.items():
            bounds = {"bound_matrix": math.sqrt(m**2 @ away), "bound_scalar": decay * math.sqrt(away.sum())}
            for covariance in covariances:
                added = {"noise": np.zeros_like(away), "within": away, "total": spectrum}[covariance]
                variance = m**2 * added + s2
                cov = scale * between + np.diag(variance)
                out.append(
                    {"start": name, "k": len(points), "covariance": covariance}
                    | common
                    | _distances(target, marginals, m * points, weights, variance, shown=shown, rng=rng)
                    | {"gelbrich": gelbrich(centre, root, weights @ points * m, cov)}
                    | bounds
                )
    return pd.DataFrame(out)


def _quantiles(points: Array, weights: Array, sd: float) -> Array:
    """Quantiles of Σ_k w_k N(points_k, sd²) at the midpoints of equal shares."""
    grid = np.linspace(points.min() - 5 * sd, points.max() + 5 * sd, 600)
    cumulative = ndtr((grid[:, None] - points) / sd) @ weights
    return np.interp((np.arange(_SHARES) + 0.5) / _SHARES, cumulative, grid)


def _distances(
    target: Array,
    marginals: Sequence[Array],
    points: Array,
    weights: Array,
    variance: Array,
    *,
    shown: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, float]:
    """W2 of a sample of the start law to ``target``, and W2 of the marginals of the modes."""
    points, sd = points[:, shown], np.sqrt(variance[shown])
    sample = points[_even(points, weights, n=len(target), rng=rng)] + sd * rng.normal(size=target.shape)
    squares = [np.mean((q - _quantiles(points[:, j], weights, sd[j])) ** 2) for j, q in enumerate(marginals)]
    return {"w2": sampled_w2(target, sample), "w2_marginals": math.sqrt(float(np.sum(squares)))}  # fmt: skip


@styled
def draw_initialisation(
    frames: Mapping[str, pd.DataFrame], *, column: str = "w2_marginals", label: str = "W₂"
) -> Figure:
    """W2 against T: a row per process, a column per spread around the anchors, a line per choice of anchors.

    Args:
        frames: results of :func:`initialisation_error` by name of the process.
        column: "w2_marginals", "w2" or "gelbrich".
        label: of the vertical axis.
    """
    covariances = [c for c in COVARIANCES if any((f["covariance"] == c).any() for f in frames.values())]
    width, height = 3.6 * len(covariances) + 1.0, 3.0 * len(frames) + 0.6
    figure, panels = grid(len(frames), len(covariances), width=width, height=height, sharex=True, sharey=True)
    titles = {
        "noise": "spread: noise",
        "within": "spread: noise + within cluster",
        "total": "spread: eq. (8) as printed",
    }
    for (process, frame), line in zip(frames.items(), panels, strict=True):
        starts = [s for s in dict.fromkeys(frame["start"]) if s != STATIONARY]
        for covariance, axes in zip(covariances, line, strict=True):
            none = frame[frame["start"] == STATIONARY]
            axes.plot(none["horizon"], none[column], color="#22303c", label="no anchors: stationary law")
            for start, colour in zip(starts, LABELS, strict=False):
                part = frame[(frame["start"] == start) & (frame["covariance"] == covariance)]
                # Every training point with the noise is p_T itself: zero has no place on a logarithmic axis.
                axes.plot(part["horizon"], part[column].clip(lower=LEAST_SHOWN / 100), color=colour, label=start)
                if start.startswith("means"):
                    axes.plot(part["horizon"], part["bound_matrix"], color=colour, ls="--", lw=1.1,
                              label="Lemma 10, matrix form")  # fmt: skip
                    axes.plot(part["horizon"], part["bound_scalar"], color=colour, ls=":", lw=1.3,
                              label="Lemma 10, scalar form")  # fmt: skip
                    if column == "w2_marginals":
                        axes.plot(part["horizon"], part["w2"], "o", ms=3.5, color=colour, mfc="white",
                                  label="the same, sampled")  # fmt: skip
            if column == "w2_marginals":
                axes.plot(none["horizon"], none["floor"], color=TRAIN, lw=5, alpha=0.4, zorder=0,
                          label="floor: two independent samples of $p_T$")  # fmt: skip
            axes.set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, None))
            axes.grid(visible=True)
            axes.set_title(f"{process}\n{titles[covariance]}")
        line[0].set_ylabel(label)
    for axes in panels[-1]:
        axes.set_xlabel("T")
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure
