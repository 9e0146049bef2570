"""Anisotropic fields: the frozen law, the SDE it stands for, and the way back."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sparse
import torch
from scipy.integrate import quad
from scipy.sparse.linalg import expm_multiply
from torch import Tensor, nn
from torch.nn import functional as F

from genodiff.core.denoisers import Denoiser, GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.dissipation import Ramp
from genodiff.core.edges import smoothing_rate
from genodiff.core.fields import FieldConfig, FieldDiffusion, edge_preserving_noise
from genodiff.core.losses import VectorProblem
from genodiff.core.matching import (
    frozen_score_matching,
    implicit_score_matching,
    local_score_matching,
    local_steps,
)
from genodiff.core.processes import Diffusion
from genodiff.core.reversal import (
    FieldDenoiser,
    FieldScore,
    PluginBridge,
    ReverseField,
    divergence_estimate,
    tabulate_modes,
)
from genodiff.core.samplers import HeunODE
from genodiff.core.schedules import UnitRate, uniform_grid
from genodiff.core.training import TrainingConfig, train
from tests.core.helpers import DOUBLE, at, generator, normal

SMALL = FieldConfig(
    (2, 4, 5), nu=Ramp(0.6, 0.3), kappa=Ramp(0.5, 3.0), tau=Ramp(0.0, 1.0), contrast=0.1, clock=UnitRate(), horizon=4.0
)


def field(config: FieldConfig) -> FieldDiffusion:
    return FieldDiffusion(config, dtype=DOUBLE)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def step_image(side: int = 16) -> Tensor:
    """Dark on the left, bright on the right, (1, side²)."""
    return torch.where(torch.arange(side) < side // 2, -1.0, 1.0).to(DOUBLE).expand(side, side).reshape(1, -1)


def stencil_matrix(process: FieldDiffusion, c: Tensor) -> Tensor:
    """L_c of one image and all its channels, (d, d)."""
    eye = torch.eye(process.dim, dtype=DOUBLE)
    return smoothing_rate(process.images(eye), c.expand(process.dim, -1, -1, -1)).flatten(1).T


def test_the_frozen_mean_tends_to_the_matrix_exponential_of_its_equation() -> None:
    process = field(replace(SMALL, nu=Ramp(0.6, 0.6), kappa=Ramp(0.7, 0.7)))
    x, zero, t = normal(1, process.dim), times(0.0), times(1.5)
    generator_matrix = 0.6 * stencil_matrix(process, process.coefficient(process.strength(x), t)) - 0.5 * torch.eye(40)
    exact = x @ torch.from_numpy(scipy.linalg.expm(1.5 * generator_matrix.numpy())).T
    errors = [float((process.frozen(x, zero, t, substeps=k).location - exact).norm()) for k in (8, 16, 32)]
    np.testing.assert_allclose(np.array(errors[:-1]) / np.array(errors[1:]), 2.0, atol=0.25)
    assert errors[-1] < 0.02 * float(exact.norm())


def test_the_frozen_mean_with_moving_coefficients_obeys_its_equation() -> None:
    process, t = field(replace(SMALL, substeps=200)), 1.1
    x = normal(3, process.dim)
    zero, h = times(0.0), 1e-3
    later, earlier = (process.frozen(x, zero, times(t + sign * h)).location for sign in (1, -1))
    location = process.frozen(x, zero, times(t)).location
    slope = process.mean_drift(x, location, times(t))
    torch.testing.assert_close((later - earlier) / (2 * h), slope, rtol=0, atol=0.01 * float(slope.abs().max()))


@pytest.mark.parametrize("t", [0.01, 0.8, 4.0])
def test_the_frozen_variance_is_the_integral_pixel_by_pixel(t: float) -> None:
    process = field(SMALL)
    x = normal(1, process.dim)
    strength = process.strength(x)
    variance = process.frozen(x, times(0.0), times(t)).deviation.square().view(2, 20)
    torch.testing.assert_close(variance[0], variance[1])
    for i in (0, 7, 19):
        s = float(strength.flatten()[i])

        def integrand(w: float, s: float = s) -> float:
            c = 1 / math.sqrt(1 + s / (3 - 2.5 * math.exp(-w)) ** 2)
            return math.exp(w - t) * (math.exp(-w) * c + 1 - math.exp(-w)) ** 2

        assert float(variance[0, i]) == pytest.approx(quad(integrand, 0, t)[0], rel=1e-5)


def test_the_frozen_law_has_the_moments_of_the_simulated_equation_at_early_times() -> None:
    config = FieldConfig((1, 4, 4), nu=Ramp(1.0, 1.0), kappa=Ramp(0.5, 0.5), contrast=0.2, clock=UnitRate())
    process, n, t = field(replace(config, substeps=8)), 6000, 0.02
    x_0 = 2 * torch.cat([step_image(4)[:, :8], normal(1, 8)], 1)
    law = process.frozen(x_0, times(0.0), times(t))
    x = process.simulate(x_0.expand(n, -1), torch.linspace(0, t, 9, dtype=DOUBLE), generator=generator(1))
    deviation = law.deviation[0]
    assert ((x.mean(0) - law.location[0]).abs() < 0.05 * deviation).all()  # a standard error is 0.013
    torch.testing.assert_close(x.std(0), deviation, rtol=0.06, atol=0)
    assert deviation.min() < 0.7 * deviation.max()
    moved = (law.location - x_0)[0].abs()
    assert moved.max() > 0.2 * deviation.max()


def test_times_of_a_batch_are_handled_as_if_each_image_were_alone() -> None:
    process = field(SMALL)
    x, s, t = normal(3, process.dim), times(0.0, 0.1, 1.0), times(0.3, 2.0, 4.0)
    together = process.frozen(x, s, t)
    for i in range(3):
        alone = process.frozen(x[i : i + 1], s[i], t[i])
        torch.testing.assert_close(together.location[i : i + 1], alone.location)
        torch.testing.assert_close(together.deviation[i : i + 1], alone.deviation)


def test_without_edges_the_field_is_the_exact_process_in_the_cosines() -> None:
    process = field(replace(SMALL.isotropic(), substeps=400, nodes=12))
    x, t = normal(2, process.dim), times(0.4, 3.0)
    ours = process.frozen(x, torch.zeros_like(t), t)
    exact = process.config.constant(dtype=DOUBLE).transition(torch.zeros_like(t), t)
    torch.testing.assert_close(ours.location, exact.location(x), rtol=0, atol=3e-3)
    torch.testing.assert_close(ours.deviation.square(), exact.variance)
    torch.testing.assert_close(
        process.drift(x, t[0]), process.config.constant(white=False, dtype=DOUBLE).drift(x, t[0])
    )


def test_the_chain_without_edges_has_the_variance_of_the_smoothed_noise() -> None:
    """Second moments of the chain mode by mode, without drawing: v ← f² v + V of every step."""
    process = field(SMALL.isotropic())
    exact = process.config.constant(white=False, dtype=DOUBLE)
    modes, errors = process.basis.synthesis(torch.eye(process.dim, dtype=DOUBLE)), []
    for steps in (100, 200):
        variance, grid = torch.zeros(process.dim, dtype=DOUBLE), torch.linspace(0, 2, steps + 1, dtype=DOUBLE)
        for s, t in itertools.pairwise(grid):
            law = process.frozen(modes, s, t, substeps=1)
            factor = process.basis.analysis(law.location).diagonal()
            variance = factor.square() * variance + law.deviation[0].square()
        errors.append(float((variance - exact.variance(at(2.0))).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)
    assert errors[1] < 0.02


def test_in_the_end_every_image_is_the_same_noise() -> None:
    process = field(FieldConfig((1, 16, 16)))
    law = process.frozen(step_image(), times(0.0), times(1.0))
    assert law.location.abs().max() < 0.01
    torch.testing.assert_close(law.deviation, torch.ones(1, 256, dtype=DOUBLE), rtol=0, atol=0.01)
    assert process.start(4, generator=generator()).shape == (4, 256)


def test_edges_last_longer_than_without_anisotropy() -> None:
    """At equal smoothing the step across the border of the two halves is kept, in the mean and in the SDE itself."""
    config, x = FieldConfig((1, 16, 16), nu=Ramp(2.0, 2.0), kappa=Ramp(0.2, 0.2), clock=UnitRate()), step_image()

    def jump(images: Tensor) -> float:
        rows = images.view(-1, 16, 16).mean((0, 1))
        return float(rows[8] - rows[7])

    def at_end(which: FieldConfig) -> tuple[float, float]:
        process = field(which)
        frozen = process.frozen(x, times(0.0), times(0.5)).location
        drawn = process.simulate(x.expand(40, -1), torch.linspace(0, 0.5, 11, dtype=DOUBLE), generator=generator(3))
        return jump(frozen), jump(drawn)

    frozen, drawn = at_end(config)
    without, drawn_without = at_end(config.isotropic())
    assert frozen > 2 * without
    assert drawn > 1.1 * drawn_without
    assert at_end(config.drift_only())[0] == pytest.approx(frozen)
    spared = field(config).frozen(x, times(0.0), times(0.1)).deviation.view(16, 16)
    assert float(spared[4, 7]) < 0.3 * float(spared[4, 0])
    even = field(config.drift_only()).frozen(x, times(0.0), times(0.1)).deviation
    torch.testing.assert_close(even, even[:, :1].expand(1, 256))


def test_noise_that_spares_edges_without_smoothing_keeps_the_image() -> None:
    process = field(edge_preserving_noise((1, 16, 16), clock=UnitRate()))
    x, t = step_image(), times(0.7)
    law = process.frozen(x, times(0.0), t)
    torch.testing.assert_close(law.location, math.exp(-0.35) * x)
    assert law.deviation.max() > 1.5 * law.deviation.min()
    assert edge_preserving_noise((1, 4, 4)) == edge_preserving_noise((1, 4, 4), nu=Ramp(0, 0)).noise_only()


@pytest.mark.parametrize("turn", ["left to right", "half turn", "transposed"])
def test_the_law_of_a_turned_image_is_the_turned_law(turn: str) -> None:
    config = replace(SMALL, shape=(2, 5, 5), length=0.8)
    process = field(config)
    moves = {
        "left to right": lambda y: y.flip(-1), "half turn": lambda y: y.flip((-2, -1)),
        "transposed": lambda y: y.transpose(-2, -1),
    }  # fmt: skip

    def turned(y: Tensor) -> Tensor:
        return moves[turn](process.images(y)).flatten(1)

    x, noise = normal(2, process.dim), normal(2, process.dim, seed=1)
    law, other = (process.frozen(y, times(0.0), times(0.9)) for y in (x, turned(x)))
    torch.testing.assert_close(other.noised(turned(noise)), turned(law.noised(noise)))
    torch.testing.assert_close(process.divergence(turned(x), times(0.2)) if process.colour is None else x, x)


def test_correlated_noise_has_its_covariance_and_score() -> None:
    process = field(replace(SMALL, length=1.5))
    law = process.frozen(normal(1, process.dim), times(0.0), times(0.5))
    a = law.noised(torch.eye(process.dim, dtype=DOUBLE)) - law.location  # rows A e_i
    covariance = a.T @ a
    x_t, noise = law.sample(generator=generator(2))
    torch.testing.assert_close(law.score(x_t), -(x_t - law.location) @ torch.linalg.inv(covariance))
    torch.testing.assert_close(law.noise(x_t), noise)
    correlation = covariance / covariance.diagonal().sqrt().outer(covariance.diagonal().sqrt())
    assert float(correlation[6, 7]) > 0.5
    assert float(correlation[0, 20]) == pytest.approx(0.0, abs=1e-12)  # channels are apart
    k = a / law.deviation
    assert float((k.T @ k).diagonal().mean()) == pytest.approx(1.0)


def test_the_divergence_is_that_of_the_jacobian() -> None:
    process, t = field(replace(SMALL, shape=(2, 3, 3))), times(0.3)
    x = normal(1, 18)
    eye = torch.eye(18, dtype=DOUBLE)

    def covariance(y: Tensor, of: FieldDiffusion = process) -> Tensor:
        return torch.stack([of.covariance(y, e.unsqueeze(0), t)[0] for e in eye])

    expected = torch.einsum("ijj->i", torch.autograd.functional.jacobian(covariance, x)[:, :, 0])
    torch.testing.assert_close(process.divergence(x, t)[0], expected)
    assert expected.abs().max() > 0.05
    coloured = field(replace(SMALL, shape=(2, 3, 3), length=0.7))
    expected = torch.einsum("ijj->i", torch.autograd.functional.jacobian(lambda y: covariance(y, coloured), x)[:, :, 0])
    for which, right in ((process, process.divergence(x, t)[0]), (coloured, expected)):
        many = x.expand(4000, -1)
        each = divergence_estimate(lambda y, v, p=which: p.covariance(y, v, t), many, generator=generator(1))
        error = (each.mean(0) - right).abs()
        assert (error < 5 * each.std(0) / math.sqrt(4000) + 1e-9).all()
    with pytest.raises(ValueError, match="no diagonal covariance"):
        coloured.divergence(x, t)
    assert (field(SMALL.drift_only()).divergence(normal(1, 40), t) == 0).all()


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 6, 4)])
def test_laws_and_gradients_are_finite_on_constant_images(shape: tuple[int, int, int]) -> None:
    process = FieldDiffusion(FieldConfig(shape))
    x = torch.full((2, process.dim), 0.3, requires_grad=True)
    law = process.frozen(x, torch.zeros(2), torch.tensor([1e-3, 0.6]))
    torch.testing.assert_close(law.location / law.location[:, :1], torch.ones(2, process.dim))
    (law.noised(torch.ones(2, process.dim)).sum() + process.divergence(x, torch.tensor(0.1)).sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (process.divergence(x.detach(), torch.tensor(0.1)).abs() < 1e-3).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nu": Ramp(-1.0, 0.0)}, "nu must be"), ({"tau": Ramp(0.0, 1.1)}, "tau must be"),
        ({"kappa": Ramp(0.0, 1.0)}, "kappa must be"), ({"eta": Ramp(1.0, 0.0)}, "eta must be"),
        ({"contrast": 0.0}, "contrast > 0"), ({"substeps": 0}, "at least 1"),
    ],
)  # fmt: skip
def test_configurations_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_chains_and_local_steps_refuse_what_is_not_in_the_grid() -> None:
    process, x = field(SMALL), normal(2, 40)
    with pytest.raises(ValueError, match="rise strictly"):
        process.simulate(x, times(0.0, 0.0))
    with pytest.raises(ValueError, match="row 1 ends with step 2 of a chain of 2"):
        local_steps(process, x, torch.tensor([0, 2]), times(0.0, 0.1, 0.2))
