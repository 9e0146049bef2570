"""Orthonormal bases and the shrunk spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from genodiff.core.bases import PCA, Basis, BlockPCA, Identity, shrunk_eigh
from tests.core.helpers import DOUBLE, normal, orthogonal

BASES = {
    "identity": Identity(7, dtype=DOUBLE),
    "pca": PCA(orthogonal(7)),
    "blocks": BlockPCA([orthogonal(3, 1), orthogonal(1, 2), orthogonal(3, 3)]),
}


@pytest.fixture(params=BASES)
def basis(request: pytest.FixtureRequest) -> Basis:
    return BASES[request.param]


def test_basis_is_orthonormal(basis: Basis) -> None:
    q = basis.matrix()
    torch.testing.assert_close(q.T @ q, torch.eye(7, dtype=DOUBLE))
    torch.testing.assert_close(q @ q.T, torch.eye(7, dtype=DOUBLE))


def test_synthesis_inverts_analysis_on_any_leading_shape(basis: Basis) -> None:
    for shape in ((7,), (4, 7), (2, 3, 7)):
        x = normal(*shape)
        torch.testing.assert_close(basis.synthesis(basis.analysis(x)), x)
        torch.testing.assert_close(basis.analysis(basis.synthesis(x)), x)


def test_analysis_and_synthesis_are_products_with_the_matrix(basis: Basis) -> None:
    q, x = basis.matrix(), normal(5, 7)
    torch.testing.assert_close(basis.analysis(x), x @ q)
    torch.testing.assert_close(basis.synthesis(x), x @ q.T)


def test_diagonal_is_that_of_the_dense_matrix(basis: Basis) -> None:
    q, v = basis.matrix(), normal(2, 7).abs()
    expected = torch.stack([((q * row) @ q.T).diagonal() for row in v])
    torch.testing.assert_close(basis.diagonal(v), expected)


def test_block_basis_is_block_diagonal() -> None:
    q = BASES["blocks"].matrix()
    outside = torch.ones(7, 7, dtype=torch.bool)
    for lo, hi in ((0, 3), (3, 4), (4, 7)):
        outside[lo:hi, lo:hi] = False
    assert (q[outside] == 0).all()


def test_restricted_basis_is_the_block_of_the_whole() -> None:
    basis = BlockPCA([orthogonal(3, 1), orthogonal(1, 2), orthogonal(3, 3)])
    part = basis.restrict(1, 3)
    assert part.dim == 4
    torch.testing.assert_close(part.matrix(), basis.matrix()[3:, 3:])


def test_blocks_must_be_square() -> None:
    with pytest.raises(ValueError, match="block 1 must be square"):
        BlockPCA([torch.eye(2), torch.zeros(2, 3)])


def test_transforms_keep_full_precision_under_autocast() -> None:
    """Noise is added in these coordinates at every step; rounding them to bfloat16 would add its own."""
    basis, x = BlockPCA([orthogonal(8).float()]), normal(4, 8).float()
    plain = [basis.analysis(x), basis.synthesis(x), basis.diagonal(x)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [basis.analysis(x), basis.synthesis(x), basis.diagonal(x)]
    for a, b in zip(plain, mixed, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("n", "d"), [(200, 10), (12, 40), (2, 5)])
def test_spectrum_is_that_of_the_ledoit_wolf_covariance(n: int, d: int) -> None:
    x = normal(n, d) @ torch.diag(torch.linspace(3, 0.1, d, dtype=DOUBLE)) @ orthogonal(d)
    x -= x.mean(0)
    expected, _ = ledoit_wolf(x.numpy(), assume_centered=True)
    variance, q = shrunk_eigh(x, floor=0.0)
    np.testing.assert_allclose((q * variance @ q.T).numpy(), expected, rtol=1e-9, atol=1e-12)
    assert (variance.diff() <= 1e-12).all()


def test_spectrum_never_falls_below_its_floor() -> None:
    direction = normal(1, 6)
    x = normal(50, 1, seed=1) * direction
    variance, _ = shrunk_eigh(x, floor=0.05)
    assert float(variance.min()) >= 0.05 * float(variance.mean()) * 0.5
    assert (variance > 0).all()


def test_data_without_variance_give_a_positive_spectrum_and_no_nan() -> None:
    variance, q = shrunk_eigh(torch.zeros(5, 3))
    assert (variance > 0).all()
    torch.testing.assert_close(q.T @ q, torch.eye(3, dtype=DOUBLE))


def test_a_single_row_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2 rows"):
        shrunk_eigh(torch.zeros(1, 3))


def test_block_pca_of_data_decorrelates_within_blocks() -> None:
    x = normal(400, 6) @ normal(6, 6, seed=2)
    x -= x.mean(0)
    basis, spectrum = BlockPCA.from_data(x, [0, 2, 6], dtype=DOUBLE)
    z = basis.analysis(x)
    covariance = z.T @ z / len(z)
    for lo, hi in ((0, 2), (2, 6)):
        block = covariance[lo:hi, lo:hi]
        off = block - torch.diag(block.diagonal())
        assert float(off.abs().max()) < 1e-10
        assert (spectrum[lo:hi].diff() <= 1e-12).all()
        # Shrinkage moves variance between modes, not in or out of the block.
        torch.testing.assert_close(spectrum[lo:hi].sum(), block.trace())


def test_full_pca_of_data_has_one_block() -> None:
    x = normal(50, 4)
    basis, _ = PCA.from_data(x - x.mean(0), [0, 4])
    assert basis.bounds == [0, 4]


@pytest.mark.parametrize("bounds", [[0, 3], [1, 4], [0, 2, 5]])
def test_bounds_must_cover_the_coordinates(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="bounds must run from 0 to 4"):
        BlockPCA.from_data(torch.zeros(5, 4), bounds)


def test_state_dict_holds_one_tensor_and_restores_the_basis() -> None:
    first, second = BlockPCA([orthogonal(2, 1), orthogonal(3, 2)]), BlockPCA([orthogonal(2, 3), orthogonal(3, 4)])
    state: dict[str, Tensor] = first.state_dict()
    assert list(state) == ["flat"]
    second.load_state_dict(state)
    torch.testing.assert_close(second.matrix(), first.matrix())


def test_lags_are_shrunk_by_themselves() -> None:
    """Neighbours that are all but equal keep their correlation; what has none beyond sampling error loses it."""
    torch.manual_seed(0)
    n, pairs = 60, 30
    z = torch.randn(n, pairs, dtype=torch.float64)
    x = torch.stack([z, z + 0.1 * torch.randn(n, pairs, dtype=torch.float64)], dim=2).reshape(n, 2 * pairs)
    x = x - x.mean(0)
    variance, q = shrunk_eigh(x, ordered=True, floor=0.0)
    shrunk = (q * variance) @ q.T
    sample = x.T @ x / n
    torch.testing.assert_close(shrunk.diagonal(), sample.diagonal(), atol=0.15, rtol=0)
    near = torch.arange(0, 2 * pairs, 2)
    assert (shrunk[near, near + 1] / sample[near, near + 1]).median() > 0.85
    far = (torch.arange(2 * pairs).unsqueeze(1) - torch.arange(2 * pairs)).abs() > 10
    assert shrunk[far].abs().mean() < 0.2 * sample[far].abs().mean()


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_few_coordinates_can_be_shrunk_by_lag(d: int) -> None:
    x = torch.randn(50, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
    variance, q = shrunk_eigh(x - x.mean(0), ordered=True)
    assert (variance > 0).all()
    torch.testing.assert_close(q.T @ q, torch.eye(d, dtype=torch.float64))
