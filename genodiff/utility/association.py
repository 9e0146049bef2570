"""Association: the same traits studied in synthetic and in real people, effects and discoveries compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from genodiff.evaluation.frequencies import pearson
from genodiff.evaluation.panels import Comparison
from genodiff.evaluation.results import FamilyResult, Metric
from genodiff.utility.dosages import centred, correlation
from genodiff.utility.errors import Unmeasurable
from genodiff.utility.traits import Traits, traits_of

__all__ = ["Associations", "family", "found", "regress"]

TESTED_MAF = 0.01
"""A site is tested where its minor allele is at least this frequent among held-out people."""

LEVEL = 0.05
"""Level of a test: of one site under a null trait, of all sites together (Bonferroni) for a discovery."""

LOCUS_R2 = 0.5
"""A causal site is found where a site in at least this r² with it, among held-out people, is significant."""

NULL_TRAITS = 1_000

_TRAITS = 100
_CAUSAL = 256


@dataclass(frozen=True)
class Associations:
    """Single-site linear regressions of traits on dosage, with an intercept.

    Attributes:
        beta: effect per ALT allele, (traits, sites).
        z: effect over its standard error (Student's t), (traits, sites).
        p: two-sided p-value with n − 2 degrees of freedom, (traits, sites).

    All are NaN at a site that does not vary.
    """

    beta: NDArray[np.float64]
    z: NDArray[np.float64]
    p: NDArray[np.float64]

    @property
    def se(self) -> NDArray[np.float64]:
        """Standard error of the effect, (traits, sites)."""
        return self.beta / self.z


def regress(dosage: NDArray[np.int8], traits: NDArray[np.float64]) -> Associations:
    """Ordinary least squares of every trait on every site.

    Args:
        dosage: int8 (people, sites), 0/1/2; a missing call (−1) counts as the mean.
        traits: (people, traits).

    Raises:
        ValueError: fewer than three people, or traits of other people.
    """
    n = len(dosage)
    if n < 3 or len(traits) != n:
        raise ValueError(f"regression needs at least 3 people and a trait of each: {n} people, {len(traits)} traits")
    x, y = centred(dosage), traits - traits.mean(axis=0)
    sxx, syy, sxy = (x * x).sum(axis=0), (y * y).sum(axis=0)[:, None], y.T @ x
    varies = np.broadcast_to(sxx > 0, sxy.shape)
    beta = np.divide(sxy, sxx, out=np.full(sxy.shape, np.nan), where=varies)
    residual = np.maximum(syy - sxy * beta, 0.0)
    with np.errstate(divide="ignore"):  # a trait that is the dosage itself
        z = np.sign(beta) * np.sqrt(beta * beta * sxx * (n - 2) / residual)
    return Associations(beta, z, 2 * student.sf(np.abs(z), n - 2))


def found(
    p: NDArray[np.float64], x: NDArray[np.float64], causal: NDArray[np.bool_], *, level: float
) -> NDArray[np.bool_]:
    """Which causal sites have a significant site in LD, themselves among them.

    Args:
        p: (traits, sites), NaN where not tested.
        x: dosages of the people whose LD counts, (people, sites).
        causal: (traits, sites).
        level: of one test.

    Returns:
        (traits, sites); false at a site that is not causal.
    """
    significant = (np.nan_to_num(p, nan=1.0) < level).astype(np.float32)
    out = np.zeros(causal.shape, dtype=bool)
    sites = np.flatnonzero(causal.any(axis=0))
    for start in range(0, len(sites), _CAUSAL):
        block = sites[start : start + _CAUSAL]
        near = np.nan_to_num(correlation(x[:, block], x) ** 2) >= LOCUS_R2
        out[:, block] = significant @ near.T.astype(np.float32) > 0
    return out & causal


def _false_positives(dosage: NDArray[np.int8], *, generator: np.random.Generator) -> float:
    """Share of p below the level for traits of noise alone."""
    shares = []
    for _ in range(NULL_TRAITS // _TRAITS):
        p = regress(dosage, generator.standard_normal((len(dosage), _TRAITS))).p
        tested = np.isfinite(p)
        shares.append((p[tested] < LEVEL).sum() / max(1, tested.sum()))
    return float(np.mean(shares))


def _mean_r(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation over sites, trait by trait, (traits,).

    At a site that does not vary a study finds an effect of 0; a study that finds nothing anywhere has correlation 0.
    """
    pairs = zip(np.nan_to_num(a), np.nan_to_num(b), strict=True)
    return np.nan_to_num([pearson(x, y) for x, y in pairs])


def family(comparison: Comparison) -> FamilyResult:
    """Studies of simulated traits in S against the same in T, with R in the place of S as the floor.

    All three sets have equally many people. Effects are the same in all of them; noise is drawn anew in T, and shared
    by S and R, so that a figure and its floor differ by genotypes alone.

    Metrics: ``association_effect_r`` and ``association_z_r`` (correlation over sites of estimated effects, and of z,
    with those in T; mean over traits), ``association_power`` (share of causal sites with a significant site in r² ≥ ½,
    Bonferroni over sites), ``association_power_holdout`` (the same in T itself) and ``association_false_positives``
    (share of p < .05 for traits of noise alone; .05 but for the draw, whatever the genotypes: it checks the test).

    Curves: ``association``, a data frame by kind of trait (``heritability``, ``causal``, ``effect_r``,
    ``effect_r_real``, ``z_r``, ``z_r_real``, ``power``, ``power_real``, ``power_holdout``).

    Raises:
        Unmeasurable: too few people or common sites.
    """
    n = min(comparison.holdout.n_people, comparison.synthetic.n_people)
    if n < 20:
        raise Unmeasurable(f"association needs at least 20 people in every file, there are {n}: give more")
    tested = np.flatnonzero(comparison.holdout.maf >= TESTED_MAF)
    traits = _at(traits_of(comparison), tested)
    causal = traits.effects != 0
    level = LEVEL / len(tested)
    # One name for S and R: with S = R the same people are drawn, and every figure equals its floor.
    sets = {
        "synthetic": (comparison.synthetic, "association panel"),
        "real": (comparison.train, "association panel"),
        "holdout": (comparison.holdout, "association holdout"),
    }
    studies, false = {}, {}
    for name, (panel, stream) in sets.items():
        generator = comparison.generator(stream)
        dosage = panel.draw(n, generator).dosage[:, tested]
        studies[name] = regress(dosage, traits.values(dosage, generator=comparison.generator(f"{stream} noise")))
        false[name] = _false_positives(dosage, generator=comparison.generator(f"{stream} null"))
    x = centred(comparison.holdout.dosage[:, tested])
    reached = {name: found(study.p, x, causal, level=level) for name, study in studies.items()}
    held = studies["holdout"]
    by_trait = {}
    for name in ("synthetic", "real"):
        by_trait[f"effect_r {name}"] = _mean_r(studies[name].beta, held.beta)
        by_trait[f"z_r {name}"] = _mean_r(studies[name].z, held.z)
    mean = {key: float(values.mean()) for key, values in by_trait.items()}
    power = {name: float(sites[causal].mean()) for name, sites in reached.items()}
    m, loci, nan = len(tested), int(causal.sum()), float("nan")
    metrics = (
        Metric("association", "association_effect_r", mean["effect_r synthetic"], mean["effect_r real"], m,
               "correlation (sites)"),
        Metric("association", "association_z_r", mean["z_r synthetic"], mean["z_r real"], m, "correlation (sites)"),
        Metric("association", "association_power", power["synthetic"], power["real"], loci, "share (causal sites)"),
        Metric("association", "association_power_holdout", power["holdout"], nan, loci, "share (causal sites)"),
        Metric("association", "association_false_positives", false["synthetic"], false["real"], m * NULL_TRAITS,
               "share (tests)"),
    )  # fmt: skip
    rows = []
    for h2, k in np.unique(traits.setting, axis=0):
        mine = (traits.setting == (h2, k)).all(axis=1)
        shares = [float(sites[mine][causal[mine]].mean()) for sites in reached.values()]
        rows.append((h2, int(k), *(float(values[mine].mean()) for values in by_trait.values()), *shares))
    columns = ["heritability", "causal", "effect_r", "z_r", "effect_r_real", "z_r_real"]
    curve = pd.DataFrame(rows, columns=[*columns, "power", "power_real", "power_holdout"])
    return FamilyResult(metrics, {"association": curve})


def _at(traits: Traits, sites: NDArray[np.intp]) -> Traits:
    """The traits at some sites, all causal ones among them."""
    return Traits(traits.effects[:, sites], traits.heritability, traits.noise_sd, traits.setting)
