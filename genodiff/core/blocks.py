"""Small square matrices side by side, (..., n, k, k): products, triangular factors and the decay of linear diffusions.

For k up to a few, a batch of tiny products or factorisations costs far more in calls than in arithmetic, so they are
written out over whole arrays; the memory of the results runs over blocks, not over the entries of one block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genodiff.core.bases import full_precision

__all__ = [
    "Grouping", "antisymmetric", "apply", "cholesky", "decay", "exponential", "log_det", "multiply", "solve_lower",
    "solve_upper",
]  # fmt: skip

_WRITTEN_OUT = 4
"""Largest k for which operations are written out."""

_REACH = 0.5
"""Largest ‖A‖ u at which the series of :func:`decay` are summed."""


@dataclass(frozen=True)
class Grouping:
    """Which modes make a block.

    Attributes:
        size: k, the number of modes of a block.
        order: the modes in the order of the blocks, (d,) whole numbers; consecutive if ``None``.
        inverse: the place of every mode in ``order``, (d,).
    """

    size: int
    order: Tensor | None = None
    inverse: Tensor | None = None

    def split(self, z: Tensor) -> Tensor:
        """Modes (..., d) as blocks (..., n, k)."""
        taken = z if self.order is None else z[..., self.order]
        return taken.unflatten(-1, (-1, self.size))

    def join(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`split`."""
        flat = z.flatten(-2)
        return flat if self.inverse is None else flat[..., self.inverse]


def antisymmetric(upper: Tensor, k: int) -> Tensor:
    """Matrices (..., k, k) with the given entries (..., k(k−1)/2) above the diagonal and their negatives below."""
    i, j = torch.triu_indices(k, k, offset=1, device=upper.device)
    full = upper.new_zeros(*upper.shape[:-1], k * k).index_copy(-1, i * k + j, upper).unflatten(-1, (k, k))
    return full - full.mT


def exponential(h: Tensor) -> Tensor:
    """exp(H) of antisymmetric blocks (..., k, k): rotations."""
    k = h.shape[-1]
    if k == 1:
        return torch.ones_like(h)
    if k == 2:
        c, s = h[..., 0, 1].cos(), h[..., 0, 1].sin()
        return torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2)
    with full_precision(h):
        return torch.linalg.matrix_exp(h)


def _entries_first(a: Tensor) -> Tensor:
    """A view (k, m, ...) of blocks (..., k, m)."""
    return a.movedim((-2, -1), (0, 1))


def _entries_last(a: Tensor) -> Tensor:
    """The inverse of :func:`_entries_first`."""
    return a.movedim((0, 1), (-2, -1))


class _Product(torch.autograd.Function):
    """a b written out. Its derivatives are products again, which saves the many small sums of the written-out form."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        left, right = (_entries_first(x.expand(*batch, *x.shape[-2:])) for x in (a, b))
        total = left[:, :1] * right[:1]
        for j in range(1, len(right)):
            total = torch.addcmul(total, left[:, j : j + 1], right[j : j + 1])
        return _entries_last(total.contiguous())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,), (a, b) = grads, ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return (
            multiply(grad, b.mT).sum_to_size(a.shape) if of_a else None,
            multiply(a.mT, grad).sum_to_size(b.shape) if of_b else None,
        )


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Products a b of blocks, (..., k, k) with (..., k, m)."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = a.to(dtype), b.to(dtype)
    if max(*a.shape[-2:], b.shape[-1]) <= _WRITTEN_OUT:
        return _Product.apply(a, b)
    with full_precision(a):
        return a @ b


def apply(a: Tensor, z: Tensor) -> Tensor:
    """Products a z of blocks (..., n, k, k) with vectors (..., n, k)."""
    return multiply(a, z.unsqueeze(-1)).squeeze(-1)


def cholesky(a: Tensor) -> Tensor:
    """The lower triangular L with L Lᵀ = a for positive definite blocks; a block of zeros has the factor zero.

    A block that is not positive semi-definite gives NaN, or an error of torch where k is large.
    """
    k = a.shape[-1]
    if k > _WRITTEN_OUT:
        return torch.linalg.cholesky(a)
    entries = [row.unbind() for row in _entries_first(a).unbind()]
    factor = [[torch.zeros_like(entries[0][0])] * k for _ in range(k)]
    for i in range(k):
        for j in range(i + 1):
            left = entries[i][j]
            for m in range(j):
                left = torch.addcmul(left, factor[i][m], factor[j][m], value=-1)
            # The root of 0 has no slope: zero pivots are kept out of the gradient's way.
            pivot = left if i == j else factor[j][j]
            safe = torch.where(pivot == 0, 1.0, pivot)
            factor[i][j] = torch.where(pivot == 0, 0.0, safe.sqrt() if i == j else left / safe)
    return _entries_last(torch.stack([torch.stack(row) for row in factor]))


def solve_lower(factor: Tensor, z: Tensor) -> Tensor:
    """L⁻¹ z for lower triangular L (..., n, k, k) and z (..., n, k)."""
    k = factor.shape[-1]
    if k > _WRITTEN_OUT:
        return torch.linalg.solve_triangular(factor, z.unsqueeze(-1), upper=False).squeeze(-1)
    entries = [row.unbind() for row in _entries_first(factor).unbind()]
    found: list[Tensor] = []
    for i, left in enumerate(z.unbind(-1)):
        for j in range(i):
            left = torch.addcmul(left, entries[i][j], found[j], value=-1)
        found.append(left / entries[i][i])
    return torch.stack(found, -1)


def solve_upper(factor: Tensor, z: Tensor) -> Tensor:
    """L⁻ᵀ z for lower triangular L (..., n, k, k) and z (..., n, k)."""
    # Reversing both axes of Lᵀ makes it lower triangular.
    return solve_lower(factor.mT.flip(-1, -2), z.flip(-1)).flip(-1)


def log_det(factor: Tensor) -> Tensor:
    """log det(L Lᵀ) of every block, (..., n), from the Cholesky factor."""
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def decay(symmetric: Tensor, skew: Tensor, elapsed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of dX = −(½S + W) X du + S^{1/2} dw after a time u:

        Φ = exp(−A u),    C = ∫_0^u e^{−Av} S e^{−Aᵀv} dv = I − ΦΦᵀ,    A = ½S + W.

    I − ΦΦᵀ loses all digits for small u, and more for a direction the noise reaches only through others (its variance
    is of order u³). Both are therefore summed as power series up to ‖A‖ u = ½ and doubled from there,

        C(2u) = C + ΦCΦᵀ,    Φ(2u) = Φ²,

    where nothing cancels and nothing grows; every block at every time is doubled as often as it needs. The derivative
    of C, which is not small compared with its terms, is that of I − ΦΦᵀ.

    Args:
        symmetric: S ⪰ 0, (n, k, k).
        skew: W = −Wᵀ, (n, k, k).
        elapsed: u ≥ 0, (...).

    Returns:
        Φ and C, (..., n, k, k).
    """
    k = symmetric.shape[-1]
    u = elapsed.to(symmetric.dtype).unsqueeze(-1)
    if k == 1:
        exponent = -symmetric[:, 0, 0] * u
        return (0.5 * exponent).exp()[..., None, None], -torch.expm1(exponent)[..., None, None]
    a = 0.5 * symmetric + skew
    with torch.no_grad():
        size = torch.linalg.matrix_norm(a)
        size = torch.where(size > 0, size, 1.0)
        doublings = torch.ceil(torch.log2(size * u / _REACH)).clamp_min(0)  # (..., n)
        unit = size[:, None, None]
        covariance = _covariance(a / unit, symmetric / unit, size * u * torch.exp2(-doublings))
    phi = _exponential(-_by_entry(a, u.ndim) * (u * torch.exp2(-doublings)))
    for i in range(int(doublings.max()) if doublings.numel() else 0):
        on = (i < doublings)[..., None, None]
        with torch.no_grad():
            grown = multiply(multiply(phi, covariance), phi.mT)
            covariance = torch.addcmul(covariance, grown, on.to(grown.dtype))
        phi = torch.where(on, multiply(phi, phi), phi)
    square = multiply(phi, phi.mT)
    return phi, covariance - (square - square.detach())


def _by_entry(a: Tensor, ndim: int) -> Tensor:
    """Blocks (n, k, k) as (k, k, 1, …, 1, n), with ndim axes after the first two: memory runs over blocks."""
    entries = a.movedim(0, -1).contiguous()
    return entries.view(*entries.shape[:2], *([1] * (ndim - 1)), -1)


def _exponential(by_entry: Tensor) -> Tensor:
    """Σ M^j/j! to rounding for ‖M‖ ≤ ½, by Horner's rule in M²; M (k, k, ..., n) to (..., n, k, k)."""
    m = _entries_last(by_entry)
    eps = torch.finfo(m.dtype).eps
    terms = next(j for j in range(1, 40) if _REACH**j / math.factorial(j) < 0.1 * eps)
    one = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
    pairs = [torch.add(one / math.factorial(j), m, alpha=1 / math.factorial(j + 1)) for j in range(0, terms, 2)]
    square, total = multiply(m, m), pairs[-1]
    for pair in reversed(pairs[:-1]):
        total = pair + multiply(square, total)
    return total


def _covariance(a: Tensor, s: Tensor, u: Tensor) -> Tensor:
    """Σ X_j u^{j+1}/(j+1)! with X_0 = s, X_{j+1} = −(a X_j + X_j aᵀ), to rounding for ‖a‖u ≤ ½, (..., n, k, k)."""
    # ‖X_j‖ u^j ≤ (2‖a‖u)^j ‖s‖, so that the terms fall as 1/(j+1)!.
    terms = next(j for j in range(1, 40) if 1 / math.factorial(j + 1) < 0.1 * torch.finfo(a.dtype).eps)
    coefficients = [s]
    for j in range(1, terms):
        moved = multiply(a, coefficients[-1])
        coefficients.append(-(moved + moved.mT) / (j + 1))
    by_entry = [_by_entry(c, u.ndim) for c in coefficients]
    total = by_entry[-1] * u
    for c in reversed(by_entry[:-1]):
        total = (c + total) * u
    return _entries_last(total)
