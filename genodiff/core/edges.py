"""Smoothing that stops at edges: anisotropy coefficients and conservative steps of ∂_N u = ∇·(c ∇u) on a grid.

With v = Gu an image smoothed a little, the strength of the edge at a pixel i with neighbours N4(i) and the coefficient
are

    s_i = ½ Σ_channels Σ_{j∈N4(i)} (v_j − v_i)² / (mean of the same over the image + contrast²),
    c_i = (1 + s_i/κ²)^{−1/2} ∈ (0, 1],

and the stencil exchanges flux between neighbours (Perona & Malik 1990; Weickert 1998), none across the border:

    (L_c u)_i = Σ_{j∈N4(i)} ½ (c_i + c_j)(u_j − u_i).

L_c is symmetric with zero row sums. So every step below keeps the mean of each channel, and none leaves the range of
the image (maximum principle). Images are (B, C, H, W), coefficients (B, 1, H, W): all channels see the same edges.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from genodiff.core.bases import full_precision
from genodiff.core.cosines import cosine_matrix

__all__ = [
    "Scheme",
    "anisotropy",
    "edge_response",
    "edge_strength",
    "explicit_step",
    "presmoothed",
    "semi_implicit_step",
    "smoothing_rate",
    "tridiagonal_solve",
]

Scheme = Literal["explicit", "additive", "symmetric"]


@lru_cache(maxsize=64)
def _heat(n: int, width: float) -> Tensor:
    """exp(½ width² L) of a line of n points, (n, n) float64: symmetric, non-negative, rows sum to 1."""
    modes = cosine_matrix(n)
    symbol = 2 - 2 * torch.cos(torch.pi / n * torch.arange(n, dtype=torch.float64))
    return modes.T @ (torch.exp(-0.5 * width**2 * symbol).unsqueeze(1) * modes)


def presmoothed(x: Tensor, width: float) -> Tensor:
    """The heat flow of x at standard deviation ``width`` ≥ 0 in pixels, shape of x."""
    if not width >= 0:
        raise ValueError(f"presmoothing must be a width >= 0 in pixels, got {width}")
    if width == 0:
        return x
    with full_precision(x):
        return _heat(x.shape[-2], width).to(x) @ x @ _heat(x.shape[-1], width).to(x)


def _around(rows: Tensor, columns: Tensor) -> Tensor:
    """Sums at every pixel of values held between neighbours, (…, H−1, W) and (…, H, W−1) to (…, H, W)."""
    return F.pad(rows, (0, 0, 0, 1)) + F.pad(rows, (0, 0, 1, 0)) + F.pad(columns, (0, 1)) + F.pad(columns, (1, 0))


def _energy(v: Tensor) -> Tensor:
    """½ Σ over channels and neighbours of squared differences, (B, 1, H, W)."""
    square = 0.5 * v.diff(dim=-2).square().sum(1, keepdim=True), 0.5 * v.diff(dim=-1).square().sum(1, keepdim=True)
    return _around(*square)


def edge_strength(x: Tensor, *, presmoothing: float, contrast: float) -> Tensor:
    """s, (B, 1, H, W), ≥ 0: squared gradients of the presmoothed image in units of their mean over the image.

    Args:
        x: images.
        presmoothing: width of G in pixels, ≥ 0.
        contrast: gradient per pixel, > 0, below which an image counts as flat; it keeps s finite on constant images.

    Raises:
        ValueError: contrast is not positive.
    """
    if not contrast > 0:
        raise ValueError(f"contrast must be positive, got {contrast}: a constant image has no gradient to divide by")
    energy = _energy(presmoothed(x, presmoothing))
    return energy / (energy.mean((-2, -1), keepdim=True) + contrast**2)


def edge_response(x: Tensor, *, presmoothing: float, contrast: float) -> tuple[Tensor, Tensor]:
    """s and how the edge at a pixel answers that pixel itself: ∂s_i/∂x_i, (B, 1, H, W) and (B, C, H, W).

    With e the energy, ē its mean over n pixels and L_1 the stencil with c = 1,

        ∂e_i/∂x_i = Σ_j (v_j − v_i)(G_ji − G_ii),    ∂ē/∂x_i = −2 (G L_1 v)_i/n,
        ∂s_i/∂x_i = (∂e_i/∂x_i − s_i ∂ē/∂x_i)/(ē + contrast²).
    """
    v = presmoothed(x, presmoothing)
    energy = _energy(v)
    scale = energy.mean((-2, -1), keepdim=True) + contrast**2
    strength = energy / scale
    rows, columns = (_heat(n, presmoothing).to(x) for n in x.shape[-2:])
    down, right = v.diff(dim=-2), v.diff(dim=-1)
    # G is a product of two matrices, so that a neighbour's share of a pixel is the next entry beside one diagonal.
    here_y, here_x = rows.diagonal(), columns.diagonal()
    next_y, next_x = rows.diagonal(1), columns.diagonal(1)
    own = (
        F.pad(down * ((next_y - here_y[:-1]).unsqueeze(1) * here_x), (0, 0, 0, 1))
        - F.pad(down * ((next_y - here_y[1:]).unsqueeze(1) * here_x), (0, 0, 1, 0))
        + F.pad(right * (here_y.unsqueeze(1) * (next_x - here_x[:-1])), (0, 1))
        - F.pad(right * (here_y.unsqueeze(1) * (next_x - here_x[1:])), (1, 0))
    )
    flat = presmoothed(smoothing_rate(v, torch.ones_like(energy)), presmoothing)
    mean = -2 * flat / (x.shape[-2] * x.shape[-1])
    return strength, (own - strength * mean) / scale


def anisotropy(strength: Tensor, kappa: Tensor | float) -> Tensor:
    """c(s; κ) = (1 + s/κ²)^{−1/2}: 1 where the image is flat, κ/√s on an edge."""
    return torch.rsqrt(1 + strength / kappa**2)


def _conductances(c: Tensor, dim: int) -> Tensor:
    """½ (c_i + c_j) between neighbours along one axis."""
    n = c.shape[dim]
    return 0.5 * (c.narrow(dim, 0, n - 1) + c.narrow(dim, 1, n - 1))


def smoothing_rate(x: Tensor, c: Tensor) -> Tensor:
    """L_c x, shape of x."""
    down, right = _conductances(c, -2) * x.diff(dim=-2), _conductances(c, -1) * x.diff(dim=-1)
    return F.pad(down, (0, 0, 0, 1)) - F.pad(down, (0, 0, 1, 0)) + F.pad(right, (0, 1)) - F.pad(right, (1, 0))


def explicit_step(x: Tensor, c: Tensor, step: Tensor | float) -> Tensor:
    """x + N L_c x for a step N = ν dt ≥ 0, a number or one per image as (B, 1, 1, 1).

    Raises:
        ValueError: 4 N > 1, where a pixel could leave the range of its neighbours.
    """
    steps = torch.as_tensor(step, dtype=x.dtype, device=x.device)
    if (bad := ~(4 * steps <= 1)).any():
        i = int(bad.flatten().nonzero()[0])
        value = float(steps.flatten()[i])
        raise ValueError(f"step {value} of image {i} is longer than 1/4: the explicit step would not be stable")
    return x + steps * smoothing_rate(x, c)


def _factors(c: Tensor, step: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The LU factors of 1 − step · L along one axis, that axis first: off-diagonals, multipliers, 1/pivots."""
    off = (step * _conductances(c, dim)).movedim(dim, 0).contiguous()
    nothing = torch.zeros_like(c.select(dim, 0).unsqueeze(0))
    diagonal = (1 + torch.cat([off, nothing]) + torch.cat([nothing, off])).unbind(0)
    inverse, multipliers = [diagonal[0].reciprocal()], []
    for a, d in zip(off.unbind(0), diagonal[1:], strict=True):
        multipliers.append(a * inverse[-1])
        inverse.append(torch.addcmul(d, a, multipliers[-1], value=-1).reciprocal())
    return off, torch.stack(multipliers) if multipliers else off, torch.stack(inverse)


def tridiagonal_solve(factors: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """(1 − step · L)⁻¹ x along the first axis, by Thomas's two sweeps; all other axes are solved together.

    Args:
        factors: off-diagonals a_i > 0 with sign changed, multipliers a_i/p_{i−1} and inverse pivots 1/p_i,
            (n − 1, …), (n − 1, …) and (n, …).
        x: right-hand sides, (n, …).
    """
    off, multipliers, inverse = (f.unbind(0) for f in factors)
    swept = list(x.unbind(0))
    for i, m in enumerate(multipliers):
        swept[i + 1] = torch.addcmul(swept[i + 1], m, swept[i])
    swept[-1] = swept[-1] * inverse[-1]
    for i in range(len(swept) - 2, -1, -1):
        swept[i] = torch.addcmul(swept[i], off[i], swept[i + 1]) * inverse[i]
    return torch.stack(swept)


def _solve(factors: tuple[Tensor, Tensor, Tensor], x: Tensor, dim: int) -> Tensor:
    return tridiagonal_solve(factors, x.movedim(dim, 0).contiguous()).movedim(0, dim)


def semi_implicit_step(
    x: Tensor, c: Tensor, step: Tensor | float, *, scheme: Literal["additive", "symmetric"] = "symmetric"
) -> Tensor:
    """A step of any length N = ν dt ≥ 0 by solves along columns and rows, R_N = (1 − N L)⁻¹ for each axis.

    ``additive`` is AOS (Weickert et al. 1998), ½ (R_2N^y + R_2N^x) x. However long its step, a structure that varies
    along one axis keeps half its height, because the other axis does not see it. ``symmetric`` is
    ½ (R_N^y R_N^x + R_N^x R_N^y) x, which costs twice as much and does not. Both are averages with non-negative
    weights that sum to 1, first order in N, and treat the two axes alike.

    Args:
        x: images.
        c: coefficients.
        step: N ≥ 0, a number or one per image as (B, 1, 1, 1).
        scheme: how the axes are put together.
    """
    steps = torch.as_tensor(step, dtype=x.dtype, device=x.device)
    if (bad := ~(steps >= 0)).any():
        i = int(bad.flatten().nonzero()[0])
        raise ValueError(f"step {float(steps.flatten()[i])} of image {i} is not >= 0")
    length = 2 * steps if scheme == "additive" else steps
    down, across = _factors(c, length, -2), _factors(c, length, -1)
    first, second = _solve(down, x, -2), _solve(across, x, -1)
    if scheme == "symmetric":
        first, second = _solve(across, first, -1), _solve(down, second, -2)
    return 0.5 * (first + second)
