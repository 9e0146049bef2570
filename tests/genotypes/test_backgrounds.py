"""Haplotype backgrounds: clusters per window, their posterior, and rows taken out of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genodiff.genotypes.backgrounds import Backgrounds, Membership, windows

TILE, HALO, ROWS, SITES = 16, 8, 60, 50


@pytest.fixture(scope="module")
def rows() -> Tensor:
    return (torch.rand(ROWS, SITES, generator=torch.Generator().manual_seed(1)) < 0.4).float()


@pytest.fixture(scope="module")
def fitted(rows: Tensor) -> tuple[Backgrounds, Tensor]:
    return Backgrounds.fit(rows, count=5, tile=TILE, halo=HALO, generator=torch.Generator().manual_seed(2))


def evidence(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, SITES, generator=generator), 4 * torch.rand(ROWS, SITES, generator=generator)


def test_windows_overlap_and_are_padded_with_zeros() -> None:
    x = torch.arange(1.0, 8.0).unsqueeze(0)
    assert windows(x, 4, 1)[:, 0].tolist() == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 0, 0]]
    assert windows(x, 4, 1, offset=3)[:, 0].tolist() == [[0, 0, 0, 0, 1, 2], [1, 2, 3, 4, 5, 6], [5, 6, 7, 0, 0, 0]]


def test_means_are_those_of_the_members_with_one_pseudo_row(rows: Tensor, fitted: tuple[Backgrounds, Tensor]) -> None:
    backgrounds, members = fitted
    x, centre = windows(rows, TILE, HALO), windows(rows.mean(0, keepdim=True), TILE, HALO)[:, 0]
    for tile in range(len(x)):
        for k in range(backgrounds.count):
            inside = x[tile][members[:, tile] == k]
            assert backgrounds.sizes[tile, k] == len(inside)
            expected = (inside.sum(0) + centre[tile]) / (len(inside) + 1)
            torch.testing.assert_close(backgrounds.means[tile, :, k], expected)


def test_posterior_is_that_of_the_gaussian_mixture(fitted: tuple[Backgrounds, Tensor]) -> None:
    backgrounds, _ = fitted
    h, p = evidence(3)
    implied = backgrounds(h, p)
    tile, row = 1, 4
    a, v = backgrounds.means[tile].double(), backgrounds.variance[tile].double()
    y = windows(h / p, TILE, HALO)[tile, row].double()
    noise = 1 / windows(p, TILE, HALO)[tile, row].double() + v
    log_r = (backgrounds.sizes[tile].double() + 0.5).log() - 0.5 * (
        (y.unsqueeze(1) - a).square() / noise.unsqueeze(1)
    ).sum(0)
    expected = a[HALO : HALO + TILE] @ torch.softmax(log_r, 0)
    torch.testing.assert_close(implied[row, tile * TILE : (tile + 1) * TILE].double(), expected, atol=1e-5, rtol=1e-4)


def test_row_is_taken_out_as_if_it_had_never_been_there(rows: Tensor, fitted: tuple[Backgrounds, Tensor]) -> None:
    backgrounds, members = fitted
    h, p = evidence(4)
    left_out = backgrounds(h, p, leave_out=Membership(rows, members))
    row = 7
    without = Backgrounds(
        backgrounds.means.clone(), backgrounds.variance, backgrounds.sizes.clone(), tile=TILE, halo=HALO
    )
    x = windows(rows, TILE, HALO)
    for tile in range(len(x)):
        k = members[row, tile]
        size = backgrounds.sizes[tile, k]
        without.means[tile, :, k] = (backgrounds.means[tile, :, k] * (size + 1) - x[tile, row]) / size
        without.sizes[tile, k] -= 1
    torch.testing.assert_close(without(h[row : row + 1], p[row : row + 1])[0], left_out[row], atol=1e-5, rtol=1e-4)
    assert (backgrounds(h, p) - left_out).abs().max() > 0.01


@pytest.mark.parametrize("first", [16, 20, 33])
def test_run_of_sites_agrees_with_the_whole_where_its_windows_lie_inside(
    fitted: tuple[Backgrounds, Tensor], first: int
) -> None:
    backgrounds, _ = fitted
    h, p = evidence(5)
    h[:, :first], p[:, :first] = 0, 0
    whole = backgrounds(h, p)
    torch.testing.assert_close(backgrounds(h[:, first:], p[:, first:], first_site=first), whole[:, first:])


def test_one_noise_level_for_all_rows_needs_one_row_of_precision(fitted: tuple[Backgrounds, Tensor]) -> None:
    backgrounds, _ = fitted
    h, p = evidence(6)
    torch.testing.assert_close(backgrounds(h, p[:1]), backgrounds(h, p[:1].expand_as(h)))


def test_without_evidence_the_mean_over_backgrounds_remains(fitted: tuple[Backgrounds, Tensor]) -> None:
    backgrounds, _ = fitted
    implied = backgrounds(torch.zeros(1, SITES), torch.zeros(1, SITES))
    weight = (backgrounds.sizes + 0.5) / (backgrounds.sizes + 0.5).sum(-1, keepdim=True)
    expected = torch.bmm(backgrounds.means[:, HALO : HALO + TILE], weight.unsqueeze(-1)).reshape(-1)[:SITES]
    torch.testing.assert_close(implied[0], expected)
