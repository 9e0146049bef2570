"""The correlation matrix nearest to a matrix of pairwise estimates that is not one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize
from tqdm import tqdm

__all__ = ["Factors", "nearest_correlation"]

_MOST_FACTORS = 256
_ITERATIONS = 60
_CLOSE = 1e-3
"""Root mean square distance at which clipping is as good as anything: below the sampling error of any estimate."""


@dataclass(frozen=True)
class Factors:
    """Variables of unit variance: common factors and a part of their own, z = F w + √(1 − |F|²) ε.

    Attributes:
        loadings: F, float32 (variables, factors), rows no longer than 1. Correlations are the products of rows.
    """

    loadings: NDArray[np.float32]

    def draw(self, rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Independent rows of the variables, float32 (rows, variables)."""
        own = np.sqrt(np.maximum(1 - np.square(self.loadings).sum(1), 0))
        out: NDArray[np.float32] = (
            rng.standard_normal((rows, self.loadings.shape[1]), dtype=np.float32) @ self.loadings.T
        )
        out += own * rng.standard_normal(out.shape, dtype=np.float32)
        return out


def nearest_correlation(
    target: NDArray[np.float32], weights: NDArray[np.float32], *, progress: bool = False
) -> Factors:
    """A correlation matrix close to ``target``, as factors.

    First by clipping: negative eigenvalues become 0 and every variable is scaled to variance 1 again (Rebonato and
    Jäckel 1999). Where the matrix was far from positive semi-definite the scaling takes most of every correlation with
    it; then the weighted sum of squared differences Σ wᵢⱼ (fᵢ·fⱼ − tᵢⱼ)² over pairs is minimised over factors with
    rows no longer than 1 (L-BFGS on rows scaled into the unit ball), as many as the matrix has eigenvalues above 1 and
    no more than 256, from the leading eigenvectors. The better of the two is returned.

    Args:
        target: symmetric with unit diagonal, (variables, variables).
        weights: symmetric, positive, the same shape.
        progress: show a bar.
    """
    size = len(target)
    values, vectors = eigh(target, check_finite=False)
    kept = values > max(float(values[-1]), 1.0) * 1e-6
    clipped = vectors[:, kept] * np.sqrt(values[kept])
    clipped /= np.linalg.norm(clipped, axis=1, keepdims=True)
    weights = weights / weights.mean()

    def misfit(loadings: NDArray[np.floating]) -> tuple[float, NDArray[np.floating]]:
        """Weighted sum of squares over ordered pairs, and its derivative by the loadings."""
        error = loadings @ loadings.T
        error -= target
        np.fill_diagonal(error, 0)
        weighted = error * weights
        return float(np.vdot(weighted, error)), 4 * (weighted @ loadings)

    least = misfit(clipped)[0]
    leading = np.flatnonzero(values > 1)[-_MOST_FACTORS:]
    if least <= _CLOSE**2 * size**2 or not len(leading):
        return Factors(clipped)
    start = vectors[:, leading] * np.sqrt(values[leading])

    def into_ball(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        return rows / length, length

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        rows, length = into_ball(flat.reshape(start.shape).astype(np.float32))
        value, slope = misfit(rows)
        # Outside the ball only the direction of a row counts.
        radial = np.where(length > 1, (slope * rows).sum(1, keepdims=True), 0)
        return value, ((slope - radial * rows) / length).ravel().astype(np.float64)

    with tqdm(total=_ITERATIONS, desc="correlation matrix", unit="step", disable=not progress) as bar:
        found = minimize(
            objective,
            into_ball(start)[0].ravel().astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ITERATIONS, "maxcor": 6},
            callback=lambda _: bar.update(),
        )
    return Factors(into_ball(found.x.reshape(start.shape).astype(np.float32))[0] if found.fun < least else clipped)
