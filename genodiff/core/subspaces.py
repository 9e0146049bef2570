"""Anisotropic noise: X_t = X_0 + N(0, M_t) with M_t = Σ_j g_j(t) V_jᵀV_j (TOAD eq. 2, 9).

The V_j group the modes of a basis into J subspaces, each with its own schedule. Every function of M_t acts by
subspace, F(M) = Σ_j F(g_j) V_jᵀV_j. The process adds variance (VE); seen through
(cI + M_t)^{−1/2} it preserves it (VP).
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from genodiff.core.bases import Basis
from genodiff.core.knots import NoiseSchedule
from genodiff.core.processes import Diffusion, Transition

__all__ = ["SubspaceDiffusion"]


class SubspaceDiffusion(Diffusion):
    """Noise without drift, whose covariance grows on its own schedule in every subspace.

    M_0 = 0: the schedule, which lives on a logarithm, tends to g_0 > 0 as t falls to 0, and that least noise is left
    out at 0 itself.

    Args:
        basis: the modes.
        subspace: number 0 … J − 1 of the subspace of every mode, (d,).
        schedule: g_j(t).
        mean: the point from which modal coordinates are measured, (d,); 0 if ``None``. The noise does not depend on it.
    """

    mean: Tensor
    members: Tensor

    def __init__(self, basis: Basis, subspace: Tensor, schedule: NoiseSchedule, *, mean: Tensor | None = None) -> None:
        super().__init__()
        if subspace.shape != (basis.dim,) or subspace.is_floating_point():
            raise ValueError(f"subspace must be {basis.dim} whole numbers, got {subspace.dtype} {subspace.shape}")
        counts = torch.bincount(subspace, minlength=schedule.subspaces)
        if len(counts) != schedule.subspaces or (counts == 0).any():
            raise ValueError(f"{schedule.subspaces} schedules for subspaces of {counts.tolist()} modes")
        self.basis, self.schedule, self.horizon = basis, schedule, schedule.horizon
        members = torch.nn.functional.one_hot(subspace, schedule.subspaces).T
        self.register_buffer("members", members.to(basis.dtype))  # (J, d)
        centre = torch.zeros(basis.dim, dtype=basis.dtype, device=basis.device)
        self.register_buffer("mean", centre if mean is None else mean.to(centre))

    def spread(self, values: Tensor) -> Tensor:
        """Values (..., J) of the subspaces given to their modes, (..., d)."""
        # A product with zeros and ones is exact, and its gradient is a sum without scatter.
        return values.to(self.members.dtype) @ self.members

    def averaged(self, v: Tensor) -> Tensor:
        """Means (..., J) over the modes of every subspace of v, (..., d)."""
        return (v @ self.members.T.to(v.dtype)) / self.members.sum(1)

    def act(self, values: Tensor, x: Tensor) -> Tensor:
        """F(M) x for values F(g_j), (..., J)."""
        return self.basis.synthesis(self.spread(values) * self.basis.analysis(x))

    def power(self, x: Tensor, t: Tensor, exponent: float) -> Tensor:
        """M_t^exponent x."""
        return self.act((exponent * self.schedule.log_levels(t)).exp(), x)

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """1: the process has no drift, shape (..., d)."""
        return torch.ones(*t.shape, self.dim, dtype=self.mean.dtype, device=self.mean.device)

    def variance(self, t: Tensor) -> Tensor:
        """g_{j(i)}(t) of every mode i, 0 at t = 0, (..., d)."""
        return self.spread(self._from_zero(self.schedule.levels(t), t))

    def deviation(self, t: Tensor) -> Tensor:
        """M_t^{1/2}: g^{1/2} of every mode, 0 at t = 0, (..., d)."""
        return self.spread(self._from_zero((0.5 * self.schedule.log_levels(t)).exp(), t))

    @staticmethod
    def _from_zero(values: Tensor, t: Tensor) -> Tensor:
        return torch.where((t == 0).unsqueeze(-1), 0.0, values)

    def log_rate(self, t: Tensor) -> Tensor:
        """d log g/d(t/T) of every mode, (..., d): in units of the whole time, so that it does not depend on T."""
        return self.spread(self.horizon * self.schedule.log_rates(t))

    def log_noise(self, t: Tensor) -> Tensor:
        """log σ̃ with σ̃² the geometric mean of the g_j, shape (...)."""
        return 0.5 * self.schedule.log_levels(t).mean(-1).to(self.mean.dtype)

    def noise_ratio(self, t: Tensor, *, rate: float = 0.0) -> Tensor:
        """σ̃²(t), the geometric mean of the g_j; no mode contracts, so ``rate`` does not matter."""
        return (2 * self.log_noise(t)).exp()

    def time_of_noise(self, rho: Tensor, *, rate: float = 0.0) -> Tensor:
        """The t with σ̃²(t) = rho, float64."""
        return self.schedule.time_of(rho.to(torch.float64).log())

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(x)

    def diffused(self, v: Tensor, t: Tensor) -> Tensor:
        """∂_t M_t v."""
        return self.act(self.schedule.rates(t), v)

    def shaken(self, noise: Tensor, t: Tensor, step: Tensor | float = 1.0) -> Tensor:
        """(∂_t M_t step)^{1/2} noise."""
        return self.act((self.schedule.rates(t) * step).sqrt(), noise)

    def transition(self, s: Tensor, t: Tensor) -> Transition:
        """X_t given X_s: variance M_t − M_s."""
        variance = self.variance(t) - self.variance(s)
        return Transition(self.basis, self.mean, torch.ones_like(variance), variance)

    def start(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from N(mean, M_T), where sampling begins, (n, d)."""
        dtype, device = self.mean.dtype, self.mean.device
        noise = torch.randn(n, self.dim, generator=generator, dtype=dtype, device=device)
        return self.mean + self.basis.synthesis(self.deviation(torch.tensor(self.horizon, device=device)) * noise)

    def preserving(self, x: Tensor, t: Tensor, *, c: float = 1.0) -> Tensor:
        """The variance preserving view (cI + M_t)^{−1/2} x (eq. 8), c = the variance of the data."""
        return self.act((c + self.schedule.levels(t)).rsqrt(), x)

    def exploding(self, x: Tensor, t: Tensor, *, c: float = 1.0) -> Tensor:
        """The inverse of :meth:`preserving`."""
        return self.act((c + self.schedule.levels(t)).sqrt(), x)

    def velocity(self, x: Tensor, t: Tensor, score: Tensor, *, c: float = 1.0) -> Tensor:
        """d/dt of the VP view along the probability flow (eq. 10 with its ½), x and score at time t.

        −½ (cI + M)^{−1/2} ∂_tM score − ½ (cI + M)^{−3/2} ∂_tM x.
        """
        total, rate = c + self.schedule.levels(t), self.schedule.rates(t)
        return -0.5 * (self.act(total.rsqrt() * rate, score) + self.act(total.pow(-1.5) * rate, x))

    def restrict(self, basis: Basis, coordinates: slice) -> Self:
        """The same noise on a run of coordinates that ``basis`` spans on its own; it need not reach every subspace."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "basis": basis}
        twin._buffers = {"mean": self.mean[coordinates], "members": self.members[:, coordinates]}
        return twin

    def with_schedule(self, schedule: NoiseSchedule) -> Self:
        """The same subspaces with another schedule."""
        if schedule.subspaces != len(self.members):
            raise ValueError(f"{schedule.subspaces} schedules for {len(self.members)} subspaces")
        twin = copy.copy(self)
        twin._modules = {**self._modules, "schedule": schedule}
        twin.horizon = schedule.horizon
        return twin

    def detached(self) -> Self:
        """The same process, through which no gradient reaches its schedule."""
        return self.with_schedule(self.schedule.detached())
