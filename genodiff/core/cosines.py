"""The two-dimensional cosine basis of images, and its subspaces by frequency.

For an image of side H the mode (p, q) is γ_p γ_q cos((2x + 1) p π / 2H) cos((2y + 1) q π / 2H), the orthonormal DCT-II,
taken in every channel on its own. The transform is separable, ``c = A_h x A_wᵀ``: two small matrix products, which up
to a side of a few hundred pixels take less time than a fast Fourier transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genodiff.core.bases import Basis, full_precision

__all__ = ["CosineBasis", "cosine_matrix", "frequency_bands"]


def cosine_matrix(n: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The orthonormal DCT-II of length n as a matrix (n, n), rows = modes of rising frequency."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = math.sqrt(2 / n) * torch.cos(math.pi / (2 * n) * k.unsqueeze(1) * (2 * k + 1))
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype)


class CosineBasis(Basis):
    """The DCT-II of each channel of an image held as one vector of d = C·H·W values.

    Args:
        shape: channels, height and width (C, H, W).
        dtype: type of the transform.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, shape: Sequence[int], *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"expected (channels, height, width), each >= 1, got {tuple(shape)}")
        self.shape = tuple(int(n) for n in shape)
        self.dim = math.prod(self.shape)
        self.register_buffer("rows", cosine_matrix(self.shape[1], dtype=dtype))
        self.register_buffer("columns", cosine_matrix(self.shape[2], dtype=dtype))

    def _separably(self, x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        images = x.unflatten(-1, self.shape)
        with full_precision(x):
            return torch.matmul(torch.matmul(left.to(x.dtype), images), right.to(x.dtype)).flatten(-3)

    def analysis(self, x: Tensor) -> Tensor:
        """``A_h x A_wᵀ`` in every channel."""
        return self._separably(x, self.rows, self.columns.T)

    def synthesis(self, c: Tensor) -> Tensor:
        """``A_hᵀ c A_w`` in every channel."""
        return self._separably(c, self.rows.T, self.columns)

    def diagonal(self, v: Tensor) -> Tensor:
        """``Σ_pq A_px² A_qy² v_pq`` in every channel."""
        return self._separably(v, self.rows.square().T, self.columns.square())


def frequency_bands(shape: Sequence[int], cuts: Sequence[float] = (0.5,)) -> Tensor:
    """The subspace of every mode of a :class:`CosineBasis`: J = len(cuts) + 1 square shells of rising frequency.

    The mode (p, q) lies in the first subspace j with max(p/H, q/W) < cuts[j], else in the last. One cut at ½ gives the
    H·W/4 lowest modes and the rest (TOAD §6); no cut, a single subspace.

    Args:
        shape: (C, H, W).
        cuts: rising, in (0, 1].

    Returns:
        (C·H·W,) subspace numbers 0 … J − 1.
    """
    edges = torch.tensor([0.0, *cuts], dtype=torch.float64)
    if (edges.diff() <= 0).any() or edges[-1] > 1:
        raise ValueError(f"cuts must rise within (0, 1], got {tuple(cuts)}")
    channels, height, width = shape
    p = torch.arange(height, dtype=torch.float64).unsqueeze(1) / height
    q = torch.arange(width, dtype=torch.float64) / width
    band = torch.bucketize(torch.maximum(p, q), edges[1:], right=True)
    return band.expand(channels, height, width).flatten()
