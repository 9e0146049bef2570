"""Samplers: from x_T back to x_0, given a denoiser.

``step(x_t, t, s)`` takes states from time t to an earlier time s. All are built on the posterior mean D(x_t, t).

- :class:`Ancestral` draws x_0 from its posterior and x_s from the exact Gaussian bridge p(x_s | x_t, x_0).
- :class:`EulerMaruyama` discretises the reverse SDE dX̄ = [−M(X̄ − μ) + β∇log p] dτ + √β dW̄ (GOU eq. 11).
- :class:`EulerODE`, :class:`HeunODE` integrate the probability flow, which has half the score term and no noise.
- :class:`AdaptiveODE` integrates it with steps that adapt to the error.
- :class:`EulerFlow`, :class:`HeunFlow` integrate the flow of anisotropic noise along M^{1/2} (TOAD eq. 7, 17).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser
from genodiff.core.odes import ORDERS, Pair, solve
from genodiff.core.processes import Diffusion
from genodiff.core.subspaces import SubspaceDiffusion

__all__ = ["AdaptiveODE", "Ancestral", "EulerFlow", "EulerMaruyama", "EulerODE", "HeunFlow", "HeunODE", "Sampler"]


class Sampler:
    """A rule that steps backwards in time.

    Args:
        denoiser: the posterior mean; its process defines the dynamics.
    """

    order: int = 1
    stochastic: bool = False

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.process: Diffusion = denoiser.process

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """States (B, d) at time s ≤ t given those at t; t and s are scalars ()."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(
        self,
        x_T: Tensor,
        grid: Tensor,
        *,
        generator: torch.Generator | None = None,
        progress: Callable[[int], None] | None = None,
        **condition: Any,
    ) -> Tensor:
        """Runs all steps of a decreasing grid of times, from grid[0] to grid[-1].

        Args:
            x_T: states at grid[0], (B, d).
            grid: (steps + 1,) decreasing times.
            generator: source of the noise, for the stochastic samplers.
            progress: called with the index of every finished step.
            condition: passed on to the denoiser.
        """
        if (grid.diff() >= 0).any():
            raise ValueError("the grid of times must decrease strictly")
        x = x_T
        grid = grid.to(device=x.device, dtype=x.dtype)
        for k, (t, s) in enumerate(itertools.pairwise(grid)):
            x = self.step(x, t, s, generator=generator, **condition)
            if progress is not None:
                progress(k)
        return x

    def _denoise(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        return self.denoiser(x, t, **condition)

    def _velocity(self, x: Tensor, t: Tensor, *, score_share: float, condition: dict[str, Any]) -> Tensor:
        """Forward-time velocity M(x − μ) − share · β · score, per unit of t."""
        return self.denoiser.velocity(x, t, score_share=score_share, **condition)


class Ancestral(Sampler):
    """The exact bridge with x_0 drawn from its posterior, or replaced by the posterior mean.

    p(x_s | x_t) is the bridge averaged over p(x_0 | x_t). With draws from that posterior a step is exact however long
    it is, and x_s has the variance it ought to have. With the mean in the place of a draw (``use_mean``) the posterior
    variance of x_0 is lost in every step, an error of order 1/steps that flattens rare states first.

    Args:
        denoiser: gives posterior draws by :meth:`genodiff.core.denoisers.Denoiser.draw`.
        use_mean: put the posterior mean in the place of a draw.
    """

    stochastic = True

    def __init__(self, denoiser: Denoiser, *, use_mean: bool = False) -> None:
        super().__init__(denoiser)
        self.use_mean = use_mean

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """Draws from p(x_s | x_t, x_0) for one x_0; at s = 0 this is x_0 itself."""
        if self.use_mean:
            x_0 = self._denoise(x_t, t, condition)
        else:
            x_0 = self.denoiser.draw(x_t, t, generator=generator, **condition)
        return self.process.bridged(x_0, x_t, s, t, generator=generator)


class EulerMaruyama(Sampler):
    """First-order discretisation of the reverse SDE, x̄' = −drift + diffused(score), shaken as the process itself is."""

    stochastic = True

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """x_s = x_t − (t − s) [M(x_t − μ) − β score] + √(β (t − s)) ξ for a linear diffusion."""
        noise = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
        velocity = self._velocity(x_t, t, score_share=1.0, condition=condition)
        return x_t + (s - t) * velocity + self.process.shaken(noise, t, t - s)


class EulerODE(Sampler):
    """First-order integration of the probability flow."""

    def _path(self, t: Tensor) -> Tensor:
        """The variable in which the flow is integrated: t itself."""
        return t

    def _slope(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        """Derivative of the state by that variable, in the coordinates of :meth:`_moved`."""
        return self._velocity(x, t, score_share=0.5, condition=condition)

    def _moved(self, x: Tensor, by: Tensor) -> Tensor:
        return x + by

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """x_s = x_t + (s − t) v(x_t, t)."""
        return self._moved(x_t, (self._path(s) - self._path(t)) * self._slope(x_t, t, condition))


class HeunODE(EulerODE):
    """Second-order integration of the probability flow by two slopes, the second at a point t̂ between t and s.

    The slope is taken to be linear in the variable α of the path between the two evaluations (TOAD eq. 17, Lemma 6):

        x_s = x_t + Δ [(1 − w) v(x_t, t) + w v(x̂, t̂)],    Δ = α(s) − α(t),    w = Δ / 2 (α(t̂) − α(t)).

    With t̂ = s this is the trapezoidal rule.

    Args:
        denoiser: the posterior mean.
        second: where t̂ lies on the way from t to s, in (0, 1]; ½ is the half-point evaluation of TOAD.
        euler_last: take a step that ends at time 0 by the first slope alone. With t̂ = s this is always so: there the
            score is not defined.
    """

    order = 2

    def __init__(self, denoiser: Denoiser, *, second: float = 1.0, euler_last: bool = True) -> None:
        super().__init__(denoiser)
        if not 0 < second <= 1:
            raise ValueError(f"second must lie in (0, 1], got {second}")
        self.second, self.euler_last = second, euler_last

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """Two slopes, or one where the step ends at time 0."""
        t_hat = torch.lerp(t, s, self.second)
        start = self._path(t)
        whole, part = self._path(s) - start, self._path(t_hat) - start
        first = self._slope(x_t, t, condition)
        if float(t_hat) == 0.0 or (self.euler_last and float(s) == 0.0):
            return self._moved(x_t, whole * first)
        second = self._slope(self._moved(x_t, part * first), t_hat, condition)
        weight = whole / (2 * part)
        return self._moved(x_t, whole * ((1 - weight) * first + weight * second))


class AdaptiveODE(EulerODE):
    """An embedded Runge–Kutta pair between two times of the grid, as many steps as its tolerance asks for.

    The grid may thus be a single interval. Time runs on a logarithmic scale, on which the flow is smooth towards 0; a
    step that ends at 0 itself, where the score is not defined, is taken by one slope.

    Args:
        denoiser: the posterior mean.
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step.
        pair: the Runge–Kutta pair.

    Attributes:
        evaluations: slopes computed so far, over all batches.
    """

    def __init__(self, denoiser: Denoiser, *, rtol: float = 1e-5, atol: float = 1e-5, pair: Pair = "RK45") -> None:
        super().__init__(denoiser)
        self.rtol, self.atol, self.pair = rtol, atol, pair
        self.order = ORDERS[pair]
        self.evaluations = 0

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """x_s of the flow through x_t, as exact as the tolerances; all rows take the same steps."""
        if float(s) == 0.0:
            self.evaluations += 1
            return super().step(x_t, t, s, **condition)

        def slope(log_t: Tensor, x: Tensor) -> Tensor:
            at = log_t.exp()
            return at * self._slope(x.to(x_t.dtype), at.to(x_t.dtype), condition)

        span = math.log(float(t)), math.log(float(s))
        x_s, evaluations = solve(slope, x_t, *span, rtol=self.rtol, atol=self.atol, pair=self.pair)
        self.evaluations += evaluations
        return x_s.to(x_t.dtype)


class _NoisePath(EulerODE):
    """The probability flow of anisotropic noise in the variable M^{1/2}, d x = −flow d M^{1/2} (TOAD eq. 18).

    flow = M^{1/2} score stays of order one at all times. Steps are taken in modal coordinates.
    """

    process: SubspaceDiffusion

    def __init__(self, denoiser: Denoiser, **options: Any) -> None:
        if not isinstance(denoiser.process, SubspaceDiffusion):
            raise ValueError(f"needs noise in subspaces, got {type(denoiser.process).__name__}")
        super().__init__(denoiser, **options)

    def _path(self, t: Tensor) -> Tensor:
        return self.process.deviation(t)

    def _slope(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        left = x - self._denoise(x, t, condition)
        return self.process.basis.analysis(left) / self.process.deviation(t)

    def _moved(self, x: Tensor, by: Tensor) -> Tensor:
        return x + self.process.basis.synthesis(by)


class EulerFlow(_NoisePath):
    """x_s = x_t − (M_s^{1/2} − M_t^{1/2}) flow(x_t, t) (TOAD eq. 7, sign corrected)."""


class HeunFlow(_NoisePath, HeunODE):
    """The second-order step (TOAD eq. 17, signs corrected).

    x̂ = x − Δ̂ flow, then x_s = x − [Δ flow + ½ Δ² Δ̂^{−1} (flow(x̂, t̂) − flow)], where Δ = M_s^{1/2} − M_t^{1/2} and
    Δ̂ = M_t̂^{1/2} − M_t^{1/2}. With t̂ halfway the step is one order better on Gaussian data.
    """
