"""Noise in subspaces: functions of M_t against dense matrices, its laws and its views."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genodiff.core.cosines import CosineBasis, frequency_bands
from genodiff.core.knots import karras_schedule
from genodiff.core.subspaces import SubspaceDiffusion
from tests.core.helpers import DOUBLE, at, generator, normal
from tests.core.toad import HIGHEST, exact, knots, split_process


def matrix(process: SubspaceDiffusion, t: Tensor) -> Tensor:
    """M_t as a dense matrix, from its definition Σ_j g_j V_jᵀV_j."""
    q, g = process.basis.matrix(), process.schedule.levels(t).detach()
    half = process.dim // 2
    return g[0] * q[:, :half] @ q[:, :half].T + g[1] * q[:, half:] @ q[:, half:].T


def matrix_power(m: Tensor, power: float) -> Tensor:
    value, q = torch.linalg.eigh(m)
    return (q * value**power) @ q.T


@pytest.mark.parametrize("power", [1.0, 0.5, -0.5, -1.0, 2.0])
def test_powers_act_as_the_powers_of_the_dense_matrix(power: float) -> None:
    process, t, x = split_process(4), at(0.9), normal(5, 4)
    expected = x @ matrix_power(matrix(process, t), power)
    torch.testing.assert_close(process.power(x, t, power), expected, rtol=1e-9, atol=1e-12)


def test_diffused_is_the_derivative_of_the_matrix() -> None:
    process, h, x = split_process(4), 1e-6, normal(5, 4)
    slope = (matrix(process, at(0.9 + h)) - matrix(process, at(0.9 - h))) / (2 * h)
    torch.testing.assert_close(process.diffused(x, at(0.9)), x @ slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(process.drift(x, at(0.9)), torch.zeros_like(x))


def test_modal_values_are_those_of_the_subspaces() -> None:
    process = split_process(4)
    t = torch.tensor([0.2, 1.3], dtype=DOUBLE)
    g = process.schedule.levels(t).detach()
    expected = g[:, [0, 0, 1, 1]]
    torch.testing.assert_close(process.variance(t), expected)
    torch.testing.assert_close(process.deviation(t), expected.sqrt())
    torch.testing.assert_close(process.averaged(expected), g)
    rate = process.schedule.rates(t)[:, [0, 0, 1, 1]]
    torch.testing.assert_close(process.log_rate(t), 2.0 * rate / expected)
    torch.testing.assert_close(process.log_noise(t).exp(), (g[:, 0] * g[:, 1]) ** 0.25)
    torch.testing.assert_close(process.time_of_noise(process.noise_ratio(t)), t)


def test_transitions_compose_and_begin_without_noise() -> None:
    process, zero, s, t = split_process(4), at(0.0), at(0.4), at(1.1)
    whole, first, second = process.transition(zero, t), process.transition(zero, s), process.transition(s, t)
    torch.testing.assert_close(first.variance + second.variance, whole.variance)
    torch.testing.assert_close(whole.variance, process.variance(t))
    torch.testing.assert_close(whole.m, torch.ones(4, dtype=DOUBLE))


def test_sampling_begins_with_the_noise_of_the_last_time() -> None:
    process = split_process(4)
    x = process.start(20_000, generator=generator(1))
    torch.testing.assert_close(
        torch.cov(x.T).detach(), HIGHEST * torch.eye(4, dtype=DOUBLE), rtol=0, atol=0.06 * HIGHEST
    )


def test_the_preserving_view_has_unit_variance_and_an_inverse() -> None:
    process, c = split_process(4), 0.3
    prior = exact(process, components=1, variance=c).prior
    for t in (0.3, 1.7):
        x, _ = prior.pushed(t).sample(20_000, generator=generator(2))
        seen = process.preserving(x, at(t), c=c)
        torch.testing.assert_close(torch.cov(seen.T).detach(), torch.eye(4, dtype=DOUBLE), rtol=0, atol=0.06)
        torch.testing.assert_close(process.exploding(seen, at(t), c=c), x)


def test_the_velocity_is_that_of_the_view_along_the_flow() -> None:
    """Along d x = −½ ∂_tM score dt, with (cI + M)^{−1/2} x differentiated numerically (eq. 10 with its ½)."""
    process, t, h, c = split_process(4), at(0.9), 1e-5, 0.7
    denoiser = exact(process)
    x = normal(6, 4)
    score = denoiser.score(x, t)
    dx = -0.5 * process.diffused(score, t)
    ahead, behind = (process.preserving(x + sign * h * dx, t + sign * h, c=c) for sign in (1, -1))
    torch.testing.assert_close(process.velocity(x, t, score, c=c), (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-7)


def test_two_equal_schedules_are_one_bit_for_bit() -> None:
    shape, x = (3, 8, 8), torch.randn(7, 192, generator=generator(1))
    one = SubspaceDiffusion(CosineBasis(shape), frequency_bands(shape, ()), karras_schedule(1))
    two = SubspaceDiffusion(CosineBasis(shape), frequency_bands(shape, (0.5,)), karras_schedule(2))
    t = torch.linspace(0, 6400, 7)
    for name in ("variance", "deviation", "log_rate", "log_noise", "mean_coefficient"):
        assert torch.equal(getattr(one, name)(t), getattr(two, name)(t)), name
    assert torch.equal(one.preserving(x, t), two.preserving(x, t))
    assert torch.equal(one.start(4, generator=generator(3)), two.start(4, generator=generator(3)))


def test_detached_cuts_the_gradient_and_nothing_else() -> None:
    process, t = split_process(4), torch.tensor([0.3, 1.0], dtype=DOUBLE)
    assert process.variance(t).requires_grad
    assert not process.detached().variance(t).requires_grad
    assert torch.equal(process.detached().variance(t), process.variance(t))
    assert process.variance(t).requires_grad


def test_subspaces_that_do_not_fit_are_refused() -> None:
    process = split_process(4)
    with pytest.raises(ValueError, match="subspaces of"):
        SubspaceDiffusion(process.basis, torch.zeros(4, dtype=torch.long), knots(2))
    with pytest.raises(ValueError, match="whole numbers"):
        SubspaceDiffusion(process.basis, torch.zeros(3, dtype=torch.long), knots(1))
    with pytest.raises(ValueError, match="whole numbers"):
        SubspaceDiffusion(process.basis, torch.zeros(4), knots(1))
    with pytest.raises(ValueError, match="3 schedules for 2 subspaces"):
        process.with_schedule(knots(3))
