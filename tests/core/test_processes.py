"""The forward process: its moments against theorems, integration, quadrature and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad_vec, solve_ivp
from scipy.linalg import expm, solve_continuous_lyapunov
from torch import Tensor

from genodiff.core.bases import PCA, Identity
from genodiff.core.denoisers import GaussianMixture
from genodiff.core.processes import LinearDiffusion, gou, gou_rates, variance_exploding, variance_preserving
from genodiff.core.schedules import LinearRate
from tests.core.helpers import DOUBLE, at, dense, drift_matrix, generator, mixture, normal, orthogonal, small_gou


def simulate(process: LinearDiffusion, x: Tensor, *, t: float, steps: int, seed: int) -> Tensor:
    """Euler–Maruyama paths of the forward equation, from its drift and diffusion alone."""
    source, dt = generator(seed), t / steps
    for k in range(steps):
        now = at((k + 0.5) * dt)
        noise = torch.randn(x.shape, generator=source, dtype=x.dtype)
        x = x + dt * process.drift(x, now) + torch.sqrt(process.diffusion(now) * dt) * noise
    return x


def start(process: LinearDiffusion) -> tuple[GaussianMixture, NDArray[np.float64], NDArray[np.float64]]:
    law = mixture(process)
    mean, covariance = law.moments()
    return law, mean.numpy(), covariance.numpy()


def test_theorem_2_separation_of_two_modes() -> None:
    process, t = small_gou(), 1.1
    first, second = normal(3, seed=8), normal(3, seed=9)
    move = process.transition(at(0.0), at(t))
    delta = move.location(first) - move.location(second)
    alpha = process.basis.analysis(first - second)
    torch.testing.assert_close(delta, torch.from_numpy(expm(drift_matrix(process).numpy() * t)) @ (first - second))
    torch.testing.assert_close(delta.square().sum(), (alpha.square() * torch.exp(2 * process.rates * t)).sum())


def test_corollary_3_the_mode_of_largest_variance_separates_longest() -> None:
    process = small_gou()
    shrunk = process.mean_coefficient(at(3.0))
    assert int(shrunk.argmax()) == 0
    assert (shrunk.diff() < 0).all()


def test_theorem_4_mean_by_integration() -> None:
    process, t = small_gou(), 1.3
    law, mean, _ = start(process)
    m, mu = drift_matrix(process).numpy(), process.mean.numpy()
    solution = solve_ivp(lambda _, x: m @ (x - mu), (0, t), mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.pushed(t).moments()[0].numpy(), solution.y[:, -1], rtol=1e-7)


def test_theorem_5_covariance_by_integration_of_the_lyapunov_equation() -> None:
    process, t = small_gou(), 1.3
    law, _, covariance = start(process)
    m = drift_matrix(process).numpy()

    def lyapunov(_: float, s: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = s.reshape(3, 3)
        return (m @ matrix + matrix @ m.T + process.beta * np.eye(3)).ravel()

    solution = solve_ivp(lyapunov, (0, t), covariance.ravel(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.pushed(t).moments()[1].numpy().ravel(), solution.y[:, -1], rtol=1e-7, atol=1e-9)


def test_theorem_5_covariance_by_matrix_exponential_and_quadrature() -> None:
    process, t = small_gou(), 1.3
    law, _, covariance = start(process)
    m = drift_matrix(process).numpy()
    noise, _ = quad_vec(lambda s: expm(m * (t - s)) @ expm(m.T * (t - s)), 0, t)
    expected = expm(m * t) @ covariance @ expm(m.T * t) + process.beta * noise
    np.testing.assert_allclose(law.pushed(t).moments()[1].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("clocked", [False, True])
def test_theorems_4_and_5_by_simulation(clocked: bool) -> None:
    process = small_gou(horizon=1.0)
    if clocked:
        clock = LinearRate(low=0.2, high=2.0)
        process = LinearDiffusion(
            process.basis, mean=process.mean, rates=process.rates, beta=process.beta, horizon=1.0, clock=clock
        )
    n, t, steps = 20_000, 1.0, 200
    law = mixture(process)
    x_t = simulate(process, law.sample(n, generator=generator(1))[0], t=t, steps=steps, seed=2)
    mean, covariance = law.pushed(t).moments()
    # Five standard errors, and the first-order error of the simulation.
    spread = covariance.diagonal().sqrt()
    bias = 2 * t / steps
    assert ((x_t.mean(0) - mean).abs() < 5 * spread / math.sqrt(n) + bias * mean.abs().max()).all()
    error = (torch.cov(x_t.T) - covariance).abs()
    assert (error < 5 * math.sqrt(2 / n) * spread.outer(spread) + bias * covariance.abs().max()).all()


def test_lemma_7_stationary_covariance_solves_the_lyapunov_equation() -> None:
    process = small_gou()
    stationary = dense(process, process.stationary_variance()).numpy()
    m = drift_matrix(process).numpy()
    np.testing.assert_allclose(stationary, solve_continuous_lyapunov(m, -process.beta * np.eye(3)), rtol=1e-10)
    np.testing.assert_allclose(stationary, -process.beta / 2 * np.linalg.inv(m), rtol=1e-10)


def test_lemma_7_and_corollary_6_are_the_limit_of_any_start() -> None:
    process = small_gou()
    mean, covariance = mixture(process).pushed(500.0).moments()
    torch.testing.assert_close(mean, process.mean)
    torch.testing.assert_close(covariance, dense(process, process.stationary_variance()))


def test_lemma_7_by_simulation() -> None:
    process, n = small_gou(a=0.6), 20_000
    x = simulate(process, process.mean.expand(n, 3), t=8.0, steps=400, seed=3)
    expected = dense(process, process.stationary_variance())
    spread = expected.diagonal().sqrt()
    error = (torch.cov(x.T) - expected).abs()
    assert (error < (5 * math.sqrt(2 / n) + 0.03) * spread.outer(spread)).all()


def test_corollary_9_isotropic_process_has_standard_normal_limit() -> None:
    process = variance_preserving(4, horizon=1.0, dtype=DOUBLE)
    torch.testing.assert_close(process.stationary_variance(), torch.ones(4, dtype=DOUBLE))
    equal = gou(PCA(orthogonal(4)), mean=torch.zeros(4), spectrum=torch.ones(4), a=0.3, b=5 / 3, horizon=1.0)
    torch.testing.assert_close(dense(equal, equal.stationary_variance()), torch.eye(4, dtype=DOUBLE))
    n = 20_000
    x = simulate(process, torch.full((n, 4), 2.0, dtype=DOUBLE), t=8.0, steps=400, seed=4)
    assert ((torch.cov(x.T) - torch.eye(4)).abs() < 5 * math.sqrt(2 / n) + 0.02).all()
    assert (x.mean(0).abs() < 5 / math.sqrt(n) + 2 * math.exp(-4)).all()


def test_variance_exploding_process_only_adds_noise() -> None:
    process = variance_exploding(2, horizon=9.0, dtype=DOUBLE)
    move = process.transition(at(0.0), at(9.0))
    torch.testing.assert_close(move.m, torch.ones(2, dtype=DOUBLE))
    torch.testing.assert_close(move.variance, torch.full((2,), 9.0, dtype=DOUBLE))
    with pytest.raises(ValueError, match="no stationary law"):
        process.stationary_variance()


@pytest.mark.parametrize("clocked", [False, True])
def test_chapman_kolmogorov(clocked: bool) -> None:
    base = small_gou()
    clock = LinearRate(low=0.1, high=4.0) if clocked else None
    process = LinearDiffusion(base.basis, mean=base.mean, rates=base.rates, beta=base.beta, horizon=1.0, clock=clock)
    s, u, t = torch.tensor([[0.0, 0.1, 0.3], [0.2, 0.11, 0.6], [0.9, 1.0, 0.61]], dtype=DOUBLE)
    first, second, whole = process.transition(s, u), process.transition(u, t), process.transition(s, t)
    torch.testing.assert_close(second.m * first.m, whole.m)
    torch.testing.assert_close(second.m.square() * first.variance + second.variance, whole.variance)
    x = normal(3, 3)
    torch.testing.assert_close(second.location(first.location(x)), whole.location(x))


def test_transition_over_no_time_is_the_identity() -> None:
    move, x = small_gou().transition(at(0.7), at(0.7)), normal(2, 3)
    torch.testing.assert_close(move.location(x), x)
    assert (move.variance == 0).all()


def test_sampled_transition_has_the_stated_law() -> None:
    process, n = small_gou(), 40_000
    move = process.transition(at(0.3), at(1.0))
    x_s = normal(1, 3).expand(n, 3)
    x_t, noise = move.sample(x_s, generator=generator(3))
    covariance = dense(process, move.variance)
    spread = covariance.diagonal().sqrt()
    assert ((x_t.mean(0) - move.location(x_s[0])).abs() < 5 * spread / math.sqrt(n)).all()
    assert ((torch.cov(x_t.T) - covariance).abs() < 5 * math.sqrt(2 / n) * spread.outer(spread)).all()
    modal = process.basis.analysis(x_t - move.location(x_s))
    torch.testing.assert_close(modal, move.variance.sqrt() * noise)


def test_score_of_transition_is_the_gradient_of_its_density() -> None:
    process = small_gou()
    move = process.transition(torch.tensor([0.0, 0.2], dtype=DOUBLE), torch.tensor([0.5, 1.0], dtype=DOUBLE))
    x_t, x_s = normal(2, 3, seed=1).requires_grad_(), normal(2, 3, seed=2)
    (gradient,) = torch.autograd.grad(move.log_prob(x_t, x_s).sum(), x_t)
    torch.testing.assert_close(move.score(x_t, x_s), gradient)


def test_density_of_transition_is_the_multivariate_normal() -> None:
    process = small_gou()
    move = process.transition(at(0.2), at(1.0))
    x_t, x_s = normal(4, 3, seed=1), normal(4, 3, seed=2)
    law = torch.distributions.MultivariateNormal(move.location(x_s), dense(process, move.variance))
    torch.testing.assert_close(move.log_prob(x_t, x_s), law.log_prob(x_t))


def test_variance_is_exact_for_tiny_rates_and_has_its_limit_at_zero() -> None:
    rates = torch.tensor([0.0, -1e-15, -1e-9, -1e-4, -1.0], dtype=DOUBLE)
    process = LinearDiffusion(Identity(5, dtype=DOUBLE), mean=torch.zeros(5), rates=rates, beta=2.0, horizon=1.0)
    t = 0.5
    ct = rates * t
    # The series of (1 − e^{2ct})/(−2c) for small ct, the formula itself for the last.
    expected = 2.0 * t * (1 + ct + 2 / 3 * ct**2 + ct**3 / 3)
    expected[-1] = 1 - math.exp(-1.0)
    torch.testing.assert_close(process.variance(at(t)), expected, rtol=1e-14, atol=0)


def test_variance_in_single_precision_keeps_its_digits_for_small_rates() -> None:
    rates = torch.tensor([-1e-6, -1e-3])
    process = LinearDiffusion(Identity(2), mean=torch.zeros(2), rates=rates, horizon=1.0)
    expected = -torch.expm1(2 * rates.double() * 0.01) / (-2 * rates.double())
    torch.testing.assert_close(process.variance(torch.tensor(0.01)).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rate", [0.0, -0.5, -2.0])
def test_noise_ratio_is_variance_over_squared_mean_and_inverts(rate: float) -> None:
    clock = LinearRate()
    process = LinearDiffusion(
        Identity(1, dtype=DOUBLE), mean=torch.zeros(1), rates=torch.tensor([rate]), beta=1.7, horizon=1.0, clock=clock
    )
    t = torch.tensor([0.01, 0.4, 1.0], dtype=DOUBLE)
    rho = process.noise_ratio(t, rate=rate)
    torch.testing.assert_close(rho, (process.variance(t) / process.mean_coefficient(t).square()).squeeze(-1))
    torch.testing.assert_close(process.time_of_noise(rho, rate=rate), t)


def test_gou_rates_are_those_of_equation_2() -> None:
    spectrum = torch.tensor([4.0, 1.0, 0.0], dtype=DOUBLE)
    expected = torch.tensor([-0.2, -0.2 - 0.8 * 0.75, -1.0], dtype=DOUBLE) * 0.5
    torch.testing.assert_close(gou_rates(spectrum, a=0.2, b=0.5), expected)
    torch.testing.assert_close(gou_rates(spectrum, a=1.0, b=0.5), torch.full((3,), -0.5, dtype=DOUBLE))


@pytest.mark.parametrize("a", [0.0, -0.1, 1.1, float("nan")])
def test_contraction_share_outside_its_range_is_refused(a: float) -> None:
    with pytest.raises(ValueError, match=r"a must lie in \(0, 1\]"):
        gou_rates(torch.ones(2), a=a)


@pytest.mark.parametrize("spectrum", [[-1.0, 1.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_spectrum_that_is_no_variance_is_refused(spectrum: list[float]) -> None:
    with pytest.raises(ValueError, match="spectrum must be non-negative"):
        gou_rates(torch.tensor(spectrum), a=0.5)


@pytest.mark.parametrize("b", [0.0, -1.0, float("nan")])
def test_rate_that_is_not_positive_is_refused(b: float) -> None:
    with pytest.raises(ValueError, match="b must be positive"):
        gou_rates(torch.ones(2), a=0.5, b=b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": torch.tensor([-1.0, 0.1])}, "mode 1 is not <= 0"),
        ({"rates": torch.tensor([float("nan"), -1.0])}, "mode 0 is not <= 0"),
        ({"rates": torch.tensor([-1.0])}, "must have shape"),
        ({"mean": torch.zeros(3)}, "must have shape"),
        ({"beta": 0.0}, "beta > 0"),
        ({"beta": float("nan")}, "beta > 0"),
        ({"horizon": 0.0}, "horizon > 0"),
        ({"horizon": float("inf")}, "finite horizon"),
    ],
)
def test_processes_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    arguments = {"mean": torch.zeros(2), "rates": torch.tensor([-1.0, 0.0]), "beta": 1.0, "horizon": 1.0} | change
    with pytest.raises(ValueError, match=message):
        LinearDiffusion(Identity(2), **arguments)  # type: ignore[arg-type]
