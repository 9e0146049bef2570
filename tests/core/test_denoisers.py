"""The exact mixture denoiser against Bayes' rule done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm
from torch import Tensor, nn

from genodiff.core.bases import BlockPCA, Identity
from genodiff.core.denoisers import (
    AnchorCovariance,
    Denoiser,
    GaussianMixture,
    GaussianMixtureDenoiser,
    NoiseDenoiser,
    ResidualDenoiser,
    terminal,
)
from genodiff.core.networks import MLP
from genodiff.core.processes import LinearDiffusion, gou, variance_preserving
from tests.core.helpers import DOUBLE, at, dense, generator, mixture, normal, orthogonal, small_gou

TIMES = [0.01, 0.4, 2.0]


def line(*, rate: float = -0.6, beta: float = 1.2) -> LinearDiffusion:
    """A process in one dimension."""
    return LinearDiffusion(
        Identity(1, dtype=DOUBLE),
        mean=torch.tensor([0.3]),
        rates=torch.tensor([rate], dtype=DOUBLE),
        beta=beta,
        horizon=2.0,
    )


@pytest.mark.parametrize("t", TIMES)
def test_posterior_mean_in_one_dimension_by_quadrature(t: float) -> None:
    process = line()
    prior = mixture(process, 3)
    move = process.transition(at(0.0), at(t))
    weights, means = prior.weights.numpy(), prior.means.numpy().ravel()
    sd, s = float(prior.modal_variance.sqrt()), float(move.variance.sqrt())
    for x_t in (-2.0, 0.1, 1.5):

        def joint(x_0: float, x_t: float = x_t) -> float:
            centre = float(move.location(torch.tensor([x_0], dtype=DOUBLE)))
            return float(weights @ norm.pdf(x_0, means, sd)) * float(norm.pdf(x_t, centre, s))

        near = [0.3 + (x_t - 0.3) / float(move.m), *means]
        evidence = quad(joint, -12, 12, points=near, limit=400)[0]
        expected = quad(lambda x: x * joint(x), -12, 12, points=near, limit=400)[0] / evidence
        point = torch.tensor([[x_t]], dtype=DOUBLE)
        denoiser = GaussianMixtureDenoiser(prior)
        assert float(denoiser(point, at(t).expand(1))) == pytest.approx(expected, rel=1e-6, abs=1e-8)
        assert float(denoiser.log_prob(point, at(t).expand(1))) == pytest.approx(math.log(evidence), abs=1e-6)


def test_posterior_mean_in_two_dimensions_on_a_grid() -> None:
    process = small_gou(2)
    prior, t = mixture(process, 3), at(0.5)
    axis = torch.linspace(-9, 9, 601, dtype=DOUBLE)
    x_0 = torch.cartesian_prod(axis, axis)
    covariance = dense(process, prior.modal_variance)
    law = (
        torch.stack([torch.distributions.MultivariateNormal(m, covariance).log_prob(x_0) for m in prior.means]).T.exp()
        @ prior.weights
    )
    for x_t in normal(3, 2):
        weight = law * process.transition(at(0.0), t).log_prob(x_t, x_0).exp()
        expected = weight @ x_0 / weight.sum()
        torch.testing.assert_close(GaussianMixtureDenoiser(prior)(x_t[None], t.expand(1))[0], expected)


def dense_posterior(prior: GaussianMixture, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) of the mixture posterior and responsibilities (K,), with full matrices and no shared structure."""
    process = prior.process
    phi = dense(process, process.mean_coefficient(t))
    noise = dense(process, process.variance(t))
    covariance = dense(process, prior.modal_variance)
    total = phi @ covariance @ phi.T + noise
    gain = covariance @ phi.T @ torch.linalg.inv(total)
    centre = [process.mean + phi @ (nu - process.mean) for nu in prior.means]
    each = torch.stack([nu + gain @ (x_t - c) for nu, c in zip(prior.means, centre, strict=True)])
    fit = torch.stack([torch.distributions.MultivariateNormal(c, total).log_prob(x_t) for c in centre])
    r = torch.softmax(prior.weights.log() + fit, dim=0)
    return r @ each, r


@pytest.mark.parametrize("t", TIMES)
def test_posterior_mean_by_dense_matrices(t: float) -> None:
    process = small_gou(4)
    prior = mixture(process, 3)
    denoiser, x_t = GaussianMixtureDenoiser(prior), 2 * normal(6, 4)
    time = at(t).expand(6)
    mean, r = zip(*(dense_posterior(prior, x, at(t)) for x in x_t), strict=True)
    torch.testing.assert_close(denoiser(x_t, time), torch.stack(mean))
    torch.testing.assert_close(denoiser.responsibility(x_t, time), torch.stack(r))
    torch.testing.assert_close(denoiser.posterior(x_t, time).mean, torch.stack(mean))


def test_each_row_has_its_own_time() -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou()))
    x_t, t = normal(3, 3), torch.tensor(TIMES, dtype=DOUBLE)
    together = denoiser(x_t, t)
    for k in range(3):
        torch.testing.assert_close(together[k], denoiser(x_t[k : k + 1], t[k : k + 1])[0])


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_posterior_fields_are_those_of_the_dense_formulas(known: bool, shared: bool) -> None:
    process, t = small_gou(4), at(0.6)
    prior = mixture(process, 2)
    denoiser, x_t = GaussianMixtureDenoiser(prior), normal(5, 4)
    component = torch.tensor([0, 1, 1, 0, 1]) if known else None
    p = denoiser.posterior(x_t, t if shared else t.expand(5), component=component)
    m, s2 = process.mean_coefficient(t), process.variance(t)
    covariance, noise = dense(process, prior.modal_variance), dense(process, s2 / m**2)
    y = process.mean + (x_t - process.mean) @ dense(process, 1 / m)
    precision = torch.linalg.inv(noise)
    posterior = torch.linalg.inv(torch.linalg.inv(covariance) + precision)
    torch.testing.assert_close(p.innovation, (y - p.mean) @ precision)
    torch.testing.assert_close(p.variance.expand(5, 4), posterior.diagonal().expand(5, 4))
    torch.testing.assert_close(p.precision.expand(5, 4), precision.diagonal().expand(5, 4))
    if component is not None:
        prior_mean = prior.means[component]
        torch.testing.assert_close(p.mean, prior_mean + (y - prior_mean) @ precision @ posterior)
        torch.testing.assert_close(p.mean, denoiser(x_t, t.expand(5), component=component))
        assert (p.responsibility.argmax(1) == component).all()


def test_innovation_stays_finite_as_the_noise_vanishes() -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou()))
    x = normal(4, 3)
    p = denoiser.posterior(x, at(1e-12).expand(4))
    assert torch.isfinite(p.innovation).all()
    torch.testing.assert_close(p.mean, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_tweedie_score_is_the_gradient_of_the_log_density(t: float) -> None:
    denoiser = GaussianMixtureDenoiser(mixture(small_gou(), 3))
    x_t, time = normal(5, 3).requires_grad_(), at(t).expand(5)
    (gradient,) = torch.autograd.grad(denoiser.log_prob(x_t, time).sum(), x_t)
    torch.testing.assert_close(denoiser.score(x_t, time), gradient)


def test_log_density_is_that_of_the_pushed_mixture() -> None:
    process = small_gou()
    prior = mixture(process, 3)
    pushed, x_t = prior.pushed(0.8), normal(5, 3)
    covariance = dense(process, pushed.modal_variance)
    each = torch.stack([torch.distributions.MultivariateNormal(m, covariance).log_prob(x_t) for m in pushed.means])
    expected = torch.logsumexp(each.T + pushed.weights.log(), dim=1)
    torch.testing.assert_close(GaussianMixtureDenoiser(prior).log_prob(x_t, at(0.8).expand(5)), expected)


@pytest.mark.parametrize("t", [0.02, 0.3, 1.0, 4.0])
def test_mean_of_the_denoiser_is_the_mean_of_the_data_at_every_time(t: float) -> None:
    process, n = small_gou(), 40_000
    prior = mixture(process, 3)
    x_0, _ = prior.sample(n, generator=generator(1))
    x_t, _ = process.transition(at(0.0), at(t)).sample(x_0, generator=generator(2))
    d = GaussianMixtureDenoiser(prior)(x_t, at(t).expand(n))
    # D − x_0 has mean zero given x_t, so the paired difference is much less noisy than either.
    error = (d - x_0).mean(0).abs()
    assert (error < 5 * (d - x_0).std(0) / math.sqrt(n)).all()
    assert ((d.mean(0) - prior.moments()[0]).abs() < 5 * d.std(0) / math.sqrt(n)).all()


def test_mixture_samples_have_its_moments_and_weights() -> None:
    prior, n = mixture(small_gou(), 3), 40_000
    x, component = prior.sample(n, generator=generator(3))
    mean, covariance = prior.moments()
    spread = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean).abs() < 5 * spread / math.sqrt(n)).all()
    assert ((torch.cov(x.T) - covariance).abs() < 5 * math.sqrt(3 / n) * spread.outer(spread)).all()
    assert ((torch.bincount(component) / n - prior.weights).abs() < 5 * 0.5 / math.sqrt(n)).all()


def test_samples_of_given_components_come_from_them() -> None:
    prior = mixture(small_gou(), 2)
    given = torch.tensor([1] * 4000)
    x, component = prior.sample(4000, component=given, generator=generator())
    assert component is given
    torch.testing.assert_close(x.mean(0), prior.means[1], rtol=0, atol=0.08)


def test_restricted_mixture_and_denoiser_agree_with_the_whole_given_the_component() -> None:
    basis = BlockPCA([orthogonal(2, 1), orthogonal(3, 2)])
    rates = -torch.linspace(0.2, 0.9, 5, dtype=DOUBLE)
    process = LinearDiffusion(basis, mean=normal(5), rates=rates, horizon=1.0)
    prior, part = mixture(process), process.restrict(basis.restrict(1, 2), slice(2, 5))
    x_t, t, component = normal(4, 5), at(0.4).expand(4), torch.tensor([0, 1, 0, 1])
    whole = GaussianMixtureDenoiser(prior)(x_t, t, component=component)[:, 2:]
    small = GaussianMixtureDenoiser(prior.restrict(part, slice(2, 5)))(x_t[:, 2:], t, component=component)
    torch.testing.assert_close(small, whole)
    torch.testing.assert_close(prior.restrict(part, slice(2, 5)).moments()[1], prior.moments()[1][2:, 2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.tensor([0.0, 1.0])}, "weights must be positive"),
        ({"means": torch.zeros(2, 4)}, "means must have shape"),
        ({"variance": torch.tensor([1.0, -1.0, 1.0])}, "variance must be non-negative"),
        ({"variance": torch.ones(2)}, "variance must be non-negative"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(change: dict[str, Tensor], message: str) -> None:
    arguments = {"weights": torch.ones(2), "means": torch.zeros(2, 3), "variance": torch.ones(3)} | change
    with pytest.raises(ValueError, match=message):
        GaussianMixture(small_gou(), **arguments)


# --- the start law -------------------------------------------------------------------------------------------------


def clustered(process: LinearDiffusion, n: int = 6000) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Points in two clusters; their assignment, the cluster means, weights, and modal variances within clusters."""
    x, component = mixture(process).sample(n, generator=generator(7))
    anchors = torch.stack([x[component == k].mean(0) for k in (0, 1)])
    weights = torch.bincount(component) / n
    within = process.basis.analysis(x - anchors[component]).square().mean(0)
    return x, component, anchors, weights.to(DOUBLE), within


def second_moment(law: GaussianMixture) -> Tensor:
    mean, covariance = law.moments()
    return covariance + mean.outer(mean)


def test_second_moments_of_the_three_start_laws() -> None:
    process = small_gou(horizon=0.7)
    x, _, anchors, weights, within = clustered(process)
    total = process.basis.analysis(x - x.mean(0)).square().mean(0)
    ones = torch.full((len(x),), 1 / len(x), dtype=DOUBLE)
    marginal = GaussianMixture(process, weights=ones, means=x, variance=torch.zeros(3, dtype=DOUBLE)).pushed(0.7)
    # Modal second moments of the forward marginal itself: the data carried to T, every point with its own noise.
    q, truth = process.basis.matrix(), second_moment(marginal)

    def modal(law: GaussianMixture) -> Tensor:
        return (q.T @ second_moment(law) @ q).diagonal()

    def start(kind: AnchorCovariance, spectrum: Tensor | None = None) -> GaussianMixture:
        return terminal(process, weights=weights, anchors=anchors, spectrum=spectrum, covariance=kind)

    expected = (q.T @ truth @ q).diagonal()
    m2 = process.mean_coefficient(at(0.7)).square()
    torch.testing.assert_close(modal(start("within", within)), expected)
    torch.testing.assert_close(modal(start("noise")), expected - m2 * within)
    # Read literally, eq. (8) counts the variance between clusters twice.
    torch.testing.assert_close(modal(start("total", total)), expected + m2 * (total - within))
    torch.testing.assert_close(start("within", within).moments()[0], marginal.moments()[0])


def test_start_law_needs_a_spectrum_for_its_spread() -> None:
    with pytest.raises(ValueError, match="needs a spectrum"):
        terminal(small_gou(), weights=torch.ones(1), anchors=torch.zeros(1, 3), covariance="within")


def quantiles(law: GaussianMixture) -> NDArray[np.float64]:
    """Quantiles of a one-dimensional mixture at the midpoints of 4,000 equal parts."""
    sd = float(law.modal_variance.sqrt())
    axis = np.linspace(-15, 15, 12_001)
    cdf = norm.cdf((axis[:, None] - law.means.numpy().ravel()) / sd) @ law.weights.numpy()
    return np.interp((np.arange(4000) + 0.5) / 4000, cdf, axis)


def test_lemma_10_bounds_the_distance_of_the_start_law_in_one_dimension() -> None:
    process = line(rate=-0.4)
    x, component, anchors, weights, within = clustered(process, 300)
    ones = torch.full((len(x),), 1 / len(x), dtype=DOUBLE)
    data = GaussianMixture(process, weights=ones, means=x, variance=torch.zeros(1, dtype=DOUBLE))
    marginal = quantiles(data.pushed(process.horizon))
    move = process.mean_coefficient(at(process.horizon))
    bound = float((move * (x - anchors[component])).square().sum(1).mean().sqrt())
    loose = float(move.max() * (x - anchors[component]).square().sum(1).mean().sqrt())

    def distance(kind: AnchorCovariance, spectrum: Tensor | None = None) -> float:
        start = terminal(process, weights=weights, anchors=anchors, spectrum=spectrum, covariance=kind)
        return float(np.sqrt(np.square(quantiles(start) - marginal).mean()))

    noise = distance("noise")
    assert 0 < noise <= bound <= loose + 1e-12
    assert distance("within", within) < 0.5 * noise
    total = (x - x.mean(0)).square().mean(0)
    assert distance("total", total) > distance("within", within)


def test_lemma_10_bounds_the_distance_of_the_start_law_on_samples() -> None:
    process, n = small_gou(2, horizon=1.0), 500
    x, component, anchors, weights, _ = clustered(process)
    move = process.transition(at(0.0), at(1.0))
    start = terminal(process, weights=weights, anchors=anchors, covariance="noise")
    bound = float((process.basis.analysis(x - anchors[component]) * move.m).square().sum(1).mean().sqrt())

    def w2(a: Tensor, b: Tensor) -> float:
        cost = torch.cdist(a, b).square().numpy()
        return math.sqrt(cost[linear_sum_assignment(cost)].mean())

    forward = [move.sample(x[k * n : (k + 1) * n], generator=generator(k))[0] for k in (0, 1)]
    drawn, _ = start.sample(n, generator=generator(5))
    # Two samples of one law lie apart too; the triangle inequality allows for it.
    assert w2(forward[0], drawn) <= bound + w2(forward[0], forward[1])


# --- corrections by a network --------------------------------------------------------------------------------------


def test_residual_denoiser_starts_as_its_base_and_scales_its_correction() -> None:
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, z: Tensor, noise: Tensor) -> Tensor:
            assert noise.shape == (len(z),)
            return torch.full_like(z, self.value)

    process = small_gou()
    base = GaussianMixtureDenoiser(mixture(process))
    x_t, t = normal(4, 3), torch.tensor([0.01, 0.3, 1.0, 2.0], dtype=DOUBLE)
    torch.testing.assert_close(ResidualDenoiser(base, Constant(0.0))(x_t, t), base(x_t, t))
    change = process.basis.analysis(ResidualDenoiser(base, Constant(1.0))(x_t, t) - base(x_t, t))
    m, s2 = process.mean_coefficient(t), process.variance(t)
    variance = base.prior.modal_variance
    torch.testing.assert_close(change, (variance * s2 / (m**2 * variance + s2)).sqrt())


def test_noise_denoiser_score_is_tweedies_formula_of_its_posterior_mean() -> None:
    torch.manual_seed(0)
    basis, spectrum = BlockPCA.from_data(torch.randn(50, 3, dtype=torch.float64), [0, 3], dtype=torch.float64)
    process = gou(basis, mean=torch.tensor([0.3, -1.0, 2.0]), spectrum=spectrum, a=0.2, horizon=3.0)
    network = MLP(3, width=16, depth=1).double()
    torch.nn.init.normal_(network.leave.weight)
    plain = NoiseDenoiser(process, network)
    x, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(plain.score(x, t), Denoiser.score(plain, x, t))


def test_noise_denoiser_without_noise_predicted_undoes_the_contraction() -> None:
    process = variance_preserving(2, horizon=2.0)
    x = torch.tensor([[1.0, -2.0]])
    # The last layer of the network starts at zero.
    torch.testing.assert_close(NoiseDenoiser(process, MLP(2))(x, torch.tensor([1.0])), x * math.exp(0.5))
