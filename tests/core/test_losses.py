"""Training objectives."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from genodiff.core.denoisers import Denoiser, GaussianMixtureDenoiser
from genodiff.core.losses import allele_cross_entropy, denoising_score_matching, stratified_times, stratified_uniform
from genodiff.core.schedules import log_noise_grid, uniform_grid
from tests.core.helpers import DOUBLE, generator, mixture, normal, small_gou


class Altered(Denoiser):
    """A denoiser scaled about the origin and shifted."""

    def __init__(self, exact: GaussianMixtureDenoiser, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.exact, self.process, self.scale, self.shift = exact, exact.process, scale, shift

    def forward(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        return self.scale * self.exact(x_t, t, **condition) + self.shift


def test_score_matching_is_minimal_at_the_exact_denoiser() -> None:
    process, n = small_gou(), 20_000
    prior = mixture(process, 2)
    exact = GaussianMixtureDenoiser(prior)
    x_0, _ = prior.sample(n, generator=generator(1))
    t = stratified_times(uniform_grid(2.0, 8, last=0.2), n, generator=generator(2))

    def loss(scale: float, shift: float) -> float:
        altered = Altered(exact, torch.tensor(scale, dtype=DOUBLE), torch.tensor(shift, dtype=DOUBLE))
        return float(denoising_score_matching(altered, x_0, t, generator=generator(3)))

    best = loss(1.0, 0.0)
    for scale, shift in ((1.1, 0.0), (0.9, 0.0), (1.0, 0.1), (1.0, -0.1)):
        assert loss(scale, shift) > best
    # The slope at the exact denoiser is zero, the curvature is not.
    slope = (loss(1.01, 0.0) - loss(0.99, 0.0)) / 0.02
    curvature = (loss(1.01, 0.0) - 2 * best + loss(0.99, 0.0)) / 0.01**2
    assert abs(slope) < 0.05 * curvature


def test_score_matching_weights_every_mode_by_its_conditional_score() -> None:
    """The objective is Σ s² ‖score error‖²/d against the conditional score, whatever the denoiser."""
    process = small_gou()
    exact = GaussianMixtureDenoiser(mixture(process))
    altered = Altered(exact, torch.tensor(0.7, dtype=DOUBLE), normal(3))
    x_0, t = normal(50, 3), torch.full((50,), 0.8, dtype=DOUBLE)
    move = process.transition(torch.zeros_like(t), t)
    x_t, _ = move.sample(x_0, generator=generator(4))
    error = process.basis.analysis(altered.score(x_t, t) - move.score(x_t, x_0))
    expected = (error.square() * process.variance(t)).mean()
    torch.testing.assert_close(denoising_score_matching(altered, x_0, t, generator=generator(4)), expected)


def test_stratified_uniform_has_one_draw_in_every_part() -> None:
    u = stratified_uniform(100, generator=generator())
    assert ((u * 100).long().sort().values == torch.arange(100)).all()
    assert not (u.diff() > 0).all()


def test_stratified_times_cover_exactly_the_range_of_the_grid() -> None:
    grid = log_noise_grid(lambda rho: torch.log1p(rho), lowest=0.03, highest=500.0, steps=20)
    t = stratified_times(grid, 20_000, generator=generator())
    assert float(t.min()) >= float(grid[-1])
    assert float(t.max()) <= float(grid[0])
    assert float(t.min() - grid[-1]) < 1e-3 * float(grid[-2] - grid[-1])
    assert float(grid[0] - t.max()) < 1e-2 * float(grid[0] - grid[1])
    # Every step of the sampler is visited equally often.
    step = torch.searchsorted(grid.flip(0), t, right=True) - 1
    assert (torch.bincount(step.clamp(0, 19), minlength=20) == 1000).all()


def test_stratified_times_on_a_uniform_grid_are_uniform() -> None:
    t = stratified_times(uniform_grid(1.0, 7, last=0.0), 5000, generator=generator())
    assert kstest(t.numpy(), "uniform").statistic < 1 / 5000 + 1e-12


def test_binary_cross_entropy_is_the_mean_log_loss() -> None:
    logits, alleles = normal(4, 5), (normal(4, 5, seed=2) > 0).to(torch.int8)
    p = torch.sigmoid(logits)
    expected = -torch.where(alleles == 1, p.log(), (1 - p).log()).mean()
    torch.testing.assert_close(allele_cross_entropy(logits, alleles), expected)


def test_cross_entropy_over_three_states_is_the_mean_log_loss() -> None:
    logits, states = normal(4, 5, 3), torch.randint(3, (4, 5), generator=generator())
    expected = -logits.log_softmax(-1).gather(-1, states.unsqueeze(-1)).mean()
    torch.testing.assert_close(allele_cross_entropy(logits, states.to(torch.int8)), expected)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_unknown_states_take_no_part(shape: tuple[int, ...]) -> None:
    logits = normal(*shape).requires_grad_()
    states = torch.randint(2, (4, 5), generator=generator()).to(torch.int8)
    observed = torch.rand(4, 5, generator=generator(1)) < 0.6
    masked = states.clone()
    masked[~observed] = -1
    loss = allele_cross_entropy(logits, masked, observed=observed)
    torch.testing.assert_close(loss, allele_cross_entropy(logits[observed], states[observed]))
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~observed] == 0).all()
    assert (logits.grad[observed] != 0).all()


def test_a_batch_without_known_states_has_loss_zero() -> None:
    loss = allele_cross_entropy(normal(2, 3), torch.full((2, 3), -1), observed=torch.zeros(2, 3, dtype=torch.bool))
    assert float(loss) == 0.0
    assert math.isfinite(float(loss))
