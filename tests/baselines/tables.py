"""Tables for the baselines, and truths to hold them to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, owens_t

from data_prep.variants import VariantTable
from tests.genotypes.tables import table_of

PLAIN = ("independent-sites", "bootstrap", "gaussian", "gaussian-copula", "li-stephens", "hapnest")
"""The baselines without a network."""

MOSAICS = ("li-stephens", "hapnest")


def two_labels(people: int = 60, sites: int = 40, *, seed: int = 1) -> VariantTable:
    """Two thirds A, one third B, at frequencies that differ between them; no linkage within."""
    rng = np.random.default_rng(seed)
    labels = np.where(np.arange(people) % 3 == 2, "B", "A")
    frequency = rng.uniform(0.1, 0.9, (2, sites))
    alleles = rng.random((people, sites, 2)) < frequency[(labels == "B").astype(int)][:, :, None]
    return table_of(alleles.astype(np.int8), labels=labels.tolist())


def with_gaps(table: VariantTable, *, share: float = 0.1, seed: int = 2) -> VariantTable:
    """The same table without a share of its calls."""
    gone = np.random.default_rng(seed).random(table.haplotypes.shape[:2]) < share
    return replace(table, haplotypes=np.where(gone[:, :, None], np.int8(-1), table.haplotypes))


def unphased(table: VariantTable) -> VariantTable:
    """The same genotypes without phase."""
    return replace(
        table, haplotypes=np.sort(table.haplotypes, axis=2), phased=np.zeros(table.haplotypes.shape[:2], bool)
    )


def correlation(states: NDArray[np.int8]) -> NDArray[np.float64]:
    """Pearson correlation of the columns; 0 where a column does not vary."""
    x = states - states.mean(0)
    spread = np.sqrt(np.square(x).mean(0))
    x = x / np.where(spread > 0, spread, 1)
    return x.T @ x / len(x)


def orthant(a: NDArray[np.float64], b: NDArray[np.float64], rho: NDArray[np.float64]) -> NDArray[np.float64]:
    """Φ₂(a, b; ρ) by Owen's (1956) T function, for |ρ| < 1."""
    a, b = (np.where(np.abs(x) < 1e-12, 1e-12, x) for x in (a, b))
    root = np.sqrt((1 - rho) * (1 + rho))
    value = (ndtr(a) + ndtr(b)) / 2 - owens_t(a, (b / a - rho) / root) - owens_t(b, (a / b - rho) / root)
    return value - np.where(a * b < 0, 0.5, 0.0)
