"""Objectives along the whole path of the noise: what a network, a schedule and a time transform are learned from.

Trajectory-level score matching (TOAD eq. 11, 15), with M = M_t(θ), ε ~ N(0, I) and x_t = x_0 + M^{1/2} ε:

    L(θ, φ) = T ∫_0^T E ‖(cI + M)^{−1/2} ∂_tM M^{−1/2} (flow(x_t, t; φ) + ε)‖² dt / d,    flow = M^{1/2} score.

All objectives are per mode and in units of the whole time (the factors 1/d and T), so that they do not depend on T;
each is the mean over a batch of times drawn evenly from [0, T].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.subspaces import SubspaceDiffusion

__all__ = [
    "discretisation_error",
    "excess_score_matching",
    "preconditioned_score_matching",
    "score_response",
    "time_objective",
    "trajectory_score_matching",
]


def _process(denoiser: Denoiser) -> SubspaceDiffusion:
    if not isinstance(denoiser.process, SubspaceDiffusion):
        raise ValueError(f"needs noise in subspaces, got {type(denoiser.process).__name__}")
    return denoiser.process


def _normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def score_response(field: Tensor, z: Tensor, *, cotangent: Tensor, score: Tensor, direction: Tensor) -> Tensor:
    """How the score answers a change of the noise (TOAD Lemma 3): coefficients κ with ⟨h, ∂_θ F⟩ = E_e ⟨κ, ∂_θ g⟩.

    For F = the score, or a constant multiple of it, and N = ∂_θ M, diagonal with entries ∂_θ g_i in modal coordinates,

        ∂_θ F = ½ E_e[D²F(e, N e)] + DF (N score),    e ~ N(0, I),

    so that κ = ½ (∇²⟨h, F⟩ e) ⊙ e + ∇⟨h, F⟩ ⊙ score serves all θ at once. Two backward passes.

    Args:
        field: F(z), (B, d), with its graph from z.
        z: modal coordinates, (B, d).
        cotangent: h, (B, d).
        score: ∇ log p(z), (B, d).
        direction: e, (B, d).

    Returns:
        κ, (B, d), without gradient.
    """
    (pulled,) = torch.autograd.grad(field, z, cotangent.detach(), create_graph=True)
    if pulled.requires_grad:
        (bent,) = torch.autograd.grad(pulled, z, direction, retain_graph=True, allow_unused=True)
    else:  # a linear field has no curvature
        bent = None
    straight = pulled.detach() * score.detach()
    return straight if bent is None else straight + 0.5 * bent.detach() * direction


def trajectory_score_matching(
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    c: float = 1.0,
    score_correction: bool = False,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """TLSM (TOAD eq. 15), a scalar, with gradients by the weights φ of the denoiser and the schedule θ of its process.

    By θ the network is a fixed function of x: its own dependence on the schedule is cut. A schedule that moves changes
    the score the network ought to give, too. ``score_correction`` adds that part of the gradient, ⟨H, ∂_θ flow⟩ with
    H = 2 ∂_tM² (cI + M)^{−1} M^{−1} (flow + ε) and, by Lemma 5 as corrected,

        ∂_θ flow = ½ E_e[D²flow(e, N e)] + Dflow (M^{−1/2} N flow) + ½ M^{−1} N flow,    N = ∂_θ M,

    estimated with one direction e. At the exact score it has zero mean. The value of the loss stays as it is.

    Args:
        denoiser: posterior mean of a :class:`SubspaceDiffusion`; the correction differentiates it twice.
        x_0: data, (B, d).
        t: times, (B,).
        c: variance of the data in (cI + M)^{−1/2}, > 0.
        score_correction: account for the change of the score with θ.
        generator: source of ε and e.
        condition: passed on to the denoiser.
    """
    process = _process(denoiser)
    fixed = process.detached()
    z_0, deviation = process.basis.analysis(x_0), process.deviation(t)
    epsilon = _normal(x_0, generator)
    z_t = z_0 + deviation * epsilon
    if score_correction and torch.is_grad_enabled() and not z_t.requires_grad:
        z_t.requires_grad_()
    at = fixed.deviation(t)
    d_z = process.basis.analysis(denoiser.on(fixed)(process.basis.synthesis(z_t), t, **condition))
    # flow + ε with the x_0 in D and in x_t taken out of each other before they are divided by a small M^{1/2}.
    error = (d_z - z_0) / at + (1 - deviation / at) * epsilon
    g = deviation.square()
    weight = process.log_rate(t).square() * g / (c + g)
    loss = (weight * error.square()).mean()
    if not (score_correction and torch.is_grad_enabled()):
        return loss
    flow = (d_z - z_t) / at
    h = (2 * weight * error).detach()
    score, variance = (flow / at).detach(), at.square()
    kappa = score_response(flow, z_t, cotangent=h, score=score, direction=_normal(x_0, generator))
    kappa = kappa + 0.5 * h * flow.detach() / variance
    correction = (kappa * g).mean()
    return loss + correction - correction.detach()


def preconditioned_score_matching(
    denoiser: PreconditionedDenoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """E ‖c_out^{−1} (D − x_0)‖²/d: the network's own squared error, equal at all noise levels (Karras et al. 2022)."""
    process = _process(denoiser)
    x_t = x_0 + process.basis.synthesis(process.deviation(t) * _normal(x_0, generator))
    error = process.basis.analysis(denoiser(x_t, t, **condition) - x_0)
    return (error.square() * denoiser.precision(t)).mean()


def excess_score_matching(
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    c: float = 1.0,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """L̂ (TOAD eq. 20): TLSM without the part that no network can lower, a scalar of zero mean at the exact score.

    E 2 ⟨flow, W (flow + ε)⟩/d with W = (T ∂_tM)² (cI + M)^{−1} M^{−1}. Gradients reach the schedule and the network.
    """
    process = _process(denoiser)
    z_0, deviation = process.basis.analysis(x_0), process.deviation(t)
    epsilon = _normal(x_0, generator)
    z_t = z_0 + deviation * epsilon
    d_z = process.basis.analysis(denoiser(process.basis.synthesis(z_t), t, **condition))
    error = (d_z - z_0) / deviation
    g = deviation.square()
    weight = process.log_rate(t).square() * g / (c + g)
    return 2 * (weight * (error - epsilon) * error).mean()


def discretisation_error(
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    window: float = 0.125,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """H (TOAD §5.2): how far the flow departs from the line that the second-order sampler puts through it, a scalar.

    From t̃ = ``t`` back to t̄ = max(0, t̃ − window · T) the sampler knows the flow at t̃ and at t̂ = (t̄ + t̃)/2 and
    takes ũ, linear in M^{1/2}, in between. At one random time τ in [t̄, t̃]

        H = E ‖T ∂_τM^{1/2} (flow(x_τ, τ) − ũ(τ))‖²/d,

    with x_τ on the sampler's own path, which departs from the exact one in the next order only.

    Args:
        denoiser: posterior mean; gradients reach the schedule of its process.
        x_0: data, (B, d).
        t: t̃, (B,), > 0.
        window: length of a step as a share of T.
        generator: source of the noise and of τ.
        condition: passed on to the denoiser.
    """
    process = _process(denoiser)
    start = t.to(torch.float64)
    end = (start - window * process.horizon).clamp_min(0.0)
    share = torch.rand(t.shape, generator=generator, dtype=torch.float64, device=t.device)
    between, half = torch.lerp(end, start, share), 0.5 * (end + start)
    m_start, m_half, m_between = (process.deviation(u) for u in (start, half, between))

    def flow(z: Tensor, u: Tensor, deviation: Tensor) -> Tensor:
        d_z = process.basis.analysis(denoiser(process.basis.synthesis(z), u, **condition))
        return (d_z - z) / deviation

    z = process.basis.analysis(x_0) + m_start * _normal(x_0, generator)
    first = flow(z, start, m_start)
    to_half, to_between = m_half - m_start, m_between - m_start
    change = flow(z - to_half * first, half, m_half) - first
    z_between = z - to_between * (first + 0.5 * to_between / to_half * change)
    line = first + to_between / to_half * change
    speed = 0.5 * process.log_rate(between) * m_between
    return (speed * (flow(z_between, between, m_between) - line)).square().mean()


def time_objective(
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    *,
    c: float = 1.0,
    window: float = 0.125,
    excess: float = 1.0,
    generator: torch.Generator | None = None,
    **condition: Any,
) -> Tensor:
    """H(γ) + excess · L̂(γ): what the time transform is learned from (TOAD §5.2; there excess = 1).

    L̂ is noisy: where the network is nearly exact its share is noise alone, and 0 leaves it out.
    """
    error = discretisation_error(denoiser, x_0, t, window=window, generator=generator, **condition)
    if excess == 0:
        return error
    return error + excess * excess_score_matching(denoiser, x_0, t, c=c, generator=generator, **condition)
