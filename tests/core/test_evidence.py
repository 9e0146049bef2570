"""The evidence bound against entropies, closed forms, finite differences and quadrature; what training by it does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor

from genodiff.core.bases import Identity
from genodiff.core.denoisers import Denoiser
from genodiff.core.evidence import Evidence, ends, evidence_bound, evidence_grid, mismatch, noise_matching
from genodiff.core.flexible import FlexibleDiffusion, flexible
from genodiff.core.langevin import LangevinDiffusion
from genodiff.core.likelihood import log_likelihood
from genodiff.core.losses import VectorProblem, stratified_times
from genodiff.core.networks import MLP
from genodiff.core.processes import variance_preserving
from genodiff.core.scores import FlexibleDenoiser, PhaseDenoiser
from genodiff.core.training import TrainingConfig, train
from tests.core.helpers import DOUBLE, at, generator, normal
from tests.core.linear import GaussianScore, Silent, covariance, cubature, over_time, processes, shaped

EPSILON = 1e-5
LOG_2PIE = math.log(2 * math.pi * math.e)


def bound(denoiser: Denoiser, spread: Tensor, *, epsilon: float = EPSILON, nodes: int = 96) -> Tensor:
    """E of the negative bound for x_0 ~ N(μ, spread), no draws involved; for scores linear in x."""
    process = denoiser.process
    d, width = len(spread), process.dim
    points = cubature(d + width)
    x_0 = process.mean[:d] + points[:, :d] @ torch.linalg.cholesky(spread).T

    def integrand(t: Tensor) -> Tensor:
        rows = t.repeat_interleave(len(points))
        each = mismatch(denoiser, x_0.repeat(len(t), 1), rows, points[:, d:].repeat(len(t), 1))
        return each.unflatten(0, (len(t), -1)).mean(-1)

    return over_time(integrand, process, epsilon=epsilon, nodes=nodes) + ends(process, x_0, epsilon=epsilon).mean()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["noise", "blocks", "dense", "vp"])
def test_the_bound_is_tight_for_the_exact_score_of_gaussian_data(kind: str) -> None:
    process = processes()[kind]
    spread = covariance(process.dim)
    entropy = 0.5 * (process.dim * LOG_2PIE + float(torch.logdet(spread)))
    got = float(bound(GaussianScore(process, spread), spread))
    assert got == pytest.approx(entropy, abs=1e-3)
    assert got > entropy


@torch.no_grad()
def test_the_bound_of_positions_is_tight_too() -> None:
    process = LangevinDiffusion(1, mean=normal(1), dtype=DOUBLE)
    spread = torch.tensor([[0.6]], dtype=DOUBLE)
    start = torch.diag(torch.tensor([0.6, process.velocity_variance], dtype=DOUBLE))
    got = float(bound(GaussianScore(process, start), spread, epsilon=1e-4))
    assert got == pytest.approx(0.5 * (LOG_2PIE + math.log(0.6)), abs=1e-3)
    # The network-free denoiser is exact for unit variance.
    one = torch.eye(1, dtype=DOUBLE)
    got = float(bound(PhaseDenoiser(process, Silent(width=1)), one, epsilon=1e-4))
    assert got == pytest.approx(0.5 * LOG_2PIE, abs=1e-3)


@torch.no_grad()
def test_samples_estimate_the_bound() -> None:
    """Mean over many rows of data of another covariance than the score is made for, within its standard error."""
    process, n = processes()["blocks"], 4000
    spread = covariance(4)
    denoiser = FlexibleDenoiser(process, Silent())
    x_0 = process.mean + normal(n, 4, seed=8) @ torch.linalg.cholesky(spread).T
    each = -evidence_bound(denoiser, x_0, samples=2, generator=generator())
    error = float(each.std()) / math.sqrt(n)
    assert error < 0.5
    assert float(each.mean()) == pytest.approx(float(bound(denoiser, spread)), abs=5 * error)


class Scaled(torch.nn.Module):
    """A network that answers its input times a number."""

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return SHARE * x


SHARE, LOG_SPECTRUM, ROTATION, DRIFT = 0.4, (0.6, -0.4), 0.7, -0.9


def closed_form(values: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
    """The expected bound for F = a z, x_0 ~ N(0, S) and one block, with its own exponentials and time integral.

    The score is −K z with K = I − a ‖Φ‖_F/√k L⁻ᵀ, the error −KΦ x_0 + (L⁻ᵀ − K L) noise.
    """
    log_spectrum, h, w = values[:2], values[2], values[3]
    p = np.array([[math.cos(h), math.sin(h)], [-math.sin(h), math.cos(h)]])
    eigenvalues = np.exp(log_spectrum - log_spectrum.mean())
    kappa = max(1.0, 8 / (eigenvalues.min() * 10.05))
    r = kappa * (p * eigenvalues) @ p.T
    a = 0.5 * r + kappa * np.array([[0, w], [-w, 0]])

    def moments(b: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        phi = expm(-a * b)
        # C of a small time without cancellation: one block exponential.
        both = expm(np.block([[-a, r], [np.zeros((2, 2)), a.T]]) * b)
        return phi, both[:2, 2:] @ phi.T

    x, weights = np.polynomial.legendre.leggauss(60)
    low, high = math.log(0.1 * EPSILON + 9.95 * EPSILON**2), math.log(10.05)
    total = 0.0
    for node, weight in zip(0.5 * (low + high) + 0.5 * (high - low) * x, 0.5 * (high - low) * weights, strict=True):
        phi, c = moments(math.exp(node))
        factor = np.linalg.cholesky(c)
        inverse = np.linalg.inv(factor).T
        k = np.eye(2) - SHARE * np.linalg.norm(phi) / math.sqrt(2) * inverse
        of_x, of_noise = k @ phi, inverse - k @ factor
        square = of_x @ spread @ of_x.T + of_noise @ of_noise.T
        total += weight * math.exp(node) * 0.5 * np.trace(r @ square)
    phi, c = moments(10.05)
    total += 0.5 * (np.trace(c + phi @ spread @ phi.T) - 2 - np.linalg.slogdet(c)[1])
    phi, c = moments(math.exp(low))
    back = np.linalg.inv(phi)
    return float(total + 0.5 * (2 * LOG_2PIE + np.linalg.slogdet(back @ c @ back.T)[1]))


def test_gradients_by_the_process_are_finite_differences_of_the_closed_form() -> None:
    process = flexible(Identity(2, dtype=DOUBLE))
    values = np.array([*LOG_SPECTRUM, ROTATION, DRIFT])
    rates = process.rates
    with torch.no_grad():
        for p, value in ((rates.log_spectrum, values[:2]), (rates.rotation, values[2]), (rates.drift, values[3])):
            p.copy_(torch.as_tensor(value).view(p.shape))
    spread = covariance(2)
    got = bound(FlexibleDenoiser(process, Scaled()), spread, nodes=60)
    s = spread.numpy()
    assert float(got.detach()) == pytest.approx(closed_form(values, s), rel=1e-7)
    slopes = torch.autograd.grad(got, [rates.log_spectrum, rates.rotation, rates.drift])
    slope = torch.cat([g.flatten() for g in slopes]).numpy()
    step = 1e-4 * np.eye(4)
    expected = [(closed_form(values + h, s) - closed_form(values - h, s)) / 2e-4 for h in step]
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).min() > 1e-3


def test_the_measure_of_time_integrates() -> None:
    process = flexible(Identity(2, dtype=DOUBLE))
    objective = Evidence(evidence_grid(process, epsilon=1e-3))
    t = stratified_times(objective.grid, 4000, generator=generator())
    assert float(objective.measure(t).mean()) == pytest.approx(1 - 1e-3, rel=1e-3)
    assert float((objective.measure(t) * t.square()).mean()) == pytest.approx(1 / 3, rel=1e-3)
    # In single precision a time may fall just outside the grid.
    out = torch.tensor([0.9e-3, 1.0001])
    assert torch.isfinite(objective.measure(out)).all()
    assert objective.measure(out).dtype == torch.float32


def test_what_the_path_leaves_over_may_be_another_than_the_ends() -> None:
    process = processes()["noise"]
    denoiser, grid = FlexibleDenoiser(process, Silent()), evidence_grid(process)
    x_0, t = normal(4, process.dim), torch.linspace(0.1, 0.9, 4, dtype=DOUBLE)

    def rest(given: Denoiser, x: Tensor, *, generator: torch.Generator | None, weight: Tensor) -> Tensor:
        assert given is denoiser
        assert generator is not None
        return ends(process, x, epsilon=float(grid[-1])) + weight

    class Told(FlexibleDenoiser):
        def score(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
            return super().score(x_t, t)

    plain = Evidence(grid).rows(denoiser, x_0, t, generator=generator())
    denoiser = Told(process, Silent())
    told = Evidence(grid, rest=rest).rows(denoiser, x_0, t, generator=generator(), weight=t)
    torch.testing.assert_close(told, plain + t)


def test_penalties_are_the_speed_and_the_jacobian_of_the_flow() -> None:
    """The field of the network-free score is −κ b ω z: its Jacobian is known; a direction estimates its square."""
    process = processes()["dense"]
    denoiser, n = FlexibleDenoiser(process, Silent()), 1000
    grid = evidence_grid(process)
    x_0, t = process.mean + normal(n, 3), torch.full((n,), 0.4, dtype=DOUBLE)

    def rows(**weights: float) -> Tensor:
        return Evidence(grid, **weights).rows(denoiser, x_0, t, generator=generator(2)).detach()

    plain, measure = rows(), Evidence(grid).measure(t)
    omega = (process.stretch() * process.clock.rate(at(0.4)) * process.rates()[1][0]).detach()
    forward = process.transition(torch.zeros_like(t), t)
    x_t, _ = forward.sample(x_0, generator=generator(2))
    speed = ((x_t - process.mean) @ omega.T).square().sum(-1).detach()
    torch.testing.assert_close(rows(kinetic=0.3) - plain, 0.3 * measure * speed, rtol=1e-6, atol=1e-6)
    stiff = (rows(jacobian=0.2) - plain) / (0.2 * measure)
    expected = float(omega.square().sum())
    assert float(stiff.mean()) == pytest.approx(expected, abs=5 * float(stiff.std()) / math.sqrt(n))
    with torch.no_grad():
        torch.testing.assert_close(rows(jacobian=0.2), plain + 0.2 * measure * stiff)


def test_penalties_have_gradients_in_network_and_process() -> None:
    process = shaped(flexible(Identity(2, dtype=DOUBLE)))
    denoiser = FlexibleDenoiser(process, MLP(2, width=8, depth=1).double())
    for last in (denoiser.network.leave, denoiser.network.past):
        torch.nn.init.normal_(last.weight, std=0.3, generator=generator())
    objective = Evidence(evidence_grid(process, epsilon=1e-3), kinetic=0.1, jacobian=0.1)
    x_0, t = normal(8, 2), torch.linspace(0.05, 0.9, 8, dtype=DOUBLE)
    p = process.rates.drift

    def loss() -> Tensor:
        return objective(denoiser, x_0, t, generator=generator(4))

    slopes = torch.autograd.grad(loss(), [p, denoiser.network.leave.weight])
    with torch.no_grad():
        p += 1e-5
        above = loss()
        p -= 2e-5
        below = loss()
        p += 1e-5
    assert float(slopes[0].sum()) == pytest.approx(float(above.detach() - below.detach()) / 2e-5, rel=1e-5)
    assert float(slopes[1].abs().sum()) > 0


@pytest.mark.parametrize("kind", ["noise", "blocks", "langevin"])
def test_gradients_of_the_bound_are_finite_at_the_ends_of_time(kind: str) -> None:
    process = processes()[kind].float()
    width = process.dim if kind != "langevin" else 1
    denoiser = (PhaseDenoiser if kind == "langevin" else FlexibleDenoiser)(process, Silent(0.5, width=width))
    learned = list(denoiser.parameters()) or [process.mean.requires_grad_()]
    x_0 = normal(2, width).float()
    loss = Evidence(evidence_grid(process))(denoiser, x_0, torch.tensor([1e-5, 1.0]), generator=generator())
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, learned))


class Linear(Denoiser):
    """score = −A (x − μ) with a matrix to be learned."""

    def __init__(self, process: FlexibleDiffusion, matrix: Tensor) -> None:
        super().__init__()
        self.process, self.matrix = process, matrix

    def score(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        return -(x_t - self.process.mean) @ self.matrix.T


@pytest.mark.parametrize("since", [0.0, 0.5, 0.9])
def test_matching_from_any_earlier_time_has_the_same_minimiser(since: float) -> None:
    """Regression on Gaussian data: the quadratic in A has its minimum at Σ_t⁻¹."""
    process, n, t = shaped(flexible(Identity(2, dtype=DOUBLE), mean=normal(2))), 40_000, 0.25
    spread = covariance(2)
    x_0 = process.mean + normal(n, 2, seed=3) @ torch.linalg.cholesky(spread).T

    def loss(flat: Tensor) -> Tensor:
        denoiser = Linear(process, flat.view(2, 2))
        return noise_matching(denoiser, x_0, at(t).expand(n), since=since, generator=generator(1))

    origin = torch.zeros(4, dtype=DOUBLE)
    slope = torch.autograd.functional.jacobian(loss, origin)
    bend = torch.autograd.functional.hessian(loss, origin)
    best = -torch.linalg.solve(bend, slope).view(2, 2)
    exact = torch.linalg.inv(GaussianScore(process, spread).marginal(at(t))).detach()
    assert float((best - exact).norm() / exact.norm()) < 0.05


def test_matching_positions_from_an_earlier_time() -> None:
    """At the exact score the slope of the loss in a scale of the score is zero, its curvature is not."""
    process, n = LangevinDiffusion(1, dtype=DOUBLE), 20_000
    matrix = torch.linalg.inv(
        GaussianScore(process, torch.diag(torch.tensor([1.0, 0.04], dtype=DOUBLE))).marginal(at(0.3))
    )
    x_0, t = normal(n, 1), at(0.3).expand(n)
    for since in (0.0, 0.6):
        low, middle, high = (
            float(noise_matching(Linear(process, c * matrix), x_0, t, since=since, generator=generator(1)))
            for c in (0.9, 1.0, 1.1)
        )
        curvature = (low - 2 * middle + high) / 0.01
        assert curvature > 0
        assert abs(high - low) / 0.2 < 0.05 * curvature


def rows_of_two_groups(n: int, seed: int) -> Tensor:
    """Two narrow groups apart along the diagonal, of unit variance in all."""
    sign = torch.where(torch.rand(n, generator=generator(seed)) < 0.5, -1.0, 1.0)
    noise = 0.25 * torch.randn(n, 2, generator=generator(seed + 1))
    return 0.9 * sign.unsqueeze(-1) + noise


CONFIG = TrainingConfig(steps=200, batch=64, learning_rate=1e-2, warmup=10, weight_decay=0.0, validate_every=100)


def trained(denoiser: FlexibleDenoiser, config: TrainingConfig = CONFIG) -> VectorProblem:
    grid = evidence_grid(denoiser.process, epsilon=1e-3)
    problem = VectorProblem(
        denoiser, rows_of_two_groups(1000, 1), rows_of_two_groups(200, 3), grid=grid, batch=config.batch, seed=2,
        objective=Evidence(grid),
    )  # fmt: skip
    train(denoiser, problem, config, seed=0)
    return problem


def perceptron() -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MLP(2, width=32, depth=1)


def test_training_by_the_bound_lowers_the_exact_likelihood_jointly_with_the_process() -> None:
    process = flexible(Identity(2))
    denoiser = FlexibleDenoiser(process, perceptron())
    x = rows_of_two_groups(60, 5)

    def nats() -> float:
        return -float(log_likelihood(denoiser, x, epsilon=1e-3, rtol=1e-3, atol=1e-3, trace="exact").mean())

    before, start = nats(), [p.detach().clone() for p in process.parameters()]
    assert before == pytest.approx(math.log(2 * math.pi) + 0.5 * float(x.square().sum(-1).mean()), abs=1e-3)
    trained(denoiser)
    assert all(not torch.equal(p, q) for p, q in zip(process.parameters(), start, strict=True))
    # The entropy of the groups is 2 log 0.25 + log 2πe + log 2 = 0.76 nats, of a Gaussian with their moments 1.73.
    assert nats() < min(before - 0.6, 1.6)
    bounded = -float(evidence_bound(denoiser, x, epsilon=1e-3, samples=20, generator=generator()).mean())
    assert bounded > nats() - 0.1


def test_a_frozen_process_stays_as_it_is_to_the_last_bit() -> None:
    """The second stage of mixed training: the process has moved, then only the network does."""
    process = shaped(flexible(Identity(2)), spread=0.2)
    process.requires_grad_(False)
    denoiser = FlexibleDenoiser(process, perceptron())
    before = {k: v.clone() for k, v in denoiser.state_dict().items()}
    trained(denoiser, TrainingConfig(steps=8, batch=32, validate_every=4))
    moved = {k for k, v in denoiser.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(name.startswith("network.") for name in moved)


def test_bad_arguments_are_refused() -> None:
    process = flexible(Identity(2))
    with pytest.raises(ValueError, match="epsilon must lie"):
        evidence_grid(process, epsilon=0.0)
    with pytest.raises(ValueError, match="kinetic=-1"):
        Evidence(evidence_grid(process), kinetic=-1)
    denoiser = FlexibleDenoiser(process, Silent())
    with pytest.raises(ValueError, match="since must lie"):
        noise_matching(denoiser, torch.zeros(1, 2), torch.ones(1), since=1.0)
    with pytest.raises(ValueError, match="samples >= 1"):
        evidence_bound(denoiser, torch.zeros(1, 2), samples=0)
    with pytest.raises(ValueError, match="flexible process, got LinearDiffusion"):
        evidence_bound(Linear(variance_preserving(2, horizon=1.0), torch.eye(2)), torch.zeros(1, 2))
