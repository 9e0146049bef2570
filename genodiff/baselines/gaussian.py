"""Multivariate normals cut into alleles: once by rounding, once through thresholds (the Gaussian copula).

Both learn haplotypes where calls are phased and dosages otherwise, from all people together, and draw rows
independently of each other: two haplotypes of a person are paired at random, and the labels of the new people, in the
proportions of the input, say nothing of their genotypes. That is what these tools are where they are used in the field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff.baselines import summary_of
from genodiff.baselines.nearest import nearest_correlation
from genodiff.baselines.people import NewPeople, parts
from genodiff.baselines.tetrachoric import latent_correlation
from genodiff.core.bases import ledoit_wolf_intensity
from genodiff.genotypes.units import Units, haplotypes_from, units_of

__all__ = [
    "MAX_SITES",
    "GaussianCopula",
    "GaussianFit",
    "latent_precision",
    "ledoit_wolf_shrinkage",
    "tetrachoric_matrix",
]

MAX_SITES = 6_000
"""Sites of the copula: some minutes and 2 GB there."""

_PAIRS = 1 << 17
_RARE = 1e-9
"""Probability given to a genotype class nobody has, so that its threshold is finite."""


def _deviations(units: Units) -> NDArray[np.float32]:
    """States less the mean of their site, (rows, sites); 0 where unknown, which leaves means and signs as they are."""
    mean = units.frequency() * units.ploidy
    return np.where(units.states < 0, 0.0, units.states - mean).astype(np.float32)


def _new_states(new: NewPeople, units: Units) -> NDArray[np.int8]:
    """Room for the states of the new people, (rows, sites)."""
    count = sum(len(group.new) for group in new.groups) * units.per_person
    return np.empty((count, units.states.shape[1]), dtype=np.int8)


def ledoit_wolf_shrinkage(x: NDArray[np.float32]) -> tuple[float, float]:
    """Weight of the scaled identity in the covariance estimate of Ledoit and Wolf (2004), and its scale.

    The norm of S = XᵀX/n is taken from the n × n Gram matrix, so that cost is linear in the sites.

    Args:
        x: centred rows, (n, p).

    Returns:
        The weight in [0, 1], and m.
    """
    rows, sites = x.shape
    gram = torch.from_numpy((x @ x.T).astype(np.float64))
    mean = gram.trace() / rows / sites
    fourth, square = gram.diagonal().square().mean(), gram.square().sum() / rows**2
    return float(ledoit_wolf_intensity(fourth, square, mean, shape=x.shape)), float(mean)


@dataclass(frozen=True)
class GaussianFit:
    """A normal with the mean and the Ledoit–Wolf (2004) covariance of the rows, rounded to the nearest state.

    The estimate (1 − δ) S + δ m I is drawn from without being written down: √(1 − δ) Xᵀw/√n + √(δ m) ε with normal w
    (rows) and ε (sites). Unknown states stand at the mean. Rounding makes an allele ALT with probability
    Φ((f − ½)/σ) in place of f, far too seldom where it is rare: that is a property of the method.
    """

    name: ClassVar[str] = "gaussian"
    summary: ClassVar[str] = summary_of(name)

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """See :meth:`genodiff.baselines.Baseline.generate`."""
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        units = units_of(train)
        x = _deviations(units)
        shrinkage, scale = ledoit_wolf_shrinkage(x)
        mean = (units.frequency() * units.ploidy).astype(np.float32)
        x *= np.float32(np.sqrt((1 - shrinkage) / len(x)))
        states = _new_states(people, units)
        for part in parts(np.arange(len(states)), states.shape[1]):
            drawn = rng.standard_normal((len(part), len(x)), dtype=np.float32) @ x
            drawn += np.float32(np.sqrt(shrinkage * scale)) * rng.standard_normal(drawn.shape, dtype=np.float32)
            states[part] = np.clip(np.rint(drawn + mean), 0, units.ploidy)
        return people.table(haplotypes_from(states, ploidy=units.ploidy), phased=units.ploidy == 1)


def _thresholds(units: Units) -> NDArray[np.float64]:
    """Φ⁻¹ of the probability that a state is at least 1 … ploidy, (sites, ploidy)."""
    if units.ploidy == 1:
        at_least = units.frequency()[:, None]
    else:
        known = np.maximum((units.states >= 0).sum(0), 1)
        at_least = np.stack([(units.states >= k).sum(0) / known for k in (1, 2)], axis=1)
    return ndtri(np.clip(at_least, _RARE, 1 - _RARE))


def tetrachoric_matrix(units: Units, *, progress: bool = False) -> NDArray[np.float32]:
    """Latent correlation of every pair of sites, float32 (sites, sites): tetrachoric, or that of dosages.

    A pair uses the rows in which both states are known. Cells of the two-by-two table that are empty count half a row
    (:func:`genodiff.baselines.tetrachoric.latent_correlation`).
    """
    x = _deviations(units)
    known = (units.states >= 0).astype(np.float32)
    complete = bool(known.all())
    mean = units.frequency() * units.ploidy
    cut = _thresholds(units)
    sites = len(mean)
    out = np.eye(sites, dtype=np.float32)
    varies = (x != 0).any(0)
    step = max(1, _PAIRS // sites)
    for start in tqdm(range(0, sites, step), desc="correlations", unit="block", disable=not progress):
        first = np.arange(start, min(start + step, sites))
        # Whole numbers below 2²⁴ are exact in float32; deviations are not, but their rounding is far below 1/n.
        both = np.full((len(first), sites - start), float(len(x)))
        if not complete:
            both = np.maximum((known[:, first].T @ known[:, start:]).astype(np.float64), 1)
        products = (x[:, first].T @ x[:, start:]).astype(np.float64) / both
        products += mean[first, None] * mean[None, start:]
        i, j = np.nonzero(first[:, None] < np.arange(start, sites))
        i, j = i[varies[first[i]] & varies[start + j]], j[varies[first[i]] & varies[start + j]]
        rho = latent_correlation(products[i, j], cut[first[i]], cut[start + j], count=both[i, j])
        out[first[i], start + j] = out[start + j, first[i]] = rho
    return out


def latent_precision(matrix: NDArray[np.float32], cut: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inverse sampling variance of every latent correlation up to a factor, (sites, sites).

    An orthant probability is known with a variance in proportion to p(1 − p) q(1 − q), and changes with ρ by the normal
    density φ₂ (Plackett 1954): φ₂² / (p(1 − p) q(1 − q)), the diagonal weights of Muthén (1984). The density is taken
    at a ρ no farther than ½ from 0, since it explodes at the extremes, where estimates are least sure of themselves.
    For dosages the first threshold of each site stands for both.
    """
    a = cut[:, 0]
    rho = np.clip(matrix, -0.5, 0.5)
    rest = 1 - np.square(rho)
    form = (np.square(a)[:, None] + np.square(a)[None, :] - 2 * rho * np.outer(a, a)) / rest
    spread = ndtr(a) * ndtr(-a)
    out: NDArray[np.float32] = np.exp(-form) / rest / np.outer(spread, spread)
    return out


@dataclass(frozen=True)
class GaussianCopula:
    """Latent normals with tetrachoric correlations, cut at the allele frequencies.

    An allele is ALT where a standard normal exceeds Φ⁻¹(1 − f); a pair of sites has the latent correlation for which
    the normals give back how often both are ALT (unphased dosages: two thresholds at the genotype frequencies, and the
    correlation that gives back the covariance). Frequencies and all pairs of sites would be exact, were the matrix of
    these correlations positive semi-definite. Pairwise estimates are not, and those of linked sites least of all: where
    one of the four haplotypes of two sites is absent, as it is wherever there was no recombination, the estimate lies
    next to ±1, and no normal has all of these at once. The matrix used is the nearest correlation matrix
    (:func:`genodiff.baselines.nearest.nearest_correlation`: eigenvalue clipping where that is close, a fit weighted by
    the precision of the estimates where it is not). Frequencies stay exact; correlations lose what has no place.

    At most 6,000 sites; from all people together.
    """

    name: ClassVar[str] = "gaussian-copula"
    summary: ClassVar[str] = summary_of(name)

    max_sites: int = field(
        default=MAX_SITES, metadata={"help": "Refuse more sites than this; time grows with their cube."}
    )

    def __post_init__(self) -> None:
        if self.max_sites < 1:
            raise ValueError(f"max_sites must be at least 1, got {self.max_sites}")

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """See :meth:`genodiff.baselines.Baseline.generate`."""
        if train.n_variants > self.max_sites:
            raise InputError(
                f"{self.name} takes at most {self.max_sites:,} sites, here are {train.n_variants:,}: choose a smaller "
                "--region or a higher --maf"
            )
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        units = units_of(train)
        cut = _thresholds(units).astype(np.float32)
        matrix = tetrachoric_matrix(units, progress=progress)
        factors = nearest_correlation(matrix, latent_precision(matrix, cut), progress=progress)
        states = _new_states(people, units)
        for part in parts(np.arange(len(states)), states.shape[1]):
            latent = factors.draw(len(part), rng)
            # By symmetry z < Φ⁻¹(f) is as likely as z > Φ⁻¹(1 − f), and correlations are the same.
            states[part] = (latent[:, :, None] < cut).sum(2)
        return people.table(haplotypes_from(states, ploidy=units.ploidy), phased=units.ploidy == 1)
