"""Adaptive integration: closed forms, the tolerance as the error, and the work it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.odes import Pair, solve
from genodiff.core.processes import LinearDiffusion
from genodiff.core.samplers import AdaptiveODE, HeunODE
from genodiff.core.schedules import uniform_grid
from tests.core.helpers import DOUBLE, at, mixture, normal, small_gou


@pytest.mark.parametrize("pair", ["RK23", "RK45", "DOP853"])
def test_a_linear_equation_is_its_matrix_exponential(pair: Pair) -> None:
    a, y = normal(3, 3), normal(2, 3, seed=1)
    end, evaluations = solve(lambda t, x: x @ a.T, y, 0.3, -1.0, rtol=1e-9, atol=1e-9, pair=pair)
    np.testing.assert_allclose(end.numpy(), y.numpy() @ expm(-1.3 * a.numpy()).T, atol=2e-7)
    assert end.shape == y.shape
    assert evaluations > 20


def test_the_time_of_the_slope_is_the_variable() -> None:
    end, _ = solve(lambda t, x: t.cos().expand_as(x), torch.zeros(1), 0.0, 2.0, rtol=1e-8, atol=1e-8)
    assert float(end) == pytest.approx(math.sin(2.0), abs=1e-7)


def test_the_state_is_double_though_the_slope_is_single() -> None:
    """A billion and a bit cannot be told from a billion in single precision."""
    end, _ = solve(lambda t, x: torch.ones(1, dtype=torch.float32), torch.tensor([1e9], dtype=DOUBLE), 0.0, 1.0)
    assert float(end) - 1e9 == pytest.approx(1.0, abs=1e-6)


def test_slopes_that_are_not_finite_and_tolerances_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ArithmeticError, match=r"not finite at 0\.0"):
        solve(lambda t, x: x / 0, torch.ones(1), 0.0, 1.0)
    with pytest.raises(ArithmeticError, match="stopped at"):
        solve(lambda t, x: x.square() * x, torch.ones(1), 0.0, 1.0)
    with pytest.raises(ValueError, match="rtol=0"):
        solve(lambda t, x: x, torch.ones(1), 0.0, 1.0, rtol=0.0)


def gaussian(process: LinearDiffusion) -> GaussianMixture:
    spectrum = torch.linspace(2.0, 0.3, process.dim, dtype=DOUBLE)
    return GaussianMixture(process, weights=torch.ones(1), means=normal(1, process.dim, seed=4), variance=spectrum)


def test_the_flow_of_a_gaussian_keeps_the_standard_score_of_every_mode() -> None:
    process = small_gou()
    prior, x = gaussian(process), 2 * normal(20, 3)
    first, last = prior.pushed(2.0), prior.pushed(1e-3)
    z = process.basis.analysis(x - first.means[0]) * (last.modal_variance / first.modal_variance).sqrt()
    exact = last.means[0] + process.basis.synthesis(z)
    errors, work = [], []
    for tolerance in (1e-3, 1e-6, 1e-9):
        rule = AdaptiveODE(GaussianMixtureDenoiser(prior), rtol=tolerance, atol=tolerance)
        end = rule.sample(x, uniform_grid(2.0, 1, last=1e-3))
        errors.append(float((end - exact).abs().max()))
        work.append(rule.evaluations)
    assert errors[0] < 1e-2
    assert errors[1] < 1e-5
    assert errors[2] < 1e-8
    assert work[0] < work[1] < work[2]


def test_a_finer_grid_changes_no_more_than_the_tolerance_and_calls_add_up() -> None:
    denoiser, x = GaussianMixtureDenoiser(mixture(small_gou(), 3)), normal(20, 3)
    rule = AdaptiveODE(denoiser, rtol=1e-8, atol=1e-8)
    once = rule.sample(x, uniform_grid(2.0, 1, last=0.1))
    alone = rule.evaluations
    torch.testing.assert_close(rule.sample(x, uniform_grid(2.0, 4, last=0.1)), once, rtol=0, atol=1e-6)
    assert rule.evaluations > 2 * alone
    fine = HeunODE(denoiser).sample(x, uniform_grid(2.0, 2000, last=0.1))
    torch.testing.assert_close(once, fine, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_step_to_time_zero_is_one_slope() -> None:
    denoiser, x = GaussianMixtureDenoiser(mixture(small_gou())), normal(5, 3)
    rule = AdaptiveODE(denoiser)
    expected = HeunODE(denoiser).step(x, at(0.01), at(0.0))
    assert torch.equal(rule.step(x, at(0.01), at(0.0)), expected)
    assert rule.evaluations == 1


def test_single_precision_stays_single_precision() -> None:
    def cast(x: Tensor) -> Tensor:
        return x.to(torch.float32)

    denoiser = GaussianMixtureDenoiser(mixture(small_gou(), 3))
    x, grid = normal(20, 3), uniform_grid(2.0, 1, last=1e-2)
    double = AdaptiveODE(denoiser).sample(x, grid)
    single = AdaptiveODE(denoiser.float()).sample(cast(x), grid)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, cast(double), rtol=0, atol=1e-3)
