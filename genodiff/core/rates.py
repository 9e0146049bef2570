"""R⁻¹ and ω of a flexible forward process, in blocks of k × k numbers, given or learned."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from genodiff.core.blocks import antisymmetric, exponential, multiply

__all__ = ["FixedRates", "LearnedRates", "Part", "Rates"]

Part = Literal["spectrum", "rotation", "drift"]


class Rates(nn.Module):
    """R⁻¹ and ω as n blocks of k × k numbers."""

    n: int
    size: int

    def forward(self) -> tuple[Tensor, Tensor]:
        """R⁻¹ and ω, (n, k, k) each."""
        raise NotImplementedError

    def root(self) -> Tensor:
        """R^{−1/2}, symmetric, (n, k, k)."""
        raise NotImplementedError

    def spectrum(self) -> Tensor:
        """Eigenvalues of R⁻¹, (n, k)."""
        raise NotImplementedError

    @torch.no_grad()
    def restrict(self, blocks: slice, *, pace: Tensor) -> FixedRates:
        """``pace`` times the rates of some blocks alone, given from now on: no gradient passes."""
        symmetric, skew = self()
        parts = (pace * symmetric, pace * skew, pace * self.spectrum(), pace.sqrt() * self.root())
        return FixedRates._of(*(part[blocks] for part in parts))


class FixedRates(Rates):
    """Given R⁻¹ and ω, which are not learned; R⁻¹ may be degenerate.

    Args:
        symmetric: R⁻¹ ⪰ 0, (n, k, k).
        skew: ω = −ωᵀ, (n, k, k).
    """

    symmetric: Tensor
    skew: Tensor
    values: Tensor
    square_root: Tensor

    def __init__(self, symmetric: Tensor, skew: Tensor) -> None:
        super().__init__()
        if symmetric.ndim != 3 or symmetric.shape[1] != symmetric.shape[2] or symmetric.shape != skew.shape:
            raise ValueError(
                f"expected two arrays of blocks (n, k, k), got {tuple(symmetric.shape)} and {tuple(skew.shape)}"
            )
        tolerance = 100 * torch.finfo(symmetric.dtype).eps
        scale = symmetric.abs().amax((1, 2))
        values, vectors = torch.linalg.eigh(symmetric)
        wrong = ((symmetric - symmetric.mT).abs().amax((1, 2)) > tolerance * scale) | (
            values[:, 0] < -tolerance * scale
        )
        if wrong.any():
            raise ValueError(f"block {int(wrong.nonzero()[0])} of R⁻¹ is not symmetric positive semi-definite")
        wrong = (skew + skew.mT).abs().amax((1, 2)) > tolerance * skew.abs().amax((1, 2))
        if wrong.any():
            raise ValueError(f"block {int(wrong.nonzero()[0])} of ω is not antisymmetric")
        values = values.clamp_min(0)
        self._keep(symmetric, skew, values, (vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT)

    @classmethod
    def _of(cls, symmetric: Tensor, skew: Tensor, values: Tensor, square_root: Tensor) -> FixedRates:
        """Rates whose eigenvalues and root are known."""
        rates = cls.__new__(cls)
        Rates.__init__(rates)
        rates._keep(symmetric, skew, values, square_root)
        return rates

    def _keep(self, symmetric: Tensor, skew: Tensor, values: Tensor, square_root: Tensor) -> None:
        self.n, self.size = symmetric.shape[:2]
        self.register_buffer("symmetric", symmetric)
        self.register_buffer("skew", skew)
        self.register_buffer("values", values)
        self.register_buffer("square_root", square_root)

    def forward(self) -> tuple[Tensor, Tensor]:
        """R⁻¹ and ω as given."""
        return self.symmetric, self.skew

    def root(self) -> Tensor:
        """R^{−1/2}."""
        return self.square_root

    def spectrum(self) -> Tensor:
        """Eigenvalues of R⁻¹, (n, k)."""
        return self.values


class LearnedRates(Rates):
    """R⁻¹ = P diag(e^{Λ − mean Λ}) Pᵀ with P = exp(H), and ω, from free numbers that begin at 0 (FP A.4).

    A constant in Λ does the same as a faster clock; the mean is taken out, so that it cannot drift.

    Args:
        n: number of blocks.
        size: k.
        learn: which of Λ ("spectrum"), H ("rotation") and ω ("drift") are parameters; the others stay at 0.
    """

    log_spectrum: Tensor
    rotation: Tensor
    drift: Tensor

    def __init__(self, n: int, size: int, *, learn: Collection[Part], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        unknown = set(learn) - {"spectrum", "rotation", "drift"}
        if unknown:
            raise ValueError(f"cannot learn {sorted(unknown)}: expected among 'spectrum', 'rotation' and 'drift'")
        if size == 1 and not set(learn) <= {"spectrum"}:
            raise ValueError("blocks of one mode have a spectrum only: neither rotation nor drift")
        self.n, self.size, self.learn = n, size, frozenset(learn)
        pairs = size * (size - 1) // 2
        for name, part, width in (
            ("log_spectrum", "spectrum", size), ("rotation", "rotation", pairs), ("drift", "drift", pairs)
        ):  # fmt: skip
            start = torch.zeros(n, width, dtype=dtype)
            if part in learn:
                self.register_parameter(name, nn.Parameter(start))
            else:
                self.register_buffer(name, start)

    def spectrum(self) -> Tensor:
        """e^{Λ − mean Λ}, (n, k)."""
        return (self.log_spectrum - self.log_spectrum.mean()).exp()

    def _turned(self, values: Tensor) -> Tensor:
        if "rotation" not in self.learn:
            return torch.diag_embed(values)
        p = exponential(antisymmetric(self.rotation, self.size))
        return multiply(p * values.unsqueeze(-2), p.mT)

    def root(self) -> Tensor:
        """P diag(e^{(Λ − mean Λ)/2}) Pᵀ."""
        return self._turned(self.spectrum().sqrt())

    def forward(self) -> tuple[Tensor, Tensor]:
        """R⁻¹ and ω, (n, k, k)."""
        return self._turned(self.spectrum()), antisymmetric(self.drift, self.size)
