"""Networks as scores: exact for Gaussian data, of unit scale, and one with the posterior means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm, sqrtm

from genodiff.core.bases import Identity
from genodiff.core.denoisers import Denoiser
from genodiff.core.flexible import flexible, fp_noise
from genodiff.core.langevin import LangevinDiffusion
from genodiff.core.networks import MLP
from genodiff.core.scores import FlexibleDenoiser, PhaseDenoiser
from tests.core.helpers import DOUBLE, at, normal
from tests.core.linear import GaussianScore, Silent, processes, shaped

KINDS = ["noise", "blocks", "dense", "vp"]


def perceptron(dim: int, out: int | None = None) -> MLP:
    """A network in float64 whose last layers are not zero."""
    network = MLP(dim, width=16, depth=1).double()
    for i, last in enumerate((network.leave, network.past)):
        with torch.no_grad():
            last.weight.copy_(0.3 * normal(*last.weight.shape, seed=i))
    return network


class Half(torch.nn.Module):
    """The first half of what another network answers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return self.network(x, level)[:, : x.shape[1] // 2]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_network_the_score_is_that_of_standard_data(kind: str) -> None:
    process = processes()[kind]
    x, t = normal(5, process.dim), torch.linspace(0.01, 1.0, 5, dtype=DOUBLE)
    exact = GaussianScore(process, torch.eye(process.dim, dtype=DOUBLE))
    torch.testing.assert_close(FlexibleDenoiser(process, Silent()).score(x, t), exact.score(x, t))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.02, 0.3])
def test_the_target_of_the_network_has_unit_variance(kind: str, t: float) -> None:
    """From the conditional score of standard data, by exact covariances of (z_0, noise)."""
    process = processes()[kind]
    forward = process.transition(at(0.0), at(t))
    phi, factor = forward.phi.detach().numpy(), forward.factor.detach().numpy()
    one, none = (FlexibleDenoiser(process, Silent(v)) for v in (1.0, 0.0))
    x = normal(1, process.dim)
    ones = process.grouping.split(process.basis.analysis(torch.ones(process.dim, dtype=DOUBLE)))
    added = process.grouping.split(process.basis.analysis((one.score(x, at(t)) - none.score(x, at(t)))[0]))
    for b in range(len(phi)):
        # −L⁻ᵀ noise + z, z = Φ z_0 + L noise, as a matrix on (z_0, noise); Lᵀ takes it to the units of F.
        inverse = np.linalg.inv(factor[b]).T
        target = factor[b].T @ np.hstack([phi[b], factor[b] - inverse])
        scale = math.sqrt(np.trace(target @ target.T) / len(phi[b]))
        expected = scale * inverse @ ones[b].numpy()
        np.testing.assert_allclose(added[b].detach().numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_mean_and_score_are_one_by_tweedies_formula(kind: str) -> None:
    process = processes()[kind]
    denoiser = FlexibleDenoiser(process, perceptron(process.dim))
    x, t = normal(6, process.dim), torch.linspace(0.01, 0.5, 6, dtype=DOUBLE)
    forward = process.transition(torch.zeros_like(t), t)
    mean = denoiser(x, t)
    torch.testing.assert_close(denoiser.score(x, t), forward.score(x, mean), rtol=1e-7, atol=1e-7)
    if kind == "noise":
        torch.testing.assert_close(Denoiser.score(denoiser, x, t), denoiser.score(x, t), rtol=1e-7, atol=1e-7)
    shared = denoiser(x, at(0.3))
    torch.testing.assert_close(shared, denoiser(x, at(0.3).expand(6)))


def test_the_network_sees_its_shape_and_half_the_log_deviation() -> None:
    seen = {}

    class Seeing(torch.nn.Module):
        def forward(self, x: torch.Tensor, level: torch.Tensor, *, label: torch.Tensor) -> torch.Tensor:
            seen.update(x=x, level=level, label=label)
            return x

    process = flexible(Identity(12, dtype=DOUBLE), mean=normal(12))
    denoiser = FlexibleDenoiser(process, Seeing(), shape=(3, 2, 2))
    x, label = normal(5, 12), torch.arange(5)
    denoiser.score(x, at(0.4), label=label)
    assert torch.equal(seen["x"], (x - process.mean).view(5, 3, 2, 2))
    assert seen["label"] is label
    tau = 0.1 * 0.4 + 19.9 * 0.4**2 / 2
    torch.testing.assert_close(seen["level"], torch.full((5,), 0.25 * math.log(math.expm1(tau)), dtype=DOUBLE))
    with pytest.raises(ValueError, match=r"shape \(5,\) does not take vectors of 12"):
        FlexibleDenoiser(process, Seeing(), shape=(5,))
    with pytest.raises(ValueError, match=r"shape \(12,\) does not take 6 positions"):
        PhaseDenoiser(LangevinDiffusion(6), Seeing(), shape=(12,))


@pytest.mark.parametrize("t", [1e-5, 1.0])
def test_gradients_are_finite_at_the_ends_of_time(t: float) -> None:
    """In single precision, with a spectrum so wide that some modes are forgotten to the last bit."""
    for process in (
        shaped(flexible(Identity(4)), spread=0.3),
        shaped(fp_noise(Identity(4)), spread=4.0),
        flexible(Identity(4)),
    ):
        denoiser = FlexibleDenoiser(process, perceptron(4).float())
        x = normal(3, 4).float()
        loss = denoiser.score(x, torch.full((3,), t)).square().sum()
        for p, slope in zip(denoiser.parameters(), torch.autograd.grad(loss, list(denoiser.parameters())), strict=True):
            assert torch.isfinite(slope).all(), p.shape
    phase = PhaseDenoiser(LangevinDiffusion(2), Half(perceptron(4).float()))
    loss = phase.score(normal(3, 4).float(), torch.full((3,), t)).square().sum()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, list(phase.parameters())))


def brute(t: float) -> tuple[np.ndarray, np.ndarray]:
    """Φ and C of one position and its velocity."""
    phi = expm(-np.array([[0.0, -1.0], [1.0, 2.0]]) * (0.1 * t + 19.9 * t**2 / 2))
    return phi, np.eye(2) - phi @ phi.T


@pytest.mark.parametrize("t", [0.05, 0.3, 0.9])
def test_the_scale_of_phase_denoisers_is_the_deviation_of_the_residual(t: float) -> None:
    """Marginal minus conditional score for x_0 ~ N(0, 1), v_0 ~ N(0, γ), by exact covariances of (x_0, v_0, noise)."""
    gamma = 0.04
    process = LangevinDiffusion(1, velocity_variance=gamma, dtype=DOUBLE)
    phi, c = brute(t)
    hidden = c + gamma * np.outer(phi[:, 1], phi[:, 1])
    total = hidden + np.outer(phi[:, 0], phi[:, 0])
    # u, and u − φ x_0, as matrices on (x_0, v_0/√γ, noise).
    u = np.hstack([phi * [1, math.sqrt(gamma)], np.real(sqrtm(c))])
    given = u - np.outer(phi[:, 0], np.eye(4)[0])
    residual = -np.linalg.solve(hidden, given) + np.linalg.solve(total, u)
    deviation = np.sqrt((residual**2).sum(1))
    one, none = (PhaseDenoiser(process, Silent(v, width=1)) for v in (1.0, 0.0))
    x = normal(4, 2)
    scale = (one.score(x, at(t)) - none.score(x, at(t))).abs()
    np.testing.assert_allclose(scale.numpy(), np.tile(deviation, (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(none.score(x, at(t)).numpy(), -np.linalg.solve(total, x.numpy().T).T, rtol=1e-8)
    # Posterior means of the Gaussian start.
    mean = np.linalg.solve(total, x.numpy().T).T @ phi @ np.diag([1, gamma])
    np.testing.assert_allclose(none(x, at(t)).numpy(), mean, rtol=1e-8)


def test_phase_posterior_means_agree_with_the_score_and_positions_come_first() -> None:
    process = LangevinDiffusion(3, mean=normal(3), dtype=DOUBLE)
    denoiser = PhaseDenoiser(process, Half(perceptron(6)))
    x, t = normal(5, 6), torch.linspace(0.05, 0.5, 5, dtype=DOUBLE)
    mean = denoiser(x, t)
    score = process.from_positions(t).score(x, process.at_rest(process.position(mean)))
    torch.testing.assert_close(denoiser.score(x, t), score, rtol=1e-6, atol=1e-6)
    forward = process.transition(torch.zeros_like(t), t)
    torch.testing.assert_close(forward.score(x, mean), score, rtol=1e-6, atol=1e-6)


def test_phase_networks_see_unit_variance() -> None:
    seen = {}

    class Seeing(torch.nn.Module):
        def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            seen["x"] = x
            return x[:, :1]

    process = LangevinDiffusion(4, dtype=DOUBLE)
    x_0 = normal(20_000, 4)
    state = process.moving(x_0, generator=torch.Generator().manual_seed(1))
    x_t, _ = process.transition(at(0.0), at(0.2)).sample(state, generator=torch.Generator().manual_seed(2))
    PhaseDenoiser(process, Seeing(), shape=(1, 2, 2)).score(x_t, at(0.2))
    assert seen["x"].shape == (20_000, 2, 2, 2)
    torch.testing.assert_close(seen["x"].var(0), torch.ones(2, 2, 2, dtype=DOUBLE), rtol=0.06, atol=0)
