"""Schedules from densities over the noise level: constant speed, and the schedule that a weight amounts to (Lemma 2).

Where the posteriors of subspaces do not depend on each other, the TLSM of subspace j is an energy of its path

    L_j = T ∫_0^T (g')² mmse_j(g) / (g² (c + g)) dt,

least, and equal to S(T)², on the path of constant speed t(g) = T S(g)/S(T) (TOAD §3),

    S(g) = ∫_{g_0}^g (mmse_j(u)/(u² (c + u)))^½ du.

In ℓ = log g the integrand is φ(ℓ) = mmse_j/(c + g), and log-linear knots ℓ_0 < … < ℓ_{K−1} at equal times have the
energy (K − 1) Σ_k (ℓ_k − ℓ_{k−1}) ∫_{ℓ_{k−1}}^{ℓ_k} φ dℓ in closed form: the best knots are a shortest path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser
from genodiff.core.knots import KnotSchedule
from genodiff.core.processes import Diffusion
from genodiff.core.subspaces import SubspaceDiffusion

__all__ = [
    "ErrorCurves",
    "constant_speed_grid",
    "fit_constant_speed_schedule",
    "measure_error_curves",
    "mode_errors",
    "schedule_of_weight",
    "weight_of_schedule",
]

_CELLS = 1024
"""Cells of the table in log g on which curves are integrated and knots are placed."""


@dataclass(frozen=True)
class ErrorCurves:
    """Mean squared error left in each subspace at given noise levels.

    Attributes:
        levels: g_j, (n, J) float64, rising in every column.
        errors: mmse_j, mean over the modes of the subspace, (n, J) float64, > 0.
        sizes: number of modes of every subspace, (J,).
    """

    levels: Tensor
    errors: Tensor
    sizes: Tensor

    def __post_init__(self) -> None:
        if self.levels.shape != self.errors.shape or self.levels.shape[1:] != self.sizes.shape:
            raise ValueError(f"levels {tuple(self.levels.shape)}, errors {tuple(self.errors.shape)} and sizes differ")
        if (self.levels <= 0).any() or (self.levels.diff(dim=0) <= 0).any():
            raise ValueError("levels must be positive and rise in every subspace")
        if not (self.errors > 0).all():
            raise ValueError("errors must be positive")

    def table(self, j: int, *, lowest: float, highest: float, c: float) -> tuple[Tensor, Tensor]:
        """log g at the bounds of equal cells, (n + 1,), and φ = mmse/(c + g) there.

        Between the levels the logarithm of the error is linear; below them the error falls in proportion to g, and
        above them it stays.
        """
        log_g = torch.linspace(math.log(lowest), math.log(highest), _CELLS + 1, dtype=torch.float64)
        known, log_error = self.levels[:, j].log().numpy(), self.errors[:, j].log().numpy()
        value = torch.from_numpy(np.interp(log_g.numpy(), known, log_error))
        value = value - (float(known[0]) - log_g).clamp_min(0.0)
        return log_g, value.exp() / (c + log_g.exp())

    def lengths(self, *, lowest: float, highest: float, c: float = 1.0) -> Tensor:
        """S(T) of every subspace, (J,)."""
        tables = [self.table(j, lowest=lowest, highest=highest, c=c) for j in range(len(self.sizes))]
        return torch.stack([_integral(x, phi.sqrt())[-1] for x, phi in tables])

    def least_energy(self, *, lowest: float, highest: float, c: float = 1.0) -> float:
        """min L per mode: S², averaged over subspaces by their size."""
        square = self.lengths(lowest=lowest, highest=highest, c=c).square()
        return float((square * self.sizes).sum() / self.sizes.sum())

    def energy(self, schedule: KnotSchedule, *, c: float = 1.0) -> float:
        """L per mode of log-linear knots."""
        knots = schedule.log_knots().detach()
        each = []
        for j in range(len(self.sizes)):
            lowest, highest = knots[j, 0].exp().item(), knots[j, -1].exp().item()
            x, phi = self.table(j, lowest=lowest, highest=highest, c=c)
            risen = torch.from_numpy(np.interp(knots[j].numpy(), x.numpy(), _integral(x, phi).numpy()))
            each.append(schedule.intervals * (knots[j].diff() * risen.diff()).sum())
        return float((torch.stack(each) * self.sizes).sum() / self.sizes.sum())


def _integral(x: Tensor, y: Tensor) -> Tensor:
    """Cumulative trapezoidal integral, 0 at the first point."""
    return torch.cat([torch.zeros(1, dtype=y.dtype), torch.cumulative_trapezoid(y, x)])


def _best_knots(x: Tensor, phi: Tensor, knots: int) -> Tensor:
    """The bounds of cells that are the knots of least energy: the shortest path of ``knots`` − 1 arcs."""
    risen = _integral(x, phi)
    arc = (x.unsqueeze(0) - x.unsqueeze(1)) * (risen.unsqueeze(0) - risen.unsqueeze(1))
    arc = torch.where(torch.ones_like(arc, dtype=torch.bool).triu(1), arc, torch.inf)
    cost, origins = arc[0], []
    for _ in range(knots - 2):
        cost, origin = (cost.unsqueeze(1) + arc).min(0)
        origins.append(origin)
    path = [len(x) - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return x[torch.tensor([0, *reversed(path)])]


def fit_constant_speed_schedule(
    curves: ErrorCurves,
    *,
    c: float = 1.0,
    knots: int = 32,
    horizon: float = 6400.0,
    lowest: float = 1e-9,
    highest: float = 6400.0,
    gain: float = 1.0,
) -> KnotSchedule:
    """The log-linear knots of least TLSM for known error curves: no gradient, no sampling.

    Args:
        curves: mmse of every subspace; see :func:`measure_error_curves`.
        c: variance of the data in the objective.
        knots: K.
        horizon: T, the last time.
        lowest: g at time 0.
        highest: g at the last time.
        gain: see :class:`KnotSchedule`.
    """
    tables = [curves.table(j, lowest=lowest, highest=highest, c=c) for j in range(len(curves.sizes))]
    placed = torch.stack([_best_knots(x, phi, knots) for x, phi in tables])
    return KnotSchedule(placed, horizon=horizon, gain=gain)


@torch.no_grad()
def constant_speed_grid(process: Diffusion, times: Tensor, errors: Tensor, *, steps: int, c: float = 1.0) -> Tensor:
    """Where to put the steps of a sampler when the process is given: at equal lengths along its own path.

    Divided by its mean coefficient, mode i has noise of variance ρ_i = s_i²/m_i², and the length of the path is

        S = ∫ (Σ_i (d log ρ_i/dt)² mmse_i/(c + ρ_i)/d)^½ dt,

    that of TOAD §3 for d subspaces that share one clock. It depends neither on the unit of time nor on that of errors.

    Args:
        process: any whose modes are Gaussian given their start.
        times: rising, > 0, (n,).
        errors: mmse_i at these times, (n, d), ≥ 0; between them the speed changes linearly.
        steps: number of intervals.
        c: variance of the data in the objective.

    Returns:
        (steps + 1,) float64 times from the last to the first.
    """
    if steps < 1:
        raise ValueError(f"a sampler needs at least 1 step, got {steps}")
    t = times.to(device=process.mean.device, dtype=torch.float64)
    rho = (process.variance(t) / process.mean_coefficient(t).square()).double()
    density = errors.to(rho) / (c + rho)
    length = (rho.log().diff(dim=0).square() * (density[1:] + density[:-1]) / 2).mean(1).sqrt().cpu()
    if not (length > 0).all():
        raise ValueError("errors must leave something to do between all times")
    gone = torch.cat([length.new_zeros(1), length.cumsum(0)])
    even = torch.linspace(float(gone[-1]), 0.0, steps + 1, dtype=torch.float64)
    return torch.from_numpy(np.interp(even.numpy(), gone.numpy(), t.cpu().numpy()))


@torch.no_grad()
def mode_errors(
    denoiser: Denoiser,
    x_0: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    batch: int = 256,
    **condition: Tensor,
) -> Tensor:
    """Mean squared error that a denoiser leaves in every mode, (m, d) float64.

    Args:
        denoiser: posterior mean.
        x_0: data, (n, d); all of it is seen at every time.
        times: in (0, T], (m,).
        generator: source of the noise.
        batch: vectors at once.
        condition: one row per vector each, passed on to the denoiser.
    """
    process = denoiser.process
    total = torch.zeros(len(times), process.dim, dtype=torch.float64)
    for k, t in enumerate(times.to(x_0)):
        forward = process.transition(torch.zeros_like(t), t)
        for at in range(0, len(x_0), batch):
            part = slice(at, at + batch)
            x_t, _ = forward.sample(x_0[part], generator=generator)
            given = {name: values[part] for name, values in condition.items()}
            left = process.basis.analysis(denoiser(x_t, t, **given) - x_0[part])
            total[k] += left.square().sum(0).to(total)
    return total / len(x_0)


@torch.no_grad()
def measure_error_curves(
    denoiser: Denoiser,
    x_0: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    batch: int = 256,
    **condition: Tensor,
) -> ErrorCurves:
    """The error a denoiser leaves in each subspace along its own schedule.

    Args:
        denoiser: posterior mean of a process in subspaces.
        x_0: data, (n, d); all of it is seen at every time.
        times: rising, in (0, T], (m,).
        generator: source of the noise.
        batch: vectors at once.
        condition: one row per vector each, passed on to the denoiser.
    """
    process = denoiser.process
    if not isinstance(process, SubspaceDiffusion):
        raise ValueError(f"needs noise in subspaces, got {type(process).__name__}")
    each = mode_errors(denoiser, x_0, times, generator=generator, batch=batch, **condition)
    members = process.members.to(each)
    return ErrorCurves(process.schedule.levels(times).cpu(), each @ members.T / members.sum(1), members.sum(1))


def schedule_of_weight(
    weight: Callable[[Tensor], Tensor],
    *,
    c: float = 1.0,
    knots: int = 32,
    horizon: float = 6400.0,
    lowest: float = 1e-9,
    highest: float = 6400.0,
) -> KnotSchedule:
    """The isotropic schedule whose TLSM is a multiple of ∫ w(u) H(u) du (TOAD Lemma 2).

    It solves Φ(g(t)) = Φ(g_T) t/T with Φ'(u) = 1/((c + u) w(u)).

    Args:
        weight: w(u) > 0 of noise variances u, (n,) → (n,).
        c: variance of the data in the objective.
        knots: K; the more, the closer the schedule to the exact one.
        horizon: T.
        lowest: g at time 0.
        highest: g at the last time.
    """
    log_g = torch.linspace(math.log(lowest), math.log(highest), 16 * _CELLS + 1, dtype=torch.float64)
    g = log_g.exp()
    w = weight(g)
    if not (w > 0).all() or not w.isfinite().all():
        raise ValueError("the weight must be positive and finite at all noise levels")
    phi = _integral(log_g, g / ((c + g) * w))
    even = np.linspace(0.0, float(phi[-1]), knots)
    placed = torch.from_numpy(np.interp(even, phi.numpy(), log_g.numpy()))
    placed[0], placed[-1] = log_g[0], log_g[-1]
    return KnotSchedule(placed.unsqueeze(0), horizon=horizon)


def weight_of_schedule(schedule: KnotSchedule, levels: Tensor, *, c: float = 1.0) -> Tensor:
    """w(u) = g'(g^{−1}(u))/(c + u), with ∫ (g')²/(c + g) H(g) dt = ∫ w(u) H(u) du for every H (TOAD Lemma 2)."""
    if schedule.subspaces != 1:
        raise ValueError(f"Lemma 2 is about one schedule, got {schedule.subspaces}")
    t = schedule.time_of(levels.log())
    return levels * schedule.log_rates(t).squeeze(-1) / (c + levels)
