"""Log-likelihoods of the probability flow against the laws whose score it is given."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.langevin import LangevinDiffusion
from genodiff.core.likelihood import flow_likelihood, log_likelihood, position_likelihood
from genodiff.core.networks import MLP, count_calls
from genodiff.core.processes import variance_preserving
from genodiff.core.schedules import LinearRate
from genodiff.core.scores import FlexibleDenoiser
from tests.core.helpers import DOUBLE, at, generator, mixture, normal, small_gou
from tests.core.linear import GaussianScore, covariance, processes
from tests.core.toad import exact, split_process

EPSILON = 1e-4


def vp(dim: int, components: int) -> GaussianMixtureDenoiser:
    """A mixture that the process forgets well enough for N(0, I) to be its end."""
    process = variance_preserving(dim, horizon=1.0, clock=LinearRate(high=30.0), dtype=DOUBLE)
    weights = torch.arange(1, components + 1, dtype=DOUBLE)
    means = normal(components, dim)
    means = means - weights / weights.sum() @ means
    variance = torch.linspace(0.6, 0.1, dim, dtype=DOUBLE)
    return GaussianMixtureDenoiser(GaussianMixture(process, weights=weights, means=means, variance=variance))


def end(denoiser: GaussianMixtureDenoiser) -> Callable[[Tensor], Tensor]:
    """The exact law of X_T."""
    return lambda x: denoiser.log_prob(x, at(denoiser.process.horizon))


@pytest.mark.parametrize(("dim", "components"), [(2, 1), (3, 3)])
def test_gaussians_and_mixtures_to_a_thousandth_of_a_nat(dim: int, components: int) -> None:
    denoiser = vp(dim, components)
    x, _ = denoiser.prior.pushed(EPSILON).sample(20, generator=generator())
    truth = denoiser.log_prob(x, at(EPSILON))
    got = log_likelihood(denoiser, x, epsilon=EPSILON, rtol=1e-6, atol=1e-6, trace="exact")
    assert float((got - truth).abs().max()) < 1e-3


def test_another_process_and_the_exact_law_at_its_end() -> None:
    """A horizon too short to forget: only with the law of X_T itself is the answer that of the data."""
    denoiser = GaussianMixtureDenoiser(mixture(small_gou(), 3))
    x, _ = denoiser.prior.pushed(EPSILON).sample(20, generator=generator())
    truth = denoiser.log_prob(x, at(EPSILON))
    options = {"epsilon": EPSILON, "rtol": 1e-7, "atol": 1e-7, "trace": "exact"}
    got = log_likelihood(denoiser, x, prior=end(denoiser), **options)
    torch.testing.assert_close(got, truth, rtol=0, atol=1e-4)
    assert float((log_likelihood(denoiser, x, **options) - truth).abs().max()) > 0.1


def test_densities_integrate_to_one() -> None:
    denoiser = vp(1, 2)
    x = torch.linspace(-6, 6, 401, dtype=DOUBLE).unsqueeze(-1)
    density = log_likelihood(denoiser, x, epsilon=1e-3, trace="exact").exp()
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1.0, abs=1e-3)


def test_random_signs_estimate_the_trace_without_bias() -> None:
    denoiser = vp(3, 3)
    one, _ = denoiser.prior.pushed(1e-3).sample(1, generator=generator(2))
    options = {"epsilon": 1e-3, "rtol": 1e-5, "atol": 1e-5}
    each = log_likelihood(denoiser, one.expand(1000, -1), generator=generator(), **options)
    truth = float(log_likelihood(denoiser, one, trace="exact", **options))
    error = float(each.std()) / math.sqrt(len(each))
    assert 1e-4 < error < 0.05
    assert float(each.mean()) == pytest.approx(truth, abs=4 * error)
    averaged = log_likelihood(denoiser, one.expand(500, -1), probes=4, generator=generator(), **options)
    assert float(averaged.std()) == pytest.approx(0.5 * float(each.std()), rel=0.15)


def test_signs_in_the_modes_of_the_process_are_exact_for_a_gaussian_there() -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou(), 1))
    x = normal(5, 3)
    options = {"epsilon": EPSILON, "prior": end(denoiser), "rtol": 1e-6, "atol": 1e-6}
    got = log_likelihood(denoiser, x, generator=generator(), **options)
    torch.testing.assert_close(got, denoiser.log_prob(x, at(EPSILON)), rtol=0, atol=1e-3)


def gaussian_log_prob(denoiser: GaussianScore, x: Tensor, t: float) -> Tensor:
    law = torch.distributions.MultivariateNormal(denoiser.process.mean, denoiser.marginal(at(t)))
    return law.log_prob(x).detach()


@pytest.mark.parametrize("kind", ["noise", "blocks", "dense", "langevin"])
def test_flexible_processes_and_langevin_motion_on_gaussian_data(kind: str) -> None:
    """Of a Langevin process it is the joint density of positions and velocities."""
    process = processes()[kind]
    start = covariance(process.dim) if kind != "langevin" else torch.diag(torch.tensor([0.6, 0.04], dtype=DOUBLE))
    denoiser = GaussianScore(process, start)
    x = process.mean + normal(10, process.dim) @ torch.linalg.cholesky(start).T
    got = flow_likelihood(denoiser, x, epsilon=1e-3, trace="exact")
    truth = gaussian_log_prob(denoiser, x, 1e-3)
    ends = gaussian_log_prob(denoiser, got.latent, process.horizon)
    standard = -0.5 * ((got.latent - process.mean).square() + math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(got.nats + ends - standard, truth, rtol=0, atol=1e-3)
    # The process has a finite time to forget the start.
    assert float((got.nats - truth).abs().max()) < 1e-2


def test_likelihoods_of_positions_have_no_gap_where_velocities_are_independent_of_them() -> None:
    """Jensen's inequality is an equality for the exact joint law of Gaussian data."""
    process = LangevinDiffusion(1, velocity_variance=0.3, dtype=DOUBLE)
    denoiser = GaussianScore(process, torch.diag(torch.tensor([0.7, 0.3], dtype=DOUBLE)))
    x = torch.tensor([[0.5]], dtype=DOUBLE).expand(1000, 1)
    options = {"epsilon": 1e-4, "rtol": 1e-4, "atol": 1e-4}
    got = position_likelihood(denoiser, x, trace="exact", generator=generator(), **options).nats
    truth = -0.5 * (0.25 / 0.7 + math.log(2 * math.pi * 0.7))
    assert float(got.mean()) == pytest.approx(truth, abs=5 * float(got.std()) / math.sqrt(1000) + 1e-3)
    with pytest.raises(ValueError, match="positions and velocities"):
        position_likelihood(vp(1, 1), x)


class Watched(MLP):
    """A network that notes what it is given."""

    def forward(self, x: Tensor, log_noise: Tensor) -> Tensor:
        self.seen = x.dtype
        return super().forward(x, log_noise)


def watched(process: FlexibleDiffusion) -> FlexibleDenoiser:
    network = Watched(process.dim, width=8, depth=1)
    for i, p in enumerate(network.parameters()):
        torch.nn.init.normal_(p, std=0.1, generator=generator(i))
    return FlexibleDenoiser(process, network)


def test_a_slope_is_one_call_in_the_type_of_the_network_and_leaves_nothing_behind() -> None:
    process = processes()["blocks"].float()
    denoiser = watched(process)
    x = normal(6, 4).float()
    with count_calls(denoiser.network) as calls:
        got = flow_likelihood(denoiser, x, epsilon=1e-3, generator=generator())
    assert calls.passes == got.evaluations
    assert calls.rows == 6 * got.evaluations
    assert denoiser.network.seen == torch.float32
    assert got.nats.dtype == got.latent.dtype == DOUBLE
    assert not got.nats.requires_grad
    assert not x.requires_grad
    assert all(p.requires_grad and p.grad is None for p in denoiser.parameters())
    double = flow_likelihood(denoiser.double(), x.double(), epsilon=1e-3, generator=generator())
    torch.testing.assert_close(got.nats, double.nats, rtol=0, atol=1e-2)


def test_the_tolerance_is_the_error_and_has_its_price() -> None:
    denoiser = vp(2, 3)
    x, _ = denoiser.prior.pushed(EPSILON).sample(10, generator=generator())
    errors, work = [], []
    for tolerance in (1e-3, 1e-5, 1e-7):
        got = flow_likelihood(
            denoiser, x, epsilon=EPSILON, rtol=tolerance, atol=tolerance, trace="exact", prior=end(denoiser)
        )
        errors.append(float((got.nats - denoiser.log_prob(x, at(EPSILON))).abs().max()))
        work.append(got.evaluations)
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert np.all(np.diff(work) > 0)


def test_bad_arguments_are_refused() -> None:
    denoiser, x = vp(2, 1), normal(3, 2)
    for epsilon in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"got {epsilon}"):
            log_likelihood(denoiser, x, epsilon=epsilon)
    with pytest.raises(ValueError, match="probes >= 1, got 'hutchinson' and 0"):
        log_likelihood(denoiser, x, probes=0)
    with pytest.raises(ValueError, match=r"rows of 2 values, got shape \(3, 4\)"):
        log_likelihood(denoiser, normal(3, 4))
    with pytest.raises(ValueError, match="SubspaceDiffusion has no stationary law"):
        log_likelihood(exact(split_process(2)), x)
