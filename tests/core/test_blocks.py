"""Blocks of small matrices: the decay of linear diffusions against independent references, factors and their slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import gammainc
from torch import Tensor

from genodiff.core.blocks import (
    Grouping,
    antisymmetric,
    apply,
    cholesky,
    decay,
    exponential,
    log_det,
    multiply,
    solve_lower,
    solve_upper,
)
from tests.core.helpers import DOUBLE, normal

TIMES = torch.tensor([1e-8, 1e-3, 0.2, 1.0, 7.0, 40.0], dtype=DOUBLE)


def rates(k: int, *, n: int = 3, commuting: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    """S ≻ 0 with a spread of eigenvalues and an antisymmetric W, (n, k, k)."""
    skew = antisymmetric(normal(n, k * (k - 1) // 2, seed=seed + 1), k)
    if commuting:
        return torch.eye(k, dtype=DOUBLE) * normal(n, seed=seed).exp()[:, None, None], skew
    q = torch.linalg.qr(normal(n, k, k, seed=seed))[0]
    values = (2 * normal(n, k, seed=seed + 2)).exp()
    return (q * values.unsqueeze(-2)) @ q.mT, skew


def van_loan(s: np.ndarray, w: np.ndarray, u: float) -> tuple[np.ndarray, np.ndarray]:
    """Φ and C from one exponential of twice the size, which forms no difference of nearly equal matrices."""
    k, a = len(s), 0.5 * s + w
    both = expm(np.block([[a, s], [np.zeros_like(a), -a.T]]) * u)
    return both[k:, k:].T, both[k:, k:].T @ both[:k, k:]


@pytest.mark.parametrize("commuting", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
def test_decay_against_matrix_exponentials(k: int, commuting: bool) -> None:
    s, w = rates(k, commuting=commuting)
    phi, covariance = decay(s, w, TIMES)
    assert phi.shape == covariance.shape == (len(TIMES), 3, k, k)
    for b, u in enumerate(TIMES.tolist()):
        for i in range(3):
            mean = expm(-(0.5 * s[i] + w[i]).numpy() * u)
            error = np.abs(phi[b, i].numpy() - mean).max()
            # The exponential's own error grows with ‖A‖ u.
            assert error < 1e-13 * (1 + u * float((0.5 * s[i] + w[i]).norm())) * np.abs(mean).max() + 1e-300
            np.testing.assert_allclose(covariance[b, i], np.eye(k) - mean @ mean.T, rtol=0, atol=1e-12)
            if u <= 0.2:
                reference = van_loan(s[i].numpy(), w[i].numpy(), u)[1]
                assert np.abs(covariance[b, i].numpy() - reference).max() < 1e-12 * np.abs(reference).max()


@pytest.mark.parametrize("commuting", [True, False])
@pytest.mark.parametrize("u", [0.3, 2.0])
def test_decay_against_the_differential_equation_of_its_moments(commuting: bool, u: float) -> None:
    k = 3
    s, w = (m[0].numpy() for m in rates(k, n=1, commuting=commuting, seed=3))
    a = 0.5 * s + w

    def slope(_: float, flat: np.ndarray) -> np.ndarray:
        phi, covariance = flat.reshape(2, k, k)
        return np.stack([-a @ phi, s - a @ covariance - covariance @ a.T]).ravel()

    start = np.stack([np.eye(k), np.zeros((k, k))]).ravel()
    expected = solve_ivp(slope, (0, u), start, rtol=1e-11, atol=1e-13, method="DOP853").y[:, -1].reshape(2, k, k)
    phi, covariance = decay(torch.tensor(s)[None], torch.tensor(w)[None], torch.tensor(u, dtype=DOUBLE))
    np.testing.assert_allclose(phi[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(covariance[0], expected[1], atol=1e-9)
    assert commuting == np.allclose(expected[1], np.eye(k) - expm(-s * u), atol=1e-6)


def langevin() -> tuple[Tensor, Tensor]:
    s = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]], dtype=DOUBLE)
    return s, torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=DOUBLE)


def langevin_closed_form(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Φ = e^{−u}(I + u N), and C by integrals of powers times e^{−2v}: regularised gamma functions, exact near 0."""
    n = np.array([[1.0, 1.0], [-1.0, -1.0]])
    u = u[:, None, None]
    phi = np.exp(-u) * (np.eye(2) + u * n)
    u = u[:, 0, 0]
    xx, xv = gammainc(3, 2 * u), 2 * u**2 * np.exp(-2 * u)
    vv = 2 * gammainc(1, 2 * u) - 2 * gammainc(2, 2 * u) + xx
    return phi, np.stack([np.stack([xx, xv], -1), np.stack([xv, vv], -1)], -2)


def assert_relative(covariance: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Every entry is right relative to the standard deviations of its row and column, however small."""
    sd = np.sqrt(np.diagonal(expected, axis1=-2, axis2=-1))
    scale = sd[..., :, None] * sd[..., None, :]
    np.testing.assert_allclose(covariance / scale, expected / scale, rtol=0, atol=tolerance)


def test_decay_of_critically_damped_motion_is_its_closed_form_entry_by_entry() -> None:
    u = torch.cat([TIMES, torch.logspace(-12, 1.5, 28, dtype=DOUBLE)])
    phi, covariance = decay(*langevin(), u)
    expected = langevin_closed_form(u.numpy())
    # The last entry of Φ passes through 0 at u = 1, the others do not.
    np.testing.assert_allclose(phi[:, 0], expected[0], rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(phi[:, 0, :, 0], expected[0][:, :, 0], rtol=1e-10)
    assert_relative(covariance[:, 0].numpy(), expected[1], 1e-10)


def test_single_precision_keeps_small_covariances() -> None:
    s, w = langevin()
    u = torch.logspace(-8, 1, 19)
    covariance = decay(s.float(), w.float(), u)[1]
    assert_relative(covariance[:, 0].double().numpy(), langevin_closed_form(u.double().numpy())[1], 2e-5)
    factor = cholesky(covariance)
    assert torch.isfinite(factor).all()
    assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_nothing_grows_however_stiff_and_long() -> None:
    s = torch.diag_embed(torch.tensor([[1e6, 1e-3], [1e4, 1e4]], dtype=torch.float32))
    w = antisymmetric(torch.tensor([[1e3], [1e-2]]), 2)
    phi, covariance = decay(s, w, torch.tensor([0.0, 1e-6, 1.0, 1e5]))
    assert torch.isfinite(phi).all()
    assert torch.linalg.matrix_norm(phi, 2).max() < 1 + 1e-3
    torch.testing.assert_close(phi[0], torch.eye(2).expand(2, 2, 2))
    assert not covariance[0].any()
    torch.testing.assert_close(covariance[3, 1], torch.eye(2))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_slopes_of_decay_against_finite_differences(k: int) -> None:
    def of(lower: Tensor, upper: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return decay(lower @ lower.mT, antisymmetric(upper, k), u)

    inputs = [normal(1, k, k, seed=1), normal(1, k * (k - 1) // 2, seed=2), torch.tensor([1e-2, 3.0]).double()]
    assert torch.autograd.gradcheck(of, [v.requires_grad_(v.numel() > 0) for v in inputs])


def test_products_vectors_and_second_slopes() -> None:
    for k in (1, 2, 4, 7):
        a, b, z = normal(5, 3, k, k), normal(3, k, k, seed=1), normal(5, 3, k, seed=2)
        torch.testing.assert_close(multiply(a, b), a @ b)
        torch.testing.assert_close(apply(b, z), torch.einsum("nij,bnj->bni", b, z))
    a, z = normal(2, 3, 2, 2).requires_grad_(), normal(4, 1, 3, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(apply, (a, z))
    assert torch.autograd.gradgradcheck(apply, (a, z))


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_factors_solves_and_determinants(k: int) -> None:
    root, z = normal(4, 3, k, k), normal(4, 3, k, seed=1)
    a = root @ root.mT + 0.1 * torch.eye(k, dtype=DOUBLE)
    factor = cholesky(a)
    torch.testing.assert_close(factor, torch.linalg.cholesky(a))
    torch.testing.assert_close(apply(factor, solve_lower(factor, z)), z)
    torch.testing.assert_close(apply(factor.mT, solve_upper(factor, z)), z)
    torch.testing.assert_close(log_det(factor), torch.logdet(a))

    def quadratic(r: Tensor) -> Tensor:
        lower = cholesky(r @ r.mT + 0.1 * torch.eye(k, dtype=DOUBLE))
        return solve_upper(lower, solve_lower(lower, z[:1])).sum() + log_det(lower).sum()

    assert torch.autograd.gradcheck(quadratic, (root[:1].requires_grad_(),))


def test_a_block_of_zeros_has_a_factor_and_one_that_is_not_positive_has_none() -> None:
    zero = torch.zeros(2, 3, 3, dtype=DOUBLE, requires_grad=True)
    factor = cholesky(zero)
    assert not factor.any()
    factor.sum().backward()
    assert torch.isfinite(zero.grad).all()
    assert cholesky(torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])).isnan().any()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_exponentials_are_rotations(k: int) -> None:
    h = antisymmetric(normal(4, k * (k - 1) // 2), k)
    torch.testing.assert_close(h, -h.mT)
    p = exponential(h)
    torch.testing.assert_close(p, torch.stack([torch.tensor(expm(m.numpy())) for m in h]))
    torch.testing.assert_close(p @ p.mT, torch.eye(k, dtype=DOUBLE).expand(4, k, k))


def test_entries_of_an_antisymmetric_matrix_lie_above_its_diagonal() -> None:
    h = antisymmetric(torch.tensor([1.0, 2.0, 3.0]), 3)
    torch.testing.assert_close(h, torch.tensor([[0.0, 1, 2], [-1, 0, 3], [-2, -3, 0]]))


def test_modes_go_into_blocks_and_back() -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    grouping, z = Grouping(2, order, order.argsort()), normal(4, 6)
    torch.testing.assert_close(grouping.split(z)[:, 1], z[:, [5, 1]])
    torch.testing.assert_close(grouping.join(grouping.split(z)), z)
    torch.testing.assert_close(Grouping(3).join(Grouping(3).split(z)), z)
    assert math.prod(Grouping(3).split(z).shape) == z.numel()
