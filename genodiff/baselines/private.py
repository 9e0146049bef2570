"""A Gaussian copula from moments under differential privacy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.filters import FilterReport
from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff.baselines import summary_of
from genodiff.baselines.gaussian import latent_precision
from genodiff.baselines.nearest import nearest_correlation
from genodiff.baselines.people import NewPeople
from genodiff.baselines.tetrachoric import latent_correlation
from genodiff.genotypes.units import Units, haplotypes_from, units_of
from genodiff.private.accountant import mu_of
from genodiff.private.moments import Moments, release
from genodiff.private.noise import secret, seeded
from genodiff.private.promise import PrivacyWarning

__all__ = ["DpGaussian"]

_BY_PEOPLE = ("non-diploid", "missing", "monomorphic", "maf")
"""Filters whose outcome depends on genotypes."""

_RIDGE = 1e-3
"""Part of a latent variable that its neighbours cannot tell: keeps the regression from one block to the next stable."""


def _complete(table: VariantTable, rng: np.random.Generator) -> Units:
    """Rows of a table; a heterozygous call without phase receives one by a coin, each person for themselves."""
    missing = int((table.haplotypes < 0).any(2).sum())
    if missing:
        raise InputError(
            f"{DpGaussian.name}: {missing:,} calls are missing: impute them from people who are not in the file, or "
            "leave these sites out"
        )
    units = units_of(table)
    return Units(units.phased_at_random(rng), ploidy=units.ploidy, per_person=units.per_person)


def _thresholds(frequency: NDArray[np.float64], *, ploidy: int, alleles: int) -> NDArray[np.float64]:
    """Φ⁻¹ of P(state ≥ 1 … ploidy) in Hardy–Weinberg proportions, (sites, ploidy), finite."""
    f = np.clip(frequency, 0.5 / alleles, 1 - 0.5 / alleles)
    at_least = f[:, None] if ploidy == 1 else np.stack([1 - np.square(1 - f), np.square(f)], axis=1)
    return np.asarray(ndtri(at_least))


def _correlation(
    moments: Moments, k: int, frequency: NDArray[np.float64], cut: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Latent correlations of the sites of block ``k`` and the next: a correlation matrix."""
    covariance, ploidy = moments.covariance(k), cut.shape[1]
    i, j = np.triu_indices(len(covariance), 1)
    product = ploidy * covariance[i, j] + ploidy**2 * frequency[i] * frequency[j]
    matrix = np.eye(len(covariance), dtype=np.float32)
    matrix[i, j] = matrix[j, i] = latent_correlation(product, cut[i], cut[j], count=moments.alleles / ploidy)
    loadings = nearest_correlation(matrix, latent_precision(matrix, cut.astype(np.float32))).loadings.astype(np.float64)
    out = loadings @ loadings.T
    np.fill_diagonal(out, 1)
    return np.asarray(out)


@dataclass(frozen=True)
class _Link:
    """One block of latent normals given the one before: zₖ₊₁ = B zₖ + L ε.

    Attributes:
        slope: B, (wₖ₊₁, wₖ); of width 0 for the first block.
        root: L, (wₖ₊₁, wₖ₊₁).
    """

    slope: NDArray[np.float32]
    root: NDArray[np.float32]


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """L with L Lᵀ = ``matrix``, whose negative eigenvalues are rounding."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _chain(moments: Moments, frequency: NDArray[np.float64], cut: NDArray[np.float64]) -> Iterator[_Link]:
    """The blocks of a Markov chain of latent normals with unit variances.

    Correlations of neighbours come from both of their blocks together. The covariance S of a block as it is drawn is
    carried along, so that the next one can be scaled to unit variance although two windows seldom agree on S.
    """
    start, drawn = 0, np.empty((0, 0))
    for k in range(max(1, len(moments.between))):
        width = len(moments.within[k])
        here = slice(start, start + sum(map(len, moments.within[k : k + 2])))
        start += width
        both = _correlation(moments, k, frequency[here], cut[here])
        one, beside, other = both[:width, :width], both[width:, :width], both[width:, width:]
        if not k:
            drawn = one
            yield _Link(np.empty((width, 0), np.float32), _root(one).astype(np.float32))
        if not len(other):
            return
        slope = np.linalg.solve(one + _RIDGE * np.eye(width), beside.T).T
        rest = other - slope @ beside.T
        drawn = slope @ drawn @ slope.T + rest
        scale = 1 / np.sqrt(np.diagonal(drawn))
        drawn *= np.outer(scale, scale)
        yield _Link((scale[:, None] * slope).astype(np.float32), (scale[:, None] * _root(rest)).astype(np.float32))


@dataclass(frozen=True)
class DpGaussian:
    """A Gaussian copula whose frequencies and correlations satisfy (ε, δ)-differential privacy.

    The unit is one person, whose genotypes are replaced by any others; the number of people, their labels, the sites
    and whether calls are phased are public. Two noisy sums are released, and nothing else is taken from the people
    (:mod:`genodiff.private.moments`): ALT alleles per site, and products of centred rows within blocks of neighbouring
    sites and of two neighbours. From these come latent normals as in
    :class:`genodiff.baselines.gaussian.GaussianCopula`, block after block as a Markov chain. As there, labels say
    nothing of genotypes.

    The noise is taken from the operating system, whatever the seed: who knew it could subtract it. The seed draws
    labels and people from what was released.
    """

    name: ClassVar[str] = "dp-gaussian"
    summary: ClassVar[str] = summary_of(name)

    epsilon: float = field(default=8.0, metadata={"help": "ε of the guarantee, positive; inf for no noise."})
    delta: float = field(default=1e-5, metadata={"help": "δ of the guarantee; must lie well below 1 / people."})
    share: float = field(default=0.3, metadata={"help": "Part of the budget (of μ²) for frequencies."})
    block_sites: int = field(default=32, metadata={"help": "Sites of a block; linkage is learned as far as the next."})
    clip: float = field(
        default=0.5, metadata={"help": "Largest root mean square of a centred row in a block; less is less noise."}
    )
    public_sites: bool = field(
        default=False, metadata={"help": "The list of sites is public, although filters looked at these people."}
    )
    noise_seed: int | None = field(
        default=None, metadata={"help": "For experiments: repeatable noise, which is no privacy at all."}
    )

    def __post_init__(self) -> None:
        self.mu  # noqa: B018 - refuses ε and δ outside their domains
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie in (0, 1), got {self.share}")
        if self.block_sites < 1:
            raise ValueError(f"block_sites must be at least 1, got {self.block_sites}")
        if not 0 < self.clip <= 1:
            raise ValueError(f"clip must lie in (0, 1], got {self.clip}")
        if self.noise_seed is not None and self.noise_seed < 0:
            raise ValueError(f"noise_seed must not be negative, got {self.noise_seed}")

    @property
    def mu(self) -> float:
        """Gaussian differential privacy of everything together (:mod:`genodiff.private.accountant`)."""
        return mu_of(self.epsilon, self.delta)

    def check_sites(self, filters: FilterReport) -> None:
        """Refuses sites that were chosen by looking at these people, unless they are public all the same.

        Raises:
            InputError: a filter on genotypes removed sites.
        """
        chosen = {reason: filters.removed[reason] for reason in _BY_PEOPLE if filters.removed.get(reason)}
        if chosen and not self.public_sites:
            what = ", ".join(f"{count:,} by {reason}" for reason, count in chosen.items())
            raise InputError(
                f"{filters.source}: {self.name} removed sites by looking at these people ({what}), which its guarantee "
                "does not cover: give a file of sites from a public list with --maf 0, or say --public-sites if the "
                "remaining list is public"
            )

    def concerns(self, people: int) -> list[str]:
        """Why the guarantee says little or nothing for this many people, in lines of text; often none."""
        out = []
        if self.delta >= 1 / people:
            out.append(
                f"delta {self.delta:g} is not below 1/{people:,}: publishing somebody whole would be allowed; "
                f"choose at most {0.01 / people:.0e}"
            )
        if math.isinf(self.epsilon):
            out.append("epsilon is infinite: there is no noise and no privacy")
        elif self.noise_seed is not None:
            out.append("the noise has a known seed: there is no privacy")
        return out

    def guarantee(self, people: int) -> list[str]:
        """What is promised for this many people and what is assumed, in lines of text."""
        void = math.isinf(self.epsilon) or self.noise_seed is not None
        promise = (
            f"({self.epsilon:g}, {self.delta:g})-differential privacy for the genotypes of one person of {people:,}; "
            "public are the sites, the number of people, their labels and whether they are phased"
        )
        return [*([] if void else [promise]), *self.concerns(people)]

    def moments(self, units: Units) -> Moments:
        """What is released of some people; every call spends the budget again."""
        noise = secret if self.noise_seed is None else seeded(self.noise_seed)
        return release(units, mu=self.mu, share=self.share, width=self.block_sites, clip=self.clip, noise=noise)

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
        """See :meth:`genodiff.baselines.Baseline.generate`; equal seeds give equal people only with ``noise_seed``.

        The sites of ``train`` are taken as public: whoever filtered them by these people has spent privacy that is not
        counted here. Warns with :class:`PrivacyWarning` where the guarantee is void or δ ≥ 1/people.
        """
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        for line in self.concerns(train.n_samples):
            warnings.warn(line, PrivacyWarning, stacklevel=2)
        # Of its own: one person without phase must not change which people are drawn from the moments.
        units = _complete(train, np.random.default_rng([seed, 1]))
        moments = self.moments(units)
        frequency = moments.frequency
        cut = _thresholds(frequency, ploidy=units.ploidy, alleles=moments.alleles)
        states = np.empty((n * units.per_person, train.n_variants), dtype=np.int8)
        links = _chain(moments, frequency, cut)
        start, before = 0, np.empty((len(states), 0), dtype=np.float32)
        for link in tqdm(links, total=len(moments.within), desc="blocks", unit="block", disable=not progress):
            here = slice(start, start + len(link.root))
            latent = before @ link.slope.T
            latent += rng.standard_normal(latent.shape, dtype=np.float32) @ link.root.T
            # By symmetry z < Φ⁻¹(f) is as likely as z > Φ⁻¹(1 − f), and correlations are the same.
            states[:, here] = (latent[:, :, None] < cut[here].astype(np.float32)).sum(2)
            start, before = here.stop, latent
        return people.table(haplotypes_from(states, ploidy=units.ploidy), phased=units.ploidy == 1)
