"""Scores: LD scores of sites and polygenic scores of people."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import eigh

from genodiff.evaluation.frequencies import pearson
from genodiff.evaluation.panels import Comparison, Panel
from genodiff.evaluation.results import FamilyResult, Metric
from genodiff.utility.dosages import centred, standardised
from genodiff.utility.groups import groups_of, left_out, with_interval
from genodiff.utility.traits import traits_of

__all__ = ["family", "ld_scores", "ridge_weights", "slope"]

WINDOW_CM = 1.0
WINDOW_BP = 1_000_000.0
"""Half width of the window of an LD score: 1 cM where there is a map, 1 Mb where there is none."""

SCORE_MAF = 0.01
"""A site has an LD score where its minor allele is at least this frequent among held-out people."""

MAX_PEOPLE = 3_000
"""Weights are estimated in at most this many people: the cost grows with the cube."""

MIN_PEOPLE = 5
"""A label with fewer people in a table has no mean of its own."""

_BLOCK = 512

_Group: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int64]]"
"""The people of one population, in a panel and among held-out people."""


def ld_scores(dosage: NDArray[np.int8], coordinate: NDArray[np.float64], *, window: float) -> NDArray[np.float64]:
    """LD scores ℓ_j = Σ_k r²_jk − (1 − r²_jk) / (n − 2) over the sites k within the window, j itself among them.

    The term subtracted makes each summand unbiased to first order (Bulik-Sullivan et al. 2015).

    Args:
        dosage: int8 (people, sites), 0/1/2; a missing call (−1) counts as the mean.
        coordinate: never decreasing positions, (sites,), bp or cM.
        window: largest distance of two sites, in the unit of ``coordinate``.

    Returns:
        (sites,); NaN at a site that does not vary, which adds nothing to the score of another.

    Raises:
        ValueError: fewer than three people.
    """
    n, m = dosage.shape
    if n < 3:
        raise ValueError(f"LD scores need at least 3 people, got {n}")
    z = standardised(dosage)
    varies = np.asarray(z.any(axis=0))
    low = np.searchsorted(coordinate, coordinate - window, side="left")
    high = np.searchsorted(coordinate, coordinate + window, side="right")
    out = np.full(m, np.nan)
    for start in range(0, m, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, m))
        others = np.arange(low[block[0]], high[block[-1]])
        r2 = (z[:, block].T @ z[:, others] / n) ** 2
        inside = (others >= low[block, None]) & (others < high[block, None]) & varies[others]
        out[block] = np.where(inside, r2 - (1 - r2) / (n - 2), 0.0).sum(axis=1)
    return np.where(varies, out, np.nan)


def slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Slope of the least-squares line of y on x with an intercept; NaN where x does not vary."""
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x)) if x @ x > 0 else float("nan")


def ridge_weights(
    dosage: NDArray[np.int8], traits: NDArray[np.float64], *, heritability: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights per ALT allele that predict traits best where all sites have small effects (ridge regression, SNP-BLUP).

    w = Zᵀ (Z Zᵀ + λ I)⁻¹ y with standardised dosages Z and λ = m (1 − h²) / h², m the number of sites that vary.

    Args:
        dosage: int8 (people, sites), 0/1/2; a missing call (−1) counts as the mean.
        traits: (people, traits).
        heritability: h² of every trait, (traits,), in (0, 1).

    Returns:
        (traits, sites); 0 at a site that does not vary.
    """
    x = centred(dosage)
    sd = np.sqrt(np.mean(x * x, axis=0))
    varies = sd > 0
    inverse = np.divide(1.0, sd, out=np.zeros_like(sd), where=varies)
    z = x * inverse
    # One decomposition of the n × n matrix serves every heritability.
    values, vectors = eigh(z @ z.T)
    penalty = max(1, int(varies.sum())) * (1 - heritability) / heritability
    turned = vectors.T @ (traits - traits.mean(axis=0))
    alpha = vectors @ (turned / (np.maximum(values, 0.0)[:, None] + penalty))
    return (z.T @ alpha).T * inverse


def _group_errors(score: NDArray[np.float64], truth: NDArray[np.float64], groups: list[_Group]) -> tuple[float, float]:
    """Errors of means and of standard deviations, in standard deviations of the truth; mean over groups and scores."""
    scale = truth.std(axis=0)
    mean = [np.abs(score[a].mean(axis=0) - truth[b].mean(axis=0)) / scale for a, b in groups]
    spread = [np.abs(score[a].std(axis=0) - truth[b].std(axis=0)) / scale for a, b in groups]
    return float(np.mean(mean)), float(np.mean(spread))


def _groups(panel: Panel, holdout: Panel, names: list[str]) -> list[_Group]:
    if not names:
        return [(np.arange(panel.n_people), np.arange(holdout.n_people))]
    return [(np.flatnonzero(panel.labels == name), np.flatnonzero(holdout.labels == name)) for name in names]


def _shared_labels(panels: tuple[Panel, ...]) -> list[str]:
    """Labels with enough people in every panel; none where a panel has no labels."""
    shared: set[str] | None = None
    for panel in panels:
        labels, counts = np.unique(np.asarray(panel.labels if panel.labels is not None else []), return_counts=True)
        here = {str(label) for label, count in zip(labels, counts, strict=True) if count >= MIN_PEOPLE}
        shared = here if shared is None else shared & here
    return sorted(shared or ())


def family(comparison: Comparison) -> FamilyResult:
    """LD scores and polygenic scores in S against those in T, with R in the place of S as the floor.

    Metrics: ``ld_score_r`` and ``ld_score_slope`` (correlation, and slope of the line of S on T, over sites),
    ``ld_score_ratio`` (of the means), ``pgs_r2`` (squared correlation of true genetic values of T's people with scores
    whose weights were estimated in S; mean over simulated traits), ``pgs_r2_ratio`` (over the floor),
    ``pgs_mean_error`` and ``pgs_sd_error`` (scores with the true weights: absolute difference between S and T of the
    mean, and of the standard deviation, of a population, in standard deviations of T; mean over populations and scores,
    over everybody where there are no labels). The r² of scores have intervals over the people of T.

    Curves: ``ld_scores``, a data frame with ``position``, ``holdout``, ``synthetic``, ``train``; ``pgs``, one by kind
    of trait with ``heritability``, ``causal``, ``synthetic``, ``real``.

    Raises:
        Unmeasurable: too few common sites.
    """
    holdout = comparison.holdout
    kept = np.flatnonzero(holdout.maf >= SCORE_MAF)
    traits = traits_of(comparison)
    place, window = (
        (comparison.sites["position"].to_numpy(dtype=np.float64), WINDOW_BP)
        if comparison.cm is None
        else (comparison.cm, WINDOW_CM)
    )
    panels = {"holdout": holdout, "synthetic": comparison.synthetic, "train": comparison.train}
    # A site that does not vary in a panel has no linkage there: its score counts as 0.
    ld = {
        name: np.nan_to_num(ld_scores(panel.dosage[:, kept], place[kept], window=window))
        for name, panel in panels.items()
    }
    genetic = traits.genetic(holdout.dosage)
    names = _shared_labels(tuple(panels.values()))
    fill = np.nan_to_num(2 * holdout.frequency)
    truth = traits.score(holdout.dosage, fill=fill)
    pgs, without, errors = {}, {}, {}
    groups = groups_of(comparison)
    for name in ("synthetic", "train"):
        panel = panels[name].draw(MAX_PEOPLE, comparison.generator("scores people"))
        values = traits.values(panel.dosage, generator=comparison.generator("scores noise"))
        weights = ridge_weights(panel.dosage, values, heritability=traits.heritability)
        predicted = centred(holdout.dosage) @ weights.T
        pgs[name] = _r2(predicted, genetic)
        without[name] = left_out(partial(_mean_r2, predicted, genetic), groups)
        score = traits.score(panels[name].dosage, fill=fill)
        errors[name] = _group_errors(score, truth, _groups(panels[name], holdout, names))
    s, r, t = ld["synthetic"], ld["train"], ld["holdout"]
    mean = {name: float(values.mean()) for name, values in pgs.items()}
    sites, people, count = len(kept), holdout.n_people, len(genetic.T)
    ratio = mean["synthetic"] / mean["train"] if mean["train"] > 0 else float("nan")
    accuracy = Metric("scores", "pgs_r2", mean["synthetic"], mean["train"], people, "r² (people)")
    over_real = Metric("scores", "pgs_r2_ratio", ratio, 1.0, people, "ratio (people)")
    metrics = (
        Metric("scores", "ld_score_r", pearson(s, t), pearson(r, t), sites, "correlation (sites)"),
        Metric("scores", "ld_score_slope", slope(t, s), slope(t, r), sites, "slope (sites)"),
        Metric("scores", "ld_score_ratio", float(s.mean() / t.mean()), float(r.mean() / t.mean()), sites,
               "ratio (sites)"),
        with_interval(accuracy, without["synthetic"]),
        with_interval(over_real, without["synthetic"] / np.where(without["train"] > 0, without["train"], np.nan)),
        Metric("scores", "pgs_mean_error", errors["synthetic"][0], errors["train"][0], count * max(1, len(names)),
               "sd of held-out people (means)"),
        Metric("scores", "pgs_sd_error", errors["synthetic"][1], errors["train"][1], count * max(1, len(names)),
               "sd of held-out people (sds)"),
    )  # fmt: skip
    rows = []
    for h2, k in np.unique(traits.setting, axis=0):
        mine = (traits.setting == (h2, k)).all(axis=1)
        rows.append((h2, int(k), float(pgs["synthetic"][mine].mean()), float(pgs["train"][mine].mean())))
    positions = comparison.sites["position"].to_numpy()[kept]
    return FamilyResult(
        metrics,
        {
            "ld_scores": pd.DataFrame({"position": positions, "holdout": t, "synthetic": s, "train": r}),
            "pgs": pd.DataFrame(rows, columns=["heritability", "causal", "synthetic", "real"]),
        },
    )


def _r2(scores: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared correlation column by column, (traits,); 0 where a score is the same for everybody."""
    x, y = scores - scores.mean(axis=0), values - values.mean(axis=0)
    scale = (x * x).sum(axis=0) * (y * y).sum(axis=0)
    return np.divide((x * y).sum(axis=0) ** 2, scale, out=np.zeros(len(scale)), where=scale > 0)


def _mean_r2(scores: NDArray[np.float64], values: NDArray[np.float64], people: NDArray[np.int64]) -> float:
    """:func:`_r2` in some people, mean over traits."""
    return float(_r2(scores[people], values[people]).mean())
