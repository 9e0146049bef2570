"""Straight paths and processes given mode by mode: closed forms, quadrature, and the core's own samplers on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn

from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.dissipation import BlurringDiffusion, ModalDiffusion, Ramp, SmoothingDiffusion, stencil_symbol
from genodiff.core.processes import Diffusion, LinearDiffusion
from genodiff.core.samplers import Ancestral, EulerODE, HeunODE
from genodiff.core.schedules import UnitRate, uniform_grid
from genodiff.core.straight import StraightPath, VelocityDenoiser, velocity_matching
from tests.core.helpers import DOUBLE, at, generator, normal

SHAPE = (1, 3, 4)


def gaussian(process: Diffusion) -> GaussianMixtureDenoiser:
    """A centred Gaussian with a falling spectrum."""
    prior = GaussianMixture(
        process,
        weights=torch.ones(1, dtype=DOUBLE),
        means=torch.zeros(1, process.dim, dtype=DOUBLE),
        variance=torch.linspace(2.0, 0.1, process.dim, dtype=DOUBLE),
    )
    return GaussianMixtureDenoiser(prior)


PROCESSES: dict[str, ModalDiffusion] = {
    "constant": SmoothingDiffusion(SHAPE, nu=Ramp(0.8, 0.8), dtype=DOUBLE),
    "ramps": SmoothingDiffusion(
        SHAPE, nu=Ramp(0.1, 1.5, 0.7), eta=Ramp(0.6, 1.2, 2.0), length=1.3, clock=UnitRate(), horizon=3.0, dtype=DOUBLE
    ),
    "white": SmoothingDiffusion(SHAPE, nu=Ramp(0.3, 0.9), eta=Ramp(1.0, 0.8), white=True, dtype=DOUBLE),
    "blurring": BlurringDiffusion(SHAPE, width=2.0, dtype=DOUBLE),
}


def test_constant_smoothing_is_the_linear_diffusion_with_those_rates() -> None:
    process = PROCESSES["constant"]
    assert isinstance(process, SmoothingDiffusion)
    rates = -0.5 - 0.8 * stencil_symbol(SHAPE)
    linear = LinearDiffusion(process.basis, mean=process.mean, rates=rates, horizon=1.0, clock=process.clock)
    s, t = torch.tensor([0.0, 0.2, 0.7], dtype=DOUBLE), torch.tensor([0.05, 0.21, 1.0], dtype=DOUBLE)
    ours, theirs = process.transition(s, t), linear.transition(s, t)
    torch.testing.assert_close(ours.m, theirs.m)
    torch.testing.assert_close(ours.variance, theirs.variance, rtol=1e-9, atol=1e-12)
    x = normal(3, 12)
    torch.testing.assert_close(process.drift(x, t), linear.drift(x, t))
    torch.testing.assert_close(process.diffused(x, t[0]), linear.diffused(x, t[0]))


def test_variances_on_ramps_are_the_integrals() -> None:
    process, t = PROCESSES["ramps"], 2.3
    assert isinstance(process, SmoothingDiffusion)
    for i in (0, 1, 7, 11):
        rate = float(process.symbol[i])

        def integrand(w: float, rate: float = rate) -> float:
            n = float(process.nu.integral(at(t)) - process.nu.integral(at(w)))
            return float(np.exp(-(t - w) - 2 * rate * n) * process.eta(at(w)) ** 2)

        expected = quad(integrand, 0, t, epsabs=1e-12)[0] * float(process.power[i])
        assert float(process.variance(at(t))[i]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_modes_obey_their_equation_and_compose(name: str) -> None:
    """∂_t m = r m and ∂_t s² = 2 r s² + q with r, q from drift and noise; transitions compose over a time between."""
    process = PROCESSES[name]
    t = torch.tensor([0.2, 0.6], dtype=DOUBLE) * process.horizon
    rate, gain = process.log_mean_rate(t), process.noise_rate(t)
    slope_m = torch.autograd.functional.jacobian(process.mean_coefficient, t).diagonal(dim1=0, dim2=2).T
    slope_s = torch.autograd.functional.jacobian(process.variance, t).diagonal(dim1=0, dim2=2).T
    torch.testing.assert_close(slope_m, rate * process.mean_coefficient(t))
    torch.testing.assert_close(slope_s, 2 * rate * process.variance(t) + gain, rtol=1e-7, atol=1e-9)
    assert (gain > 0).all()
    zero, half, end = torch.zeros_like(t), 0.5 * t, t
    first, second = process.transition(zero, half), process.transition(half, end)
    whole = process.transition(zero, end)
    torch.testing.assert_close(second.m * first.m, whole.m)
    composed = second.m.square() * first.variance + second.variance
    torch.testing.assert_close(composed, whole.variance, rtol=1e-8, atol=1e-12)
    rho = process.noise_ratio(t)
    torch.testing.assert_close(process.time_of_noise(rho), t)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_cores_samplers_recover_a_gaussian_field(name: str) -> None:
    process, n = PROCESSES[name], 3000
    denoiser = gaussian(process)
    law, last = denoiser.prior, 0.02 * process.horizon
    x_T, _ = law.pushed(process.horizon).sample(n, generator=generator(1))
    grid = uniform_grid(process.horizon, 80, last=last)
    expected = law.pushed(last).modal_variance
    for rule, steps in ((HeunODE(denoiser), 1), (Ancestral(denoiser), 20)):
        x = rule.sample(x_T, grid[::steps], generator=generator(2))
        measured = process.basis.analysis(x).var(0)
        torch.testing.assert_close(measured, expected, rtol=0.14, atol=0)  # five standard errors are 0.13


def test_blurring_starts_without_noise_and_ends_without_image() -> None:
    process = PROCESSES["blurring"]
    torch.testing.assert_close(process.mean_coefficient(at(0.0)), torch.ones(12, dtype=DOUBLE))
    assert (process.variance(at(0.0)) == 0).all()
    assert (process.mean_coefficient(at(1.0)) < 0.01).all()
    torch.testing.assert_close(process.variance(at(1.0)), torch.ones(12, dtype=DOUBLE), rtol=0, atol=1e-4)
    assert process.start(5, generator=generator()).shape == (5, 12)
    for options in ({"width": -1.0}, {"floor": 0.0}, {"log_range": 0.0}):
        with pytest.raises(ValueError, match="width >= 0"):
            BlurringDiffusion(SHAPE, **options)
    with pytest.raises(ValueError, match="smoothing must be >= 0"):
        SmoothingDiffusion(SHAPE, nu=Ramp(-1.0, 1.0))
    with pytest.raises(ValueError, match="length of correlation"):
        SmoothingDiffusion(SHAPE, nu=Ramp(1.0, 1.0), length=-1.0)
    with pytest.raises(ValueError, match="scale > 0"):
        Ramp(1.0, 1.0, 0.0)


class Velocity(nn.Module):
    """The exact velocity of a Gaussian, x (t − (1 − t)λ)/((1 − t)²λ + t²), with t read from its level."""

    def __init__(self, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        t = torch.sigmoid(4 * level).unsqueeze(-1)
        variance = self.get_buffer("variance")
        return x * (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)


def test_straight_paths_are_lines_and_their_equation_holds() -> None:
    process = StraightPath(5, dtype=DOUBLE)
    t = torch.tensor([0.3, 0.8], dtype=DOUBLE)
    x = normal(2, 5)
    torch.testing.assert_close(process.drift(x, t), -x / (1 - t).unsqueeze(-1))
    slope_s = 2 * t  # ∂_t t²
    gain = process.diffused(torch.ones(2, 5, dtype=DOUBLE), t)[:, 0]
    torch.testing.assert_close(slope_s, -2 / (1 - t) * t.square() + gain)
    first, second = process.transition(torch.zeros_like(t), 0.5 * t), process.transition(0.5 * t, t)
    torch.testing.assert_close(second.m * first.m, process.mean_coefficient(t))
    torch.testing.assert_close(second.m.square() * first.variance + second.variance, process.variance(t))
    torch.testing.assert_close(process.time_of_noise(process.noise_ratio(t)), t)
    torch.testing.assert_close(process.log_noise(t), (t / (1 - t)).log())


def test_velocity_denoiser_agrees_with_the_gaussian_posterior() -> None:
    process = StraightPath(12, dtype=DOUBLE)
    exact = gaussian(process)
    ours = VelocityDenoiser(process, Velocity(exact.prior.modal_variance))
    x, t = normal(4, 12), torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=DOUBLE)
    torch.testing.assert_close(ours(x, t), exact(x, t))
    for share in (0.0, 0.5, 1.0):
        torch.testing.assert_close(ours.velocity(x, t, score_share=share), exact.velocity(x, t, score_share=share))


@pytest.mark.parametrize(("sampler", "order"), [(EulerODE, 1.0), (HeunODE, 2.0)])
def test_the_cores_ode_samplers_carry_pure_noise_to_data_at_their_order(sampler: type[EulerODE], order: float) -> None:
    """From t = 1, where the score is not defined: x scales with the standard deviation, 1 to √λ."""
    process = StraightPath(12, dtype=DOUBLE)
    spectrum = gaussian(process).prior.modal_variance
    denoiser = VelocityDenoiser(process, Velocity(spectrum))
    x_T = normal(20, 12)
    steps = np.array([40, 80, 160])
    error = [
        float((sampler(denoiser).sample(x_T, uniform_grid(1.0, int(k), last=0.2)) - _flow(x_T, spectrum, 0.2)).norm())
        for k in steps
    ]
    assert -np.polyfit(np.log(steps), np.log(error), 1)[0] == pytest.approx(order, abs=0.15)
    to_zero = sampler(denoiser).sample(x_T, uniform_grid(1.0, 160))
    torch.testing.assert_close(to_zero, x_T * spectrum.sqrt(), rtol=0, atol=0.1)


def _flow(x: Tensor, spectrum: Tensor, t: float) -> Tensor:
    return x * ((1 - t) ** 2 * spectrum + t**2).sqrt()


def test_velocity_matching_is_least_at_the_exact_velocity() -> None:
    process, n = StraightPath(12, dtype=DOUBLE), 20_000
    prior = gaussian(process).prior
    x_0, _ = prior.sample(n, generator=generator(1))
    t = torch.rand(n, generator=generator(2), dtype=DOUBLE)

    def loss(factor: float) -> float:
        scaled = VelocityDenoiser(process, Velocity(prior.modal_variance))
        scaled.network.register_forward_hook(lambda module, given, out: factor * out)
        return float(velocity_matching(scaled, x_0, t, generator=generator(3)))

    best = loss(1.0)
    assert min(loss(0.9), loss(1.1)) > best
    slope, curvature = (loss(1.05) - loss(0.95)) / 0.1, (loss(1.05) - 2 * best + loss(0.95)) / 0.05**2
    assert abs(slope) < 0.03 * curvature


def test_a_network_sees_images_and_a_level_that_stays_finite() -> None:
    seen: list[tuple[torch.Size, Tensor]] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            seen.append((x.shape, level))
            return torch.zeros_like(x)

    denoiser = VelocityDenoiser(StraightPath(24), Watch(), shape=(2, 3, 4))
    d = denoiser(torch.ones(3, 24), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(d, torch.ones(3, 24))
    shape, level = seen[0]
    assert shape == (3, 2, 3, 4)
    assert level.isfinite().all()
    assert float(level[1]) == 0.0
    assert level.dtype == torch.float32
