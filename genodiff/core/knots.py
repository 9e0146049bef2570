"""Learnable schedules of the noise in J subspaces: monotone log-linear knots g_j(t; θ), and the time transform r(t; γ).

    log g_j(t) = linear between K knots at equal times, from log g_0 at t = 0 to log g_T at t = T,
    increments softplus(δ) rescaled to sum to log g_T − log g_0    (TOAD appendix C)

A schedule is monotone whatever its parameters are. All g_j share their knots' times, so that the mean of log g_j is
log-linear at the same knots and can be inverted exactly; automatic differentiation of that inverse is the implicit
gradient.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["KnotSchedule", "NoiseSchedule", "TransformedSchedule", "karras_schedule"]

_LEAST_SHARE = 1e-6
"""Least part of the whole logarithmic range that lies between two knots: it keeps every schedule strictly rising."""


class NoiseSchedule(nn.Module):
    """Variances g_j(t) of the noise in J subspaces at time t ∈ [0, horizon], rising, > 0."""

    horizon: float
    subspaces: int

    def log_levels(self, t: Tensor) -> Tensor:
        """log g_j(t), (..., J) for t of shape (...), float64."""
        raise NotImplementedError

    def log_rates(self, t: Tensor) -> Tensor:
        """d log g_j/dt, (..., J), float64, > 0."""
        raise NotImplementedError

    def time_of(self, log_level: Tensor) -> Tensor:
        """The t at which the mean of log g_j over subspaces is ``log_level``, shape (...), float64."""
        raise NotImplementedError

    def detached(self) -> NoiseSchedule:
        """The same schedule as a value: no gradient reaches its parameters."""
        raise NotImplementedError

    def levels(self, t: Tensor) -> Tensor:
        """g_j(t), (..., J), float64."""
        return self.log_levels(t).exp()

    def rates(self, t: Tensor) -> Tensor:
        """g_j'(t) = g_j · d log g_j/dt, (..., J), float64."""
        return self.levels(t) * self.log_rates(t)

    def forward(self, t: Tensor) -> Tensor:
        """g_j(t), (..., J), float64."""
        return self.levels(t)


class KnotSchedule(NoiseSchedule):
    """Log-linear knots with learnable increments, log g_j(t) of TOAD appendix C.

    The parameter is what is added to the δ of the schedule one starts from, so that weight decay draws towards that
    schedule, times ``gain``, so that one learning rate can serve a network and its schedule.

    Args:
        log_knots: log g_j at K ≥ 2 equally spaced times from 0 to ``horizon``, strictly rising, (J, K); all subspaces
            begin and end alike.
        horizon: T > 0, the last time.
        gain: δ moved by one unit of the parameter.
    """

    initial: Tensor
    ends: Tensor

    def __init__(self, log_knots: Tensor, *, horizon: float, gain: float = 1.0) -> None:
        super().__init__()
        if log_knots.ndim != 2 or log_knots.shape[1] < 2 or not log_knots.isfinite().all():
            raise ValueError(f"log_knots must be finite with shape (J, K >= 2), got {tuple(log_knots.shape)}")
        knots = log_knots.detach().to(torch.float64)
        if (knots.diff(dim=1) <= 0).any() or (knots[:, [0, -1]] != knots[:1, [0, -1]]).any():
            raise ValueError("log_knots must rise strictly, from one first to one last value for all subspaces")
        if not (math.isfinite(horizon) and horizon > 0 and gain > 0):
            raise ValueError(f"expected a finite horizon > 0 and gain > 0, got {horizon} and {gain}")
        self.horizon, self.gain = float(horizon), float(gain)
        self.subspaces, intervals = knots.shape[0], knots.shape[1] - 1
        share = knots.diff(dim=1) / (knots[:, -1:] - knots[:, :1])
        share = ((share - _LEAST_SHARE) / (1 - intervals * _LEAST_SHARE)).clamp_min(_LEAST_SHARE)
        increment = share * intervals
        self.register_buffer("initial", increment + torch.log(-torch.expm1(-increment)))
        self.register_buffer("ends", knots[0, [0, -1]])
        self.offset = nn.Parameter(torch.zeros_like(self.initial))

    @property
    def intervals(self) -> int:
        """K − 1."""
        return self.initial.shape[1]

    def log_knots(self) -> Tensor:
        """log g_j at the knots, (J, K), strictly rising."""
        increments = F.softplus(self.initial + self.gain * self.offset) + 1e-30
        share = increments / increments.sum(1, keepdim=True)
        share = _LEAST_SHARE + (1 - self.intervals * _LEAST_SHARE) * share
        risen = share[:, :-1].cumsum(1)
        zero = torch.zeros_like(share[:, :1])
        return torch.lerp(self.ends[0], self.ends[1], torch.cat([zero, risen, zero + 1], dim=1))

    def _position(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The knot before t and the way from there to the next, in [0, 1]."""
        at = t.to(torch.float64) * (self.intervals / self.horizon)
        before = at.detach().floor().clamp(0, self.intervals - 1).long()
        return before, at - before

    def log_levels(self, t: Tensor) -> Tensor:
        """Linear between the knots."""
        before, way = self._position(t)
        knots = self.log_knots().T
        return torch.lerp(knots[before], knots[before + 1], way.unsqueeze(-1))

    def log_rates(self, t: Tensor) -> Tensor:
        """The slope between the knots around t."""
        before, _ = self._position(t)
        slopes = self.log_knots().diff(dim=1).T * (self.intervals / self.horizon)
        return slopes[before]

    def time_of(self, log_level: Tensor) -> Tensor:
        """Exact inverse of the piecewise linear mean."""
        mean = self.log_knots().mean(0)
        level = log_level.to(torch.float64)
        before = torch.searchsorted(mean.detach(), level.detach().contiguous(), right=True) - 1
        before = before.clamp(0, self.intervals - 1)
        way = (level - mean[before]) / (mean[before + 1] - mean[before])
        return (before + way) * (self.horizon / self.intervals)

    def detached(self) -> KnotSchedule:
        """Shares its numbers, not their gradients."""
        twin = copy.copy(self)
        twin._parameters = {"offset": nn.Parameter(self.offset.detach(), requires_grad=False)}
        return twin

    def split(self, subspaces: int) -> KnotSchedule:
        """The schedule of one subspace given to each of several, so that they can part from here."""
        if self.subspaces != 1:
            raise ValueError(f"only a schedule of one subspace can be split, this one has {self.subspaces}")
        knots = self.log_knots().detach().expand(subspaces, -1)
        return KnotSchedule(knots, horizon=self.horizon, gain=self.gain)


def karras_schedule(
    subspaces: int = 1,
    *,
    knots: int = 32,
    horizon: float = 6400.0,
    lowest: float = 1e-9,
    highest: float = 6400.0,
    rho: float = 7.0,
    gain: float = 1.0,
) -> KnotSchedule:
    """Equal schedules in which σ^{1/ρ} = g^{1/2ρ} rises linearly in time (Karras et al. 2022, eq. 5).

    Args:
        subspaces: J.
        knots: K.
        horizon: last time T.
        lowest: g_0, variance at time 0.
        highest: variance at time T; 6400 is σ = 80.
        rho: ρ; larger values spend more time at low noise.
        gain: see :class:`KnotSchedule`.
    """
    if not 0 < lowest < highest:
        raise ValueError(f"expected 0 < lowest < highest, got {lowest} and {highest}")
    power = 1 / (2 * rho)
    root = torch.linspace(lowest**power, highest**power, knots, dtype=torch.float64)
    return KnotSchedule((root.log() / power).expand(subspaces, -1), horizon=horizon, gain=gain)


class TransformedSchedule(NoiseSchedule):
    """A schedule run by another clock, g_j(r(t; γ)): r(t) is the time at which the mean of log g_j is log g_w(t).

    The rate of the transformed schedule is the whole derivative, g_j'(r) r'(t).

    Args:
        schedule: g_j(t; θ).
        clock: g_w(t; γ), of one subspace, from the same first to the same last variance.
    """

    def __init__(self, schedule: KnotSchedule, clock: KnotSchedule) -> None:
        super().__init__()
        if clock.subspaces != 1:
            raise ValueError(f"the clock must have one subspace, got {clock.subspaces}")
        if not torch.allclose(schedule.ends, clock.ends, rtol=1e-12, atol=0.0):
            raise ValueError(f"schedule and clock end differently: {schedule.ends.tolist()}, {clock.ends.tolist()}")
        self.schedule, self.clock = schedule, clock
        self.horizon, self.subspaces = clock.horizon, schedule.subspaces

    def transform(self, t: Tensor) -> Tensor:
        """r(t; γ), the time of the schedule at time t of the clock."""
        return self.schedule.time_of(self.clock.log_levels(t).squeeze(-1))

    def log_levels(self, t: Tensor) -> Tensor:
        """log g_j(r(t))."""
        return self.schedule.log_levels(self.transform(t))

    def log_rates(self, t: Tensor) -> Tensor:
        """(log g_j)'(r) r'(t), with r'(t) = (log g_w)'(t) over the mean of (log g_j)'(r)."""
        slopes = self.schedule.log_rates(self.transform(t))
        return slopes * self.clock.log_rates(t) / slopes.mean(-1, keepdim=True)

    def time_of(self, log_level: Tensor) -> Tensor:
        """The mean of log g_j(r(t)) is log g_w(t)."""
        return self.clock.time_of(log_level)

    def detached(self) -> TransformedSchedule:
        """Shares numbers, not gradients."""
        return TransformedSchedule(self.schedule.detached(), self.clock.detached())
