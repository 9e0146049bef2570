"""Networks as scores of flexible processes.

Data of unit variance stay so: X_t ~ N(μ, I) at all times, whose score −(x − μ) is known. What the network F adds is
scaled to unit variance in every block of modes, with L Lᵀ = C and z = x_t − μ:

    score = −z + L⁻ᵀ (‖Φ‖_F/√k) F(z, ¼ log ρ),    D = μ + Φᵀ z + Φ⁻¹ L (‖Φ‖_F/√k) F,    ρ = e^B − 1.

In a Langevin process the noise hides the positions x_0 alone, velocities being marginal. With φ the column of Φ that
moves x_0, C̃ = C + Φ diag(0, γ) Φᵀ, P = C̃ + φφᵀ and u the state,

    E[x_0 | u] = φᵀP⁻¹u + (1 + φᵀC̃⁻¹φ)^{−1/2} F,    score = −P⁻¹u + (1 + φᵀC̃⁻¹φ)^{−1/2} C̃⁻¹φ F,

the first terms being exact for Gaussian positions of unit variance, the factors of F the standard deviations of what
is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genodiff.core.blocks import apply, cholesky, solve_lower, solve_upper
from genodiff.core.denoisers import Denoiser
from genodiff.core.flexible import BlockTransition, FlexibleDiffusion
from genodiff.core.langevin import LangevinDiffusion

__all__ = ["FlexibleDenoiser", "PhaseDenoiser"]


def _level(process: FlexibleDiffusion, t: Tensor, rows: int) -> Tensor:
    """¼ log ρ of every row, (B,): half the log deviation of the noise beside the signal, of a mode with R⁻¹ = 1."""
    return (0.25 * process.noise_ratio(t).log()).expand(rows)


class FlexibleDenoiser(Denoiser):
    """A network F(z, level) as the score of a process with stationary law N(μ, I); exact for N(μ, I) data at F = 0.

    Args:
        process: the forward process; gradients reach it.
        network: maps x − μ (B, *shape) and levels ¼ log ρ (B,) to (B, *shape). A condition is passed on by keyword.
        shape: what the network takes a vector for; (d,) if not given.
    """

    process: FlexibleDiffusion

    def __init__(self, process: FlexibleDiffusion, network: nn.Module, *, shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.process, self.network = process, network
        self.shape = (process.dim,) if shape is None else tuple(shape)
        if math.prod(self.shape) != process.dim:
            raise ValueError(f"a network of shape {self.shape} does not take vectors of {process.dim} values")

    def _residual(self, x_t: Tensor, t: Tensor, condition: dict[str, Any]) -> tuple[BlockTransition, Tensor]:
        """The transition from 0, and ‖Φ‖_F/√k F in its blocks, (B, n, k)."""
        forward = self.process.transition(torch.zeros_like(t), t)
        z = (x_t - self.process.mean).unflatten(-1, self.shape)
        out = self.network(z, _level(self.process, t, len(x_t)), **condition).flatten(1)
        # The norm has slope 0 at 0, where Φ underflows.
        scale = torch.linalg.vector_norm(forward.phi, dim=(-2, -1)) / math.sqrt(forward.grouping.size)
        return forward, scale.unsqueeze(-1) * forward.grouping.split(self.process.basis.analysis(out))

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """−(x_t − μ) + L⁻ᵀ (‖Φ‖_F/√k) F, (B, d); t > 0."""
        forward, residual = self._residual(x_t, t, condition)
        added = forward.grouping.join(solve_upper(forward.factor, residual))
        return self.process.basis.synthesis(added) - (x_t - self.process.mean)

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t] by Tweedie's formula, Φ (D − μ) = z + C score, (B, d)."""
        forward, residual = self._residual(x_t, t, condition)
        if forward.grouping.size == 1:
            # Φ⁻¹ ‖Φ‖ = 1 even where Φ underflows.
            unscaled = residual / torch.linalg.vector_norm(forward.phi, dim=(-2, -1)).unsqueeze(-1)
            back = forward.factor.squeeze(-1) * unscaled
        else:
            moved = apply(forward.factor, residual)
            back = torch.linalg.solve(forward.phi.expand(*moved.shape, -1), moved)
        return forward.point(apply(forward.phi.mT, forward.blocks(x_t)) + back)


@dataclass(frozen=True)
class _Hidden:
    """What the state of a Langevin process says about its positions at 0, in blocks (x_i, v_i).

    Attributes:
        given: the law of the state given the positions.
        towards: φ, (..., n, 2).
        pull: C̃⁻¹φ, (..., n, 2).
        deviation: (1 + φᵀC̃⁻¹φ)^{−1/2}, the standard deviation left in x_0 of unit variance, (..., n).
        total: lower Cholesky factor of P = C̃ + φφᵀ, (..., n, 2, 2).
    """

    given: BlockTransition
    towards: Tensor
    pull: Tensor
    deviation: Tensor
    total: Tensor


def _hidden(process: LangevinDiffusion, t: Tensor) -> _Hidden:
    given = process.from_positions(t)
    factor, phi = given.factor, given.phi[..., 0]
    white = solve_lower(factor, phi)
    total = cholesky(given.covariance + phi.unsqueeze(-1) * phi.unsqueeze(-2))
    deviation = (1 + white.square().sum(-1)).rsqrt()
    return _Hidden(given, phi, solve_upper(factor, white), deviation, total)


class PhaseDenoiser(Denoiser):
    """A network F(state, level) as the score of a Langevin process, given both positions and velocities.

    Args:
        process: the forward process.
        network: maps positions and velocities of unit variance, one after the other on the first axis after the
            batch, (B, 2·shape[0], *shape[1:]), and levels ¼ log ρ (B,) to (B, *shape).
        shape: what the network takes positions for; (d,) if not given.
    """

    process: LangevinDiffusion

    def __init__(self, process: LangevinDiffusion, network: nn.Module, *, shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.process, self.network = process, network
        self.shape = (process.positions,) if shape is None else tuple(shape)
        if math.prod(self.shape) != process.positions:
            raise ValueError(f"a network of shape {self.shape} does not take {process.positions} positions")

    def _parts(self, x_t: Tensor, t: Tensor, condition: dict[str, Any]) -> tuple[_Hidden, Tensor, Tensor]:
        """What is known of x_0, P⁻¹u in blocks (B, n, 2), and F, (B, n)."""
        process = self.process
        hidden = _hidden(process, t)
        u = hidden.given.blocks(x_t)
        spread = torch.linalg.vector_norm(hidden.total, dim=-1)
        state = hidden.given.grouping.join(u / spread)
        parts = process.position(state), process.velocity(state)
        seen = torch.cat([part.unflatten(-1, self.shape) for part in parts], dim=1)
        out = self.network(seen, _level(process, t, len(x_t)), **condition).flatten(1)
        return hidden, solve_upper(hidden.total, solve_lower(hidden.total, u)), out

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """∇ log p_t of the state, (B, 2d); t > 0. The process feels the part of the velocities only."""
        hidden, linear, out = self._parts(x_t, t, condition)
        return hidden.given.grouping.join(self._score(hidden, linear, out))

    @staticmethod
    def _score(hidden: _Hidden, linear: Tensor, out: Tensor) -> Tensor:
        return hidden.pull * (hidden.deviation * out).unsqueeze(-1) - linear

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Posterior means of positions and velocities at 0, (B, 2d)."""
        hidden, linear, out = self._parts(x_t, t, condition)
        position = (hidden.towards * linear).sum(-1) + hidden.deviation * out
        # E[v_0 | u] = γ ψᵀC̃⁻¹ (u − φ E[x_0 | u]) with ψ the column of Φ that moves v_0.
        moved = hidden.given.phi[..., 1]
        velocity = -self.process.velocity_variance * (moved * self._score(hidden, linear, out)).sum(-1)
        return hidden.given.point(torch.stack([position, velocity], dim=-1))
