"""Training objectives for denoisers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from genodiff.core.denoisers import Denoiser

__all__ = ["allele_cross_entropy", "denoising_score_matching", "stratified_times", "stratified_uniform"]


def stratified_uniform(n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """One uniform draw in each of n equal parts of [0, 1), in random order, (n,) float64: low variance over a batch."""
    u = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
    return u[torch.randperm(n, generator=generator)]


def stratified_times(grid: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Times spread evenly over the steps of a sampler's grid, (n,): training covers exactly what sampling visits."""
    ascending = grid.flip(0).to(torch.float64)
    at = stratified_uniform(n, generator=generator) * (len(grid) - 1)
    low = at.long().clamp_max(len(grid) - 2)
    return torch.lerp(ascending[low], ascending[low + 1], at - low)


def denoising_score_matching(
    denoiser: Denoiser, x_0: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any
) -> Tensor:
    """Σ_i E[(m/s)² (D_i − x_0,i)²]/d: score matching with weight s² per mode, a scalar.

    Per mode the score error is m (D − x_0)/s², so weighting the squared error by s² leaves m²/s².
    """
    process = denoiser.process
    forward = process.transition(torch.zeros_like(t), t)
    x_t, _ = forward.sample(x_0, generator=generator)
    error = process.basis.analysis(denoiser(x_t, t, **condition) - x_0)
    return (error.square() * forward.m.square() / forward.variance).mean()


def allele_cross_entropy(logits: Tensor, alleles: Tensor, *, observed: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats per observed state.

    Args:
        logits: (B, d) log odds of state 1 for binary states, or (B, d, states).
        alleles: (B, d) integer states; values where ``observed`` is false do not matter.
        observed: bool (B, d); all if ``None``.
    """
    if logits.ndim == alleles.ndim:
        each = F.binary_cross_entropy_with_logits(logits, alleles.to(logits.dtype).clamp_min(0), reduction="none")
    else:
        flat = F.cross_entropy(logits.flatten(0, -2), alleles.flatten().long().clamp_min(0), reduction="none")
        each = flat.view(alleles.shape)
    if observed is None:
        return each.mean()
    weight = observed.to(each.dtype)
    return (each * weight).sum() / weight.sum().clamp_min(1.0)
