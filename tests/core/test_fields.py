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
    torch.testing.assert_close((later - earlier) / (2 * h), slope, rtol=0, atol=0.02 * float(slope.abs().max()))


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
    assert ((x.mean(0) - law.location[0]).abs() < 0.07 * deviation).all()  # a standard error is 0.013
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
    assert edge_preserving_noise((1, 4, 4)) == FieldConfig((1, 4, 4), nu=Ramp(0.0, 0.0)).noise_only()


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
    white = field(replace(config, length=0.0))
    torch.testing.assert_close(white.divergence(turned(x), at(0.2)), turned(white.divergence(x, at(0.2))))


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
    process, t = field(replace(SMALL, shape=(2, 2, 3))), times(0.3)
    x = normal(1, 12)
    eye = torch.eye(12, dtype=DOUBLE)

    def covariance(y: Tensor, of: FieldDiffusion = process) -> Tensor:
        return torch.stack([of.covariance(y, e.unsqueeze(0), t)[0] for e in eye])

    expected = torch.einsum("ijj->i", torch.autograd.functional.jacobian(covariance, x)[:, :, 0])
    torch.testing.assert_close(process.divergence(x, t)[0], expected)
    assert expected.abs().max() > 0.05
    coloured = field(replace(SMALL, shape=(2, 2, 3), length=0.7))
    expected = torch.einsum("ijj->i", torch.autograd.functional.jacobian(lambda y: covariance(y, coloured), x)[:, :, 0])
    for which, right in ((process, process.divergence(x, t)[0]), (coloured, expected)):
        many = x.repeat(4000, 1)
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
    torch.testing.assert_close(law.location / law.location[:, :1], torch.ones(2, process.dim), rtol=1e-5, atol=0)
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


# --- the way back ---------------------------------------------------------------------------------------------------

GRF = FieldConfig((1, 3, 4), nu=Ramp(0.3, 0.3), clock=UnitRate(), horizon=3.0)
SPECTRUM = torch.linspace(2.0, 0.2, 12, dtype=DOUBLE)


def exact(process: Diffusion) -> GaussianMixtureDenoiser:
    """The posterior mean of a Gaussian random field with the spectrum above."""
    mean = torch.zeros(1, process.dim, dtype=DOUBLE)
    return GaussianMixtureDenoiser(
        GaussianMixture(process, weights=torch.ones(1, dtype=DOUBLE), means=mean, variance=SPECTRUM)
    )


class On(Denoiser):
    """A denoiser of a process in the cosines, taken for one of a field."""

    def __init__(self, process: FieldDiffusion, inner: Denoiser) -> None:
        super().__init__()
        self.process, self.inner = process, inner

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return self.inner(x_t, t)

    def score(self, x_t: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
        return self.inner.score(x_t, t)


class Nothing(nn.Module):
    """A network that has not learned anything; it keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.zeros_like(x)


@pytest.mark.parametrize("rule", ["reverse", "bridge", "flow"])
def test_a_gaussian_random_field_comes_back_with_the_exact_score(rule: str) -> None:
    process, n, last = field(replace(GRF, substeps=12).isotropic()), 2000, 0.02
    denoiser = exact(process.config.constant(white=rule != "reverse", dtype=DOUBLE))
    x_T, _ = denoiser.prior.pushed(3.0).sample(n, generator=generator(1))
    on = On(process, denoiser)
    grid = torch.logspace(math.log10(3.0), math.log10(last), 51, dtype=DOUBLE)
    sampler = ReverseField(on) if rule == "reverse" else PluginBridge(on, noise=1.0 if rule == "bridge" else 0.0)
    x = sampler.sample(x_T, grid, generator=generator(2))
    expected = denoiser.prior.pushed(last).modal_variance
    measured = process.basis.analysis(x).var(0)
    # Five standard errors are 0.16; D in the place of a draw, and steps of finite length, cost a little more.
    torch.testing.assert_close(measured, expected, rtol=0.2, atol=0)


def test_a_known_image_comes_back_with_its_exact_law_however_few_the_steps() -> None:
    """With x_0 known the bridge keeps mean and deviation of the frozen law at every time, edges and all."""
    process, n = field(replace(SMALL, shape=(1, 4, 5), length=0.6)), 4000
    x_0 = 2 * normal(1, 20)

    class Known(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:  # type: ignore[override]
            return x_0.expand(len(x_t), -1)

    known = Known()
    known.process = process
    first = process.frozen(x_0, times(0.0), times(2.0))
    x_t = first.noised(normal(n, 20, seed=1))
    for noise in (0.0, 0.5, 1.0):
        x = PluginBridge(known, noise=noise).sample(x_t, times(2.0, 0.9, 0.2), generator=generator(2))
        law = process.frozen(x_0, times(0.0), times(0.2))
        assert ((x.mean(0) - law.location[0]).abs() < 5 * law.deviation[0] / math.sqrt(n) * 1.3).all()
        torch.testing.assert_close(law.noise(x).std(0), torch.ones(20, dtype=DOUBLE), rtol=0, atol=0.06)
    end = PluginBridge(known).sample(x_t[:2], times(0.2, 0.0))
    torch.testing.assert_close(end, x_0.expand(2, -1))


class Grid(nn.Module):
    """Densities of two pixels on a square of cells, from the Fokker–Planck equation, and the score between them."""

    def __init__(self, process: FieldDiffusion, *, cells: int = 61, width: float = 4.0, steps: int = 60) -> None:
        super().__init__()
        self.process, self.width, self.steps = process, width, steps
        axis = torch.linspace(-width, width, cells, dtype=DOUBLE)
        x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
        h = float(axis[1] - axis[0])
        sigma = process.covariance(x, torch.ones_like(x), at(0.5))[:, 0].numpy()
        one = sparse.eye(cells)
        d1 = sparse.diags([-0.5 / h, 0.5 / h], [-1, 1], shape=(cells, cells))
        d2 = sparse.diags([1 / h**2, -2 / h**2, 1 / h**2], [-1, 0, 1], shape=(cells, cells))
        drifts = [
            sparse.kron(d1, one) @ sparse.diags(x[:, 0].numpy()),
            sparse.kron(one, d1) @ sparse.diags(x[:, 1].numpy()),
        ]
        spread = (sparse.kron(d2, one) + sparse.kron(one, d2)) @ sparse.diags(sigma)
        self.start = torch.exp(-0.5 * x.square().sum(1) / 0.6).numpy()
        path = expm_multiply((0.5 * (drifts[0] + drifts[1] + spread)).tocsc(), self.start, 0, 1, steps + 1)
        density = torch.from_numpy(path).clamp_min(1e-12).view(-1, cells, cells)
        self.register_buffer("slope", torch.stack(torch.gradient(density.log(), spacing=h, dim=(1, 2)), dim=1))

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        slope = self.get_buffer("slope")[round(float(t) * self.steps)]
        at_points = (x / self.width).flip(-1).view(1, 1, -1, 2)
        return F.grid_sample(slope.unsqueeze(0), at_points, align_corners=True, padding_mode="border")[0, :, 0].T


def test_the_reverse_of_noise_that_depends_on_the_state_needs_its_divergence() -> None:
    """Two pixels whose noise falls with their difference, the score from the Fokker–Planck equation on a grid."""
    config = FieldConfig(
        (1, 1, 2), nu=Ramp(0.0, 0.0), kappa=Ramp(0.004, 0.004), tau=Ramp(0.3, 0.3), presmoothing=0.0, contrast=100.0,
        clock=UnitRate(),
    )  # fmt: skip
    process, n = field(config.noise_only()), 4000
    x_0 = math.sqrt(0.6) * normal(n, 2, seed=7)
    x_T = process.simulate(x_0, torch.linspace(0, 1, 61, dtype=DOUBLE), generator=generator(1))
    model = Grid(process)

    def difference(divergence: bool) -> tuple[float, float]:
        rule = ReverseField(model, divergence=divergence)
        x = rule.sample(x_T, uniform_grid(1.0, 60), generator=generator(2))
        d = (x[:, 0] - x[:, 1]) / math.sqrt(2 * 0.6)
        return float(d.var()), float(d.pow(4).mean() / d.var() ** 2)

    variance, kurtosis = difference(True)
    assert variance == pytest.approx(1.0, abs=0.12)
    assert kurtosis == pytest.approx(3.0, abs=0.35)
    wrong, _ = difference(False)
    assert abs(wrong - 1.0) > 0.3


def test_an_untrained_denoiser_is_the_wiener_filter_and_its_score_is_exact_without_edges() -> None:
    process = field(replace(GRF, substeps=300).isotropic())
    oracle = exact(process.config.constant(dtype=DOUBLE))
    ours = FieldDenoiser(process, Nothing(), variance=SPECTRUM)
    x, t = normal(5, 12), times(0.05, 0.3, 0.9, 1.5, 3.0)
    torch.testing.assert_close(ours(x, t), oracle(x, t))
    torch.testing.assert_close(ours.score(x, t), oracle.score(x, t), rtol=0, atol=5e-3)
    torch.testing.assert_close(ours.score(x, t, edges="state"), ours.score(x, t))
    smoothed = exact(process.config.constant(white=False, dtype=DOUBLE))
    score = FieldScore(process, Nothing(), variance=SPECTRUM).score(x, t)
    torch.testing.assert_close(score, smoothed.score(x, t))


def test_frozen_scores_say_whose_edges_they_use() -> None:
    process = field(replace(SMALL, shape=(1, 4, 5)))
    denoiser = FieldDenoiser(process, Nothing(), variance=1.0)
    x, t = normal(2, 20), times(0.3, 0.6)
    d = denoiser(x, t)
    for edges, of in (("denoised", d), ("state", x)):
        law = process.frozen(d, torch.zeros_like(t), t, strength=process.strength(of))
        torch.testing.assert_close(denoiser.score(x, t, edges=edges), law.score(x))  # type: ignore[arg-type]
    assert not torch.allclose(denoiser.score(x, t, edges="state"), denoiser.score(x, t))


def blocks(n: int, *, shape: tuple[int, int, int] = (3, 6, 4), seed: int = 0) -> Tensor:
    """Images of two flat halves of random colours, (n, d): edges that smoothing would take."""
    c, height, width = shape
    colours = torch.randn(n, c, 1, 2, generator=generator(seed)).repeat_interleave(width // 2, -1)
    return colours.expand(n, c, height, width).flatten(1)


def test_the_network_sees_and_answers_on_unit_scale_at_all_levels() -> None:
    process = FieldDiffusion(FieldConfig((3, 6, 4)))
    rows = blocks(512) + 0.2 * normal(512, 72, seed=3).float()
    modes, spectrum, centre = tabulate_modes(process, rows, levels=12, generator=generator(1))
    network = Nothing()
    denoiser = FieldDenoiser(process, network, modes=modes, variance=spectrum, centre=centre)
    x_0 = blocks(2048, seed=5) + 0.2 * normal(2048, 72, seed=4).float()
    for time in (0.02, 0.1, 0.3, 0.7, 1.0):
        t = torch.full((2048,), time)
        loss = float(frozen_score_matching(denoiser, x_0, t, generator=generator(2)))
        assert float(network.seen[-1].var()) == pytest.approx(1.0, abs=0.15)
        assert loss == pytest.approx(1.0, abs=0.15)  # the target of the network, in the mean over all modes


def test_the_local_objective_is_least_at_the_score_of_the_chain() -> None:
    process, n = field(GRF.isotropic()), 4000
    prior = exact(process.config.constant(white=False, dtype=DOUBLE)).prior
    x_0, _ = prior.sample(n, generator=generator(1))
    grid = torch.linspace(0, 0.5, 11, dtype=DOUBLE)
    index = torch.full((n,), 9)
    law, noise, t = local_steps(process, x_0, index, grid, generator=generator(2))
    assert (t == grid[10]).all()
    # The chain is linear: its covariance follows from that of its last step, mode by mode.
    variance = process.basis.analysis(law.noised(noise)).var(0)

    class Scaled:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def score(self, x: Tensor, t: Tensor) -> Tensor:
            return -self.factor * process.basis.synthesis(process.basis.analysis(x) / variance)

    def loss(factor: float, *, antithetic: bool = True) -> float:
        return float(local_score_matching(Scaled(factor), law, noise, t, antithetic=antithetic))

    best = loss(1.0)
    expected = -float((1 / variance).mean())  # E ‖s‖² − 2 E ‖s‖² with g = 1
    assert best == pytest.approx(expected, rel=0.06)
    assert loss(1.0, antithetic=False) == pytest.approx(expected, rel=0.35)
    assert min(loss(0.8), loss(1.2)) > best
    slope, curvature = (loss(1.1) - loss(0.9)) / 0.2, (loss(1.1) - 2 * best + loss(0.9)) / 0.01
    assert abs(slope) < 0.06 * curvature


def test_the_implicit_objective_is_least_at_the_score_under_any_covariance() -> None:
    process, x = field(replace(SMALL, shape=(1, 3, 4))), normal(20_000, 12)

    def loss(factor: float) -> float:
        covariance = lambda y, v: process.covariance(y, v, at(0.2))  # noqa: E731
        return float(implicit_score_matching(lambda y: -factor * y, covariance, x, generator=generator(1)))

    best = loss(1.0)
    slope, curvature = (loss(1.1) - loss(0.9)) / 0.2, (loss(1.1) - 2 * best + loss(0.9)) / 0.01
    assert curvature > 0
    assert abs(slope) < 0.03 * curvature
    power = process.covariance(x, x, at(0.2))
    assert best == pytest.approx(-0.5 * float((x * power).mean()), rel=0.03)


class Convolution(nn.Module):
    """Two layers that see the noise level as one more channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + 1, 12, 3, padding=1)
        self.leave = nn.Conv2d(12, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        told = level.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[-2:])
        return self.leave(F.silu(self.enter(torch.cat([x, told], 1))))


def test_a_network_trains_on_the_one_loop_and_every_sampler_runs_on_it() -> None:
    process = FieldDiffusion(FieldConfig((3, 6, 4), substeps=3))
    modes, spectrum, centre = tabulate_modes(process, blocks(128), levels=6, generator=generator(1))
    torch.manual_seed(0)
    denoiser = FieldDenoiser(process, Convolution(3), modes=modes, variance=spectrum, centre=centre)
    problem = VectorProblem(
        denoiser, blocks(256), blocks(32, seed=9), grid=uniform_grid(1.0, 8, last=0.05), batch=32, seed=1, repeats=4,
        objective=frozen_score_matching,
    )  # fmt: skip
    with torch.no_grad():
        before = problem.validation()
    result = train(
        denoiser, problem, TrainingConfig(steps=40, batch=32, learning_rate=1e-2, warmup=5, validate_every=20), seed=2
    )
    assert result.best_validation < 0.99 * before
    x_T, grid = process.start(4, generator=generator(3)), uniform_grid(1.0, 6, last=0.05)
    rules = [
        PluginBridge(denoiser), PluginBridge(denoiser, noise=0.0, edges="state"),
        ReverseField(denoiser, edges="denoised"), ReverseField(denoiser),
    ]  # fmt: skip
    for rule in rules:
        x = rule.sample(x_T, grid, generator=generator(4))
        assert x.shape == (4, 72)
        assert x.isfinite().all()
        assert torch.equal(x, rule.sample(x_T, grid, generator=generator(4)))


def test_samplers_refuse_what_they_are_not_for() -> None:
    other = exact(SMALL_CONSTANT := GRF.constant(dtype=DOUBLE))
    assert SMALL_CONSTANT.dim == 12
    with pytest.raises(ValueError, match="needs an anisotropic field"):
        PluginBridge(other)
    with pytest.raises(ValueError, match="needs an anisotropic field"):
        ReverseField(other)
    process = field(GRF)
    with pytest.raises(ValueError, match=r"noise must lie in \[0, 1\]"):
        PluginBridge(FieldDenoiser(process, Nothing(), variance=1.0), noise=1.5)
    with pytest.raises(ValueError, match="need a denoiser"):
        ReverseField(FieldScore(process, Nothing(), variance=1.0), edges="denoised")
