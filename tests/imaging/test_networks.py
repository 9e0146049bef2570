"""The U-Net may be differentiated twice, and is what its docstring says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imaging.networks import UNet, UNetConfig

SMALL = UNetConfig(widths=(4, 6), blocks=1, patch=2)


def network(config: UNetConfig = SMALL, *, shape: tuple[int, int, int] = (1, 8, 8)) -> UNet:
    """A network in float64 whose last layers are not zero, as after training."""
    generator = torch.Generator().manual_seed(3)
    unet = UNet(shape, config).double()
    with torch.no_grad():
        for p in unet.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return unet


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_first_and_second_derivatives_are_those_of_differences() -> None:
    unet = network(UNetConfig(widths=(2, 2), blocks=1, patch=1), shape=(1, 4, 4))
    x, noise = normal(1, 1, 4, 4).requires_grad_(), torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unet, (x, noise), fast_mode=True)
    assert torch.autograd.gradgradcheck(unet, (x, noise), fast_mode=True)


@pytest.mark.parametrize("classes", [0, 3])
def test_curvature_along_two_directions_is_that_of_differences(classes: int) -> None:
    """⟨h, ∂_r ∂_s F(x + r e + s v)⟩, which the θ-gradient of a schedule is made of."""
    unet = network(UNetConfig(widths=(4, 6), blocks=1, patch=2, classes=classes))
    x, h, e, v = (normal(2, 1, 8, 8, seed=s) for s in range(4))
    noise, label = normal(2, seed=9), torch.tensor([0, 2]) if classes else None
    x.requires_grad_()
    (pulled,) = torch.autograd.grad(unet(x, noise, label), x, h, create_graph=True)
    (bent,) = torch.autograd.grad(pulled, x, e)
    d = 1e-3
    with torch.no_grad():
        corners = [(r * s) * unet(x + d * (r * e + s * v), noise, label) for r in (-1, 1) for s in (-1, 1)]
    assert float((bent * v).sum()) == pytest.approx(float((sum(corners) * h).sum()) / (4 * d * d), rel=1e-4)


def test_the_weights_have_a_gradient_through_a_derivative() -> None:
    unet = network()
    x = normal(2, 1, 8, 8).requires_grad_()
    (slope,) = torch.autograd.grad(unet(x, normal(2)).sum(), x, create_graph=True)
    slope.square().sum().backward()
    reached = [name for name, p in unet.named_parameters() if p.grad is not None and bool(p.grad.abs().sum() > 0)]
    assert len(reached) >= len(list(unet.named_parameters())) - 1  # the last bias moves no slope


def test_vectors_and_images_are_the_same() -> None:
    unet, x, noise = network(shape=(3, 8, 8)), normal(4, 3, 8, 8), normal(4)
    torch.testing.assert_close(unet(x.flatten(1), noise), unet(x, noise).flatten(1))
    assert unet(x, noise).shape == x.shape


def test_images_of_a_batch_do_not_see_each_other() -> None:
    unet, x, noise = network(), normal(4, 1, 8, 8), normal(4)
    torch.testing.assert_close(unet(x, noise)[2:3], unet(x[2:3], noise[2:3]))
    torch.testing.assert_close(unet(x, noise[0]), unet(x, noise[0].expand(4)))


def test_noise_level_and_class_matter() -> None:
    unet, x = network(UNetConfig(widths=(4, 6), blocks=1, classes=2)), normal(2, 1, 8, 8)
    first = unet(x, torch.zeros(2), torch.tensor([0, 0]))
    assert not torch.allclose(first, unet(x, torch.ones(2), torch.tensor([0, 0])))
    assert not torch.allclose(first, unet(x, torch.zeros(2), torch.tensor([1, 1])))
    with pytest.raises(ValueError, match="give labels"):
        unet(x, torch.zeros(2))


def test_an_untrained_network_is_zero_and_of_the_promised_size() -> None:
    unet = UNet((1, 32, 32))
    assert 1e6 < sum(p.numel() for p in unet.parameters()) < 3e6
    with torch.no_grad():
        assert not unet(torch.randn(2, 1, 32, 32), torch.zeros(2)).any()


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        UNet((1, 10, 8), SMALL)
    with pytest.raises(ValueError, match="at least 1"):
        UNetConfig(blocks=0)
