"""Training objectives for denoisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from genodiff.core.denoisers import Denoiser
from genodiff.core.training import Workers, generator_on, step_generator

__all__ = [
    "VectorProblem",
    "allele_cross_entropies",
    "allele_cross_entropy",
    "denoising_score_matching",
    "stratified_times",
    "stratified_uniform",
]


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


def allele_cross_entropies(logits: Tensor, alleles: Tensor) -> Tensor:
    """Cross-entropy in nats of every state, (B, d); what it is where a state is unknown does not matter.

    Args:
        logits: (B, d) log odds of state 1 for binary states, or (B, d, states).
        alleles: (B, d) integer states, negative where unknown.
    """
    if logits.ndim == alleles.ndim:
        return F.binary_cross_entropy_with_logits(logits, alleles.to(logits.dtype).clamp_min(0), reduction="none")
    flat = F.cross_entropy(logits.flatten(0, -2), alleles.flatten().long().clamp_min(0), reduction="none")
    return flat.view(alleles.shape)


def allele_cross_entropy(
    logits: Tensor, alleles: Tensor, *, observed: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy in nats per observed state.

    Args:
        logits: (B, d) log odds of state 1 for binary states, or (B, d, states).
        alleles: (B, d) integer states; values where ``observed`` is false do not matter.
        observed: bool (B, d); all if ``None``.
        weight: weight of every row, (B,); one if ``None``.
    """
    each = allele_cross_entropies(logits, alleles)
    if weight is not None:
        each = each * weight.unsqueeze(-1)
    if observed is None:
        return each.mean()
    counted = observed.to(each.dtype)
    return (each * counted).sum() / counted.sum().clamp_min(1.0)


class VectorProblem:
    """A denoising objective of vectors, for :func:`genodiff.core.training.train`.

    Args:
        denoiser: what is trained.
        rows: training vectors (n, d).
        held_out: validation vectors (m, d), seen at ``repeats`` noise levels each.
        grid: the sampler's times; training covers them evenly.
        batch: vectors per step.
        seed: of the fixed validation noise.
        repeats: noise levels at which every validation vector is seen.
        objective: loss of (denoiser, x_0, t) with a ``generator``; denoising score matching if not given.
        at_once: most validation vectors in one pass; all if ``None``.
        conditions: what the denoiser is told of training and of validation vectors, one row per vector each.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        rows: Tensor,
        held_out: Tensor,
        *,
        grid: Tensor,
        batch: int,
        seed: int,
        repeats: int = 8,
        objective: Callable[..., Tensor] = denoising_score_matching,
        at_once: int | None = None,
        conditions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]] = ({}, {}),
    ) -> None:
        self.denoiser, self.rows, self.grid, self.batch, self.seed = denoiser, rows, grid, batch, seed
        self.held_out = held_out.repeat(repeats, 1)
        self.condition = conditions[0]
        self.held_condition = {k: v.repeat(repeats, *([1] * (v.ndim - 1))) for k, v in conditions[1].items()}
        self.objective, self.at_once = objective, at_once or max(1, len(self.held_out))

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        """Mean loss of this worker's part of a random batch."""
        index = torch.randint(len(self.rows), (self.batch,), generator=generator)
        t = stratified_times(self.grid, self.batch, generator=generator)
        part = workers.part(self.batch)
        chosen = index[part].to(self.rows.device)
        x_0, given = self.rows[chosen], {k: v[chosen] for k, v in self.condition.items()}
        noise = generator_on(x_0.device, generator)
        return self.objective(self.denoiser, x_0, t[part].to(x_0), generator=noise, **given)

    def validation(self) -> float:
        """Loss on the held-out vectors with fixed times and noise."""
        generator = step_generator(self.seed, -1)
        t = stratified_times(self.grid, len(self.held_out), generator=generator).to(self.held_out)
        noise = generator_on(self.held_out.device, generator)
        total = 0.0
        for start in range(0, len(t), self.at_once):
            part = slice(start, start + self.at_once)
            x_0, given = self.held_out[part], {k: v[part] for k, v in self.held_condition.items()}
            loss = self.objective(self.denoiser, x_0, t[part], generator=noise, **given)
            total += float(loss) * (len(x_0) / len(self.held_out))
        return total
