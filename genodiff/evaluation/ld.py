"""Linkage disequilibrium: how alleles at two and at three sites go together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genodiff.evaluation.frequencies import pearson
from genodiff.evaluation.packed import PackedSites
from genodiff.evaluation.panels import Comparison, Panel
from genodiff.evaluation.results import FamilyResult, Metric

__all__ = [
    "LdDecay",
    "decay_error",
    "distance_edges",
    "family",
    "ld_decay",
    "near_pairs",
    "sample_pairs",
    "sample_triples",
    "three_point",
]

BINS = 20
PAIRS_PER_BIN = 20_000
MIN_PAIRS = 10
"""A bin with fewer pairs is left out: its mean would be noise."""

NEAR_SITES = 50
NEAR_MAF = 0.05
NEAR_PAIRS = 400_000
TRIPLES = 20_000
TRIPLE_SITES = 40
_TRIPLE_CHUNK = 1_000


@dataclass(frozen=True)
class LdDecay:
    """Mean r² by distance.

    Attributes:
        edges: (bins + 1,) limits of the distance bins, bp or cM.
        bins: (bins,) geometric middle of each bin.
        r2: (panels, bins) mean r² of every panel over the pairs whose sites are polymorphic in all of them; NaN where
            a bin holds too few pairs.
        pairs: (bins,) number of those pairs.
    """

    edges: NDArray[np.float64]
    bins: NDArray[np.float64]
    r2: NDArray[np.float64]
    pairs: NDArray[np.int64]


def distance_edges(coordinate: NDArray[np.float64], *, span: float, bins: int = BINS) -> NDArray[np.float64]:
    """Log-spaced limits of distance bins, from the closest neighbours to the whole span.

    Args:
        coordinate: ascending positions, (sites,), bp or cM; gaps wider than ``span`` separate contigs.
        span: largest distance between two sites of one contig.
        bins: number of bins.

    Returns:
        (bins + 1,). The first limit is the 1st percentile of the gaps between neighbours rather than the least, since
        genetic maps are all but flat in places. Empty where no two sites differ in position.
    """
    gaps = np.diff(coordinate)
    gaps = gaps[(gaps > 0) & (gaps <= span)]
    if not len(gaps):
        return np.empty(0)
    low = float(np.quantile(gaps, 0.01))
    # The upper limit is closed (the widest pair belongs to the last bin), hence the hair's breadth above the span.
    return np.geomspace(low, span * (1 + 1e-9), bins + 1)


def sample_pairs(
    coordinate: NDArray[np.float64], *, low: float, high: float, size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Distinct pairs of sites whose distance lies in [low, high), all of them or ``size`` at random.

    Cost is linear in the number of sites: the partners of a site form an interval, so that a pair is a number below the
    total of the interval lengths.

    Args:
        coordinate: ascending positions, (sites,).
        low, high: limits of the distance, in the unit of ``coordinate``; ``low`` > 0.
        size: most pairs to return.
        generator: source of randomness.

    Returns:
        (pairs, 2) site indices, the first the smaller.
    """
    start = np.searchsorted(coordinate, coordinate + low, side="left")
    stop = np.searchsorted(coordinate, coordinate + high, side="left")
    ends = np.cumsum(stop - start)
    total = int(ends[-1]) if len(ends) else 0
    # Drawing with replacement and dropping repeats: choice without replacement would permute all `total` numbers.
    number = np.arange(total) if total <= size else np.unique(generator.integers(total, size=size))
    first = np.searchsorted(ends, number, side="right")
    second = start[first] + number - (ends[first] - (stop - start)[first])
    return np.stack([first, second], axis=1)


def _end_to_end(position: NDArray[np.float64], contig: NDArray[np.str_]) -> tuple[NDArray[np.float64], float]:
    """Positions with the contigs laid end to end, farther apart than any two sites of one contig; and that distance."""
    names, index = np.unique(contig, return_inverse=True)
    inside = [index == k for k in range(len(names))]
    span = max((float(np.ptp(position[mask])) for mask in inside), default=0.0)
    coordinate = position.copy()
    for place, mask in enumerate(sorted(inside, key=lambda m: int(m.argmax()))):
        coordinate[mask] += place * 3 * (span + 1) - position[mask].min()
    return coordinate, span


def ld_decay(
    panels: list[Panel],
    *,
    position: NDArray[np.float64],
    contig: NDArray[np.str_] | None = None,
    generator: np.random.Generator,
    bins: int = BINS,
    pairs_per_bin: int = PAIRS_PER_BIN,
    min_pairs: int = MIN_PAIRS,
) -> LdDecay:
    """Mean r² by distance for several panels over the same random pairs of sites.

    Args:
        panels: panels at the same sites; pairs come from sites polymorphic in all of them.
        position: position of the sites, ascending within a contig, (sites,), bp or cM.
        contig: contig of the sites, (sites,); all the same if ``None``.
        generator: source of randomness.
        bins: number of log-spaced distance bins.
        pairs_per_bin: most pairs per bin.
        min_pairs: bins with fewer pairs are NaN.
    """
    keep = np.logical_and.reduce([p.polymorphic for p in panels])
    names = np.zeros(len(position), dtype=str) if contig is None else np.asarray(contig).astype(str)
    position = np.asarray(position, dtype=np.float64)[keep]
    coordinate, span = _end_to_end(position, names[keep])
    edges = distance_edges(coordinate, span=span, bins=bins)
    if not len(edges):
        empty = np.empty(0)
        return LdDecay(empty, empty, np.empty((len(panels), 0)), np.empty(0, dtype=np.int64))
    chosen = [
        sample_pairs(coordinate, low=lo, high=hi, size=pairs_per_bin, generator=generator) for lo, hi in pairwise(edges)
    ]
    counts = np.array([len(c) for c in chosen])
    pairs = np.concatenate(chosen)
    owner = np.repeat(np.arange(bins), counts)
    r2 = np.full((len(panels), bins), np.nan)
    enough = counts >= max(min_pairs, 1)
    for k, panel in enumerate(panels):
        values = PackedSites.pack(panel.rows[:, keep]).r2(pairs)
        sums = np.bincount(owner, weights=values, minlength=bins)
        r2[k, enough] = sums[enough] / counts[enough]
    return LdDecay(edges, np.sqrt(edges[:-1] * edges[1:]), r2, counts)


def decay_error(decay: LdDecay, *, panel: int, reference: int) -> float:
    """Mean over bins of the absolute difference of mean r² between two panels of a decay."""
    difference = np.abs(decay.r2[panel] - decay.r2[reference])
    return float(np.nanmean(difference)) if np.isfinite(difference).any() else float("nan")


def near_pairs(eligible: NDArray[np.bool_], *, generator: np.random.Generator) -> NDArray[np.int64]:
    """Pairs of eligible sites at most 50 sites apart in the table, all of them or 400,000 at random.

    Args:
        eligible: bool (sites,).
        generator: source of randomness.

    Returns:
        (pairs, 2) site indices, the first the smaller.
    """
    index = np.flatnonzero(eligible)
    # Half a site of slack on both limits keeps the comparison of whole numbers exact.
    pairs = sample_pairs(index.astype(np.float64), low=0.5, high=NEAR_SITES + 0.5, size=NEAR_PAIRS, generator=generator)
    return index[pairs]


def three_point(rows: NDArray[np.int8], triples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Third central cross moments E[(x_i − m_i)(x_j − m_j)(x_k − m_k)].

    Args:
        rows: int8 (rows, sites); a missing call (−1) counts as the mean.
        triples: (triples, 3) site indices.

    Returns:
        (triples,).
    """
    called = rows >= 0
    n = called.sum(axis=0)
    mean = np.divide(np.where(called, rows, 0).sum(axis=0), n, out=np.zeros(rows.shape[1]), where=n > 0)
    centred = np.ascontiguousarray(np.where(called, rows - mean, 0).T, dtype=np.float32)
    out = np.empty(len(triples))
    for start in range(0, len(triples), _TRIPLE_CHUNK):
        i, j, k = triples[start : start + _TRIPLE_CHUNK].T
        out[start : start + _TRIPLE_CHUNK] = np.einsum("tn,tn,tn->t", centred[i], centred[j], centred[k])
    return out / rows.shape[0]


def sample_triples(n_sites: int, *, size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Random triples of distinct sites within a window of 40 sites.

    Args:
        n_sites: number of sites, at least 3.
        size: number of triples.
        generator: source of randomness.

    Returns:
        (triples, 3) ascending site indices.
    """
    width = min(TRIPLE_SITES, n_sites)
    start = generator.integers(n_sites - width + 1, size=size)
    offsets = generator.random((size, width)).argpartition(2, axis=1)[:, :3]
    return np.sort(start[:, None] + offsets, axis=1)


def _slope(value: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Least-squares slope through the origin of ``value`` on ``reference``."""
    scale = float(reference @ reference)
    return float(value @ reference) / scale if scale > 0 else float("nan")


def _decay_metric(
    comparison: Comparison, *, name: str, position: NDArray[np.float64], unit: str
) -> tuple[Metric, pd.DataFrame]:
    """Decay of S and R against T: each over sites polymorphic in it and in T."""
    contig = comparison.sites["contig"].to_numpy(dtype=str)
    decays = [
        ld_decay([comparison.holdout, p], position=position, contig=contig, generator=comparison.generator(name))
        for p in (comparison.synthetic, comparison.train)
    ]
    value, floor = (decay_error(d, panel=1, reference=0) for d in decays)
    # The curve is drawn over one set of pairs for all three, so that they can be laid over each other.
    panels = [comparison.holdout, comparison.synthetic, comparison.train]
    drawn = ld_decay(panels, position=position, contig=contig, generator=comparison.generator(name))
    curve = pd.DataFrame(
        {
            "low": drawn.edges[:-1],
            "high": drawn.edges[1:],
            "middle": drawn.bins,
            "pairs": drawn.pairs,
            "holdout": drawn.r2[0],
            "synthetic": drawn.r2[1],
            "train": drawn.r2[2],
        }
    )
    return Metric("ld", name, value, floor, int(decays[0].pairs.sum()), unit), curve


def family(comparison: Comparison) -> FamilyResult:
    """Linkage disequilibrium of S against T, with R in the place of S as the floor.

    Metrics: ``ld_decay_mae`` (mean absolute difference of mean r² over 20 log-spaced distance bins) and, with a genetic
    map, ``ld_decay_mae_cm``; ``near_pair_r2_corr`` and ``near_pair_r2_ratio`` (r² of pairs at most 50 sites apart, both
    with MAF ≥ 5 % among held-out people: correlation, and mean of S over mean of T); ``three_point_r`` and
    ``three_point_slope`` (third cross moments of 20,000 random triples within 40 sites).

    Curves: ``ld_decay`` (and ``ld_decay_cm``), data frames with ``low``, ``high``, ``middle``, ``pairs``, ``holdout``,
    ``synthetic``, ``train``.
    """
    holdout, judged = comparison.holdout, (comparison.synthetic, comparison.train)
    metrics: list[Metric] = []
    curves = {}
    axes = [("ld_decay", "ld_decay_mae", comparison.sites["position"].to_numpy(dtype=np.float64))]
    if comparison.cm is not None:
        axes.append(("ld_decay_cm", "ld_decay_mae_cm", comparison.cm))
    for curve_name, name, position in axes:
        metric, curves[curve_name] = _decay_metric(comparison, name=name, position=position, unit="r² (pairs)")
        metrics.append(metric)

    pairs = near_pairs(holdout.maf >= NEAR_MAF, generator=comparison.generator("near pairs"))
    reference = PackedSites.pack(holdout.rows).r2(pairs)
    correlation, ratio, n = [], [], []
    for panel in judged:
        r2 = PackedSites.pack(panel.rows).r2(pairs)
        both = np.isfinite(r2) & np.isfinite(reference)
        total = float(reference[both].sum())
        correlation.append(pearson(r2, reference))
        ratio.append(float(r2[both].sum()) / total if total > 0 else float("nan"))
        n.append(int(both.sum()))
    metrics.append(Metric("ld", "near_pair_r2_corr", correlation[0], correlation[1], n[0], "correlation (pairs)"))
    metrics.append(Metric("ld", "near_pair_r2_ratio", ratio[0], ratio[1], n[0], "ratio (pairs)"))

    if comparison.n_sites >= 3:
        triples = sample_triples(comparison.n_sites, size=TRIPLES, generator=comparison.generator("three_point"))
        expected = three_point(holdout.rows, triples)
        found = [three_point(p.rows, triples) for p in judged]
        r = [pearson(f, expected) for f in found]
        slope = [_slope(f, expected) for f in found]
        metrics.append(Metric("ld", "three_point_r", r[0], r[1], len(triples), "correlation (triples)"))
        metrics.append(Metric("ld", "three_point_slope", slope[0], slope[1], len(triples), "ratio (triples)"))
    return FamilyResult(tuple(metrics), curves)
