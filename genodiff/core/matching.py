"""What denoisers and scores of a field are learned from.

- :func:`frozen_score_matching`: x_t from the frozen law given x_0, the network learns x_0 (denoising score matching).
- :func:`local_score_matching`: the last step of the Euler chain is Gaussian given the state before it, whatever the
  coefficients, so that E[−A⁻ᵀ ξ | x_{k+1}] is the score of the chain at x_{k+1}, exactly.
- :func:`implicit_score_matching`: needs samples of p_t alone (Hyvärinen 2005).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genodiff.core.fields import FieldDiffusion, FieldTransition
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.reversal import FieldDenoiser, ScoreModel

__all__ = ["LocalStep", "frozen_score_matching", "implicit_score_matching", "local_score_matching", "local_steps"]


def frozen_score_matching(
    denoiser: FieldDenoiser | PreconditionedDenoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """E ‖c_out⁻¹ (D(x_t, t) − x_0)‖²/d, a scalar: the network's own squared error.

    x_t is from the frozen law of a field given x_0; where there are no edges this is the law of x_t given x_0.
    """
    process = denoiser.process
    with torch.no_grad():
        x_t = process.noised(x_0, t, generator=generator)
    error = process.basis.analysis(denoiser(x_t, t, **condition) - x_0)
    return (error.square() * denoiser.precision(t)).mean()


LocalStep = tuple[FieldTransition, Tensor, Tensor]


@torch.no_grad()
def local_steps(
    process: FieldDiffusion,
    x_0: Tensor,
    index: Tensor,
    grid: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> LocalStep:
    """Of every row the step of the Euler chain with its own number: law, noise and time of the end.

    Args:
        process: the field.
        x_0: (B, d).
        index: number 0 … len(grid) − 2 of the step that each row ends with, (B,).
        grid: rising times from 0.
        generator: source of the noise.

    Raises:
        ValueError: an index outside the grid.
    """
    if (bad := (index < 0) | (index >= len(grid) - 1)).any():
        i = int(bad.nonzero()[0])
        raise ValueError(f"row {i} ends with step {int(index[i])} of a chain of {len(grid) - 1}")
    location, deviation, noise = (torch.empty_like(x_0) for _ in range(3))
    chain = process.chain(x_0, grid[: int(index.max()) + 2], generator=generator)
    for k, (law, _, xi) in enumerate(chain):
        rows = index == k
        location[rows], deviation[rows], noise[rows] = law.location[rows], law.deviation[rows], xi[rows]
    return FieldTransition(location, deviation, process.basis, process.colour), noise, grid[index + 1]


def local_score_matching(
    model: ScoreModel,
    law: FieldTransition,
    noise: Tensor,
    t: Tensor,
    *,
    antithetic: bool = True,
    **condition: Any,
) -> Tensor:
    """E [‖Aᵀ s‖² + 2 ⟨Aᵀ s, ξ⟩]/(d Δ), a scalar: E ‖Aᵀ (s − target)‖² with target −A⁻ᵀ ξ, but for what s cannot lower.

    A = V^½ K belongs to the last step and Δ is the mean of its V. The target is as large as 1/√Δ. ``antithetic``
    averages over ξ and −ξ, which are equally likely: the two large terms cancel and leave a difference of s over the
    step, at the cost of a second evaluation.

    Args:
        model: gives ``score(x, t)``.
        law: of the last step.
        noise: ξ, (B, d).
        t: times at its end, (B,).
        antithetic: see above.
        condition: passed on to the model.
    """

    def one(xi: Tensor) -> Tensor:
        pulled = law.coloured(law.deviation * model.score(law.noised(xi), t, **condition))
        return (pulled.square() + 2 * pulled * xi).mean(-1)

    loss = 0.5 * (one(noise) + one(-noise)) if antithetic else one(noise)
    return (loss / law.deviation.square().mean(-1)).mean()


def implicit_score_matching(
    score: Callable[[Tensor], Tensor],
    act: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """E [½ sᵀ Σ s + div(Σ s)]/d, a scalar: ½ E ‖s − ∇ log p‖²_Σ but for a constant, from samples x of p alone.

    div(Σ s) is estimated along one random direction of ±1 per row (Hutchinson).

    Args:
        score: s(x), (B, d).
        act: Σ(x) v of (x, v).
        x: samples, (B, d).
        generator: source of the direction.
    """
    coin = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    e = torch.where(coin < 0.5, -1.0, 1.0).to(x)
    out = torch.func.jvp(lambda y: act(y, score(y)), (x,), (e,))
    return (0.5 * score(x) * out[0] + e * out[1]).mean()
