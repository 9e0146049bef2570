"""Samplers of anisotropic noise: closed forms, quadrature, order, and the one formula they share with other ODEs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from genodiff.core.denoisers import Denoiser, GaussianMixtureDenoiser
from genodiff.core.networks import count_calls
from genodiff.core.samplers import Ancestral, EulerFlow, EulerODE, HeunFlow, HeunODE
from genodiff.core.schedules import uniform_grid
from tests.core.helpers import DOUBLE, at, generator, mixture, normal, small_gou
from tests.core.toad import exact, split_process

SPECTRUM = torch.tensor([1.5, 0.6, 0.3, 0.1], dtype=DOUBLE)


def gaussian() -> GaussianMixtureDenoiser:
    return exact(split_process(4), components=1, variance=SPECTRUM)


def flow_map(denoiser: GaussianMixtureDenoiser, x: Tensor, t: float, s: float) -> Tensor:
    """The exact flow of a centred Gaussian: z keeps its share of the standard deviation (λ + g)^½."""
    process = denoiser.process
    first, last = (process.variance(at(u)) + SPECTRUM for u in (t, s))
    return process.basis.synthesis(process.basis.analysis(x) * (last / first).sqrt())


@torch.no_grad()
@pytest.mark.parametrize(
    ("sampler", "options", "order"),
    [
        (EulerFlow, {}, 1.0),
        (HeunFlow, {"second": 0.5}, 3.0),
        (HeunFlow, {"second": 1.0}, 2.0),
        (HeunFlow, {"second": 0.7}, 2.0),
    ],
)
def test_order_of_the_flow_samplers_on_a_gaussian(
    sampler: type[EulerFlow], options: dict[str, float], order: float
) -> None:
    """Half-point evaluation is a midpoint rule in M^{1/2}; for a Gaussian its leading error cancels: x ∝ (λ + g)^½."""
    denoiser, x = gaussian(), 3 * normal(20, 4)
    last = 2 * 2 / 7  # between knots the schedule is smooth, and all grids below hold the knots
    truth = flow_map(denoiser, x, 2.0, last)
    steps = np.array([20, 40, 80])
    error = [
        float((sampler(denoiser, **options).sample(x, uniform_grid(2.0, int(k), last=last)) - truth).norm())
        for k in steps
    ]
    assert -np.polyfit(np.log(steps), np.log(error), 1)[0] == pytest.approx(order, abs=0.12)
    assert sampler.order == round(min(order, 2.0))


@torch.no_grad()
def test_order_on_a_mixture_against_a_fine_reference() -> None:
    denoiser, x = exact(split_process(4), components=3), 3 * normal(20, 4)
    reference = HeunFlow(denoiser, second=0.5).sample(x, uniform_grid(2.0, 480, last=4 / 7))
    for sampler, order in ((EulerFlow(denoiser), 1.0), (HeunFlow(denoiser, second=0.5), 2.0)):
        steps = np.array([20, 40, 80])
        error = [float((sampler.sample(x, uniform_grid(2.0, int(k), last=4 / 7)) - reference).norm()) for k in steps]
        assert -np.polyfit(np.log(steps), np.log(error), 1)[0] == pytest.approx(order, abs=0.2)


@torch.no_grad()
def test_the_euler_step_is_the_formula() -> None:
    denoiser = exact(split_process(4))
    process, x, t, s = denoiser.process, normal(5, 4), at(1.2), at(0.7)
    flow = process.power(denoiser.score(x, t), t, 0.5)
    expected = x - (process.power(flow, s, 0.5) - process.power(flow, t, 0.5))
    torch.testing.assert_close(EulerFlow(denoiser).step(x, t, s), expected)


@torch.no_grad()
@pytest.mark.parametrize("second", [0.5, 0.8, 1.0])
def test_the_heun_step_is_the_integral_of_the_line_through_two_flows(second: float) -> None:
    """x_s = x_t − ∫ (∂_τ M_τ^{1/2}) ũ(τ) dτ from t to s, by quadrature over τ in every mode (eq. 17)."""
    denoiser = exact(split_process(4))
    process, x, t, s = denoiser.process, normal(1, 4), 1.2, 0.7
    t_hat = t + second * (s - t)

    def flow(z: Tensor, u: float) -> Tensor:
        d = process.basis.analysis(denoiser(process.basis.synthesis(z), at(u)))
        return (d - z) / process.deviation(at(u))

    z = process.basis.analysis(x)
    part = process.deviation(at(t_hat)) - process.deviation(at(t))
    first = flow(z, t)
    slope = (flow(z - part * first, t_hat) - first) / part
    expected = z.clone()
    for i in range(4):

        def integrand(u: float, i: int = i) -> float:
            m = process.deviation(at(u))[i]
            speed = 0.5 * process.log_rate(at(u))[i] / process.horizon * m
            line = first[0, i] + (m - process.deviation(at(t))[i]) * slope[0, i]
            return float(speed * line)

        knots = [u for u in np.arange(8) * 2 / 7 if s < u < t]
        expected[0, i] -= quad(integrand, t, s, points=knots, epsabs=1e-12)[0]
    step = HeunFlow(denoiser, second=second).step(x, at(t), at(s))
    torch.testing.assert_close(process.basis.analysis(step), expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_heun_of_other_processes_is_the_trapezoid_bit_for_bit() -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou(), 3))
    rule, x, t, s = HeunODE(denoiser), normal(50, 3), at(1.3), at(0.613)
    first = rule._velocity(x, t, score_share=0.5, condition={})
    guess = x + (s - t) * first
    second = rule._velocity(guess, s, score_share=0.5, condition={})
    assert torch.equal(rule.step(x, t, s), x + 0.5 * (s - t) * (first + second))
    assert torch.equal(EulerODE(denoiser).step(x, t, s), guess)


@torch.no_grad()
def test_the_half_point_serves_other_processes_too() -> None:
    denoiser, x = GaussianMixtureDenoiser(mixture(small_gou(), 3)), normal(20, 3)
    reference = HeunODE(denoiser).sample(x, uniform_grid(2.0, 400, last=0.2))
    error = [
        float((HeunODE(denoiser, second=0.5).sample(x, uniform_grid(2.0, k, last=0.2)) - reference).norm())
        for k in (20, 40)
    ]
    assert error[0] / error[1] == pytest.approx(4.0, rel=0.2)


class Counted(Denoiser):
    """A denoiser that asks a module for its answer, so that the calls can be counted."""

    def __init__(self, inner: GaussianMixtureDenoiser) -> None:
        super().__init__()
        self.inner, self.process = inner, inner.process

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return self.inner(x_t, t)


@torch.no_grad()
@pytest.mark.parametrize(
    ("second", "euler_last", "passes"), [(0.5, True, 9), (0.5, False, 10), (1.0, True, 9), (1.0, False, 9)]
)
def test_evaluations_of_five_steps_to_time_zero(second: float, euler_last: bool, passes: int) -> None:
    denoiser = Counted(gaussian())
    with count_calls(denoiser.inner) as calls:
        x = HeunFlow(denoiser, second=second, euler_last=euler_last).sample(normal(3, 4), uniform_grid(2.0, 5))
    assert (calls.passes, calls.rows) == (passes, 3 * passes)
    assert x.isfinite().all()
    denoiser(normal(3, 4), at(1.0))
    assert calls.passes == passes


@torch.no_grad()
def test_the_last_euler_step_is_the_denoiser() -> None:
    denoiser = gaussian()
    x, t = normal(6, 4), at(0.5)
    for rule in (HeunFlow(denoiser), EulerFlow(denoiser)):
        torch.testing.assert_close(rule.step(x, t, at(0.0)), denoiser(x, t))


@torch.no_grad()
def test_flow_samplers_and_the_bridge_recover_a_mixture() -> None:
    denoiser, n = exact(split_process(4), components=3), 8000
    x_T, _ = denoiser.prior.pushed(2.0).sample(n, generator=generator(1))
    mean, covariance = denoiser.prior.moments()
    for rule in (HeunFlow(denoiser, second=0.5), Ancestral(denoiser)):
        x = rule.sample(x_T, uniform_grid(2.0, 40), generator=generator(2))
        torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.06)
        torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0, atol=0.06)


def test_samplers_refuse_processes_they_are_not_for() -> None:
    with pytest.raises(ValueError, match="noise in subspaces"):
        HeunFlow(GaussianMixtureDenoiser(mixture(small_gou())))
    for second in (0.0, 1.5):
        with pytest.raises(ValueError, match="second must lie"):
            HeunFlow(gaussian(), second=second)
