"""Objectives along the path: Lemmas 3 and 5 by finite differences, and what the losses are when the score is exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser, GaussianMixtureDenoiser
from genodiff.core.knots import KnotSchedule, TransformedSchedule
from genodiff.core.processes import Diffusion
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.core.trajectory import (
    discretisation_error,
    excess_score_matching,
    score_response,
    time_objective,
    trajectory_score_matching,
)
from tests.core.helpers import DOUBLE, at, generator, mixture, normal, small_gou
from tests.core.toad import exact, knots, split_process, uniform_times


class Scaled(Denoiser):
    """A denoiser that is wrong by a factor."""

    def __init__(self, inner: GaussianMixtureDenoiser, factor: float) -> None:
        super().__init__()
        self.inner, self.process, self.factor = inner, inner.process, factor

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return self.factor * self.inner(x_t, t)


class Fixed(Diffusion):
    """Noise of given variances, whatever the time: M as a variable."""

    def __init__(self, process: SubspaceDiffusion, variance: Tensor) -> None:
        super().__init__()
        self.basis, self.mean, self.given = process.basis, process.mean, variance

    def mean_coefficient(self, t: Tensor) -> Tensor:
        return torch.ones_like(self.given)

    def variance(self, t: Tensor) -> Tensor:
        return self.given


def modal_score(denoiser: GaussianMixtureDenoiser, z: Tensor, variance: Tensor) -> Tensor:
    """∇ log p in modal coordinates under noise of the given modal variances."""
    process = Fixed(denoiser.process, variance)
    score = denoiser.on(process).score(process.basis.synthesis(z), at(1.0))
    return process.basis.analysis(score)


def by_hand(f: Callable[[Tensor], Tensor], variance: Tensor, i: int, h: float = 1e-5) -> Tensor:
    """∂f/∂g_i by central differences."""
    step = h * torch.eye(len(variance), dtype=DOUBLE)[i]
    return (f(variance + step) - f(variance - step)) / (2 * h)


@pytest.mark.parametrize("lemma", [3, 5])
def test_lemmas_3_and_5_against_finite_differences(lemma: int) -> None:
    """Every ∂F_k/∂g_i of a mixture in the plane; the trace is taken exactly, over an orthonormal basis."""
    denoiser = exact(split_process(2), components=3)
    z, variance = normal(7, 2, seed=4), torch.tensor([0.5, 1.3], dtype=DOUBLE)
    root = variance.sqrt() if lemma == 5 else torch.ones(2, dtype=DOUBLE)

    def field(g: Tensor) -> Tensor:
        return (g.sqrt() if lemma == 5 else 1.0) * modal_score(denoiser, z, g)

    for k in range(2):
        h = torch.zeros_like(z)
        h[:, k] = 1.0
        kappa = torch.zeros_like(z)
        for e in torch.eye(2, dtype=DOUBLE):
            point = z.clone().requires_grad_()
            score = modal_score(denoiser, point, variance)
            given = {"cotangent": h, "score": score, "direction": e.expand_as(z)}
            each = score_response(root * score, point, **given)
            # The straight part does not depend on e; it is counted once over the two directions.
            straight = torch.autograd.grad((h * root * modal_score(denoiser, point, variance)).sum(), point)[0] * score
            kappa += each - 0.5 * straight.detach()
        if lemma == 5:
            kappa += 0.5 * h * field(variance).detach() / variance
        for i in range(2):
            expected = (h * by_hand(field, variance, i)).sum(1)
            torch.testing.assert_close(kappa[:, i], expected.detach(), rtol=1e-5, atol=1e-8)


def test_a_gaussian_direction_estimates_the_trace() -> None:
    denoiser = exact(split_process(2), components=3)
    variance, n = torch.tensor([0.5, 1.3], dtype=DOUBLE), 200_000
    z = normal(1, 2, seed=4)
    point = z.expand(n, 2).clone().requires_grad_()
    score = modal_score(denoiser, point, variance)
    h = torch.tensor([0.7, -1.1], dtype=DOUBLE).expand(n, 2)
    kappa = score_response(score, point, cotangent=h, score=score, direction=normal(n, 2, seed=5))
    error = kappa.std(0) / math.sqrt(n)
    expected = torch.stack(
        [(h[:1] * by_hand(lambda g: modal_score(denoiser, z, g), variance, i)).sum() for i in range(2)]
    )
    assert (error > 0).all()
    assert ((kappa.mean(0) - expected.detach()).abs() < 5 * error).all()


def loss_and_gradient(
    denoiser: Denoiser, x_0: Tensor, t: Tensor, *, correct: bool, seed: int = 1
) -> tuple[float, Tensor]:
    process = denoiser.process
    assert isinstance(process, SubspaceDiffusion)
    assert isinstance(process.schedule, KnotSchedule)
    loss = trajectory_score_matching(denoiser, x_0, t, c=0.7, score_correction=correct, generator=generator(seed))
    (gradient,) = torch.autograd.grad(loss, process.schedule.offset)
    return loss.item(), gradient


def total_slope(denoiser: GaussianMixtureDenoiser, x_0: Tensor, t: Tensor, direction: Tensor, h: float = 1e-4) -> float:
    """d/dθ of the loss along a direction, with the score moving as the exact score does, by central differences."""
    process = denoiser.process
    assert isinstance(process, SubspaceDiffusion)
    schedule = process.schedule
    assert isinstance(schedule, KnotSchedule)
    values, start = [], schedule.offset.detach().clone()
    with torch.no_grad():
        for sign in (1, -1):
            schedule.offset.copy_(start + sign * h * direction)
            values.append(trajectory_score_matching(denoiser, x_0, t, c=0.7, generator=generator(1)).item())
        schedule.offset.copy_(start)
    return (values[0] - values[1]) / (2 * h)


def test_the_corrected_gradient_is_the_whole_derivative_of_the_loss() -> None:
    """Data that do not follow the mixture, so that the correction does not vanish; ε equal on both sides."""
    denoiser, n = exact(split_process(2), components=3), 100_000
    x_0, t = 0.4 * normal(n, 2, seed=7) + 0.5, uniform_times(n)
    direction = torch.randn(2, 7, generator=generator(6), dtype=DOUBLE)
    truth = total_slope(denoiser, x_0, t, direction)
    parts = torch.tensor(
        [
            [
                float((loss_and_gradient(denoiser, x, u, correct=correct)[1] * direction).sum())
                for correct in (True, False)
            ]
            for x, u in zip(x_0.split(5000), t.split(5000), strict=True)
        ],
        dtype=DOUBLE,
    )
    exact_parts = torch.tensor(
        [total_slope(denoiser, x, u, direction) for x, u in zip(x_0.split(5000), t.split(5000), strict=True)]
    )
    off = parts - exact_parts.unsqueeze(1)
    error = off.std(0) / math.sqrt(len(off))
    assert abs(float(off[:, 0].mean())) < 4 * float(error[0]) + 1e-4 * abs(truth)
    # Without the correction the gradient is another one, by far.
    assert abs(float(off[:, 1].mean())) > 10 * float(error[0])


def test_the_correction_has_zero_mean_at_the_exact_score_and_costs_the_value_nothing() -> None:
    denoiser, batches, size = exact(split_process(2), components=3), 30, 4000
    differences = []
    for k in range(batches):
        x_0, _ = denoiser.prior.sample(size, generator=generator(100 + k))
        t = uniform_times(size, seed=k)
        with_it, without = (loss_and_gradient(denoiser, x_0, t, correct=c, seed=k) for c in (True, False))
        assert with_it[0] == without[0]
        differences.append(with_it[1] - without[1])
    correction = torch.stack(differences)
    error = correction.std(0) / math.sqrt(batches)
    assert (error > 0).all()
    assert (correction.mean(0).abs() < 4.5 * error).all()


def test_the_gradient_by_theta_leaves_the_network_as_a_function_of_x() -> None:
    """Without correction: ε and the flow's own schedule fixed, only x_t and the weights move."""
    denoiser = exact(split_process(2), components=3)
    process = denoiser.process
    assert isinstance(process, SubspaceDiffusion)
    assert isinstance(process.schedule, KnotSchedule)
    x_0, t, h = normal(50, 2), uniform_times(50), 1e-5
    direction = torch.randn(2, 7, generator=generator(6), dtype=DOUBLE)
    still = denoiser.on(process.detached())
    held = process.deviation(t).detach()
    epsilon = torch.randn(50, 2, generator=generator(1), dtype=DOUBLE)

    def value(sign: float) -> float:
        moved = KnotSchedule(process.schedule.log_knots().detach(), horizon=2.0)
        moved.initial.copy_(process.schedule.initial)
        with torch.no_grad():
            moved.offset.copy_(process.schedule.offset + sign * h * direction)
        path = process.with_schedule(moved)
        z = process.basis.analysis(x_0) + path.deviation(t) * epsilon
        d_z = process.basis.analysis(frozen_denoise(process.basis.synthesis(z)))
        g, rate = path.variance(t), path.log_rate(t)
        return float((rate.square() * g / (0.7 + g) * ((d_z - z) / held + epsilon).square()).mean().detach())

    fixed = Fixed(process, held.square())

    def frozen_denoise(x: Tensor) -> Tensor:
        return still.on(fixed)(x, t)

    _, gradient = loss_and_gradient(denoiser, x_0, t, correct=False)
    assert float((gradient * direction).sum()) == pytest.approx((value(1) - value(-1)) / (2 * h), rel=1e-5)


def test_the_loss_is_the_difference_of_the_velocities_of_the_preserving_view() -> None:
    """Eq. 11 against eq. 15: T E‖v̄ − ṽ‖²/d, four times, for the printed fields lack the ½ of the score term."""
    denoiser, c = Scaled(exact(split_process(4)), 0.8), 0.7
    process = denoiser.process
    assert isinstance(process, SubspaceDiffusion)
    x_0, t = normal(60, 4), uniform_times(60)
    epsilon = torch.randn(60, 4, generator=generator(3), dtype=DOUBLE)
    x_t = x_0 + process.basis.synthesis(process.deviation(t) * epsilon)
    v_network = process.velocity(x_t, t, denoiser.score(x_t, t), c=c)
    v_sample = process.velocity(x_t, t, process.power(x_0 - x_t, t, -1.0), c=c)
    expected = 4 * process.horizon**2 * (v_network - v_sample).square().mean()
    loss = trajectory_score_matching(denoiser, x_0, t, c=c, generator=generator(3))
    torch.testing.assert_close(loss, expected)


def test_one_subspace_is_weighted_score_matching() -> None:
    """J = 1: weight g'² / (c + g) on ‖score + ε/√g‖² (eq. 12)."""
    process = SubspaceDiffusion(split_process(4).basis, torch.zeros(4, dtype=torch.long), knots(1))
    denoiser = Scaled(exact(process), 0.8)
    x_0, t = normal(60, 4), uniform_times(60)
    noise = torch.randn(60, 4, generator=generator(3), dtype=DOUBLE)
    g, rate = process.schedule.levels(t), process.schedule.rates(t)
    x_t = x_0 + g.sqrt() * process.basis.synthesis(noise)
    miss = denoiser.score(x_t, t) + process.basis.synthesis(noise) / g.sqrt()
    expected = process.horizon**2 * (rate.square() / (0.7 + g) * miss.square()).mean()
    loss = trajectory_score_matching(denoiser, x_0, t, c=0.7, generator=generator(3))
    torch.testing.assert_close(loss, expected)


def test_excess_is_the_squared_distance_to_the_exact_flow() -> None:
    """E 2⟨f, W(f + ε)⟩ = E 2⟨f, W(f − f*)⟩, which is 0 for f = f* and ‖f − f*‖² where ‖f‖ = ‖f*‖."""
    denoiser, n = exact(split_process(2), components=3), 200_000
    process = denoiser.process
    assert isinstance(process, SubspaceDiffusion)
    x_0, _ = denoiser.prior.sample(n, generator=generator(1))
    t = uniform_times(n)
    with torch.no_grad():
        zero = excess_score_matching(denoiser, x_0, t, c=0.7, generator=generator(2))
        whole = trajectory_score_matching(denoiser, x_0, t, c=0.7, generator=generator(2))
        assert abs(float(zero)) < 0.02 * float(whole)
        wrong = Scaled(denoiser, 0.8)
        loss = excess_score_matching(wrong, x_0, t, c=0.7, generator=generator(2))
        noise = torch.randn(n, 2, generator=generator(2), dtype=DOUBLE)
        g, rate = process.variance(t), process.log_rate(t)
        x_t = x_0 + process.basis.synthesis(g.sqrt() * noise)
        right_d, wrong_d = denoiser(x_t, t), wrong(x_t, t)
        f = process.basis.analysis(wrong_d - x_t) / g.sqrt()
        off = process.basis.analysis(wrong_d - right_d) / g.sqrt()
        expected = 2 * (rate.square() * g / (0.7 + g) * f * off).mean()
    assert float(loss) == pytest.approx(float(expected), rel=0.05)
    assert abs(float(expected)) > 10 * abs(float(zero))


def test_discretisation_error_is_of_second_order_in_the_step() -> None:
    """ũ departs from the flow as the square of the step, H as its fourth power."""
    denoiser = exact(split_process(4), components=1, variance=0.5)
    x_0, _ = denoiser.prior.sample(4000, generator=generator(1))
    t = 2 / 7 * (4.95 - 0.1 * torch.rand(4000, generator=generator(4), dtype=DOUBLE))  # all within one interval
    windows = np.array([0.04, 0.02, 0.01])
    with torch.no_grad():
        error = [float(discretisation_error(denoiser, x_0, t, window=w, generator=generator(2))) for w in windows]
    assert np.polyfit(np.log(windows), np.log(error), 1)[0] == pytest.approx(4.0, abs=0.2)


def test_discretisation_error_of_a_gaussian_is_the_formula() -> None:
    """In one mode the path is known: z̃ at t̃, the Euler point at t̂, the line through both flows, and the flow at τ."""
    process = SubspaceDiffusion(split_process(2).basis, torch.zeros(2, dtype=torch.long), knots(1))
    denoiser = exact(process, components=1, variance=0.5)
    x_0, t = normal(200, 2), uniform_times(200)
    found = discretisation_error(denoiser, x_0, t, generator=generator(5))
    source = generator(5)
    share = torch.rand(200, generator=source, dtype=DOUBLE)
    end = (t - 0.25).clamp_min(0.0)
    tau, half = end + share * (t - end), 0.5 * (t + end)
    s, s_half, s_tau = (process.schedule.levels(u).sqrt() for u in (t, half, tau))
    z = process.basis.analysis(x_0) + s * torch.randn(200, 2, generator=source, dtype=DOUBLE)
    flow = lambda z, s: -s * z / (0.5 + s.square())  # noqa: E731
    first = flow(z, s)
    slope = (flow(z - (s_half - s) * first, s_half) - first) / (s_half - s)
    z_tau = z - (s_tau - s) * (first + 0.5 * (s_tau - s) * slope)
    line = first + (s_tau - s) * slope
    speed = process.horizon * 0.5 * process.schedule.rates(tau) / s_tau
    torch.testing.assert_close(found, (speed * (flow(z_tau, s_tau) - line)).square().mean())


@pytest.mark.parametrize("objective", [discretisation_error, excess_score_matching, time_objective])
def test_the_gradient_by_the_clock_is_the_derivative(objective: Callable[..., Tensor]) -> None:
    denoiser = exact(split_process(2), components=3)
    process = denoiser.process
    assert isinstance(process, SubspaceDiffusion)
    assert isinstance(process.schedule, KnotSchedule)
    clock = knots(1, seed=8)
    timed = denoiser.on(process.with_schedule(TransformedSchedule(process.schedule, clock)))
    x_0, t, h = normal(40, 2), uniform_times(40), 1e-7
    direction = torch.randn(1, 7, generator=generator(6), dtype=DOUBLE)
    (gradient,) = torch.autograd.grad(objective(timed, x_0, t, generator=generator(1)), clock.offset)
    values, start = [], clock.offset.detach().clone()
    with torch.no_grad():
        for sign in (1, -1):
            clock.offset.copy_(start + sign * h * direction)
            values.append(float(objective(timed, x_0, t, generator=generator(1))))
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-4)


def test_the_losses_do_not_depend_on_the_unit_of_time() -> None:
    losses = []
    for horizon in (1.0, 6400.0):
        denoiser = Scaled(exact(split_process(4, schedule=knots(horizon=horizon))), 0.8)
        x_0, t = normal(30, 4), uniform_times(30, horizon)
        losses.append(
            torch.stack(
                [
                    f(denoiser, x_0, t, generator=generator(1)).detach()
                    for f in (trajectory_score_matching, excess_score_matching, discretisation_error)
                ]
            )
        )
    torch.testing.assert_close(losses[0], losses[1])


def test_without_gradients_the_correction_is_left_out() -> None:
    denoiser, x_0, t = exact(split_process(2)), normal(5, 2), uniform_times(5)
    with torch.no_grad():
        a = trajectory_score_matching(denoiser, x_0, t, score_correction=True, generator=generator(1))
        b = trajectory_score_matching(denoiser, x_0, t, generator=generator(1))
    assert torch.equal(a, b)


def test_processes_without_subspaces_are_refused() -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou()))
    for objective in (trajectory_score_matching, excess_score_matching, discretisation_error):
        with pytest.raises(ValueError, match="noise in subspaces"):
            objective(denoiser, normal(2, 3), torch.ones(2, dtype=DOUBLE))
