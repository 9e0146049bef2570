"""Log-likelihoods of the probability flow against the laws whose score it is given."""

from __future__ import annotations


import pytest
import torch

from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.likelihood import flow_likelihood, log_likelihood
from genodiff.core.processes import variance_preserving
from genodiff.core.schedules import LinearRate
from tests.core.helpers import DOUBLE, at, generator, normal

EPSILON = 1e-4


def vp(dim: int, components: int, *, seed: int = 0) -> GaussianMixtureDenoiser:
    process = variance_preserving(dim, horizon=1.0, clock=LinearRate(high=30.0), dtype=DOUBLE)
    weights = torch.arange(1, components + 1, dtype=DOUBLE)
    means = normal(components, dim, seed=seed)
    means = means - weights / weights.sum() @ means
    variance = torch.linspace(0.6, 0.1, dim, dtype=DOUBLE)
    return GaussianMixtureDenoiser(GaussianMixture(process, weights=weights, means=means, variance=variance))


@pytest.mark.parametrize(("dim", "components"), [(2, 1), (3, 3)])
def test_gaussians_and_mixtures_to_a_thousandth_of_a_nat(dim: int, components: int) -> None:
    denoiser = vp(dim, components)
    x, _ = denoiser.prior.pushed(EPSILON).sample(20, generator=generator())
    got = flow_likelihood(denoiser, x, epsilon=EPSILON, rtol=1e-7, atol=1e-7, trace="exact")
    truth = denoiser.log_prob(x, at(EPSILON))
    # What the prior N(0, I) misses of the law at T is a part of the answer: it is the model's own density.
    assert float((got.nats - truth).abs().max()) < 1e-3
    ends = functools_log(denoiser)
    exact = log_likelihood(denoiser, x, epsilon=EPSILON, rtol=1e-8, atol=1e-8, trace="exact", prior=ends)
    torch.testing.assert_close(exact, truth, rtol=0, atol=1e-5)


def functools_log(denoiser: GaussianMixtureDenoiser):  # noqa: ANN201
    return lambda y: denoiser.log_prob(y, at(denoiser.process.horizon))
