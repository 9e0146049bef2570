"""Allele frequencies and local covariances of people, released once, with noise.

The unit is one person. Two data sets are neighbours if the genotypes of one person, both haplotypes at all sites, are
replaced by any others; how many people there are, their labels, the sites and whether calls are phased are public and
the same in both. Rows are haplotypes (ploidy 1, two per person) or dosages (ploidy 2, one per person).

*Counts.* Σ over people of the dosage, in {0, 1, 2}ᵖ: a replacement moves every site by at most 2, and the sum by

    Δ = 2 √p.

*Products.* Rows less the frequencies that were just released, cut into blocks of w consecutive sites; the part y of a
row in a block is scaled down to |y|² ≤ ploidy · w c². Released are Σ yₖ yₖᵀ of every block and Σ yₖ yₖ₊₁ᵀ of every two
neighbours. With one row for a person, and aₖ = yₖ·zₖ, the inner product of the contributions of two people is

    ⟨A, B⟩ = Σ aₖ² + Σ aₖ aₖ₊₁ ≥ 0,        |A|² ≤ (2 c² · w)² for each block and each pair of neighbours,

the first since the matrix with 1 on the diagonal and ½ beside it is positive definite; sums of two rows keep both, with
half the c² · w each. So |A − B|² ≤ |A|² + |B|², and over all blocks, with wₖ for their widths,

    Δ² = 8 c⁴ (Σ wₖ² + Σ wₖ wₖ₊₁).

Noise has the standard deviation σ, but σ/√2 beside the diagonal of the symmetric matrices, whose entries there count
twice in |A|². The blocks depend on the order of the sites alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from genodiff.genotypes.units import Units
from genodiff.private.noise import Noise, with_noise

__all__ = [
    "Moments",
    "block_products",
    "block_slices",
    "count_sensitivity",
    "denoised",
    "dosage_sum",
    "frequencies_from",
    "product_sensitivity",
    "release",
]

_ROWS = 1 << 14
_REACH = 9.0
"""Standard deviations of the noise within which the true count is looked for."""


@dataclass(frozen=True)
class Moments:
    """What was released, after noise.

    Attributes:
        counts: ALT alleles of all people, (sites,); neither whole nor within bounds.
        count_sigma: standard deviation of their noise.
        within: Σ yₖ yₖᵀ of every block, (wₖ, wₖ), symmetric.
        between: Σ yₖ yₖ₊₁ᵀ of every two neighbours, (wₖ, wₖ₊₁).
        product_sigma: standard deviation of the noise of both, √2 less beside the diagonal of ``within``.
        alleles: how many there are, 2 per person.
    """

    counts: NDArray[np.float64]
    count_sigma: float
    within: tuple[NDArray[np.float64], ...]
    between: tuple[NDArray[np.float64], ...]
    product_sigma: float
    alleles: int

    @property
    def frequency(self) -> NDArray[np.float64]:
        """Frequencies of ALT, (sites,), in [0, 1]: see :func:`frequencies_from`."""
        return frequencies_from(self.counts, sigma=self.count_sigma, alleles=self.alleles)

    def covariance(self, first: int) -> NDArray[np.float64]:
        """Covariance of alleles in block ``first`` and the next, if there is one: positive semi-definite, denoised.

        Two alleles of a dosage add up: Cov(d, d′) = 2 Cov(x, x′) in Hardy–Weinberg proportions.
        """
        matrix = self.within[first]
        if first < len(self.between):
            beside = self.between[first]
            matrix = np.block([[matrix, beside], [beside.T, self.within[first + 1]]])
        # Beside the diagonal half of the entries, or all, have noise of σ/√2.
        variance = 0.75 if first < len(self.between) else 0.5
        return denoised(matrix / self.alleles, self.product_sigma * math.sqrt(variance) / self.alleles)


def block_slices(sites: int, width: int) -> list[slice]:
    """Consecutive blocks of ``width`` sites; the last may be shorter."""
    return [slice(start, min(start + width, sites)) for start in range(0, sites, width)]


def count_sensitivity(sites: int) -> float:
    """Δ of :func:`dosage_sum`: 2 √p."""
    return 2 * math.sqrt(sites)


def product_sensitivity(blocks: list[slice], clip: float) -> float:
    """Δ of :func:`block_products` with symmetric matrices in the Frobenius norm: c² √(8 (Σ wₖ² + Σ wₖ wₖ₊₁))."""
    widths = [block.stop - block.start for block in blocks]
    return clip**2 * math.sqrt(8 * (sum(w * w for w in widths) + sum(v * w for v, w in pairwise(widths))))


def dosage_sum(states: NDArray[np.int8]) -> NDArray[np.float64]:
    """ALT alleles of all rows, (sites,)."""
    return states.sum(0, dtype=np.int64).astype(np.float64)


def block_products(
    states: NDArray[np.int8], centre: NDArray[np.float64], blocks: list[slice], *, ploidy: int, clip: float
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Σ yₖ yₖᵀ per block and Σ yₖ yₖ₊₁ᵀ per two neighbours over the rows, y clipped to the norm c √(ploidy · w).

    Args:
        states: int8 (rows, sites), complete.
        centre: frequencies that rows are centred by, (sites,), public.
        blocks: of sites.
        ploidy: the largest state.
        clip: c > 0.
    """
    within = [np.zeros((block.stop - block.start,) * 2) for block in blocks]
    between = [np.zeros((len(one), len(next_))) for one, next_ in pairwise(within)]
    for start in range(0, len(states), _ROWS):
        before = None
        for k, block in enumerate(blocks):
            y = states[start : start + _ROWS, block] - ploidy * centre[block]
            radius = clip * math.sqrt(ploidy * y.shape[1])
            y *= np.minimum(1, radius / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), radius))
            within[k] += y.T @ y
            if before is not None:
                between[k - 1] += before.T @ y
            before = y
    return within, between


def frequencies_from(counts: NDArray[np.float64], *, sigma: float, alleles: int) -> NDArray[np.float64]:
    """Posterior mean of the frequencies given noisy counts, (sites,).

    The prior of a count k is that of a neutral site whose ancestral allele is unknown, 1/k + 1/(N − k); a site without
    variation has the weight of a singleton. It knows nothing of the data, so that this costs no privacy.
    """
    if sigma == 0:
        return counts / alleles
    reach = math.ceil(_REACH * sigma)
    offsets = np.arange(-reach, reach + 1)
    out = np.empty(len(counts))
    for site, noisy in enumerate(counts):
        k = np.rint(np.clip(noisy, 0, alleles)) + offsets
        k = k[(k >= 0) & (k <= alleles)]
        prior = 1 / np.maximum(k, 1) + 1 / np.maximum(alleles - k, 1)
        distance = np.square(k - noisy) / (2 * sigma**2)
        weight = prior * np.exp(distance.min() - distance)
        out[site] = weight @ k / weight.sum() / alleles
    return out


def denoised(matrix: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """The positive semi-definite matrix behind a symmetric one with noise.

    Noise of standard deviation s off the diagonal has eigenvalues up to 2 s √w; an eigenvalue λ beyond becomes
    √(λ² − 4 s² w), which is best in the Frobenius norm for a matrix of low rank in such noise (Gavish and Donoho 2017),
    and all others become 0. Without noise this is the nearest positive semi-definite matrix.
    """
    values, vectors = np.linalg.eigh(matrix)
    kept = np.sqrt(np.maximum(np.square(np.maximum(values, 0)) - 4 * spread**2 * len(matrix), 0))
    return np.asarray(vectors * kept @ vectors.T)


def release(units: Units, *, mu: float, share: float, width: int, clip: float, noise: Noise) -> Moments:
    """Counts and products of all people with noise: μ-GDP for the replacement of one person.

    Args:
        units: rows, complete.
        mu: of both releases together; infinite for no noise.
        share: part of μ² for the counts, in (0, 1).
        width: sites of a block.
        clip: c.
        noise: where normals come from.

    Raises:
        ValueError: a state that is not known.
    """
    states = units.states
    if (states < 0).any():
        raise ValueError("states must be complete")
    sites, alleles = states.shape[1], 2 * units.n_people
    blocks = block_slices(sites, width)
    count_sigma = count_sensitivity(sites) / (mu * math.sqrt(share))
    product_sigma = product_sensitivity(blocks, clip) / (mu * math.sqrt(1 - share))
    counts = with_noise(dosage_sum(states), count_sigma, noise)
    centre = frequencies_from(counts, sigma=count_sigma, alleles=alleles)
    within, between = block_products(states, centre, blocks, ploidy=units.ploidy, clip=clip)
    return Moments(
        counts,
        count_sigma,
        tuple(_symmetric_noise(matrix, product_sigma, noise) for matrix in within),
        tuple(with_noise(matrix, product_sigma, noise) for matrix in between),
        product_sigma,
        alleles,
    )


def _symmetric_noise(matrix: NDArray[np.float64], sigma: float, noise: Noise) -> NDArray[np.float64]:
    """``matrix`` with noise of σ on the diagonal and σ/√2 beside it, symmetric."""
    i, j = np.triu_indices(len(matrix))
    scale = np.where(i == j, 1.0, math.sqrt(2))
    upper = with_noise(matrix[i, j] * scale, sigma, noise) / scale
    out = np.empty_like(matrix)
    out[i, j] = out[j, i] = upper
    return out
