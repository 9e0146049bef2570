"""The base of the allele denoiser against Bayes' rule over all states."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genodiff.core.bases import PCA, Identity
from genodiff.core.denoisers import GaussianMixture, GaussianMixtureDenoiser
from genodiff.core.processes import LinearDiffusion
from genodiff.genotypes.denoiser import AlleleDenoiser

DOUBLE = torch.float64


def base_denoiser(
    frequency: list[float],
    *,
    ploidy: int = 1,
    rates: list[float] | None = None,
    covariance: Tensor | None = None,
) -> AlleleDenoiser:
    """The base for one cluster with given allele frequencies; sites independent unless a covariance is given."""
    p, d = torch.tensor(frequency, dtype=DOUBLE), len(frequency)
    if covariance is None:
        basis: Identity | PCA = Identity(d, dtype=DOUBLE)
        variance = ploidy * p * (1 - p)
    else:
        variance, q = torch.linalg.eigh(covariance)
        basis = PCA(q)
    rate = torch.full((d,), -0.5) if rates is None else torch.tensor(rates)
    process = LinearDiffusion(basis, mean=ploidy * p, rates=rate, horizon=5.0)
    prior = GaussianMixture(process, weights=torch.ones(1), means=ploidy * p[None], variance=variance)
    return AlleleDenoiser(GaussianMixtureDenoiser(prior), None, ploidy=ploidy)


def points(d: int, n: int = 40, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def brute_force(denoiser: AlleleDenoiser, x_t: Tensor, t: Tensor, frequency: list[float]) -> Tensor:
    """E[x_0 | x_t] over all combinations of states, sites independent and binomial a priori."""
    ploidy, process = denoiser.ploidy, denoiser.process
    move = process.transition(torch.zeros_like(t), t)
    states = torch.tensor(list(itertools.product(range(ploidy + 1), repeat=len(frequency))), dtype=DOUBLE)
    p = torch.tensor(frequency, dtype=DOUBLE)
    log_prior = sum(
        torch.log(torch.tensor([math.comb(ploidy, int(g)) for g in states[:, j]], dtype=DOUBLE))
        + states[:, j] * p[j].log()
        + (ploidy - states[:, j]) * (1 - p[j]).log()
        for j in range(len(frequency))
    )
    assert isinstance(log_prior, Tensor)
    likelihood = torch.stack([move.log_prob(x, states) for x in x_t])
    return torch.softmax(log_prior + likelihood, dim=1) @ states


@pytest.mark.parametrize("ploidy", [1, 2])
@pytest.mark.parametrize("frequency", [[0.3], [0.1, 0.5], [0.02, 0.4, 0.9]])
@pytest.mark.parametrize("t", [0.02, 0.5, 3.0])
def test_posterior_mean_of_independent_sites_is_exact(ploidy: int, frequency: list[float], t: float) -> None:
    denoiser, x_t = base_denoiser(frequency, ploidy=ploidy), points(len(frequency))
    time = torch.tensor(t, dtype=DOUBLE)
    expected = brute_force(denoiser, x_t, time, frequency)
    torch.testing.assert_close(denoiser(x_t, time.expand(40)), expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(denoiser(x_t, time), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("ploidy", [1, 2])
def test_posterior_mean_is_exact_when_every_site_contracts_at_its_own_rate(ploidy: int) -> None:
    frequency, time = [0.1, 0.6, 0.3], torch.tensor(0.7, dtype=DOUBLE)
    denoiser = base_denoiser(frequency, ploidy=ploidy, rates=[-0.1, -0.5, -0.9])
    x_t = points(3)
    torch.testing.assert_close(denoiser(x_t, time), brute_force(denoiser, x_t, time, frequency), rtol=1e-6, atol=1e-8)


def test_own_site_enters_by_its_exact_likelihood_under_isotropic_noise() -> None:
    """With a = 1 the noise is independent between sites, however correlated the data are."""
    frequency = [0.3, 0.4, 0.5]
    covariance = torch.tensor([[0.21, 0.15, 0.1], [0.15, 0.24, 0.16], [0.1, 0.16, 0.25]], dtype=DOUBLE)
    denoiser, x_t = base_denoiser(frequency, covariance=covariance), points(3)
    time = torch.tensor(0.6, dtype=DOUBLE)
    process = denoiser.process
    y = process.mean + (x_t - process.mean) / process.mean_coefficient(time)
    rho = float(process.noise_ratio(time, rate=-0.5))
    # The mean of a site given the noisy values of the others, from the joint normal law.
    cavity = torch.empty_like(x_t)
    for j in range(3):
        others = [k for k in range(3) if k != j]
        noisy = covariance[others][:, others] + rho * torch.eye(2, dtype=DOUBLE)
        gain = torch.linalg.solve(noisy, covariance[others, j])
        cavity[:, j] = frequency[j] + (y[:, others] - process.mean[others]) @ gain
    least = denoiser.least_frequency
    expected = torch.logit(cavity.clamp(least, 1 - least)) + (y - 0.5) / rho
    torch.testing.assert_close(denoiser.logits(x_t, time), expected, rtol=1e-6, atol=1e-8)


def test_structured_noise_of_correlated_sites_still_gives_a_good_posterior() -> None:
    """The base is an approximation there; it must not be worse than the Gaussian posterior mean it starts from."""
    rng = np.random.default_rng(1)
    haplotypes = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=DOUBLE)
    share = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=DOUBLE)
    p = share @ haplotypes
    covariance = (haplotypes - p).T @ torch.diag(share) @ (haplotypes - p) + 1e-6 * torch.eye(3, dtype=DOUBLE)
    denoiser = base_denoiser(p.tolist(), covariance=covariance, rates=[-0.5, -0.45, -0.2])
    x_0 = haplotypes[torch.from_numpy(rng.choice(4, 4000, p=share.numpy()))]
    for t in (0.05, 0.3, 1.0):
        time = torch.tensor(t, dtype=DOUBLE)
        x_t, _ = denoiser.process.transition(torch.zeros_like(time), time).sample(
            x_0, generator=torch.Generator().manual_seed(2)
        )
        error = (denoiser(x_t, time) - x_0).square().mean()
        gaussian = (denoiser.base(x_t, time) - x_0).square().mean()
        assert error < 1.02 * gaussian


@pytest.mark.parametrize("ploidy", [1, 2])
def test_expected_states_lie_in_range_and_mixed_precision_changes_nothing(ploidy: int) -> None:
    denoiser, x_t = base_denoiser([0.2, 0.7], ploidy=ploidy).float(), 10 * points(2).float()
    time = torch.tensor(0.05)
    mean = denoiser(x_t, time)
    assert (mean >= 0).all()
    assert (mean <= ploidy).all()
    plain = denoiser.logits(x_t, time)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(denoiser.logits(x_t, time), plain, rtol=0, atol=0)


def test_logits_have_a_column_per_state_only_for_dosages() -> None:
    x_t, time = points(2), torch.tensor(0.5, dtype=DOUBLE)
    assert base_denoiser([0.2, 0.7]).logits(x_t, time).shape == (40, 2)
    dosage = base_denoiser([0.2, 0.7], ploidy=2).logits(x_t, time)
    assert dosage.shape == (40, 2, 3)
    assert (dosage[..., 0] == 0).all()


def test_ploidy_other_than_one_or_two_is_refused() -> None:
    with pytest.raises(ValueError, match="ploidy must be 1 or 2"):
        AlleleDenoiser(base_denoiser([0.5]).base, None, ploidy=3)
