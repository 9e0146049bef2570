"""Smoothing that stops at edges: dense matrices, symbols, conservation, symmetry."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from genodiff.core.cosines import CosineBasis
from genodiff.core.dissipation import stencil_symbol
from genodiff.core.edges import (
    anisotropy,
    edge_response,
    edge_strength,
    explicit_step,
    presmoothed,
    semi_implicit_step,
    smoothing_rate,
)
from tests.core.helpers import DOUBLE, normal

SHAPE = (2, 2, 5, 4)
SEMI: list[Literal["additive", "symmetric"]] = ["additive", "symmetric"]


def coefficients(batch: int = 2, height: int = 5, width: int = 4) -> Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(3), dtype=DOUBLE) * 0.9 + 0.1


def dense(c: Tensor) -> np.ndarray:
    """L_c of one image as a matrix, from the definition, pixel by pixel."""
    height, width = c.shape[-2:]
    matrix = np.zeros((height * width, height * width))
    for y, x in itertools.product(range(height), range(width)):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < height and 0 <= u < width:
                flux = 0.5 * float(c[..., y, x] + c[..., v, u])
                matrix[y * width + x, v * width + u] += flux
                matrix[y * width + x, y * width + x] -= flux
    return matrix


def test_the_stencil_is_its_definition_on_colour_images_that_are_not_square() -> None:
    x, c = normal(*SHAPE), coefficients()
    for b in range(2):
        expected = torch.einsum("ij,cj->ci", torch.from_numpy(dense(c[b])), x[b].flatten(1))
        torch.testing.assert_close(smoothing_rate(x, c)[b].flatten(1), expected)


def test_constant_coefficients_have_the_discrete_cosine_symbol() -> None:
    shape = (2, 6, 5)
    x = normal(3, *shape)
    basis = CosineBasis(shape, dtype=DOUBLE)
    rate = smoothing_rate(x, torch.ones(3, 1, 6, 5, dtype=DOUBLE)).flatten(1)
    torch.testing.assert_close(basis.analysis(rate), -stencil_symbol(shape) * basis.analysis(x.flatten(1)))


@pytest.mark.parametrize("scheme", ["explicit", *SEMI])
def test_every_step_keeps_the_mean_and_the_range(scheme: str) -> None:
    x, c = normal(*SHAPE), coefficients()
    step = torch.tensor([0.05, 0.25]).to(DOUBLE).view(2, 1, 1, 1)
    step = step if scheme == "explicit" else 40 * step
    y = explicit_step(x, c, step) if scheme == "explicit" else semi_implicit_step(x, c, step, scheme=scheme)  # type: ignore[arg-type]
    torch.testing.assert_close(y.mean((-2, -1)), x.mean((-2, -1)))
    assert (y.amax((-2, -1)) <= x.amax((-2, -1))).all()
    assert (y.amin((-2, -1)) >= x.amin((-2, -1))).all()
    assert (y.var((-2, -1)) < x.var((-2, -1))).all()
    delta = torch.zeros(1, 1, 5, 4, dtype=DOUBLE)
    delta[..., 2, 1] = 1
    spread = explicit_step(delta, c[:1], 0.25) if scheme == "explicit" else semi_implicit_step(delta, c[:1], 9.0)
    assert (spread >= 0).all()


def test_a_step_that_would_leave_the_range_is_refused() -> None:
    x, c = normal(*SHAPE), torch.ones(2, 1, 5, 4, dtype=DOUBLE)
    with pytest.raises(ValueError, match=r"step 0\.26 of image 1 .* stable"):
        explicit_step(x, c, torch.tensor([0.25, 0.26], dtype=DOUBLE).view(2, 1, 1, 1))
    with pytest.raises(ValueError, match=r"step -1\.0 of image 0"):
        semi_implicit_step(x, c, -1.0)
    checkers = ((torch.arange(5).unsqueeze(1) + torch.arange(4)) % 2).to(DOUBLE).view(1, 1, 5, 4)
    too_far = checkers + 0.3 * smoothing_rate(checkers, c[:1])
    assert float(too_far.max()) > 1  # the bound is not only sufficient


@pytest.mark.parametrize("scheme", SEMI)
def test_a_semi_implicit_step_is_the_dense_inverse_along_each_axis(scheme: Literal["additive", "symmetric"]) -> None:
    x, c, step = normal(1, 2, 5, 4), coefficients(1), 1.7
    both = dense(c)
    same_column = np.equal.outer(np.arange(20) % 4, np.arange(20) % 4)
    down = np.where(same_column, both, 0.0)
    np.fill_diagonal(down, 0.0)
    np.fill_diagonal(down, -down.sum(1))
    across = both - down
    length = 2 * step if scheme == "additive" else step
    r_y, r_x = (np.linalg.inv(np.eye(20) - length * a) for a in (down, across))
    matrix = 0.5 * (r_y + r_x) if scheme == "additive" else 0.5 * (r_y @ r_x + r_x @ r_y)
    expected = torch.einsum("ij,cj->ci", torch.from_numpy(matrix), x[0].flatten(1))
    torch.testing.assert_close(semi_implicit_step(x, c, step, scheme=scheme)[0].flatten(1), expected)


def test_all_schemes_converge_to_the_matrix_exponential_at_first_order() -> None:
    x, c = normal(1, 1, 5, 4), coefficients(1)
    exact = torch.from_numpy(scipy.linalg.expm(1.5 * dense(c))) @ x.flatten()
    for scheme in ("explicit", *SEMI):
        errors = []
        for steps in (16, 32, 64):
            y = x
            for _ in range(steps):
                n = 1.5 / steps
                y = explicit_step(y, c, n) if scheme == "explicit" else semi_implicit_step(y, c, n, scheme=scheme)  # type: ignore[arg-type]
            errors.append(float((y.flatten() - exact).norm()))
        assert errors[-1] < 0.03 * float(exact.norm())
        np.testing.assert_allclose(np.array(errors[:-1]) / np.array(errors[1:]), 2.0, atol=0.35)


def test_one_long_additive_step_leaves_half_of_a_stripe_and_the_symmetric_one_does_not() -> None:
    stripes = torch.tensor([1.0, -1.0], dtype=DOUBLE).repeat(4).expand(1, 1, 8, 8)
    c = torch.ones(1, 1, 8, 8, dtype=DOUBLE)
    assert float(semi_implicit_step(stripes, c, 100.0, scheme="additive").abs().max()) > 0.5
    assert float(semi_implicit_step(stripes, c, 100.0, scheme="symmetric").abs().max()) < 0.02


TURNS = {
    "quarter turn": lambda x: x.rot90(1, (-2, -1)),
    "half turn": lambda x: x.rot90(2, (-2, -1)),
    "left to right": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "transposed": lambda x: x.transpose(-2, -1),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("scheme", ["explicit", *SEMI])
def test_what_is_turned_first_is_smoothed_alike(turn: str, scheme: str) -> None:
    x, move = normal(2, 3, 6, 5), TURNS[turn]

    def smoothed(image: Tensor) -> Tensor:
        c = anisotropy(edge_strength(image, presmoothing=0.8, contrast=0.1), 0.7)
        if scheme == "explicit":
            return explicit_step(image, c, 0.2)
        return semi_implicit_step(image, c, 3.0, scheme=scheme)  # type: ignore[arg-type]

    torch.testing.assert_close(smoothed(move(x)), move(smoothed(x)))


def test_presmoothing_is_the_heat_flow() -> None:
    x = normal(1, 1, 5, 4)
    exact = torch.from_numpy(scipy.linalg.expm(0.5 * 0.9**2 * dense(torch.ones(5, 4)))) @ x.flatten()
    torch.testing.assert_close(presmoothed(x, 0.9).flatten(), exact)
    assert presmoothed(x, 0.0) is x
    with pytest.raises(ValueError, match="width >= 0"):
        presmoothed(x, -1.0)


def test_edges_of_a_step_lie_at_the_step_whatever_its_height_and_in_any_channel() -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=DOUBLE)
    x[:, 1, :, 4:] = 0.5
    s = edge_strength(x, presmoothing=0.0, contrast=1e-6)
    on_edge = torch.zeros(8, dtype=torch.bool)
    on_edge[3:5] = True
    assert (s[..., on_edge] > 3.9).all()
    assert (s[..., ~on_edge] == 0).all()
    torch.testing.assert_close(s.mean(), torch.tensor(1.0, dtype=DOUBLE))
    torch.testing.assert_close(edge_strength(20 * x, presmoothing=0.0, contrast=1e-6), s)
    c = anisotropy(s, 0.5)
    assert (c[..., ~on_edge] == 1).all()
    assert (c[..., on_edge] < 0.25).all()


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 3, 4, 5), (1, 2, 1, 6)])
@pytest.mark.parametrize("presmoothing", [0.0, 0.8])
def test_the_response_of_an_edge_to_its_own_pixel_is_the_diagonal_of_the_jacobian(
    shape: tuple[int, ...], presmoothing: float
) -> None:
    x = normal(*shape)

    def strength(y: Tensor) -> Tensor:
        return edge_strength(y, presmoothing=presmoothing, contrast=0.3)

    jacobian = torch.autograd.functional.jacobian(strength, x)  # (1, 1, H, W, 1, C, H, W)
    expected = torch.einsum("yxcyx->cyx", jacobian[0, 0, :, :, 0])
    s, response = edge_response(x, presmoothing=presmoothing, contrast=0.3)
    torch.testing.assert_close(s, strength(x))
    torch.testing.assert_close(response[0], expected)


def test_gradients_are_finite_on_constant_images() -> None:
    x = torch.full((1, 3, 6, 5), 0.4, requires_grad=True)
    s = edge_strength(x, presmoothing=0.7, contrast=0.02)
    y = semi_implicit_step(x, anisotropy(s, 0.1), 2.0)
    (y.square().sum() + s.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert s.abs().max() < 1e-6
    assert edge_response(x.detach(), presmoothing=0.7, contrast=0.02)[1].isfinite().all()
    with pytest.raises(ValueError, match="contrast must be positive"):
        edge_strength(x, presmoothing=0.7, contrast=0.0)


def test_steps_are_differentiable_to_the_right_value() -> None:
    x, c = normal(1, 1, 3, 4).requires_grad_(), coefficients(1, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: semi_implicit_step(a, b, 0.8), (x, c))
