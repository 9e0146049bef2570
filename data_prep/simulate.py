"""Genotypes whose truth is known: latent-Gaussian LD blocks, and a coalescent with recombination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from data_prep.errors import InputError
from data_prep.variants import VariantTable

__all__ = ["SimulatedBlocks", "simulate_coalescent", "simulate_ld_blocks"]

MafLaw = Literal["uniform", "neutral"]

_BASES = np.array(["A", "C", "G", "T"])


@dataclass(frozen=True)
class SimulatedBlocks:
    """Simulated people and the truth behind them.

    Attributes:
        table: the genotypes; ALT is the minor allele.
        maf: float64 (variants,), the true frequency of ALT.
        latent_correlation: float64 (block_size, block_size), correlation of the latent variables within a block:
            exp(−decay · |i − j|). Between blocks it is 0.
        boundaries: int64 (blocks + 1,), first site of every block and the number of sites.
    """

    table: VariantTable
    maf: NDArray[np.float64]
    latent_correlation: NDArray[np.float64]
    boundaries: NDArray[np.int64]


def _draw_maf(
    law: MafLaw | ArrayLike, n_sites: int, bounds: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float64]:
    low, high = bounds
    if not 0 < low <= high <= 0.5:
        raise ValueError(f"maf_range must satisfy 0 < low ≤ high ≤ 0.5, got {bounds}")
    if isinstance(law, str):
        if law == "uniform":
            return rng.uniform(low, high, n_sites)
        if law == "neutral":
            # Density of the folded neutral spectrum, 1/q + 1/(1 − q): the logit of q is uniform.
            edge = np.log(np.array([low, high]) / (1 - np.array([low, high])))
            return 1 / (1 + np.exp(-rng.uniform(edge[0], edge[1], n_sites)))
        raise ValueError(f"maf_law {law!r} is unknown: choose 'uniform' or 'neutral', or give the frequencies")
    maf = np.asarray(law, dtype=np.float64)
    if maf.shape != (n_sites,) or not ((maf > 0) & (maf <= 0.5)).all():
        raise ValueError(f"frequencies must have shape ({n_sites},) with values in (0, 0.5], got shape {maf.shape}")
    return maf


def _latent(rows: int, sizes: NDArray[np.int64], decay: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Latent Gaussians (rows, sites), unit variance, correlation exp(−decay · lag) within a block and 0 across.

    An exponentially decaying covariance on a line is that of a first-order autoregression: no matrix is needed.
    """
    rho = np.exp(-decay)
    fresh = np.sqrt(-np.expm1(-2 * decay))
    z = np.empty((int(sizes.sum()), rows), dtype=np.float32)
    site = 0
    for size in sizes:
        for k in range(size):
            noise = rng.standard_normal(rows, dtype=np.float32)
            z[site] = noise if k == 0 else np.float32(rho) * z[site - 1] + np.float32(fresh) * noise
            site += 1
    return z.T


def simulate_ld_blocks(
    n_people: int,
    n_sites: int,
    *,
    block_size: int = 20,
    decay: float = 0.2,
    maf_law: MafLaw | ArrayLike = "uniform",
    maf_range: tuple[float, float] = (0.05, 0.5),
    phased: bool = False,
    spacing: int = 1000,
    contig: str = "1",
    seed: int = 1,
) -> SimulatedBlocks:
    """SNPs in independent blocks, discretised from latent Gaussians with exponentially decaying covariance.

    Sites are partitioned into blocks of ``block_size`` (the last may be smaller). Within a block the latent vector of
    a person is normal with unit variance and covariance exp(−decay · |i − j|). With minor-allele frequency q, the
    genotype is the number of minor alleles under Hardy–Weinberg proportions,

        g = 0 if z ≤ Φ⁻¹((1 − q)²),  2 if z > Φ⁻¹(1 − q²),  1 otherwise,

    which carries no phase. With ``phased=True`` each of the two chromosomes has a latent vector of its own and its
    allele is 1 if z > Φ⁻¹(1 − q).

    Args:
        n_people: number of people, at least 1.
        n_sites: number of sites, at least 1.
        block_size: sites per block.
        decay: rate of the exponential per site, > 0; 0.2 gives latent correlation 0.82 between neighbours.
        maf_law: ``uniform`` or ``neutral`` (∝ 1/q + 1/(1 − q)) on ``maf_range``, or the frequencies themselves.
        maf_range: bounds of the law, within (0, 0.5].
        phased: simulate haplotypes instead of genotypes.
        spacing: distance between neighbouring sites, bp.
        contig: name of the contig.
        seed: any non-negative integer.

    Returns:
        The table and its truth. Sites that happen to be monomorphic are kept.

    Raises:
        ValueError: a parameter outside its domain.
    """
    for name, value in (("n_people", n_people), ("n_sites", n_sites), ("block_size", block_size), ("spacing", spacing)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not decay > 0:
        raise ValueError(f"decay must be positive, got {decay}")
    rng = np.random.default_rng(seed)
    maf = _draw_maf(maf_law, n_sites, maf_range, rng)
    boundaries = np.append(np.arange(0, n_sites, block_size), n_sites).astype(np.int64)
    z = _latent(n_people * (2 if phased else 1), np.diff(boundaries), decay, rng)
    if phased:
        alleles = (z > ndtri(1 - maf)).astype(np.int8)
        haplotypes = np.stack([alleles[0::2], alleles[1::2]], axis=2)
    else:
        # An unphased heterozygote is 0/1 by convention: the second allele is the first to be ALT.
        haplotypes = np.stack([z > ndtri(1 - maf**2), z > ndtri((1 - maf) ** 2)], axis=2).astype(np.int8)
    ref = rng.integers(4, size=n_sites)
    alt = (ref + rng.integers(1, 4, size=n_sites)) % 4
    table = _table(
        haplotypes,
        position=1 + spacing * np.arange(n_sites),
        ref=_BASES[ref],
        alt=_BASES[alt],
        contig=contig,
        length=spacing * n_sites,
        phased=None if phased else np.zeros((n_people, n_sites), dtype=bool),
    )
    lag = np.abs(np.subtract.outer(np.arange(block_size), np.arange(block_size)))
    return SimulatedBlocks(table, maf, np.exp(-decay * lag), boundaries)


def _table(
    haplotypes: NDArray[np.int8],
    *,
    position: NDArray[np.int64],
    ref: NDArray[Any],
    alt: NDArray[Any],
    contig: str,
    length: int,
    phased: NDArray[np.bool_] | None = None,
    labels: list[str] | None = None,
) -> VariantTable:
    sites = pd.DataFrame({"contig": contig, "position": position, "id": ".", "ref": ref, "alt": alt})
    names = pd.Index([f"SIM{i + 1:06d}" for i in range(len(haplotypes))], name="sample")
    return VariantTable(
        haplotypes=haplotypes,
        sites=sites,
        samples=pd.DataFrame({} if labels is None else {"label": labels}, index=names),
        phased=phased,
        header=(f"##contig=<ID={contig},length={length}>",),
    )


def _out_of_africa(msprime: Any) -> Any:
    """The three-population model of Gutenkunst et al. 2009, table 1; times in generations of 25 years."""
    generation = 25
    growth_eu, growth_as = 0.004, 0.0055
    split = 21_200 / generation
    model = msprime.Demography()
    model.add_population(name="YRI", initial_size=12_300)
    model.add_population(name="CEU", initial_size=1000 * np.exp(growth_eu * split), growth_rate=growth_eu)
    model.add_population(name="CHB", initial_size=510 * np.exp(growth_as * split), growth_rate=growth_as)
    model.add_population(name="OOA", initial_size=2100)
    model.add_population(name="AMH", initial_size=12_300)
    model.add_population(name="ANC", initial_size=7300)
    model.set_symmetric_migration_rate(["CEU", "CHB"], 9.6e-5)
    model.set_symmetric_migration_rate(["YRI", "CHB"], 1.9e-5)
    model.set_symmetric_migration_rate(["YRI", "CEU"], 3e-5)
    model.add_population_split(time=split, derived=["CEU", "CHB"], ancestral="OOA")
    model.add_symmetric_migration_rate_change(time=split, populations=["YRI", "OOA"], rate=25e-5)
    model.add_population_split(time=140_000 / generation, derived=["YRI", "OOA"], ancestral="AMH")
    model.add_population_split(time=220_000 / generation, derived=["AMH"], ancestral="ANC")
    return model


def simulate_coalescent(
    n_people: int,
    *,
    length_bp: int,
    seed: int = 1,
    demography: Literal["ooa3", "constant"] = "ooa3",
    mutation_rate: float = 1.25e-8,
    recombination_rate: float = 1e-8,
    contig: str = "1",
) -> VariantTable:
    """A panel from the coalescent with recombination: phased, biallelic, labelled.

    Args:
        n_people: people in all, shared as equally as possible among the populations.
        length_bp: length of the sequence, bp.
        seed: a positive integer.
        demography: ``ooa3``, the three-population out-of-Africa model of Gutenkunst et al. 2009 with the labels YRI,
            CEU and CHB; or ``constant``, one population (label POP) of 10,000 diploids.
        mutation_rate: per bp and generation.
        recombination_rate: per bp and generation.
        contig: name of the contig.

    Returns:
        The polymorphic biallelic sites; REF is the ancestral allele.

    Raises:
        InputError: msprime is not installed, or no site is polymorphic.
        ValueError: a parameter outside its domain.
    """
    try:
        import msprime
    except ImportError as error:
        raise InputError("the coalescent simulator needs msprime: pip install 'genodiff[sim]'") from error
    if n_people < 1 or length_bp < 1:
        raise ValueError(f"n_people and length_bp must be at least 1, got {n_people} and {length_bp}")
    if mutation_rate <= 0 or recombination_rate < 0:
        raise ValueError(f"rates must be positive, got {mutation_rate} and {recombination_rate} per bp and generation")
    if demography == "ooa3":
        model, names = _out_of_africa(msprime), ["YRI", "CEU", "CHB"]
    elif demography == "constant":
        model, names = msprime.Demography(), ["POP"]
        model.add_population(name="POP", initial_size=10_000)
    else:
        raise ValueError(f"demography {demography!r} is unknown: choose 'ooa3' or 'constant'")
    counts = {name: n_people // len(names) + (k < n_people % len(names)) for k, name in enumerate(names)}
    ancestry_seed, mutation_seed = np.random.SeedSequence(seed).generate_state(2) % (2**31 - 1) + 1
    trees = msprime.sim_ancestry(
        samples={name: count for name, count in counts.items() if count},
        demography=model,
        sequence_length=length_bp,
        recombination_rate=recombination_rate,
        random_seed=int(ancestry_seed),
    )
    trees = msprime.sim_mutations(trees, rate=mutation_rate, random_seed=int(mutation_seed))
    rows: list[NDArray[np.int8]] = []
    sites: list[tuple[int, str, str]] = []
    for variant in trees.variants(copy=False):
        codes = variant.genotypes
        # A third allele, or a mutation that reached everybody or nobody, is no biallelic site.
        if codes.max() != 1 or codes.min() != 0:
            continue
        rows.append(codes.astype(np.int8))
        sites.append((int(variant.site.position) + 1, variant.alleles[0], variant.alleles[1]))
    if not sites:
        raise InputError(f"no site is polymorphic in {length_bp} bp and {n_people} people: simulate a longer sequence")
    position, ref, alt = zip(*sites, strict=True)
    pairs = np.stack(rows).reshape(len(rows), n_people, 2)
    return _table(
        np.ascontiguousarray(pairs.transpose(1, 0, 2)),
        position=np.array(position, dtype=np.int64),
        ref=np.array(ref),
        alt=np.array(alt),
        contig=contig,
        length=length_bp,
        labels=[name for name, count in counts.items() for _ in range(count)],
    )
