"""Samplers with an exact denoiser: what they draw, and how fast their error falls."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genodiff.core.bases import PCA
from genodiff.core.denoisers import Denoiser, GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.flexible import FlexibleDiffusion, flexible
from genodiff.core.langevin import critically_damped
from genodiff.core.processes import LinearDiffusion
from genodiff.core.rates import Part
from genodiff.core.samplers import Ancestral, EulerMaruyama, EulerODE, HeunODE, Sampler
from genodiff.core.schedules import log_noise_grid, uniform_grid
from tests.core.helpers import DOUBLE, at, generator, mixture, normal, orthogonal, small_gou
from tests.core.toad import split_process


def gaussian(process: LinearDiffusion) -> GaussianMixture:
    return GaussianMixture(
        process,
        weights=torch.ones(1, dtype=DOUBLE),
        means=normal(1, process.dim, seed=4),
        variance=torch.linspace(2.0, 0.3, process.dim, dtype=DOUBLE),
    )


def noise_grid(process: LinearDiffusion, steps: int, *, lowest: float = 1e-3) -> Tensor:
    rho = process.noise_ratio(at(process.horizon), rate=-0.5)
    return log_noise_grid(lambda r: process.time_of_noise(r, rate=-0.5), lowest=lowest, highest=float(rho), steps=steps)


def assert_moments(x: Tensor, law: GaussianMixture, *, slack: float = 0.0) -> None:
    """Mean and covariance within five standard errors, plus a share of the spread for the error of the steps."""
    mean, covariance = law.moments()
    n, spread = len(x), covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean).abs() < (5 / math.sqrt(n) + slack) * spread).all()
    error = (torch.cov(x.T) - covariance).abs()
    assert (error < (5 * math.sqrt(3 / n) + slack) * spread.outer(spread)).all()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_bridge_is_exact_in_any_number_of_steps_when_x_0_is_known(steps: int) -> None:
    process, n, last = small_gou(), 20_000, 0.3
    point = GaussianMixture(
        process, weights=torch.ones(1), means=normal(1, 3, seed=4), variance=torch.zeros(3, dtype=DOUBLE)
    )
    x_T, _ = point.pushed(process.horizon).sample(n, generator=generator(1))
    grid = uniform_grid(process.horizon, steps, last=last)
    x = Ancestral(GaussianMixtureDenoiser(point)).sample(x_T, grid, generator=generator(2))
    assert_moments(x, point.pushed(last))


def predicted_variance(prior: GaussianMixture, grid: Tensor) -> Tensor:
    """Modal variances the bridge sampler ends with for a Gaussian prior, started from the exact marginal."""
    process = prior.process
    variance = prior.pushed(float(grid[0])).modal_variance
    for t, s in itertools.pairwise(grid):
        m_t, s2_t, s2_s = process.mean_coefficient(t), process.variance(t), process.variance(s)
        forward = process.transition(s, t)
        wiener = m_t * prior.modal_variance / (m_t**2 * prior.modal_variance + s2_t)
        gain = (forward.m * s2_s + process.mean_coefficient(s) * forward.variance * wiener) / s2_t
        variance = gain**2 * variance + s2_s * forward.variance / s2_t
    return variance


@pytest.mark.parametrize("steps", [2, 8, 64])
def test_bridge_sampler_with_the_posterior_mean_has_the_predicted_variance(steps: int) -> None:
    process, n = small_gou(), 20_000
    prior = gaussian(process)
    grid = noise_grid(process, steps)
    x_T, _ = prior.pushed(process.horizon).sample(n, generator=generator(1))
    x = Ancestral(GaussianMixtureDenoiser(prior), use_mean=True).sample(x_T, grid, generator=generator(2))
    expected = GaussianMixture(
        process,
        weights=prior.weights,
        means=prior.pushed(float(grid[-1])).means,
        variance=predicted_variance(prior, grid),
    )
    assert_moments(x, expected)


def test_bridge_sampler_lacks_a_variance_that_falls_with_the_step() -> None:
    """With x_0 replaced by its mean the variance left in x_0 is missing: exact in the limit, at first order."""
    process = small_gou()
    prior = gaussian(process)
    missing = []
    for steps in (32, 64, 128, 256):
        grid = noise_grid(process, steps)
        exact = prior.pushed(float(grid[-1])).modal_variance
        missing.append((1 - predicted_variance(prior, grid) / exact).numpy())
    assert (np.array(missing) > 0).all()
    np.testing.assert_allclose(np.array(missing[1:]) / np.array(missing[:-1]), 0.5, atol=0.06)
    assert missing[-1].max() < 0.02


@pytest.mark.parametrize("steps", [1, 3, 25])
def test_bridge_sampler_with_posterior_draws_is_exact_however_few_the_steps(steps: int) -> None:
    process, n = small_gou(), 20_000
    prior = gaussian(process)
    x_T, _ = prior.pushed(process.horizon).sample(n, generator=generator(1))
    grid = noise_grid(process, steps)
    x = Ancestral(GaussianMixtureDenoiser(prior)).sample(x_T, grid, generator=generator(2))
    assert_moments(x, prior.pushed(float(grid[-1])))


@pytest.mark.parametrize(
    ("sampler", "steps", "slack"),
    [(Ancestral, 25, 0.01), (Ancestral, 1, 0.01), (EulerMaruyama, 500, 0.02), (HeunODE, 60, 0.02)],
)
def test_samplers_of_a_mixture_recover_moments_and_weights(sampler: type[Sampler], steps: int, slack: float) -> None:
    process, n = small_gou(), 8000
    prior = mixture(process, 3)
    x_T, _ = prior.pushed(process.horizon).sample(n, generator=generator(1))
    grid = noise_grid(process, steps)
    denoiser = GaussianMixtureDenoiser(prior)
    x = sampler(denoiser).sample(x_T, grid, generator=generator(2))
    law = prior.pushed(float(grid[-1]))
    assert_moments(x, law, slack=slack)
    share = denoiser.responsibility(x, grid[-1].expand(n)).mean(0)
    assert ((share - prior.weights).abs() < 5 * 0.5 / math.sqrt(n) + slack / 4).all()


def test_euler_maruyama_of_a_gaussian_with_many_steps() -> None:
    process, n = small_gou(), 8000
    prior = gaussian(process)
    x_T, _ = prior.pushed(process.horizon).sample(n, generator=generator(1))
    grid = noise_grid(process, 600)
    x = EulerMaruyama(GaussianMixtureDenoiser(prior)).sample(x_T, grid, generator=generator(2))
    assert_moments(x, prior.pushed(float(grid[-1])), slack=0.01)


def test_last_bridge_step_to_time_zero_is_the_denoiser() -> None:
    process = small_gou()
    denoiser = GaussianMixtureDenoiser(mixture(process))
    x = normal(6, 3)
    end = Ancestral(denoiser, use_mean=True).sample(x, torch.tensor([0.5, 0.0], dtype=DOUBLE), generator=generator())
    torch.testing.assert_close(end, denoiser(x, at(0.5).expand(6)))


def flow(prior: GaussianMixture, x: Tensor, t: float, s: float) -> Tensor:
    """The probability flow of a Gaussian in closed form: every mode keeps its standard score."""
    process = prior.process
    first, second = prior.pushed(t), prior.pushed(s)
    z = process.basis.analysis(x - first.means[0]) * (second.modal_variance / first.modal_variance).sqrt()
    return second.means[0] + process.basis.synthesis(z)


@pytest.mark.parametrize(("sampler", "order"), [(EulerODE, 1.0), (HeunODE, 2.0)])
def test_order_of_the_ode_solvers(sampler: type[Sampler], order: float) -> None:
    process, last = small_gou(), 0.2
    prior = gaussian(process)
    x_T = 2 * normal(20, 3)
    exact = flow(prior, x_T, process.horizon, last)
    steps = np.array([20, 40, 80, 160])
    error = [
        float(
            (sampler(GaussianMixtureDenoiser(prior)).sample(x_T, uniform_grid(2.0, int(k), last=last)) - exact).norm()
        )
        for k in steps
    ]
    slope = -np.polyfit(np.log(steps), np.log(error), 1)[0]
    assert slope == pytest.approx(order, abs=0.12)
    assert sampler.order == order


def test_order_of_the_ode_solvers_on_a_mixture_against_a_fine_reference() -> None:
    process, last = small_gou(), 0.2
    denoiser = GaussianMixtureDenoiser(mixture(process, 3))
    x_T = normal(20, 3)
    reference = HeunODE(denoiser).sample(x_T, uniform_grid(2.0, 1000, last=last))
    for sampler, order in ((EulerODE, 1.0), (HeunODE, 2.0)):
        steps = np.array([40, 80, 160])
        error = [
            float((sampler(denoiser).sample(x_T, uniform_grid(2.0, int(k), last=last)) - reference).norm())
            for k in steps
        ]
        assert -np.polyfit(np.log(steps), np.log(error), 1)[0] == pytest.approx(order, abs=0.25)


def test_heun_falls_back_to_euler_at_time_zero() -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou()))
    x, grid = normal(4, 3), torch.tensor([0.3, 0.0], dtype=DOUBLE)
    heun, euler = HeunODE(denoiser).sample(x, grid), EulerODE(denoiser).sample(x, grid)
    torch.testing.assert_close(heun, euler)
    assert torch.isfinite(heun).all()


@pytest.mark.parametrize("sampler", [Ancestral, EulerMaruyama])
def test_same_seed_same_draws(sampler: type[Sampler]) -> None:
    rule = sampler(GaussianMixtureDenoiser(mixture(small_gou())))
    grid, x = uniform_grid(2.0, 5, last=0.1), normal(3, 3)
    first = rule.sample(x, grid, generator=generator(1))
    assert torch.equal(first, rule.sample(x, grid, generator=generator(1)))
    assert not torch.equal(first, rule.sample(x, grid, generator=generator(2)))
    assert rule.stochastic


def test_condition_reaches_the_denoiser_and_progress_counts_the_steps() -> None:
    prior = mixture(small_gou())
    seen: list[int] = []
    component = torch.ones(2000, dtype=torch.long)
    x_T, _ = prior.pushed(2.0).sample(2000, component=component, generator=generator(1))
    x = Ancestral(GaussianMixtureDenoiser(prior)).sample(
        x_T, uniform_grid(2.0, 40), generator=generator(2), progress=seen.append, component=component
    )
    assert seen == list(range(40))
    torch.testing.assert_close(x.mean(0), prior.means[1], rtol=0, atol=0.15)


@pytest.mark.parametrize("times", [[1.0, 1.0], [0.5, 1.0]])
def test_times_that_do_not_decrease_are_refused(times: list[float]) -> None:
    rule = EulerODE(GaussianMixtureDenoiser(mixture(small_gou())))
    with pytest.raises(ValueError, match="decrease strictly"):
        rule.sample(normal(1, 3), torch.tensor(times))


class GaussianOracle(Denoiser):
    """Posterior mean, draws and score of Gaussian data under any process with Gaussian transitions, densely."""

    def __init__(self, process: FlexibleDiffusion, location: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.process, self.location, self.covariance = process, location, covariance

    def parts(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Φ, mean and covariance of X_t, dense."""
        law, one = self.process.transition(torch.zeros_like(t), t), torch.eye(self.process.dim, dtype=DOUBLE)
        phi = (law.location(self.process.mean + one) - self.process.mean).T
        root = law.noised(self.process.mean.expand_as(one), one) - self.process.mean
        return phi, law.location(self.location), phi @ self.covariance @ phi.T + root.T @ root

    def forward(self, x_t: Tensor, t: Tensor, **condition: object) -> Tensor:
        phi, mean, covariance = self.parts(t)
        return self.location + torch.linalg.solve(covariance, (x_t - mean).T).T @ phi @ self.covariance

    def score(self, x_t: Tensor, t: Tensor, **condition: object) -> Tensor:
        _, mean, covariance = self.parts(t)
        return -torch.linalg.solve(covariance, (x_t - mean).T).T

    def draw(self, x_t: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: object) -> Tensor:
        phi, _, covariance = self.parts(t)
        known = phi @ self.covariance
        left = self.covariance - known.T @ torch.linalg.solve(covariance, known)
        noise = torch.randn(x_t.shape, generator=generator, dtype=x_t.dtype)
        return self(x_t, t) + noise @ torch.linalg.cholesky(left).T

    def marginal(self, t: float) -> torch.distributions.MultivariateNormal:
        _, mean, covariance = self.parts(at(t))
        return torch.distributions.MultivariateNormal(mean, covariance)


def block_oracle(kind: str) -> GaussianOracle:
    if kind == "langevin":
        process: FlexibleDiffusion = critically_damped(2, dtype=DOUBLE)
    else:
        size = {"noise": 1, "blocks": 2, "dense": 4}[kind]
        learn: list[Part] = ["spectrum"] if size == 1 else ["spectrum", "rotation", "drift"]
        order = torch.tensor([2, 0, 1, 3])
        process = flexible(PCA(orthogonal(4)), size=size, learn=learn, order=order, mean=normal(4, seed=9))
        for i, p in enumerate(process.parameters()):
            p.requires_grad_(False).add_(0.4 * normal(*p.shape, seed=30 + i))
    root = normal(4, 4, seed=6)
    return GaussianOracle(process, 2 * normal(4, seed=7), root @ root.T / 4 + 0.1 * torch.eye(4, dtype=DOUBLE))


def assert_drawn_from(x: Tensor, law: torch.distributions.MultivariateNormal, *, slack: float = 0.0) -> None:
    n, spread = len(x), law.covariance_matrix.diagonal().sqrt()
    assert ((x.mean(0) - law.mean).abs() < (5 / math.sqrt(n) + slack) * spread).all()
    error = (torch.cov(x.T) - law.covariance_matrix).abs()
    assert (error < (5 * math.sqrt(2 / n) + slack) * spread.outer(spread)).all()


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["noise", "blocks", "dense", "langevin"])
def test_bridges_of_blocks_are_exact_however_few_the_steps(kind: str, steps: int) -> None:
    oracle, last = block_oracle(kind), 0.05
    start = oracle.marginal(1.0)
    x_T = start.mean + normal(8000, 4, seed=1) @ start.scale_tril.T
    x = Ancestral(oracle).sample(x_T, uniform_grid(1.0, steps, last=last), generator=generator(2))
    assert_drawn_from(x, oracle.marginal(last))


def predicted_covariance(oracle: GaussianOracle, grid: Tensor) -> Tensor:
    """What bridges with the posterior mean in the place of a draw end with, started from the exact marginal."""
    covariance, one = oracle.parts(grid[0])[2], torch.eye(4, dtype=DOUBLE)

    def noise(phi: Tensor, total: Tensor) -> Tensor:
        return total - phi @ oracle.covariance @ phi.T

    ends = [(t, *oracle.parts(t)) for t in grid]
    for (t, phi_t, _, total_t), (s, phi_s, _, total_s) in itertools.pairwise(ends):
        c_s, forward = noise(phi_s, total_s), oracle.process.transition(s, t)
        phi = (forward.location(oracle.process.mean + one) - oracle.process.mean).T
        gain = torch.linalg.solve(noise(phi_t, total_t), phi @ c_s).T
        wiener = torch.linalg.solve(total_t, phi_t @ oracle.covariance).T
        carried = gain + (phi_s - gain @ phi_t) @ wiener
        covariance = carried @ covariance @ carried.T + c_s - gain @ phi @ c_s
    return covariance


@pytest.mark.parametrize("kind", ["noise", "blocks", "langevin"])
def test_bridges_of_blocks_with_the_posterior_mean_have_the_predicted_law(kind: str) -> None:
    oracle, grid = block_oracle(kind), uniform_grid(1.0, 8, last=0.05)
    start, end, n = oracle.marginal(1.0), oracle.marginal(0.05), 8000
    x_T = start.mean + normal(n, 4, seed=1) @ start.scale_tril.T
    x = Ancestral(oracle, use_mean=True).sample(x_T, grid, generator=generator(2))
    assert_drawn_from(x, torch.distributions.MultivariateNormal(end.mean, predicted_covariance(oracle, grid)))


@pytest.mark.parametrize("kind", ["noise", "blocks", "langevin"])
def test_bridges_of_blocks_with_the_posterior_mean_tend_to_the_law(kind: str) -> None:
    oracle = block_oracle(kind)
    exact = oracle.parts(at(0.05))[2]
    error = [float((predicted_covariance(oracle, uniform_grid(1.0, k, last=0.05)) - exact).norm()) for k in (50, 100)]
    # First order: half, up to terms of the second, which are largest where noise comes through velocities.
    assert 0.5 < error[1] / error[0] < 0.65


@pytest.mark.parametrize("kind", ["noise", "blocks", "langevin"])
def test_a_bridge_of_blocks_ends_in_the_start(kind: str) -> None:
    process, x_0, x_t = block_oracle(kind).process, normal(5, 4), normal(5, 4, seed=1)
    torch.testing.assert_close(process.bridged(x_0, x_t, at(0.0), at(0.3), generator=generator()), x_0)
    back = process.bridged(x_0, x_t, at(0.3), at(0.3), generator=generator())
    torch.testing.assert_close(back, x_t, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["blocks", "langevin"])
def test_euler_maruyama_shakes_blocks_as_the_process_does(kind: str) -> None:
    oracle = block_oracle(kind)
    x_T = oracle.process.start(4000, generator=generator(1))
    grid = uniform_grid(1.0, 200, last=0.05)
    assert_drawn_from(
        EulerMaruyama(oracle).sample(x_T, grid, generator=generator(2)), oracle.marginal(0.05), slack=0.05
    )


@pytest.mark.parametrize("kind", ["blocks", "langevin"])
def test_probability_flow_of_blocks_keeps_the_law(kind: str) -> None:
    oracle = block_oracle(kind)
    start = oracle.marginal(1.0)
    x_T = start.mean + normal(4000, 4, seed=1) @ start.scale_tril.T
    assert_drawn_from(HeunODE(oracle).sample(x_T, uniform_grid(1.0, 50, last=0.05)), oracle.marginal(0.05), slack=0.02)


def test_euler_maruyama_of_noise_in_subspaces() -> None:
    process = split_process(4)
    prior = GaussianMixture(process, weights=torch.ones(1), means=normal(1, 4), variance=torch.ones(4, dtype=DOUBLE))
    denoiser, last = GaussianMixtureDenoiser(prior), 0.5
    x_T, _ = prior.pushed(process.horizon).sample(8000, generator=generator(1))
    x = EulerMaruyama(denoiser).sample(x_T, uniform_grid(process.horizon, 150, last=last), generator=generator(2))
    assert_moments(x, prior.pushed(last), slack=0.03)


def test_euler_maruyama_of_a_linear_diffusion_takes_the_step_it_is_written_as() -> None:
    process = small_gou()
    denoiser = GaussianMixtureDenoiser(mixture(process))
    x, t, s = normal(5, 3), at(0.9), at(0.7)
    noise = torch.randn(x.shape, generator=generator(3), dtype=DOUBLE)
    velocity = process.drift(x, t) - process.diffused(denoiser.score(x, t), t)
    expected = x + (s - t) * velocity + torch.sqrt(process.diffusion(t) * (t - s)) * noise
    assert torch.equal(EulerMaruyama(denoiser).step(x, t, s, generator=generator(3)), expected)
