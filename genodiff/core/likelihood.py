"""Exact log-likelihoods under the probability flow, by the instantaneous change of variables.

The flow ẋ = v(x, t) = drift(x, t) − ½ diffused(score(x, t)) has the marginals of the process, and along it

    log p_ε(x) = log π(x_T) + ∫_ε^T ∇·v(x_t, t) dt,    x_ε = x,

with π the law that sampling starts from. The divergence is exact, or an unbiased estimate eᵀ ∇v e with one e for the
whole path, which leaves log p unbiased (Hutchinson 1990; Grathwohl et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.langevin import LangevinDiffusion
from genodiff.core.learning import frozen
from genodiff.core.odes import Pair, solve
from genodiff.core.processes import Diffusion, LinearDiffusion

__all__ = ["Likelihood", "Trace", "flow_likelihood", "log_likelihood", "position_likelihood"]

Trace = Literal["hutchinson", "exact"]


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihoods, and what they took.

    Attributes:
        nats: log p_ε(x), (B,) float64.
        latent: x_T, where the flow takes x, (B, d) float64.
        evaluations: slopes of the flow that were computed, each for a whole batch: one call of the network each, and
            one vector–Jacobian product for every probe.
    """

    nats: Tensor
    latent: Tensor
    evaluations: int


def _stationary(process: Diffusion) -> Callable[[Tensor], Tensor]:
    """log N(x; μ, S) with S the stationary variance of every mode."""
    if isinstance(process, FlexibleDiffusion):
        variance = torch.ones_like(process.mean, dtype=torch.float64)
    elif isinstance(process, LinearDiffusion):
        variance = process.stationary_variance().to(torch.float64)
    else:
        raise ValueError(f"{type(process).__name__} has no stationary law: give the prior")

    def log_prob(x: Tensor) -> Tensor:
        z = process.basis.analysis((x - process.mean).to(process.mean.dtype)).to(torch.float64)
        return -0.5 * (z.square() / variance + variance.log() + math.log(2 * math.pi)).sum(-1)

    return log_prob


def _probes(like: Tensor, process: Diffusion, trace: Trace, probes: int, generator: torch.Generator | None) -> Tensor:
    """Directions e, (K, B, d) or (d, 1, d), and every eᵀ∇v e to be averaged (Hutchinson) or summed (exact).

    Signs are drawn mode by mode: what acts on every mode by itself then adds nothing to the variance.
    """
    if trace == "exact":
        return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device).unsqueeze(1)
    signs = torch.randint(2, (probes, *like.shape), generator=generator, device=like.device)
    return process.basis.synthesis((2 * signs - 1).to(like.dtype))


def flow_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    *,
    epsilon: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    trace: Trace = "hutchinson",
    probes: int = 1,
    prior: Callable[[Tensor], Tensor] | None = None,
    pair: Pair = "RK45",
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Likelihood:
    """log p_ε(x) of every row under the probability flow, which the rows of a batch follow with the same steps.

    It is the density of x_ε, the process's state at ``epsilon``, not that of x_0: the score does not reach time 0.
    The two differ by as little as the noise at ``epsilon`` beside the finest structure of the data.

    Time is integrated on a logarithmic scale, on which the flow is smooth down to ``epsilon``. The state is float64
    and the denoiser computes in the type of its process. In the state log p is divided by √d, so that its error per
    coordinate counts as much as that of a coordinate.

    Args:
        denoiser: gives the score; no gradient reaches it.
        x: (B, d).
        epsilon: the time of x, 0 < ε < T.
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step.
        trace: of ∇v, estimated by random signs or exact at d vector–Jacobian products.
        probes: directions per row, averaged; for the estimated trace.
        prior: log π of x_T, (B, d) float64 to (B,); the stationary law of the process if not given.
        pair: the Runge–Kutta pair.
        generator: source of the directions.
        condition: passed on to the denoiser.

    Raises:
        ValueError: ``epsilon`` outside (0, T), no probe, an unknown trace, or rows of another length.
    """
    process = denoiser.process
    if not 0 < epsilon < process.horizon:
        raise ValueError(f"epsilon must lie in (0, {process.horizon}), got {epsilon}")
    if trace not in ("hutchinson", "exact") or probes < 1:
        raise ValueError(f"expected trace 'hutchinson' or 'exact' and probes >= 1, got {trace!r} and {probes}")
    if x.ndim != 2 or x.shape[1] != process.dim:
        raise ValueError(f"expected rows of {process.dim} values, got shape {tuple(x.shape)}")
    dtype, unit = process.mean.dtype, math.sqrt(process.dim)
    directions = _probes(x.to(dtype), process, trace, probes, generator)
    share = 1.0 if trace == "exact" else 1 / probes

    def slope(log_t: Tensor, state: Tensor) -> Tensor:
        t = log_t.exp()
        with torch.enable_grad():
            at = state[:, :-1].to(dtype).requires_grad_()
            v = denoiser.velocity(at, t.to(dtype), **condition)
            divergence = torch.zeros_like(state[:, -1])
            for k, e in enumerate(directions):
                (pulled,) = torch.autograd.grad(v, at, e.expand_as(v), retain_graph=k + 1 < len(directions))
                divergence += share * (pulled * e).sum(-1)
        return t * torch.cat([v.detach().to(state), divergence.unsqueeze(-1) / unit], dim=-1)

    begin = torch.cat([x.to(torch.float64), torch.zeros_like(x[:, :1], dtype=torch.float64)], dim=-1)
    with frozen(denoiser), torch.no_grad():
        log_prior = _stationary(process) if prior is None else prior
        span = math.log(epsilon), math.log(process.horizon)
        end, evaluations = solve(slope, begin, *span, rtol=rtol, atol=atol, pair=pair)
        latent = end[:, :-1]
        return Likelihood(log_prior(latent).to(torch.float64) + unit * end[:, -1], latent, evaluations)


def log_likelihood(denoiser: Denoiser, x: Tensor, **options: Any) -> Tensor:
    """log p_ε(x) in nats, (B,) float64: :func:`flow_likelihood` without what it took."""
    return flow_likelihood(denoiser, x, **options).nats


def position_likelihood(
    denoiser: Denoiser, x: Tensor, *, generator: torch.Generator | None = None, **options: Any
) -> Likelihood:
    """A lower bound on log p_ε of positions alone in a Langevin process, unbiased with one draw of velocities a row.

    log p(x) ≥ E_{v ~ N(0, γ)}[log p(x, v)] + ½ d log(2πeγ), by Jensen's inequality; ``options`` as for
    :func:`flow_likelihood`.
    """
    process = denoiser.process
    if not isinstance(process, LangevinDiffusion):
        raise ValueError(f"needs positions and velocities, got {type(process).__name__}")
    joint = flow_likelihood(denoiser, process.moving(x, generator=generator), generator=generator, **options)
    entropy = 0.5 * x.shape[-1] * math.log(2 * math.pi * math.e * process.velocity_variance)
    return replace(joint, nats=joint.nats + entropy)
