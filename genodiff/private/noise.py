"""Where the noise comes from: the operating system, unless an experiment asks for a seed."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["Noise", "grid_of", "secret", "seeded", "with_noise"]

Noise = Callable[[int], NDArray[np.float64]]
"""That many independent standard normals."""

_GRID_BITS = 20


def secret(count: int) -> NDArray[np.float64]:
    """Standard normals that nobody can repeat: Φ⁻¹ of 53 bits each of the operating system's entropy.

    None is beyond ±8.3, a mass of 1e−16.
    """
    bits = np.frombuffer(os.urandom(8 * count), dtype=np.uint64) >> np.uint64(11)
    return np.asarray(ndtri((bits + 0.5) * 2.0**-53))


def seeded(seed: int) -> Noise:
    """Standard normals by a seed, for experiments: who knows the seed can take the noise off again."""
    return np.random.default_rng(seed).standard_normal


def grid_of(sigma: float) -> float:
    """Step of the grid that released numbers lie on: about a millionth of the noise, a power of two."""
    return 2.0 ** (np.floor(np.log2(sigma)) - _GRID_BITS)


def with_noise(exact: NDArray[np.float64], sigma: float, noise: Noise) -> NDArray[np.float64]:
    """``exact`` + N(0, σ²), rounded to a grid of σ/10⁶: the last bits of a floating-point sum tell of its terms.

    σ = 0 returns ``exact``.
    """
    if sigma == 0:
        return exact
    step = grid_of(sigma)
    return np.asarray(np.rint((exact + sigma * noise(exact.size).reshape(exact.shape)) / step) * step)
