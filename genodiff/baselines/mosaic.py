"""New haplotypes as mosaics of those learned from: Li and Stephens as in HAPGEN2, and HAPNEST.

Both copy within the label and make the two haplotypes of a person independently. Missing alleles of the people learned
from are filled first, see :func:`genodiff.baselines.people.complete_haplotypes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff.baselines import summary_of
from genodiff.baselines.people import NewPeople, complete_haplotypes, parts, rows_of

__all__ = ["Hapnest", "LiStephens", "copying_paths", "mutation_age", "segment_paths", "watterson_theta"]

_MOST_SEGMENTS = (100, 1000)
"""Segments per haplotype that may be expected: so many per site, and so many more. Far beyond them a segment holds no
two sites, and drawing them takes for ever."""

_RATE_HELP = "Recombination rate in cM per Mb where there is no genetic map."


def _positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value}")


def _require_phase(train: VariantTable, name: str) -> None:
    if not train.is_phased:
        raise InputError(
            f"{name} copies haplotypes, and these calls are not phased: phase them first (Beagle, SHAPEIT), or choose "
            "gaussian-copula or bootstrap"
        )


def _centimorgans(train: VariantTable, genetic_map: GeneticMap | None, rate: float, name: str) -> NDArray[np.float64]:
    """Genetic position of every site, (sites,), cM."""
    contigs = train.sites["contig"].unique()
    if len(contigs) > 1:
        raise InputError(f"{name} takes one contig, here are {', '.join(map(str, contigs[:8]))}: choose a --region")
    position = train.sites["position"].to_numpy(dtype=np.float64)
    return position * (rate / 1e6) if genetic_map is None else genetic_map.cM(position)


def watterson_theta(n: int) -> float:
    """θ = 1 / Σ 1/i, i = 1 … n − 1: one mutation is expected among n haplotypes at a site (Li and Stephens 2003)."""
    return 1 / float((1 / np.arange(1, max(n, 2))).sum())


def copying_paths(
    switch: NDArray[np.float64], references: int, size: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Whom each new haplotype copies at each site, (size, sites).

    Args:
        switch: probability of drawing the haplotype copied anew between neighbouring sites, (sites − 1,).
        references: number of haplotypes to choose from; a new draw is uniform over all of them, also the present one.
        size: number of new haplotypes.
        rng: source of randomness.
    """
    starts = np.ones((size, len(switch) + 1), dtype=bool)
    starts[:, 1:] = rng.random((size, len(switch))) < switch
    drawn = rng.integers(references, size=int(starts.sum()), dtype=np.int32)
    return drawn[np.cumsum(starts.ravel()) - 1].reshape(starts.shape)


@dataclass(frozen=True)
class LiStephens:
    """The copying model of Li and Stephens (2003) run forwards, as HAPGEN2 (Su, Marchini and Donnelly 2011) does.

    A new haplotype starts as a copy of one of the n haplotypes of its label. Between sites r Morgans apart it turns to
    a haplotype drawn uniformly among the n (the present one included) with probability 1 − exp(−4 Nₑ r / n). With
    θ = 1 / Σᵢ₌₁ⁿ⁻¹ 1/i an allele is copied as it is with probability n / (n + θ) and drawn from the two alleles
    otherwise: it differs with probability θ / (2 (n + θ)). New haplotypes do not join the reference.

    Nₑ = 11,418 is what the authors of HAPGEN2 give for the CEU sample of HapMap.
    """

    name: ClassVar[str] = "li-stephens"
    summary: ClassVar[str] = summary_of(name)

    ne: float = field(default=11_418.0, metadata={"help": "Effective population size: more means shorter pieces."})
    mutation: bool = field(default=True, metadata={"help": "Copy imperfectly."})
    rate_cm_per_mb: float = field(default=1.0, metadata={"help": _RATE_HELP})

    def __post_init__(self) -> None:
        if not (np.isfinite(self.ne) and self.ne >= 0):
            raise ValueError(f"ne must not be negative, got {self.ne}")
        _positive(rate_cm_per_mb=self.rate_cm_per_mb)

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
        _require_phase(train, self.name)
        morgans = np.diff(_centimorgans(train, genetic_map, self.rate_cm_per_mb, self.name)) / 100
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        every = complete_haplotypes(people, rng)
        sites = np.arange(train.n_variants)
        out = np.empty((2 * n, len(sites)), dtype=np.int8)
        for group in people.groups:
            reference = every[rows_of(group.train)]
            count = len(reference)
            theta = watterson_theta(count)
            switch = -np.expm1(-4 * self.ne * morgans / count)
            for part in parts(rows_of(group.new), len(sites)):
                copied = reference[copying_paths(switch, count, len(part), rng), sites]
                if self.mutation:
                    copied ^= rng.random(copied.shape) < theta / (2 * (count + theta))
                out[part] = copied
        return people.table(out.reshape(n, 2, -1).transpose(0, 2, 1), phased=True)


def mutation_age(frequency: NDArray[np.float64], ne: float) -> NDArray[np.float64]:
    """Expected age of a neutral allele, −4 Nₑ f ln f / (1 − f) generations (Kimura and Ohta 1973); 0 at f = 0."""
    f = np.clip(frequency, 0, 1 - 1e-12)
    return -4 * ne * f * np.log(np.maximum(f, 1e-300)) / (1 - f)


def segment_paths(
    centimorgan: NDArray[np.float64],
    references: int,
    size: int,
    *,
    scale: float,
    rho: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Whom each new haplotype copies at each site, and how long ago they parted.

    Segments follow each other from the first site on: an age T from a Gamma distribution of shape 2, a length from an
    exponential with rate 2 T ρ, a haplotype drawn uniformly. Averaged over ages a segment is longer than x cM with
    probability (1 + 2 ρ · scale · x)⁻², its mean length is 1 / (2 ρ · scale). Long segments are young: the age of the
    one that covers a given place, away from the first site, is exponential with mean ``scale``.

    Args:
        centimorgan: genetic positions of the sites, never decreasing, (sites,).
        references: number of haplotypes to choose from.
        size: number of new haplotypes.
        scale: scale of the Gamma distribution, generations; the mean age is twice that.
        rho: recombination per cM and generation.
        rng: source of randomness.

    Returns:
        Index of the haplotype copied, and the age in generations, (size, sites) each.
    """
    row, start = np.arange(size), np.full(size, centimorgan[0])
    rows, firsts, ages = [], [], []
    while len(row):
        age = rng.gamma(2.0, scale, size=len(row))
        rows.append(row)
        firsts.append(np.searchsorted(centimorgan, start))
        ages.append(age)
        start = start + rng.exponential(1 / (2 * age * rho))
        inside = start <= centimorgan[-1]
        row, start = row[inside], start[inside]
    # Segments of one haplotype side by side, in the order they were drawn.
    order = np.argsort(np.concatenate(rows), kind="stable")
    place = np.concatenate(rows)[order] * len(centimorgan) + np.concatenate(firsts)[order]
    sites = np.diff(place, append=size * len(centimorgan))
    source = rng.integers(references, size=len(order), dtype=np.int32)
    shape = (size, len(centimorgan))
    return np.repeat(source, sites).reshape(shape), np.repeat(np.concatenate(ages)[order], sites).reshape(shape)


_PUBLISHED = {
    "AFR": (11_900.0, 0.77),
    "AMR": (10_400.0, 0.80),
    "EAS": (11_700.0, 0.58),
    "EUR": (11_700.0, 0.68),
    "CSA": (11_500.0, 0.73),
    "SAS": (11_500.0, 0.73),
    "MID": (8_100.0, 0.65),
}
"""Nₑ and ρ of HAPNEST's default configuration by superpopulation. 1000 Genomes calls Central and South Asia SAS."""


@dataclass(frozen=True)
class Hapnest:
    """The algorithm of HAPNEST (Wharrie et al. 2023), of which the people of its published data set are made.

    From the publication and the program released with it: a haplotype is built of segments; each has an age
    T ~ Gamma(2, Nₑ / N) with N the number of reference people of the population, a length in centimorgans that is
    exponential with rate 2 T ρ, and a reference haplotype drawn uniformly; an allele is copied only if its mutation is
    older than T. The default Nₑ and ρ are theirs by superpopulation, found by approximate Bayesian computation; other
    labels get those of EUR.

    Different here: (1) ages of mutations come from dated variants there; a VCF has none, so they are expected from the
    frequency among all people (:func:`mutation_age`), with the minor allele taken for the derived one, and what is too
    young is replaced by the major allele (there by REF). Nₑ cancels from this comparison, which matters for alleles
    of about 1 / N alone. (2) A segment ends where its length ends, not one site later, and the next starts there.
    (3) Each haplotype is drawn from all 2 N of the label; there the first come from the first haplotypes of the
    reference and the second from the second.
    """

    name: ClassVar[str] = "hapnest"
    summary: ClassVar[str] = summary_of(name)

    ne: float | None = field(
        default=None,
        metadata={"help": "Effective population size; as published for the label (8,100 to 11,900) if not given."},
    )
    rho: float | None = field(
        default=None,
        metadata={"help": "Recombination per cM and generation; as published for the label (0.58 to 0.80)."},
    )
    ages: bool = field(default=True, metadata={"help": "Do not copy alleles younger than their segment."})
    rate_cm_per_mb: float = field(default=1.0, metadata={"help": _RATE_HELP})

    def __post_init__(self) -> None:
        _positive(ne=self.ne, rho=self.rho, rate_cm_per_mb=self.rate_cm_per_mb)

    def parameters(self, label: str) -> tuple[float, float]:
        """Nₑ and ρ for the people of a label."""
        ne, rho = _PUBLISHED.get(label, _PUBLISHED["EUR"])
        return (ne if self.ne is None else self.ne), (rho if self.rho is None else self.rho)

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
        _require_phase(train, self.name)
        cm = _centimorgans(train, genetic_map, self.rate_cm_per_mb, self.name)
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        every = complete_haplotypes(people, rng)
        frequency = every.mean(axis=0)
        major = (frequency > 0.5).astype(np.int8)
        sites = np.arange(train.n_variants)
        out = np.empty((2 * n, len(sites)), dtype=np.int8)
        for group in people.groups:
            reference = every[rows_of(group.train)]
            ne, rho = self.parameters(group.label)
            scale = ne / len(group.train)
            age = mutation_age(np.minimum(frequency, 1 - frequency), ne)
            expected = 2 * rho * scale * (cm[-1] - cm[0])
            per_site, more = _MOST_SEGMENTS
            if len(group.new) and not expected <= per_site * len(sites) + more:
                last = "--rate-cm-per-mb" if genetic_map is None else "the lengths in the map"
                raise InputError(
                    f"{self.name} would cut every haplotype of {len(sites):,} sites into {expected:.3g} segments, more "
                    f"than {per_site} per site and {more:,} (Nₑ {ne:g}, ρ {rho:g}, {cm[-1] - cm[0]:g} cM): lower --ne, "
                    f"--rho or {last}"
                )
            for part in parts(rows_of(group.new), len(sites) + int(expected)):
                source, parted = segment_paths(cm, len(reference), len(part), scale=scale, rho=rho, rng=rng)
                copied = reference[source, sites]
                out[part] = np.where(parted >= age, major, copied) if self.ages else copied
        return people.table(out.reshape(n, 2, -1).transpose(0, 2, 1), phased=True)
