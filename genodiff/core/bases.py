"""Orthonormal bases: the coordinates in which a drift matrix is diagonal.

A basis holds the columns of an orthogonal ``Q`` (d × r). ``analysis`` takes x to its coefficients ``Qᵀ x``,
``synthesis`` takes coefficients back to ``Q c``; both act on the last axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["PCA", "Basis", "BlockPCA", "Identity", "full_precision", "ledoit_wolf_intensity", "shrunk_eigh"]


def full_precision(x: Tensor) -> torch.autocast:
    """Switches mixed precision off: closed forms subtract nearly equal numbers, which bfloat16 cannot tell apart."""
    return torch.autocast(x.device.type, enabled=False)


class Basis(nn.Module):
    """An orthonormal transform of R^d, d = r: coefficients have the same length as the vector."""

    dim: int

    def analysis(self, x: Tensor) -> Tensor:
        """Coefficients ``Qᵀ x``, shape (..., d)."""
        raise NotImplementedError

    def synthesis(self, c: Tensor) -> Tensor:
        """The vector ``Q c``, shape (..., d)."""
        raise NotImplementedError

    def diagonal(self, v: Tensor) -> Tensor:
        """The diagonal of ``Q diag(v) Qᵀ`` for v of shape (..., d): what a spectrum means at each coordinate."""
        raise NotImplementedError

    def matrix(self) -> Tensor:
        """``Q`` as a dense (d, d) matrix; for tests and small problems."""
        return self.synthesis(torch.eye(self.dim, dtype=self.dtype, device=self.device)).T

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the basis."""
        return next(self.buffers()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the basis."""
        return next(self.buffers()).device


class Identity(Basis):
    """``Q = I``: every coordinate is its own mode."""

    def __init__(self, dim: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("anchor", torch.zeros((), dtype=dtype))  # carries dtype and device

    def analysis(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x

    def synthesis(self, c: Tensor) -> Tensor:
        """``c`` itself."""
        return c

    def diagonal(self, v: Tensor) -> Tensor:
        """``v`` itself."""
        return v


def _squares(flat: Tensor, bounds: Sequence[int]) -> list[Tensor]:
    """Views of consecutive square matrices, with sides as far apart as the bounds."""
    sides = np.diff(bounds).tolist()
    return [part.view(n, n) for part, n in zip(flat.split([n * n for n in sides]), sides, strict=True)]


class BlockPCA(Basis):
    """Principal components within consecutive blocks: ``Q = blockdiag(Q_1, …, Q_B)``.

    One block is the full PCA; blocks of bounded size make the cost of a transform linear in d.

    Args:
        blocks: orthogonal matrices (d_b, d_b), columns = modes, in the order of the coordinates.
    """

    flat: Tensor

    def __init__(self, blocks: Sequence[Tensor]) -> None:
        super().__init__()
        sizes = [q.shape[0] for q in blocks]
        for b, q in enumerate(blocks):
            if q.ndim != 2 or q.shape[0] != q.shape[1]:
                raise ValueError(f"block {b} must be square, got {tuple(q.shape)}")
        self.bounds = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.dim = int(self.bounds[-1])
        # One flat buffer, so that a state dict holds a single tensor however many blocks there are.
        self.register_buffer("flat", torch.cat([q.reshape(-1) for q in blocks]))

    @classmethod
    def from_flat(cls, flat: Tensor, bounds: Sequence[int]) -> BlockPCA:
        """The basis whose buffer is ``flat`` and whose blocks lie between ``bounds``."""
        return cls(_squares(flat, bounds))

    def blocks(self) -> list[Tensor]:
        """The block matrices, as views."""
        return _squares(self.flat, self.bounds)

    def analysis(self, x: Tensor) -> Tensor:
        """Block-wise ``Q_bᵀ x_b``."""
        parts = x.split(np.diff(self.bounds).tolist(), dim=-1)
        with full_precision(x):
            return torch.cat([p @ q for p, q in zip(parts, self.blocks(), strict=True)], dim=-1)

    def synthesis(self, c: Tensor) -> Tensor:
        """Block-wise ``Q_b c_b``."""
        parts = c.split(np.diff(self.bounds).tolist(), dim=-1)
        with full_precision(c):
            return torch.cat([p @ q.T for p, q in zip(parts, self.blocks(), strict=True)], dim=-1)

    def diagonal(self, v: Tensor) -> Tensor:
        """Block-wise ``Σ_i Q_ji² v_i``."""
        parts = v.split(np.diff(self.bounds).tolist(), dim=-1)
        with full_precision(v):
            return torch.cat([p @ q.square().T for p, q in zip(parts, self.blocks(), strict=True)], dim=-1)

    def restrict(self, first: int, last: int) -> BlockPCA:
        """The basis of the coordinates in blocks first … last − 1."""
        return BlockPCA(self.blocks()[first:last])

    @staticmethod
    def from_data(
        x: Tensor,
        bounds: Sequence[int],
        *,
        floor: float = 1e-4,
        ordered: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[BlockPCA, Tensor]:
        """Principal axes and shrunk variances of centred data, block by block.

        Args:
            x: centred rows (n, d).
            bounds: block boundaries 0 = b_0 < … < b_B = d.
            floor: smallest variance of a mode, as a share of the mean variance of its block.
            ordered: see :func:`shrunk_eigh`.
            dtype: type of the basis; the decomposition itself is done in float64.

        Returns:
            the basis and the spectrum λ (d,), float64, descending within each block.
        """
        if next(iter(bounds)) != 0 or list(bounds)[-1] != x.shape[1]:
            raise ValueError(f"bounds must run from 0 to {x.shape[1]}, got {bounds[0]} to {bounds[-1]}")
        vectors, spectra = [], []
        for lo, hi in itertools.pairwise(bounds):
            variance, q = shrunk_eigh(x[:, lo:hi], floor=floor, ordered=ordered)
            vectors.append(q.to(dtype))
            spectra.append(variance)
        return BlockPCA(vectors), torch.cat(spectra)


class PCA(BlockPCA):
    """Principal components of the whole vector: a single block."""

    def __init__(self, q: Tensor) -> None:
        super().__init__([q])


def shrunk_eigh(x: Tensor, *, floor: float = 1e-4, ordered: bool = False) -> tuple[Tensor, Tensor]:
    """Eigen-decomposition of a shrunk covariance of centred rows, well posed for n < d.

    The sample covariance S is shrunk towards (tr S / d) I by the intensity that minimises the expected Frobenius loss
    (Ledoit & Wolf 2004), which leaves the eigenvectors as they are. That intensity is one for all pairs: where
    coordinates lie along a line and correlation fades with distance, it takes as much from near pairs, which are
    certain, as from distant ones, which are noise. ``ordered`` gives every lag its own intensity instead: a sample
    correlation r has E r² = ρ² + 1/n, nearly, so the factor of least squared loss for pairs at a lag is
    1 − 1/(n · mean r²).

    Args:
        x: centred rows (n, d), n ≥ 2.
        floor: smallest eigenvalue, as a share of the mean eigenvalue.
        ordered: coordinates lie along a line.

    Returns:
        eigenvalues (d,) descending and eigenvectors (d, d) in columns, both float64.
    """
    x = x.to(torch.float64)
    n = len(x)
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 rows, got {n}")
    s = x.T @ x / n
    mean_variance = s.diagonal().mean()
    if ordered:
        s = s * _by_lag(s, n)
        shrink = torch.zeros((), dtype=torch.float64)
    else:
        shrink = _ledoit_wolf(x, s)
    variance, q = torch.linalg.eigh(s)
    variance = (1 - shrink) * variance + shrink * mean_variance
    variance = variance.clamp_min(floor * float(mean_variance.clamp_min(1e-12)))
    return variance.flip(0), q.flip(1)


def _ledoit_wolf(x: Tensor, s: Tensor) -> Tensor:
    """The share of the scaled identity in the shrunk covariance, in [0, 1]."""
    return ledoit_wolf_intensity(
        x.square().sum(1).square().sum() / len(x), s.square().sum(), s.diagonal().mean(), shape=x.shape
    )


def ledoit_wolf_intensity(fourth: Tensor, square: Tensor, mean_variance: Tensor, *, shape: Sequence[int]) -> Tensor:
    """The intensity of least expected Frobenius loss (Ledoit & Wolf 2004) from three sums, (), in [0, 1].

    They can be had without writing S down: ‖S‖² is also that of the rows' n × n products over n.

    Args:
        fourth: mean over rows of ‖x‖⁴, ().
        square: ‖S‖² of the sample covariance, ().
        mean_variance: tr S / d, ().
        shape: (n, d) of the rows.
    """
    n, d = shape
    # ‖S − mI‖² (per dimension) is the spread of the spectrum; its noisy part is the sampling error of S.
    spread = (square / d - mean_variance**2).clamp_min(0.0)
    noise = ((fourth - square) / (n * d)).clamp_min(0.0)
    return (noise / spread).clamp(0.0, 1.0) if spread > 0 else torch.ones((), dtype=torch.float64)


_LAGS_AVERAGED = 5
_LEAST_KEPT = 0.1


def _by_lag(s: Tensor, n: int) -> Tensor:
    """Factors (d, d) that depend on the distance of two coordinates alone and never rise with it."""
    d = len(s)
    if d == 1:
        return torch.ones_like(s)
    sd = s.diagonal().clamp_min(1e-12).sqrt()
    squared = (s / sd / sd.unsqueeze(1)).square()
    lag = (torch.arange(d).unsqueeze(1) - torch.arange(d)).abs()
    total = torch.zeros(d, dtype=s.dtype).index_add_(0, lag.flatten(), squared.flatten())
    pairs = torch.bincount(lag.flatten(), minlength=d)
    # Few pairs are as far apart as the block is long: neighbouring lags are averaged, and the factor cannot recover.
    window = torch.ones(1, 1, _LAGS_AVERAGED, dtype=s.dtype)
    half = _LAGS_AVERAGED // 2
    smooth = [torch.nn.functional.conv1d(v.view(1, 1, -1), window, padding=half).flatten()
              for v in (total[1:], pairs[1:].to(s.dtype))]  # fmt: skip
    mean = smooth[0] / smooth[1].clamp_min(1.0)
    kept = (1 - 1 / (n * mean.clamp_min(1e-12))).clamp(0.0, 1.0)
    kept = torch.where(kept < _LEAST_KEPT, 0.0, kept).cummin(0).values
    return torch.cat([torch.ones(1, dtype=s.dtype), kept])[lag]
