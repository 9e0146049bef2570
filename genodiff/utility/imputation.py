"""Imputation: how well the alleles that an array does not type are guessed from a synthetic reference panel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, Panel
from genodiff.evaluation.results import FamilyResult, Metric
from genodiff.utility.beagle import Beagle
from genodiff.utility.errors import Unmeasurable
from genodiff.utility.groups import groups_of, with_interval

__all__ = ["ARRAY_MAF", "ARRAY_SHARE", "MAF_EDGES", "array_sites", "family", "maf_bins", "pooled_r2", "site_r2"]

MAF_EDGES = (0.005, 0.01, 0.02, 0.05, 0.10, 0.20, 0.50)
"""Limits of the bins of minor-allele frequency among held-out people; the lower one belongs to a bin."""

ARRAY_MAF = 0.05
"""A site may be on the array where its minor allele is at least this frequent among training people."""

ARRAY_SHARE = 0.10
"""Share of all sites that the array types."""

MIN_ARRAY = 2
"""Fewer typed sites say nothing of the sites between them."""


def array_sites(
    maf: NDArray[np.float64], usable: NDArray[np.bool_], *, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Sites of an array: evenly one of every so many common ones, from a random start.

    The step is chosen so that a tenth of *all* sites is typed, as far as there are common ones.

    Args:
        maf: minor-allele frequency, (sites,), in [0, ½].
        usable: whether a site can be typed at all, (sites,).
        generator: source of the start.

    Returns:
        ascending site indices.
    """
    common = np.flatnonzero(usable & (maf >= ARRAY_MAF))
    step = max(1, round(len(common) / max(1.0, ARRAY_SHARE * len(maf))))
    return common[int(generator.integers(step)) :: step]


def site_r2(imputed: NDArray[np.floating], truth: NDArray[np.int8]) -> NDArray[np.float64]:
    """Squared correlation of imputed and true dosage over the people called, site by site.

    Args:
        imputed: (people, sites), in [0, 2].
        truth: int8 (people, sites), 0/1/2, −1 missing.

    Returns:
        (sites,) in [0, 1]: 0 where the imputed dosage is the same for everybody, NaN where the truth is.
    """
    return _site_r2(_sums(imputed, truth))


def pooled_r2(imputed: NDArray[np.floating], truth: NDArray[np.int8]) -> float:
    """Squared correlation of imputed and true dosage over people and sites at once, in [0, 1].

    Both are centred at every site, so that differences of frequency *between* sites do not count as imputed. 0 where
    the imputed dosage of every site is the same for everybody, NaN where the truth is.
    """
    return _pooled_r2(_sums(imputed, truth))


def _sums(imputed: NDArray[np.floating], truth: NDArray[np.int8]) -> NDArray[np.float64]:
    """Sums over the people called of 1, x, y, x², y² and xy, (6, sites); those of two sets of people add up."""
    called = truth >= 0
    x, y = (np.where(called, np.asarray(v, dtype=np.float64), 0.0) for v in (imputed, truth))
    return np.stack([v.sum(axis=0) for v in (called.astype(np.float64), x, y, x * x, y * y, x * y)])


def _moments(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Σxy, Σx² and Σy² about the means, (sites,)."""
    n, x, y, xx, yy, xy = sums
    n = np.maximum(n, 1)
    # A column of equal decimals keeps a variance of rounding size.
    var_x, var_y = (np.where((v := squares - total**2 / n) > 1e-9 * n, v, 0.0) for total, squares in ((x, xx), (y, yy)))
    return xy - x * y / n, var_x, var_y


def _site_r2(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    covariance, var_x, var_y = _moments(sums)
    r2 = np.divide(covariance**2, var_x * var_y, out=np.zeros(len(var_y)), where=(var_x > 0) & (var_y > 0))
    return np.where(var_y > 0, np.minimum(r2, 1.0), np.nan)


def _pooled_r2(sums: NDArray[np.float64]) -> float:
    covariance, var_x, var_y = (moment.sum() for moment in _moments(sums))
    if not var_y:
        return float("nan")
    return min(1.0, float(covariance**2 / (var_x * var_y))) if var_x else 0.0


def maf_bins(maf: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of :data:`MAF_EDGES` of every site, (sites,); −1 below the lowest limit or where the frequency is NaN."""
    inner = np.digitize(np.nan_to_num(maf, nan=0.0), MAF_EDGES[:-1]) - 1
    return np.asarray(inner, dtype=np.int64)


def _bin_names() -> list[str]:
    percent = [f"{100 * edge:g}" for edge in MAF_EDGES]
    return [f"{low}–{high} %" for low, high in pairwise(percent)]


def _table(comparison: Comparison, panel: Panel, *, filled: bool) -> VariantTable:
    """A panel of haplotypes as a table, everybody phased."""
    rows = panel.filled if filled else panel.rows
    people = pd.DataFrame(index=[str(i) for i in range(panel.n_people)])
    return VariantTable(
        haplotypes=np.ascontiguousarray(rows.reshape(panel.n_people, 2, -1).transpose(0, 2, 1)),
        sites=comparison.sites[["contig", "position", "id", "ref", "alt"]],
        samples=people,
    )


def family(comparison: Comparison, *, beagle: Beagle) -> FamilyResult:
    """Imputation of T from S as the reference panel, with as many people of R in its place as the floor.

    T keeps a tenth of the sites, evenly spaced among those common in R and called in everybody of T; their phase is
    kept, so that imputation alone is judged and not phasing. All other sites of T with a minor-allele frequency of at
    least .5 % are judged by the squared correlation of imputed and true dosage.

    Metrics: ``imputation_r2`` (mean over sites), ``imputation_r2_ratio`` (over the floor), ``imputation_r2_pooled``
    (over sites and people at once) and ``imputation_r2_maf_*`` (mean by bin of minor-allele frequency in T). The first
    three have intervals over the people of T.

    Curves: ``imputation``, a data frame by bin: ``maf``, ``sites``, ``synthetic``, ``real``, ``ratio``.

    Raises:
        Unmeasurable: no Beagle, no phase, or too few sites.
    """
    beagle.require()
    if comparison.holdout.rows_per_person != 2:
        raise Unmeasurable("imputation needs phased genotypes of synthetic, training and held-out people: phase them")
    truth = comparison.holdout.dosage
    typed = array_sites(
        comparison.train.maf, np.asarray((truth >= 0).all(axis=0)), generator=comparison.generator("imputation array")
    )
    judged = np.setdiff1d(np.flatnonzero(maf_bins(comparison.holdout.maf) >= 0), typed)
    if len(typed) < MIN_ARRAY or not len(judged):
        raise Unmeasurable(
            f"imputation needs at least {MIN_ARRAY} common sites to type and others to guess: {comparison.n_sites:,} "
            f"sites in common give {len(typed)} and {len(judged)}; give a wider --region"
        )
    target = _table(comparison, comparison.holdout, filled=False).select(variants=typed)
    found = {}
    for name, panel in (("synthetic", comparison.synthetic), ("real", comparison.train)):
        reference = _table(comparison, panel, filled=True)
        imputed = beagle.impute(reference, target, cm=comparison.cm, seed=comparison.seed)
        found[name] = imputed[:, judged]
    truth, maf = truth[:, judged], comparison.holdout.maf[judged]
    # By group of people: the sums of everybody but one group are a difference.
    groups = groups_of(comparison)
    parts = {name: np.stack([_sums(x[g], truth[g]) for g in groups]) for name, x in found.items()}
    total = {name: part.sum(axis=0) for name, part in parts.items()}
    r2 = {name: _site_r2(sums) for name, sums in total.items()}
    pooled = {name: _pooled_r2(sums) for name, sums in total.items()}
    mean = {name: float(values.mean()) for name, values in r2.items()}
    without = {name: np.array([np.nanmean(_site_r2(total[name] - part)) for part in parts[name]]) for name in found}
    pooled_without = np.array([_pooled_r2(total["synthetic"] - part) for part in parts["synthetic"]])
    n, unit = len(judged), "r² (sites)"
    ratio = mean["synthetic"] / mean["real"] if mean["real"] > 0 else float("nan")
    ratios = without["synthetic"] / np.where(without["real"] > 0, without["real"], np.nan)
    plain = Metric("imputation", "imputation_r2", mean["synthetic"], mean["real"], n, unit)
    over_real = Metric("imputation", "imputation_r2_ratio", ratio, 1.0, n, "ratio (sites)")
    at_once = Metric("imputation", "imputation_r2_pooled", pooled["synthetic"], pooled["real"], n, unit)
    metrics = [
        with_interval(plain, without["synthetic"]),
        with_interval(over_real, ratios),
        with_interval(at_once, pooled_without),
        Metric("imputation", "imputation_array_sites", len(typed), float("nan"), comparison.n_sites, "sites (sites)"),
    ]
    rows = []
    for k, name in enumerate(_bin_names()):
        inside = maf_bins(maf) == k
        count = int(inside.sum())
        a, b = (float(r2[who][inside].mean()) if count else float("nan") for who in ("synthetic", "real"))
        rows.append((name, count, a, b, a / b if count and b > 0 else float("nan")))
        low, high = (f"{100 * edge:g}" for edge in MAF_EDGES[k : k + 2])
        metrics.append(Metric("imputation", f"imputation_r2_maf_{low}_{high}", a, b, count, unit))
    curve = pd.DataFrame(rows, columns=["maf", "sites", "synthetic", "real", "ratio"])
    return FamilyResult(tuple(metrics), {"imputation": curve})
