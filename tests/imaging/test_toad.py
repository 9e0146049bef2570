"""The anisotropic process of images: its rows are values of one configuration, and EDM is one of them."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser, ResidualDenoiser
from genodiff.core.learning import learn_schedule, learn_time
from genodiff.core.losses import VectorProblem
from genodiff.core.networks import MLP, count_calls
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.training import TrainingConfig, train
from genodiff.core.trajectory import (
    discretisation_error,
    excess_score_matching,
    preconditioned_score_matching,
    trajectory_score_matching,
)
from imaging.toad import Toad, edm_times, karras_grid, sample
from tests.threads import one_thread

__all__ = ["one_thread"]

SHAPE = (2, 8, 8)
ISOTROPIC, ANISOTROPIC = Toad(SHAPE), Toad(SHAPE, cuts=(0.5,))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """A small smooth network of an image and a noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.level = nn.Linear(1, 8)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        level = self.level(noise.unsqueeze(-1))[:, :, None, None]
        return self.leave(nn.functional.silu(self.enter(x) + level))


def network(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def images(n: int = 40) -> Tensor:
    return 0.5 * torch.randn(n, 128, generator=generator(5))


def test_equal_schedules_make_the_anisotropic_model_the_isotropic_one_bit_for_bit() -> None:
    one, two = ISOTROPIC.denoiser(network()), ANISOTROPIC.denoiser(network())
    x_0, t = images(), torch.linspace(1.0, 6400.0, 40)
    assert torch.equal(one(x_0, t), two(x_0, t))
    assert torch.equal(one.precision(t), two.precision(t))
    for objective in (
        trajectory_score_matching,
        partial(trajectory_score_matching, score_correction=True),
        preconditioned_score_matching,
        excess_score_matching,
        discretisation_error,
    ):
        assert torch.equal(objective(one, x_0, t, generator=generator()), objective(two, x_0, t, generator=generator()))
    for options in ({"steps": 5}, {"steps": 5, "euler_last": False}, {"steps": 4, "second": 1.0}):
        assert torch.equal(
            sample(one, 6, generator=generator(), **options), sample(two, 6, generator=generator(), **options)
        )


def edm(network: nn.Module, x: Tensor, sigma: Tensor, *, variance: float = 0.25) -> Tensor:
    """The second-order deterministic sampler of Karras et al. (2022, algorithm 1), in pixels, without a basis."""

    def denoise(x: Tensor, s: Tensor) -> Tensor:
        total = s**2 + variance
        out = network(x / total.sqrt(), (0.25 * s.log()).expand(len(x)))
        return variance / total * x + s * variance**0.5 / total.sqrt() * out

    for s, s_next in itertools.pairwise(sigma):
        d = (x - denoise(x, s)) / s
        x_next = x + (s_next - s) * d
        if s_next > 0:
            d_next = (x_next - denoise(x_next, s_next)) / s_next
            x_next = x + (s_next - s) * (d + d_next) / 2
        x = x_next
    return x


@pytest.mark.parametrize("toad", [ISOTROPIC, ANISOTROPIC])
def test_the_first_row_is_edm(toad: Toad) -> None:
    denoiser, steps = toad.denoiser(network()), 7
    grid = karras_grid(denoiser.process, steps)
    x_T = denoiser.process.start(4, generator=generator()).detach()
    ramp = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    sigma = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    with torch.no_grad():
        expected = edm(denoiser.network, x_T.view(4, *SHAPE), torch.cat([sigma, sigma.new_zeros(1)]).float())
        with count_calls(denoiser.network) as calls:
            found = sample(denoiser, 4, steps=steps, grid=grid, second=1.0, generator=generator())
    assert calls.passes == 13
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("steps", "passes"), [(5, 9), (6, 11), (7, 13), (8, 15), (10, 19), (18, 35), (40, 79)])
def test_evaluations_of_the_columns_of_the_table(steps: int, passes: int) -> None:
    denoiser = ANISOTROPIC.denoiser(network())
    with count_calls(denoiser.network) as calls:
        made = sample(denoiser, 2, steps=steps, generator=generator())
    assert (calls.passes, calls.rows) == (passes, 2 * passes)
    assert made.shape == (2, *SHAPE)
    assert made.isfinite().all()


def test_samples_do_not_depend_on_the_batch() -> None:
    denoiser = ANISOTROPIC.denoiser(network())
    whole, parts = (sample(denoiser, 5, steps=4, generator=generator(), batch=b) for b in (5, 2))
    torch.testing.assert_close(whole[:2], parts[:2])
    assert len(parts) == 5


def test_preconditioning_is_the_residual_of_the_wiener_filter() -> None:
    """c_skip, c_in and c_out are those of a Gaussian prior with the variance of the data in every mode."""
    process = ANISOTROPIC.process()
    torch.manual_seed(0)
    inner = MLP(128, width=16)
    nn.init.normal_(inner.leave.weight, std=0.1)
    variance, centre = torch.rand(128, generator=generator()) + 0.1, torch.randn(128, generator=generator())
    flat = PreconditionedDenoiser(process, _Modal(process.basis, inner), variance=variance, centre=centre)
    prior = GaussianMixture(process, weights=torch.ones(1), means=centre.unsqueeze(0), variance=variance)
    residual = _CentredInput(GaussianMixtureDenoiser(prior), inner, reference_rate=0.0)
    x, t = torch.randn(9, 128, generator=generator()), torch.linspace(100.0, 6000.0, 9)
    torch.testing.assert_close(flat(x, t), residual(x, t), rtol=1e-4, atol=1e-4)


class _Modal(nn.Module):
    """A network of modal coordinates and log noise ratios, given pixels and ¼ log σ."""

    def __init__(self, basis: nn.Module, inner: nn.Module) -> None:
        super().__init__()
        self.basis, self.inner = basis, inner

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.basis.synthesis(self.inner(self.basis.analysis(x), 8 * noise))


class _CentredInput(ResidualDenoiser):
    """The residual denoiser with the mean of the data taken off its network's input."""

    def forward(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        shifted = self.base.prior.means[0]
        correction = super().forward(x_t - shifted, t) - self.base(x_t - shifted, t)
        return self.base(x_t, t) + correction


def test_training_noise_of_edm_is_log_normal() -> None:
    process = ANISOTROPIC.process()
    times = edm_times(process)
    assert (times.diff() < 0).all()
    log_noise = process.log_noise(times).double().detach()
    expected = torch.distributions.Normal(-1.2, 1.2).cdf(log_noise.flip(0))
    torch.testing.assert_close(expected[1:-1], torch.arange(1, 256, dtype=torch.float64) / 256, rtol=0, atol=1e-4)


def test_the_objective_of_edm_is_the_squared_error_of_the_network() -> None:
    denoiser = ANISOTROPIC.denoiser(network(), variance=0.3)
    process, x_0, t = denoiser.process, images(), torch.linspace(300.0, 6000.0, 40)
    loss = preconditioned_score_matching(denoiser, x_0, t, generator=generator())
    noise = torch.randn(40, 128, generator=generator())
    z_0, g = process.basis.analysis(x_0), process.variance(t)
    z = z_0 + g.sqrt() * noise
    scaled = process.basis.synthesis(z / (0.3 + g).sqrt())
    answer = process.basis.analysis(denoiser.network(scaled.view(-1, *SHAPE), process.log_noise(t) / 4).flatten(1))
    target = (z_0 - 0.3 / (0.3 + g) * z) / (0.3 * g / (0.3 + g)).sqrt()
    torch.testing.assert_close(loss, (answer - target).square().mean())


def test_algorithm_1_from_edm_training_to_samples(tmp_path: Path) -> None:
    """Network by EDM, schedules with the network by TLSM, the clock, and samples; each on the one training loop."""
    isotropic = ISOTROPIC.denoiser(network())
    rows, held_out = images(200), images(20)
    config = TrainingConfig(steps=30, batch=16, validate_every=15, weight_decay=0.0)
    problem = VectorProblem(
        isotropic, rows, held_out, grid=edm_times(isotropic.process), batch=16, seed=1,
        objective=preconditioned_score_matching, at_once=50,
    )  # fmt: skip
    with torch.no_grad():
        before = problem.validation()
    assert train(isotropic.network, problem, config, seed=1).best_validation < before

    schedule = isotropic.process.schedule.split(2)
    denoiser = ANISOTROPIC.denoiser(isotropic.network, schedule=schedule)
    knots = schedule.log_knots().detach()
    learn_schedule(denoiser, rows, held_out, config, seed=1, jointly=True, checkpoint=tmp_path / "c.safetensors")
    moved = schedule.log_knots().detach()
    assert (moved[0] - moved[1]).abs().max() > 1e-3
    assert (moved - knots).abs().max() > 1e-3

    timed, result = learn_time(denoiser, rows, held_out, config, seed=1)
    assert result.steps == 30
    assert timed.network is denoiser.network
    made = sample(timed, 3, steps=5, generator=generator())
    assert made.isfinite().all()
    assert not torch.equal(made, sample(denoiser, 3, steps=5, generator=generator()))


def test_a_run_that_resumes_ends_in_the_same_bits(tmp_path: Path) -> None:
    rows, config = images(60), TrainingConfig(steps=12, batch=8, validate_every=4, checkpoint_seconds=0.0)
    whole, parts = (ANISOTROPIC.denoiser(network()) for _ in range(2))
    learn_schedule(whole, rows, rows[:8], config, seed=3, jointly=True)

    class Stop(RuntimeError):
        pass

    seen = 0

    def stop(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 14:
            raise Stop

    hook = parts.network.register_forward_hook(stop)
    path = tmp_path / "run.safetensors"
    with pytest.raises(Stop):
        learn_schedule(parts, rows, rows[:8], config, seed=3, jointly=True, checkpoint=path, fingerprint="a")
    hook.remove()
    again = ANISOTROPIC.denoiser(network(7))
    learn_schedule(again, rows, rows[:8], config, seed=3, jointly=True, checkpoint=path, fingerprint="a")
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("knots", [4, 64])
def test_the_corrected_gradient_takes_one_pass_however_many_parameters_the_schedule_has(knots: int) -> None:
    denoiser = Toad(SHAPE, cuts=(0.5,), knots=knots).denoiser(network())
    t = torch.linspace(1.0, 6400.0, 40)
    with count_calls(denoiser.network) as calls:
        trajectory_score_matching(denoiser, images(), t, score_correction=True, generator=generator()).backward()
    schedule = denoiser.process.schedule
    assert calls.passes == 1
    assert (schedule.offset.grad != 0).all()
    assert schedule.offset.shape == (2, knots - 1)


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match="cuts must rise"):
        Toad(SHAPE, cuts=(0.5, 0.2)).process()
    with pytest.raises(ValueError, match="positive in every mode"):
        ISOTROPIC.denoiser(network(), variance=0.0)
    with pytest.raises(ValueError, match="at least 2 steps"):
        karras_grid(ISOTROPIC.process(), 1)
