"""The network along the chromosome: what the Gaussian base cannot know about allele states.

Sites are cut into consecutive *tiles*. Every tile, seen with its two neighbours, is embedded by weights of its own
(LD is a property of the place), the embeddings are mixed along the chromosome with neighbours at growing distances, a
running mean over a wide window carries ancestry, and every tile is read out by weights of its own. Cost is linear in
sites. All tensors inside have the layout (tiles, batch, width), so that tile-specific weights are one batched product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ChromosomeNetwork", "NetworkConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the network.

    Attributes:
        tile: sites per tile.
        width: features per tile.
        expansion: hidden width of a mixing layer's perceptron, in units of ``width``.
        dilations: distance in tiles of the two neighbours each mixing layer looks at. The receptive field is
            ±(1 + sum) tiles.
        window: half-width in tiles of the running mean that carries ancestry.
        local: how many of the first mixing layers have perceptron weights of their own for every tile.
    """

    tile: int = 32
    width: int = 32
    expansion: int = 1
    dilations: tuple[int, ...] = (1, 2, 4, 8, 4, 2)
    window: int = 64
    local: int = 0

    def __post_init__(self) -> None:
        if min(self.tile, self.width, self.expansion, self.window) < 1 or not self.dilations:
            raise ValueError(f"network sizes must be positive and dilations not empty: {self}")

    @property
    def reach(self) -> int:
        """Receptive field on either side, in sites, not counting the running mean."""
        return self.tile * (1 + sum(self.dilations))


def _shift(h: Tensor, offset: int) -> Tensor:
    """h moved by ``offset`` tiles with zeros coming in: row n of the result is row n + offset of h."""
    n = h.shape[0]
    if abs(offset) >= n:
        return torch.zeros_like(h)
    if offset >= 0:
        return F.pad(h[offset:], (0, 0, 0, 0, 0, offset))
    return F.pad(h[:offset], (0, 0, 0, 0, -offset, 0))


def _running_mean(h: Tensor, half: int) -> Tensor:
    """Mean over about ``half`` tiles on either side, truncated at the ends; a single row where that is all.

    Taken over groups of tiles, so that a long chromosome costs a small product.
    """
    n = h.shape[0]
    if n <= half:
        return h.mean(0, keepdim=True)
    group = max(1, half // 4)
    groups = -(-n // group)
    padded = F.pad(h, (0, 0, 0, 0, 0, groups * group - n)).view(groups, group, *h.shape[1:]).sum(1)
    size = torch.full((groups,), float(group), device=h.device, dtype=h.dtype)
    size[-1] -= groups * group - n
    index = torch.arange(groups, device=h.device)
    near = ((index.unsqueeze(0) - index.unsqueeze(1)).abs() <= 4).to(h.dtype)
    mean = (near @ padded.flatten(1)) / (near @ size).unsqueeze(1)
    return mean.view(groups, *h.shape[1:]).repeat_interleave(group, dim=0)[:n]


class _TileLinear(nn.Module):
    """A linear map with weights of its own for every tile: (tiles, B, n_in) → (tiles, B, n_out)."""

    def __init__(self, tiles: int, n_in: int, n_out: int, *, zero: bool = False) -> None:
        super().__init__()
        weight = torch.zeros(tiles, n_in, n_out) if zero else torch.randn(tiles, n_in, n_out) / math.sqrt(n_in)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(tiles, 1, n_out))

    def forward(self, h: Tensor, tiles: slice) -> Tensor:
        return torch.baddbmm(self.bias[tiles], h, self.weight[tiles])


class _Mixing(nn.Module):
    """A perceptron over a tile and two distant neighbours, with a residual connection and a conditioned norm."""

    def __init__(self, config: NetworkConfig, dilation: int, *, tiles: int, local: bool) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.expansion
        self.dilation, self.window, self.local = dilation, config.window, local
        self.condition = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)
        self.ancestry = nn.Linear(width, hidden, bias=False)
        if local:
            self.up: nn.Module = _TileLinear(tiles, 3 * width, hidden)
            self.down: nn.Module = _TileLinear(tiles, hidden, width)
        else:
            self.up, self.down = nn.Linear(3 * width, hidden), nn.Linear(hidden, width)
        self.place = nn.Parameter(torch.zeros(tiles, 1, hidden))

    def forward(self, h: Tensor, c: Tensor, tiles: slice) -> Tensor:
        scale, shift = self.condition(c).chunk(2, dim=-1)
        u = F.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift
        near = torch.cat([_shift(u, -self.dilation), u, _shift(u, self.dilation)], dim=-1)
        wide = self.ancestry(_running_mean(u, self.window)) + self.place[tiles]
        if self.local:
            return h + self.down(F.silu(self.up(near, tiles) + wide), tiles)
        return h + self.down(F.silu(self.up(near) + wide))


class ChromosomeNetwork(nn.Module):
    """Per-site features in, per-site corrections of the log odds out.

    Args:
        sites: number of sites d.
        channels: features per site.
        outputs: numbers per site: 1 for binary alleles, 3 for dosage states.
        conditions: number of categories of each conditioning variable (anchors, labels), may be empty.
        opinions: number of other opinions on every site whose weight in the log odds is learned.
        config: sizes.
    """

    _QUICK = 5.0  # opinions deserve their weight within the first steps

    def __init__(
        self,
        sites: int,
        *,
        channels: int,
        outputs: int,
        conditions: tuple[int, ...],
        opinions: int = 0,
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.config, self.sites, self.channels, self.outputs = config, sites, channels, outputs
        tiles = -(-sites // config.tile)
        self.tiles = tiles
        self.embed = _TileLinear(tiles, 3 * config.tile * channels, config.width)
        frequencies = torch.exp(torch.linspace(math.log(0.25), math.log(8.0), 16))
        self.register_buffer("frequencies", frequencies)
        self.time = nn.Sequential(nn.Linear(33, config.width), nn.SiLU(), nn.Linear(config.width, config.width))
        self.embeddings = nn.ModuleList(nn.Embedding(n, config.width) for n in conditions)
        self.layers = nn.ModuleList(
            _Mixing(config, dilation, tiles=tiles, local=k < config.local)
            for k, dilation in enumerate(config.dilations)
        )
        self.readout_condition = nn.Linear(config.width, 2 * config.width)
        nn.init.zeros_(self.readout_condition.weight)
        nn.init.zeros_(self.readout_condition.bias)
        self.readout = _TileLinear(tiles, config.width, config.tile * outputs, zero=True)
        self.opinions = opinions
        if opinions:
            self.trust = nn.Linear(config.width, opinions)
            nn.init.zeros_(self.trust.weight)
            nn.init.constant_(self.trust.bias, 0.6 / opinions / self._QUICK)

    def forward(
        self,
        features: Tensor,
        log_noise: Tensor,
        conditions: tuple[Tensor, ...] = (),
        *,
        opinions: Tensor | None = None,
        first_tile: int = 0,
    ) -> Tensor:
        """Corrections of the log odds.

        Args:
            features: (B, sites, channels) for a run of sites that starts at tile ``first_tile``.
            log_noise: log noise-to-signal ratio, (B,).
            conditions: one integer tensor (B,) per conditioning variable.
            opinions: what others would change about the log odds, (B, sites, opinions); a share of each, which depends
                on noise and conditions, is added to the corrections.
            first_tile: index of the tile the run of sites starts at.

        Returns:
            (B, sites, outputs).
        """
        tile = self.config.tile
        batch, sites, channels = features.shape
        n = -(-sites // tile)
        run = slice(first_tile, first_tile + n)
        x = F.pad(features, (0, 0, 0, n * tile - sites))
        x = x.view(batch, n, tile * channels).transpose(0, 1)
        h = self.embed(torch.cat([_shift(x, -1), x, _shift(x, 1)], dim=-1), run)
        angle = log_noise.unsqueeze(-1) * self.frequencies
        c = self.time(torch.cat([log_noise.unsqueeze(-1) / 4, angle.sin(), angle.cos()], dim=-1))
        for table, index in zip(self.embeddings, conditions, strict=True):
            c = c + table(index)
        c = F.silu(c)
        for layer in self.layers:
            h = layer(h, c, run)
        scale, shift = self.readout_condition(c).chunk(2, dim=-1)
        h = F.layer_norm(h, h.shape[-1:]) * (1 + scale) + shift
        out = self.readout(h, run)
        out = out.transpose(0, 1).reshape(batch, n * tile, self.outputs)[:, :sites]
        if opinions is None:
            return out
        share = self._QUICK * self.trust(c)
        agreed = torch.bmm(opinions, share.unsqueeze(-1).to(opinions.dtype))
        return out + agreed * torch.arange(1, self.outputs + 1, device=out.device, dtype=out.dtype)
