"""Learned orthonormal bases: a fixed fast basis followed by a rotation P = exp(H), Hᵀ = −H.

Every orthogonal P of determinant one is such an exponential of free numbers. In d dimensions it costs
O(d³); where H = UVᵀ − VUᵀ has a rank 2r below d,

    P = I + W K φ₁(G K) Wᵀ,    W = [U V],  G = WᵀW,  K = [[0, I], [−I, 0]],    φ₁(X) = Σ_j X^j/(j+1)!,

is exact and acts at a cost O(d r).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from genodiff.core.bases import Basis, full_precision
from genodiff.core.blocks import antisymmetric, exponential

__all__ = ["DenseRotation", "LowRankRotation", "Rotated", "Rotation"]


class Rotation(nn.Module):
    """An orthogonal matrix P of free parameters."""

    def turn(self, c: Tensor) -> Tensor:
        """P c on the last axis, (..., d)."""
        raise NotImplementedError

    def turn_back(self, c: Tensor) -> Tensor:
        """Pᵀ c on the last axis, (..., d)."""
        raise NotImplementedError


class DenseRotation(Rotation):
    """exp(H) of a whole antisymmetric matrix, for small d; I at first.

    Args:
        dim: d.
        dtype: of the parameters.
    """

    def __init__(self, dim: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dim = dim
        self.upper = nn.Parameter(torch.zeros(dim * (dim - 1) // 2, dtype=dtype))

    def matrix(self) -> Tensor:
        """P, (d, d)."""
        return exponential(antisymmetric(self.upper, self.dim))

    def turn(self, c: Tensor) -> Tensor:
        """P c."""
        with full_precision(c):
            return c @ self.matrix().T

    def turn_back(self, c: Tensor) -> Tensor:
        """Pᵀ c."""
        with full_precision(c):
            return c @ self.matrix()


class LowRankRotation(Rotation):
    """exp(UVᵀ − VUᵀ), which turns a subspace of dimension 2r and leaves the rest as it is; I at first.

    V begins at 0 and U at random, so that P = I and the gradient with respect to V is not 0.

    Args:
        dim: d.
        rank: r, 1 ≤ 2r ≤ d.
        generator: source of U.
        dtype: of the parameters.
    """

    def __init__(
        self, dim: int, rank: int, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        if not 1 <= rank <= dim // 2:
            raise ValueError(f"rank must lie between 1 and half of {dim}, got {rank}")
        self.rank = rank
        self.u = nn.Parameter(torch.randn(dim, rank, generator=generator, dtype=dtype) / math.sqrt(dim))
        self.v = nn.Parameter(torch.zeros(dim, rank, dtype=dtype))

    def _parts(self) -> tuple[Tensor, Tensor]:
        """W, (d, 2r), and K φ₁(GK), (2r, 2r)."""
        w = torch.cat([self.u, self.v], dim=1)
        one = torch.eye(self.rank, dtype=w.dtype, device=w.device)
        zero = torch.zeros_like(one)
        k = torch.cat([torch.cat([zero, one], 1), torch.cat([-one, zero], 1)])
        # φ₁(X) is the upper right block of exp [[X, I], [0, 0]].
        top = torch.cat([w.T @ w @ k, torch.eye(2 * self.rank, dtype=w.dtype, device=w.device)], 1)
        phi = torch.linalg.matrix_exp(torch.cat([top, torch.zeros_like(top)]))[: 2 * self.rank, 2 * self.rank :]
        return w, k @ phi

    def turn(self, c: Tensor) -> Tensor:
        """P c."""
        with full_precision(c):
            w, core = self._parts()
            return c + (c @ w) @ core.T @ w.T

    def turn_back(self, c: Tensor) -> Tensor:
        """Pᵀ c."""
        with full_precision(c):
            w, core = self._parts()
            return c + (c @ w) @ core @ w.T


class Rotated(Basis):
    """The basis Q P: modes of a base Q, rotated among each other.

    Args:
        base: Q.
        rotation: P, on the coefficients of Q.
    """

    def __init__(self, base: Basis, rotation: Rotation) -> None:
        super().__init__()
        self.base, self.rotation, self.dim = base, rotation, base.dim

    def analysis(self, x: Tensor) -> Tensor:
        """``Pᵀ Qᵀ x``."""
        return self.rotation.turn_back(self.base.analysis(x))

    def synthesis(self, c: Tensor) -> Tensor:
        """``Q P c``."""
        return self.base.synthesis(self.rotation.turn(c))

    def diagonal(self, v: Tensor) -> Tensor:
        """The diagonal of ``Q P diag(v) Pᵀ Qᵀ``, through the dense matrix: O(d²) numbers."""
        with full_precision(v):
            return v @ self.matrix().square().T
