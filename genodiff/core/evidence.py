"""The evidence lower bound of flexible processes, which is valid while the forward process itself is learned.

A score that misses the conditional one makes the reversed path of the process an unlikely path of the model. The
divergence of the two, and what remains at both ends, bound the log-likelihood of x_0 from below:

    −log p(x_0) ≤ KL(N(Φ_T z_0, C_T) ‖ N(0, I)) + ∫_ε^T ½ κ b E‖score(x_t) − ∇log p(x_t | x_0)‖²_{R⁻¹} dt
                  + ½ log det(2πe Φ_ε⁻¹ C_ε Φ_ε⁻ᵀ),

the last term being the cross-entropy of x_0 ~ N(Φ_ε⁻¹ z_ε, Φ_ε⁻¹ C_ε Φ_ε⁻ᵀ). As d log det C/dt = κb tr R⁻¹(C⁻¹ − I),
this is the bound of Song et al. 2021 in which the gap terms that move with the process are kept. It is tight, as
ε → 0, for the exact score of Gaussian data.

In a Langevin process the path starts from positions x_0 with random velocities: C is C̃, and the last term becomes
½ Σ log(2πe/φᵀC̃⁻¹φ), φ being what Φ_ε moves positions along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genodiff.core.blocks import apply, solve_lower, solve_upper
from genodiff.core.denoisers import Denoiser
from genodiff.core.flexible import BlockTransition, FlexibleDiffusion
from genodiff.core.langevin import LangevinDiffusion
from genodiff.core.learning import frozen
from genodiff.core.losses import stratified_times
from genodiff.core.schedules import log_noise_grid

__all__ = ["Evidence", "ends", "evidence_bound", "evidence_grid", "mismatch", "noise_matching"]

_LOG_2PIE = math.log(2 * math.pi * math.e)


def _flexible(denoiser: Denoiser) -> FlexibleDiffusion:
    if not isinstance(denoiser.process, FlexibleDiffusion):
        raise ValueError(f"needs a flexible process, got {type(denoiser.process).__name__}")
    return denoiser.process


def _given(process: FlexibleDiffusion, t: Tensor) -> BlockTransition:
    """The law of the state given the data, velocities being marginal."""
    if isinstance(process, LangevinDiffusion):
        return process.from_positions(t)
    return process.transition(torch.zeros_like(t), t)


def _state(process: FlexibleDiffusion, x_0: Tensor) -> Tensor:
    """The mean of the state at 0 given the data, shape (..., d) of the process."""
    return process.at_rest(x_0) if isinstance(process, LangevinDiffusion) else x_0


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def evidence_grid(process: FlexibleDiffusion, *, epsilon: float = 1e-5, steps: int = 1000) -> Tensor:
    """Times at which B(t) falls geometrically from B(T) to B(ε), (steps + 1,) float64.

    Times spread evenly over these steps have density ∝ b/B: nearly that of the integrand, which near 0 is the constant
    entropy of the noise per unit of log B, and with enough mass at late times for modes that forget slowly.
    """
    if not 0 < epsilon < process.horizon:
        raise ValueError(f"epsilon must lie in (0, {process.horizon}), got {epsilon}")
    lowest, highest = process.clock(torch.tensor([epsilon, process.horizon], dtype=torch.float64)).tolist()
    return log_noise_grid(process.clock.inverse, lowest=lowest, highest=highest, steps=steps)


def mismatch(denoiser: Denoiser, x_0: Tensor, t: Tensor, noise: Tensor, **condition: Any) -> Tensor:
    """½ κ b ‖score(x_t) − ∇log p(x_t | x_0)‖²_{R⁻¹} at the x_t that the noise makes of x_0: nats per unit of t, (B,).

    Args:
        denoiser: score of a flexible process; gradients reach its network and the process.
        x_0: data, (B, d); positions of a Langevin process.
        t: times, (B,).
        noise: standard normal modal noise, shape of the state.
        condition: passed on to the denoiser.
    """
    process = _flexible(denoiser)
    given = _given(process, t)
    x_t = given.noised(_state(process, x_0), noise)
    return _mismatch(process, given, denoiser.score(x_t, t, **condition), t, noise)


def _mismatch(process: FlexibleDiffusion, given: BlockTransition, score: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    # ∇log p(x_t | x_0) = −L⁻ᵀ noise; taken from x_t it would be a difference of nearly equal numbers.
    whitened = solve_upper(given.factor, given.grouping.split(noise))
    error = score + process.basis.synthesis(given.grouping.join(whitened))
    return 0.5 * (error * process.diffused(error, t)).sum(-1)


def ends(process: FlexibleDiffusion, x_0: Tensor, *, epsilon: float) -> Tensor:
    """What of the bound is known without a score, the KL at T and the cross-entropy at ε: nats, (B,)."""
    both = _given(process, x_0.new_tensor([process.horizon, epsilon]))
    phi, factor, log_dets = both.phi, both.factor, both.log_det()
    z = apply(phi[0], both.blocks(_state(process, x_0)))
    trace = both.covariance[0].diagonal(dim1=-2, dim2=-1).sum()
    forgotten = 0.5 * (z.square().sum((-2, -1)) + trace - process.dim - log_dets[0])
    if isinstance(process, LangevinDiffusion):
        precision = solve_lower(factor[1], phi[1, ..., 0]).square().sum(-1)
        return forgotten + 0.5 * (_LOG_2PIE - precision.log()).sum()
    # log |det Φ_ε| = −½ κ B(ε) tr R⁻¹.
    contraction = process.elapsed(x_0.new_zeros(()), x_0.new_tensor(epsilon)) * process.spectrum().sum()
    return forgotten + 0.5 * (process.dim * _LOG_2PIE + log_dets[1] + contraction)


@dataclass(frozen=True)
class Evidence:
    """The negative evidence bound as an objective of :class:`genodiff.core.losses.VectorProblem`, nats per coordinate.

    With λ_1, λ_2 > 0 the probability flow v = drift − ½ diffused(score) is kept slow and stiff (FP §4.1):
    + λ_1 ∫E‖v‖² dt + λ_2 ∫E‖∇v‖_F² dt, the second estimated with one normal direction. They choose among processes: no
    gradient of theirs reaches the network, whose score would become that of no process.

    Attributes:
        grid: decreasing times over whose steps t is spread evenly, as :func:`evidence_grid` gives them; the last is ε.
        kinetic: λ_1 ≥ 0.
        jacobian: λ_2 ≥ 0; needs a network that can be differentiated twice.
        rest: what the path between the first and the last time leaves over, nats (B,), of (denoiser, x_0) with a
            ``generator`` and the condition: :func:`ends` if ``None``. Another start law than N(μ, I) asks for another,
            and so do data without a density.
    """

    grid: Tensor
    kinetic: float = 0.0
    jacobian: float = 0.0
    rest: Callable[..., Tensor] | None = None

    def __post_init__(self) -> None:
        if self.kinetic < 0 or self.jacobian < 0:
            raise ValueError(f"weights must be >= 0, got kinetic={self.kinetic} and jacobian={self.jacobian}")

    def measure(self, t: Tensor) -> Tensor:
        """1/density of t over the steps of the grid, shape of t, in its type."""
        rising = self.grid.flip(0).to(t.device, torch.float64)
        step = (torch.searchsorted(rising, t.to(torch.float64).contiguous(), right=True) - 1).clamp(0, len(rising) - 2)
        return ((len(rising) - 1) * rising.diff()[step]).to(t)

    def rows(
        self, denoiser: Denoiser, x_0: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """One unbiased estimate for every row, nats, (B,); the penalties included."""
        process = _flexible(denoiser)
        given, state = _given(process, t), _state(process, x_0)
        noise = _normal(state, generator)
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.jacobian > 0):
            x_t = given.noised(state, noise)
            if self.jacobian > 0 and not x_t.requires_grad:
                x_t.requires_grad_()
            score = denoiser.score(x_t, t, **condition)
            density = _mismatch(process, given, score, t, noise)
            if self.kinetic > 0 or self.jacobian > 0:
                with frozen(denoiser, but=process):
                    v = denoiser.velocity(x_t, t, **condition)
                density = density + self.kinetic * v.square().sum(-1)
            if self.jacobian > 0:
                (pulled,) = torch.autograd.grad(v, x_t, _normal(state, generator), create_graph=True)
                density = density + self.jacobian * pulled.square().sum(-1)
        if self.rest is None:
            return self.measure(t) * density + ends(process, x_0, epsilon=float(self.grid[-1]))
        return self.measure(t) * density + self.rest(denoiser, x_0, generator=generator, **condition)

    def __call__(
        self, denoiser: Denoiser, x_0: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """The mean over the batch per coordinate of the data, a scalar."""
        return self.rows(denoiser, x_0, t, generator=generator, **condition).mean() / x_0.shape[-1]


@torch.no_grad()
def evidence_bound(
    denoiser: Denoiser,
    x_0: Tensor,
    *,
    epsilon: float = 1e-5,
    samples: int = 1,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """A lower bound on log p(x_0) in nats, (B,), up to the error of ``samples`` times and noises per row.

    The times of all rows and samples together are spread evenly. The density is that of x_0 itself, through the
    Gaussian at ε.
    """
    if samples < 1:
        raise ValueError(f"expected samples >= 1, got {samples}")
    objective = Evidence(evidence_grid(_flexible(denoiser), epsilon=epsilon))
    t = stratified_times(objective.grid, samples * len(x_0), generator=generator).to(x_0).view(samples, -1)
    rows = [objective.rows(denoiser, x_0, at, generator=generator, **condition) for at in t]
    return -torch.stack(rows).mean(0)


def noise_matching(
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    since: float = 0.0,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """Denoising score matching in units of the noise, E‖Lᵀ (score(x_t) − ∇log p(x_t | x_s))‖²/d, a scalar.

    With s = 0 it is the error of the predicted noise. Any s < t has the same minimiser, the score of X_t (FP eq. 15),
    and the value says nothing of a process that is learned: the bound does.

    Args:
        denoiser: score of a flexible process.
        x_0: data, (B, d).
        t: times, (B,).
        since: s/t in [0, 1).
        generator: source of the noise.
        condition: passed on to the denoiser.
    """
    if not 0 <= since < 1:
        raise ValueError(f"since must lie in [0, 1), got {since}")
    process = _flexible(denoiser)
    state = _state(process, x_0)
    forward = _given(process, t)
    if since > 0:
        state, _ = _given(process, since * t).sample(state, generator=generator)
        forward = process.transition(since * t, t)
    x_t, noise = forward.sample(state, generator=generator)
    score = forward.grouping.split(process.basis.analysis(denoiser.score(x_t, t, **condition)))
    error = (forward.factor * score.unsqueeze(-1)).sum(-2) + forward.grouping.split(noise)
    return error.square().sum((-2, -1)).mean() / process.dim
