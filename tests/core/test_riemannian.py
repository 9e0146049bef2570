"""Noise that depends on the place: N(0, I) stays, and only with the divergence term."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genodiff.core.bases import Identity
from genodiff.core.blocks import antisymmetric
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.rates import FixedRates
from genodiff.core.riemannian import RiemannianDiffusion, divergence
from genodiff.core.schedules import LinearRate
from tests.core.helpers import DOUBLE, at, generator, normal

OMEGA = torch.tensor([[0.0, 0.8], [-0.8, 0.0]], dtype=DOUBLE)


def metric(x: Tensor) -> Tensor:
    """Noise that is far stronger to the right and couples the coordinates where both are large."""
    a = 1.2 + torch.tanh(2 * x[:, 0])
    b = 0.5 + x[:, 1].square() / (1 + x[:, 1].square())
    c = 0.3 * torch.tanh(x[:, 0] * x[:, 1])
    return torch.stack([torch.stack([a, c], -1), torch.stack([c, b], -1)], -2)


class WithoutDivergence(RiemannianDiffusion):
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        left_out = 0.5 * self.clock.rate(t).unsqueeze(-1) * divergence(self.metric, x)
        return super().drift(x, t) - left_out


def moments(kind: type[RiemannianDiffusion], n: int = 6000) -> Tensor:
    """E x_i, E x_i x_j and E x_i⁴ after B = 3, started in N(0, I), less those of N(0, I), in standard errors."""
    process = kind(metric, OMEGA, clock=LinearRate(3.0, 3.0))
    x = process.simulate(normal(n, 2, seed=1), torch.linspace(0, 1, 121), generator=generator(2))
    values = torch.cat([x, x.square(), x.prod(1, keepdim=True), x**4, x**3], 1)
    expected = torch.tensor([0.0, 0, 1, 1, 0, 3, 3, 0, 0], dtype=DOUBLE)
    return (values.mean(0) - expected) / (values.std(0) / n**0.5)


def test_the_standard_normal_law_stays() -> None:
    assert (moments(RiemannianDiffusion).abs() < 4.5).all()


def test_the_standard_normal_law_is_lost_without_the_divergence() -> None:
    assert (moments(WithoutDivergence).abs() > 20).any()


def test_divergence_against_finite_differences() -> None:
    x, h = normal(7, 2), 1e-5
    expected = torch.zeros_like(x)
    for j in range(2):
        e = h * torch.eye(2, dtype=DOUBLE)[j]
        expected += (metric(x + e)[:, :, j] - metric(x - e)[:, :, j]) / (2 * h)
    torch.testing.assert_close(divergence(metric, x), expected, rtol=1e-7, atol=1e-8)


def test_the_generator_annihilates_the_normal_density() -> None:
    """−div(f p) + ½ Σ ∂_i ∂_j (R⁻¹_ij p) = 0 at any point: invariance without simulation."""
    process = RiemannianDiffusion(metric, OMEGA, clock=LinearRate(1.0, 1.0))

    def density(x: Tensor) -> Tensor:
        return (-0.5 * x.square().sum(-1)).exp()

    def current(x: Tensor) -> Tensor:
        """f p − ½ div(R⁻¹ p), whose divergence is the loss of density."""
        spread = divergence(lambda y: metric(y) * density(y)[:, None, None], x)
        return process.drift(x, at(0.5)) * density(x).unsqueeze(-1) - 0.5 * spread

    x, h = normal(9, 2, seed=4), 1e-5
    loss = torch.zeros(9, dtype=DOUBLE)
    for j in range(2):
        e = h * torch.eye(2, dtype=DOUBLE)[j]
        loss += (current(x + e)[:, j] - current(x - e)[:, j]) / (2 * h)
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-9)


def test_a_constant_metric_is_the_flexible_process() -> None:
    root = normal(3, 3)
    constant, omega = root @ root.T + torch.eye(3, dtype=DOUBLE), antisymmetric(normal(3, seed=1), 3)
    process = RiemannianDiffusion(lambda x: constant.expand(len(x), 3, 3), omega)
    linear = FlexibleDiffusion(Identity(3, dtype=DOUBLE), FixedRates(constant[None], omega[None]))
    assert float(linear.stretch()) == 1.0
    x, t = normal(5, 3, seed=2), at(0.3)
    torch.testing.assert_close(process.drift(x, t), linear.drift(x, t))
    roots = process.shaken(torch.eye(3, dtype=DOUBLE), x[:3], t, 0.01)
    torch.testing.assert_close(roots.T @ roots, 0.01 * linear.diffused(torch.eye(3, dtype=DOUBLE), t))


def test_the_metric_can_be_learned() -> None:
    layer = torch.nn.Linear(2, 1, dtype=DOUBLE)

    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return (1.5 + torch.tanh(self.layer(x))).unsqueeze(-1) * torch.eye(2, dtype=DOUBLE)

    process = RiemannianDiffusion(Learned(), OMEGA)
    assert len(list(process.parameters())) == 2
    process.simulate(normal(4, 2), torch.linspace(0, 0.1, 4), generator=generator()).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.norm() > 0


def test_what_makes_no_process_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ω\[0, 0\]"):
        RiemannianDiffusion(metric, torch.ones(2, 2))
    with pytest.raises(ValueError, match="square"):
        RiemannianDiffusion(metric, torch.ones(2, 3))
    with pytest.raises(ValueError, match="rise strictly"):
        RiemannianDiffusion(metric, OMEGA).simulate(normal(2, 2), torch.tensor([0.0, 0.5, 0.5]))
