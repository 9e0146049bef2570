"""Simulated additive traits whose causal sites and effects are known and the same for everybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genodiff.evaluation.panels import Comparison
from genodiff.utility.dosages import centred
from genodiff.utility.errors import Unmeasurable

__all__ = ["CAUSAL", "CAUSAL_MAF", "HERITABILITY", "Traits", "simulate_traits", "traits_of"]

HERITABILITY = (0.03, 0.1, 0.4)
CAUSAL = (1, 5, 20)
REPLICATES = 30
CAUSAL_MAF = 0.05
"""A causal site has at least this minor-allele frequency among training and among held-out people."""


@dataclass(frozen=True)
class Traits:
    """Traits y = Xβ + e with the same effects β and the same variance of e in whoever carries them.

    Attributes:
        effects: β, (traits, sites), per ALT allele; 0 at a site that is not causal.
        heritability: share of the variance among held-out people that is genetic, (traits,), in (0, 1).
        noise_sd: standard deviation of e, (traits,).
        setting: (traits, 2): heritability and number of causal sites.
    """

    effects: NDArray[np.float64]
    heritability: NDArray[np.float64]
    noise_sd: NDArray[np.float64]
    setting: NDArray[np.float64]

    def genetic(self, dosage: NDArray[np.int8]) -> NDArray[np.float64]:
        """True genetic values Xβ, (people, traits), up to a constant by trait; a missing call counts as the mean."""
        return centred(dosage) @ self.effects.T

    def values(self, dosage: NDArray[np.int8], *, generator: np.random.Generator) -> NDArray[np.float64]:
        """The traits of some people, (people, traits), up to a constant by trait."""
        noise = generator.standard_normal((len(dosage), len(self.effects)))
        return self.genetic(dosage) + noise * self.noise_sd

    def score(self, dosage: NDArray[np.int8], *, fill: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores Xβ with constant, (people, traits); a missing call counts as ``fill`` (sites,)."""
        return np.where(dosage >= 0, dosage, fill) @ self.effects.T


def simulate_traits(
    dosage: NDArray[np.int8],
    eligible: NDArray[np.bool_],
    *,
    generator: np.random.Generator,
    heritability: tuple[float, ...] = HERITABILITY,
    causal: tuple[int, ...] = CAUSAL,
    replicates: int = REPLICATES,
) -> Traits:
    """Traits of every heritability and number of causal sites.

    Causal sites are drawn among the eligible ones; an effect is normal with variance 1 / 2p(1 − p), so that a rarer
    allele has the larger effect and every causal site the same expected share of the variance.

    Args:
        dosage: int8 (people, sites) of the people in whom the heritability holds.
        eligible: sites that may be causal, (sites,); polymorphic in ``dosage``.
        generator: source of sites and effects.
        heritability: each in (0, 1).
        causal: numbers of causal sites.
        replicates: traits of each kind.

    Raises:
        Unmeasurable: fewer eligible sites than causal ones.
    """
    places = np.flatnonzero(eligible)
    if len(places) < max(causal):
        raise Unmeasurable(
            f"simulated traits need at least {max(causal)} sites with a minor-allele frequency of {CAUSAL_MAF:g} among "
            f"training and held-out people, there are {len(places)}: give a wider --region"
        )
    called = dosage >= 0
    p = np.where(called, dosage, 0).sum(axis=0) / (2 * np.maximum(called.sum(axis=0), 1))
    setting = np.array([(h, k) for h in heritability for k in causal for _ in range(replicates)], dtype=np.float64)
    effects = np.zeros((len(setting), dosage.shape[1]))
    for row, (_, k) in zip(effects, setting, strict=True):
        chosen = generator.choice(places, int(k), replace=False)
        row[chosen] = generator.standard_normal(int(k)) / np.sqrt(2 * p[chosen] * (1 - p[chosen]))
    variance = np.var(centred(dosage) @ effects.T, axis=0)
    h2 = setting[:, 0]
    return Traits(effects, h2, np.sqrt(variance * (1 - h2) / h2), setting)


def traits_of(comparison: Comparison) -> Traits:
    """The traits of a comparison: those of association and those of scores are the same."""
    eligible = (comparison.train.maf >= CAUSAL_MAF) & (comparison.holdout.maf >= CAUSAL_MAF)
    return simulate_traits(comparison.holdout.dosage, eligible, generator=comparison.generator("traits"))
