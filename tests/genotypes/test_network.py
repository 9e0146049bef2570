"""The network along the chromosome: starts at zero, sees as far as it says, and reads crops as it reads the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genodiff.genotypes.network import ChromosomeNetwork, NetworkConfig, _running_mean, _shift

CONFIG = NetworkConfig(tile=4, width=8, dilations=(1, 2, 1), window=2)
REACH = CONFIG.reach


def network(
    sites: int, *, outputs: int = 1, conditions: tuple[int, ...] = (), trained: bool = True, local: bool = True
) -> ChromosomeNetwork:
    """A network with random weights, as after training; ``local`` cuts the path of the running mean."""
    torch.manual_seed(1)
    model = ChromosomeNetwork(sites, channels=2, outputs=outputs, conditions=conditions, config=CONFIG).double()
    if trained:
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(0.3 * torch.randn_like(p))
    if local:
        with torch.no_grad():
            for layer in model.layers:
                layer.ancestry.weight.zero_()  # type: ignore[union-attr, operator]
    return model.eval()


def features(sites: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, sites, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


NOISE = torch.tensor([-1.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("outputs", [1, 2])
def test_untrained_network_corrects_nothing(outputs: int) -> None:
    out = network(30, outputs=outputs, trained=False)(features(30), NOISE)
    assert out.shape == (2, 30, outputs)
    assert (out == 0).all()


@pytest.mark.parametrize("sites", [1, 3, 4, 5, 33])
def test_any_number_of_sites(sites: int) -> None:
    out = network(sites, local=False)(features(sites), NOISE)
    assert out.shape == (2, sites, 1)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("place", [0, 50, 99])
def test_a_site_has_no_influence_beyond_the_reach(place: int) -> None:
    model, x = network(100), features(100)
    changed = x.clone()
    changed[:, place] += 1
    difference = (model(changed, NOISE) - model(x, NOISE)).abs().sum((0, 2))
    tile = CONFIG.tile
    first, last = (place // tile) * tile - REACH, (place // tile) * tile + tile + REACH
    outside = torch.ones(100, dtype=torch.bool)
    outside[max(0, first) : last] = False
    assert (difference[outside] == 0).all()
    # The reach is not an understatement either.
    touched = torch.nonzero(difference).ravel()
    assert int(touched[0]) == max(0, first)
    assert int(touched[-1]) == min(99, last - 1)


def test_running_mean_carries_what_lies_beyond_the_reach() -> None:
    model, x = network(100, local=False), features(100)
    changed = x.clone()
    changed[:, 0] += 1
    assert (model(changed, NOISE) - model(x, NOISE))[:, REACH + CONFIG.tile + 4].abs().max() > 0


def test_a_crop_is_read_like_the_whole_away_from_its_edges() -> None:
    model, x = network(100), features(100)
    whole = model(x, NOISE)
    first, last = 8, 84
    part = model(x[:, first:last], NOISE, first_tile=first // CONFIG.tile)
    torch.testing.assert_close(part[:, REACH:-REACH], whole[:, first + REACH : last - REACH])
    assert not torch.allclose(part[:, :4], whole[:, first : first + 4])


def test_a_crop_up_to_the_last_incomplete_tile_is_read_like_the_whole() -> None:
    model, x = network(99), features(99)
    part = model(x[:, 40:], NOISE, first_tile=10)
    torch.testing.assert_close(part[:, REACH:], model(x, NOISE)[:, 40 + REACH :])


def test_rows_do_not_see_each_other() -> None:
    model, x = network(40, local=False), features(40)
    alone = model(x[:1], NOISE[:1])
    torch.testing.assert_close(alone, model(x, NOISE)[:1])


def test_noise_and_conditions_matter() -> None:
    model, x = network(20, conditions=(3, 2)), features(20, batch=1).expand(2, 20, 2)
    same = torch.zeros(2, dtype=torch.long)
    level = NOISE[:1].expand(2)
    torch.testing.assert_close(*model(x, level, (same, same)).unbind())
    for arguments in (
        (NOISE, (same, same)),
        (level, (torch.tensor([0, 2]), same)),
        (level, (same, torch.tensor([0, 1]))),
    ):
        first, second = model(x, *arguments)
        assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match="zip"):
        model(x, level, (same,))


@pytest.mark.parametrize("offset", [-7, -2, 0, 3, 9])
def test_shift_moves_tiles_and_fills_with_zeros(offset: int) -> None:
    h = torch.randn(6, 2, 3)
    moved = _shift(h, offset)
    for row in range(6):
        expected = h[row + offset] if 0 <= row + offset < 6 else torch.zeros(2, 3)
        assert torch.equal(moved[row], expected)


@pytest.mark.parametrize(("tiles", "half"), [(3, 8), (8, 8), (9, 8), (40, 8), (41, 8), (50, 1)])
def test_running_mean_is_a_mean_over_about_the_window(tiles: int, half: int) -> None:
    constant = torch.full((tiles, 1, 2), 3.0)
    torch.testing.assert_close(_running_mean(constant, half).expand_as(constant), constant)
    for place in (0, tiles // 2, tiles - 1):
        spike = torch.zeros(tiles, 1, 1)
        spike[place] = 1
        mean = _running_mean(spike, half).expand(tiles, 1, 1).ravel()
        seen = torch.nonzero(mean).ravel()
        group = max(1, half // 4)
        assert mean[place] > 0
        assert int((seen - place).abs().max()) <= 4 * group + group
        assert len(seen) >= min(tiles, half)


def test_stated_reach_follows_from_tile_and_dilations() -> None:
    assert NetworkConfig().reach == 32 * (1 + 1 + 2 + 4 + 8 + 4 + 2)
    assert NetworkConfig().reach >= 500


@pytest.mark.parametrize("change", [{"tile": 0}, {"width": 0}, {"window": 0}, {"dilations": ()}])
def test_sizes_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="network sizes"):
        NetworkConfig(**change)  # type: ignore[arg-type]
