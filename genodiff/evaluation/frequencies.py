"""Allele and genotype frequencies, site by site, and the spectrum of allele counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from genodiff.evaluation.panels import Comparison, Panel
from genodiff.evaluation.results import FamilyResult, Metric

__all__ = ["RARE_MAF", "family", "genotype_frequencies", "pearson", "projected_spectrum", "spectrum_distance"]

RARE_MAF = 0.05
"""A site is rare where the minor allele frequency among held-out people is below this."""

SPECTRUM_SIZE = 100
"""Chromosomes that allele counts are projected to, at most."""


def pearson(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pearson correlation over the places where both are finite; NaN where one of them does not vary."""
    ok = np.isfinite(a) & np.isfinite(b)
    x, y = np.asarray(a, dtype=float)[ok], np.asarray(b, dtype=float)[ok]
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else float("nan")


def genotype_frequencies(dosage: NDArray[np.int8]) -> NDArray[np.float64]:
    """Frequencies of the dosages 0, 1 and 2 among called people.

    Args:
        dosage: int8 (people, sites), 0/1/2, −1 missing.

    Returns:
        (3, sites), summing to 1 over the first axis; NaN where nobody is called.
    """
    counts = np.stack([(dosage == k).sum(axis=0) for k in range(3)]).astype(float)
    total = counts.sum(axis=0)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)


def projected_spectrum(alt: NDArray[np.int64], called: NDArray[np.int64], *, size: int) -> NDArray[np.float64]:
    """Expected allele-count spectrum in a draw of ``size`` chromosomes.

    Projection by the hypergeometric law makes spectra of unequal numbers of people, and of sites with missing calls,
    comparable.

    Args:
        alt: ALT alleles per site, (sites,).
        called: called alleles per site, (sites,); sites with fewer than ``size`` are left out.
        size: chromosomes drawn.

    Returns:
        (size + 1,): share of sites with 0 … ``size`` ALT alleles in the draw; sums to 1.
    """
    used = called >= size
    pairs, weights = np.unique(np.stack([alt[used], called[used]]), axis=1, return_counts=True)
    if not pairs.shape[1]:
        return np.full(size + 1, np.nan)
    k, (d, n) = np.arange(size + 1), pairs[:, :, None].astype(float)
    possible = (k <= d) & (size - k <= n - d)
    law = np.zeros(possible.shape)
    law[possible] = np.exp(_log_choose(d, k) + _log_choose(n - d, size - k) - _log_choose(n, size))[possible]
    return weights @ law / weights.sum()


def _log_choose(n: NDArray[np.float64], k: Any) -> NDArray[np.float64]:
    """log C(n, k); any value where k is not in 0 … n."""
    k = np.clip(k, 0, n)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def spectrum_distance(a: Panel, b: Panel) -> float:
    """Total variation distance in [0, 1] between two projected allele-count spectra."""
    size = int(min(SPECTRUM_SIZE, a.called.max(), b.called.max()))
    if size < 1:
        return float("nan")
    p, q = (projected_spectrum(x.alt_count, x.called, size=size) for x in (a, b))
    return float(np.abs(p - q).sum() / 2)


def _against(panel: Panel, holdout: Panel) -> dict[str, tuple[float, int]]:
    """Every metric of the family for one panel against held-out people: name → (value, sites)."""
    difference = np.abs(panel.frequency - holdout.frequency)
    known = np.isfinite(difference)
    rare = known & (holdout.maf < RARE_MAF)
    genotypes = np.abs(genotype_frequencies(panel.dosage) - genotype_frequencies(holdout.dosage)).mean(axis=0)
    known_genotypes = np.isfinite(genotypes)

    def mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> tuple[float, int]:
        n = int(where.sum())
        return (float(values[where].mean()) if n else float("nan")), n

    return {
        "af_mae": mean(difference, known),
        "af_mae_rare": mean(difference, rare),
        "af_r": (pearson(panel.frequency, holdout.frequency), int(known.sum())),
        "af_r_rare": (pearson(panel.frequency[rare], holdout.frequency[rare]), int(rare.sum())),
        "genotype_frequency_mae": mean(genotypes, known_genotypes),
        "sfs_distance": (spectrum_distance(panel, holdout), int(known.sum())),
        "fixed_share": mean((~panel.polymorphic).astype(float), panel.called > 0),
    }


_UNITS = {
    "af_mae": "frequency (sites)",
    "af_mae_rare": "frequency (sites)",
    "af_r": "correlation (sites)",
    "af_r_rare": "correlation (sites)",
    "genotype_frequency_mae": "frequency (sites)",
    "sfs_distance": "total variation (sites)",
    "fixed_share": "share (sites)",
}


def family(comparison: Comparison) -> FamilyResult:
    """Frequencies of S against T, with R in the place of S as the floor.

    Metrics: ``af_mae`` and ``af_r`` (mean absolute difference and correlation of ALT frequencies), the same over sites
    with MAF below 5 % among held-out people (``_rare``), ``genotype_frequency_mae`` (mean over sites and dosages),
    ``sfs_distance`` (total variation between allele-count spectra) and ``fixed_share`` (sites with one allele only).

    Curves: ``allele_frequency``, a data frame with ``contig``, ``position``, ``holdout``, ``synthetic`` and
    ``train``.
    """
    value, floor = (_against(p, comparison.holdout) for p in (comparison.synthetic, comparison.train))
    metrics = tuple(
        Metric("frequencies", name, value[name][0], floor[name][0], value[name][1], unit)
        for name, unit in _UNITS.items()
    )
    pairs = pd.DataFrame(
        {
            "contig": comparison.sites["contig"].to_numpy(),
            "position": comparison.sites["position"].to_numpy(),
            "holdout": comparison.holdout.frequency,
            "synthetic": comparison.synthetic.frequency,
            "train": comparison.train.frequency,
        }
    )
    return FamilyResult(metrics, {"allele_frequency": pairs})
