"""The cosine basis of images against SciPy's transform."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import dctn, idctn

from genodiff.core.cosines import CosineBasis, cosine_matrix, frequency_bands
from tests.core.helpers import DOUBLE, normal

SHAPES = [(1, 8, 8), (3, 4, 6), (2, 1, 5), (3, 32, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_directions_are_the_orthonormal_transform_of_scipy(shape: tuple[int, int, int]) -> None:
    basis = CosineBasis(shape, dtype=DOUBLE)
    x = normal(5, *shape)
    forward = torch.from_numpy(dctn(x.numpy(), axes=(-2, -1), norm="ortho"))
    back = torch.from_numpy(idctn(x.numpy(), axes=(-2, -1), norm="ortho"))
    torch.testing.assert_close(basis.analysis(x.flatten(1)), forward.flatten(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.synthesis(x.flatten(1)), back.flatten(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_the_basis_is_orthonormal_and_its_diagonal_is_that_of_the_dense_product(shape: tuple[int, int, int]) -> None:
    basis = CosineBasis(shape, dtype=DOUBLE)
    q, v = basis.matrix(), normal(basis.dim, seed=1).square()
    torch.testing.assert_close(q.T @ q, torch.eye(basis.dim, dtype=DOUBLE), rtol=0, atol=1e-13)
    torch.testing.assert_close(basis.diagonal(v), ((q * v) @ q.T).diagonal())


def test_rows_of_the_matrix_are_the_cosines_of_the_formula() -> None:
    matrix = cosine_matrix(4)
    x = torch.arange(4, dtype=DOUBLE)
    torch.testing.assert_close(matrix[0], torch.full((4,), 0.5, dtype=DOUBLE))
    torch.testing.assert_close(matrix[3], 0.5**0.5 * torch.cos((2 * x + 1) * 3 * torch.pi / 8))


def test_single_precision_keeps_an_image_to_rounding() -> None:
    basis = CosineBasis((3, 32, 32))
    x = normal(4, basis.dim).float()
    torch.testing.assert_close(basis.synthesis(basis.analysis(x)), x, rtol=0, atol=2e-6)


def test_one_cut_at_half_gives_the_lowest_quarter_of_the_modes_in_every_channel() -> None:
    band = frequency_bands((3, 8, 8)).view(3, 8, 8)
    expected = torch.ones(8, 8, dtype=torch.long)
    expected[:4, :4] = 0
    assert all(torch.equal(b, expected) for b in band)


def test_bands_are_square_shells_and_none_is_one_subspace() -> None:
    assert torch.equal(frequency_bands((1, 4, 4), ()), torch.zeros(16, dtype=torch.long))
    band = frequency_bands((1, 8, 4), (0.25, 0.5, 1.0)).view(8, 4)
    assert torch.bincount(band.flatten()).tolist() == [2, 6, 24]
    assert int(band[2, 0]) == 1
    assert int(band[0, 1]) == 1
    assert int(band[7, 0]) == int(band[0, 3]) == 2


@pytest.mark.parametrize("cuts", [(0.5, 0.5), (0.5, 0.2), (0.0,), (1.1,)])
def test_cuts_that_do_not_rise_within_the_unit_interval_are_refused(cuts: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="cuts must rise"):
        frequency_bands((1, 8, 8), cuts)


@pytest.mark.parametrize("shape", [(8, 8), (1, 0, 8)])
def test_shapes_that_are_no_image_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="channels, height, width"):
        CosineBasis(shape)
