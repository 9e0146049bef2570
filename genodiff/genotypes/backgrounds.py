"""Haplotype backgrounds: what real haplotypes look like within a window, as a Gaussian mixture per tile.

A Gaussian base knows pairs of sites; haplotypes are not pairs of sites but a few dozen ancestral backgrounds at any
place. Every tile has M cluster means over a window of itself and its surroundings. Given what the noisy states say
about each site, the posterior over the backgrounds is one batched product, and so is the mean state they imply. That
mean is shown to the network, which then need not discover the clusters by gradient descent. A background is an average
over many rows (24 or more on average), not a person.

A training row is part of the backgrounds it is compared with, a new row is not. Shown as they are, backgrounds would
look more trustworthy in training than they turn out to be in sampling, and what the network learned from them would be
a copy. So a row that is being learned is first taken out of its own background, exactly (:class:`Membership`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Backgrounds", "Membership", "windows"]


def windows(x: Tensor, tile: int, halo: int, *, offset: int = 0) -> Tensor:
    """Overlapping windows along the last axis, (B, sites) → (tiles, B, tile + 2 · halo), zeros outside.

    Args:
        x: a run of sites.
        tile: distance of the windows.
        halo: sites of context on either side.
        offset: place of the first site within its tile.
    """
    tiles = -(-(offset + x.shape[-1]) // tile)
    padded = F.pad(x, (halo + offset, halo + tiles * tile - offset - x.shape[-1]))
    return padded.unfold(-1, tile + 2 * halo, tile).transpose(0, 1)


@dataclass(frozen=True)
class Membership:
    """Rows that are part of the backgrounds and are to be left out of them.

    Attributes:
        states: their clean states, (B, sites) of the run.
        background: background of each row in every tile of the chromosome, (B, tiles).
    """

    states: Tensor
    background: Tensor


class Backgrounds(nn.Module):
    """M backgrounds for every tile.

    Args:
        means: mean states, (tiles, window, M), each with one pseudo-row at the site mean.
        variance: pooled variance of a site within its background, (tiles, window), > 0.
        sizes: rows on each background, (tiles, M).
        tile: sites per tile.
        halo: sites of context on either side of a tile; window = tile + 2 · halo.
    """

    means: Tensor
    variance: Tensor
    sizes: Tensor

    def __init__(self, means: Tensor, variance: Tensor, sizes: Tensor, *, tile: int, halo: int) -> None:
        super().__init__()
        self.tile, self.halo = tile, halo
        self.register_buffer("means", means)
        self.register_buffer("variance", variance)
        self.register_buffer("sizes", sizes)

    @property
    def count(self) -> int:
        """Number of backgrounds M."""
        return self.means.shape[-1]

    @torch.no_grad()
    def forward(
        self, linear: Tensor, precision: Tensor, *, first_site: int = 0, leave_out: Membership | None = None
    ) -> Tensor:
        """Mean states implied by the posterior over backgrounds, (B, sites).

        Args:
            linear: h of the site-wise likelihood exp(h x − ½ P x²), (B, sites), for a run of sites.
            precision: P, same shape or (1, sites), ≥ 0.
            first_site: index of the first site of the run.
            leave_out: rows to take out of their own backgrounds, in the order of the batch.
        """
        first, offset = divmod(first_site, self.tile)
        sites = linear.shape[-1]
        h = windows(linear, self.tile, self.halo, offset=offset)
        p = windows(precision, self.tile, self.halo, offset=offset)
        run = slice(first, first + len(h))
        means = self.means[run]
        # Integrating the site's state out of its background, N(a, v): precision P/(1 + P v) about h/P.
        damping = 1 / (1 + p * self.variance[run].unsqueeze(1))
        h, p = h * damping, p * damping
        # Where all rows share one noise level, P has a single row and its product is taken once.
        weight = (self.sizes[run] + 0.5).log().unsqueeze(1) - 0.5 * torch.bmm(p, means.square())
        log_r = torch.baddbmm(weight, h, means)
        own = slice(self.halo, self.halo + self.tile)
        change = None
        if leave_out is not None:
            k = leave_out.background[:, run].T
            size = self.sizes[run].gather(1, k).unsqueeze(-1)
            a = means.transpose(1, 2).gather(1, k.unsqueeze(-1).expand(-1, -1, means.shape[1]))
            x = windows(leave_out.states, self.tile, self.halo, offset=offset)
            # Sites outside the run have h = P = 0 and do not count.
            without = (a * (size + 1) - x) / size
            score = (h * without - 0.5 * p * without.square()).sum(-1) + (size.squeeze(-1) - 0.5).log()
            log_r.scatter_(2, k.unsqueeze(-1), score.unsqueeze(-1))
            change = without[..., own] - a[..., own]
        r = torch.softmax(log_r, dim=-1)
        mean = torch.bmm(r, means[:, own].transpose(1, 2))
        if change is not None:
            mean += r.gather(2, k.unsqueeze(-1)) * change
        return mean.transpose(0, 1).reshape(len(linear), -1)[:, offset : offset + sites].clamp_min(0)

    @classmethod
    @torch.no_grad()
    def fit(
        cls,
        states: Tensor,
        *,
        count: int,
        tile: int,
        halo: int,
        generator: torch.Generator,
        rounds: int = 8,
        chunk: int = 16,
    ) -> tuple[Backgrounds, Tensor]:
        """Lloyd's algorithm in every window at once.

        Args:
            states: rows (n, sites), float, unknown states filled in.
            count: backgrounds per tile; fewer than rows.
            tile: sites per tile.
            halo: sites of context on either side.
            generator: chooses the rows clusters start from.
            rounds: iterations.
            chunk: tiles treated at a time, to bound memory.

        Returns:
            the backgrounds, and the background of every row in every tile, (n, tiles).
        """
        n, sites = states.shape
        tiles = -(-sites // tile)
        count = min(count, n)
        means, variances, sizes, members = [], [], [], []
        prior = states.mean(0)
        for first in range(0, tiles, chunk):
            lo, hi = first * tile - halo, min(tiles, first + chunk) * tile + halo
            part = F.pad(states[:, max(0, lo) : hi], (max(0, -lo), max(0, hi - sites)))
            centre = F.pad(prior[max(0, lo) : hi], (max(0, -lo), max(0, hi - sites)))
            x = part.unfold(-1, tile + 2 * halo, tile).transpose(0, 1)
            overall = centre.unfold(-1, tile + 2 * halo, tile)
            start = torch.stack([torch.randperm(n, generator=generator)[:count] for _ in range(len(x))]).to(x.device)
            a = torch.gather(x, 1, start.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
            for _ in range(rounds):
                nearest = (torch.bmm(x, a.transpose(1, 2)) - 0.5 * a.square().sum(-1).unsqueeze(1)).argmax(-1)
                one_hot = torch.zeros(len(x), n, count, device=x.device).scatter_(2, nearest.unsqueeze(-1), 1.0)
                size = one_hot.sum(1)
                total = torch.bmm(one_hot.transpose(1, 2), x)
                # One pseudo-row at the overall mean: no allele is impossible, empty clusters fall back to the mean.
                a = (total + overall.unsqueeze(1)) / (size + 1).unsqueeze(-1)
            residual = x - torch.gather(a, 1, nearest.unsqueeze(-1).expand_as(x))
            variances.append(residual.square().mean(1).clamp_min(1e-3))
            means.append(a.transpose(1, 2))
            sizes.append(size)
            members.append(nearest.T)
        made = cls(torch.cat(means), torch.cat(variances), torch.cat(sizes), tile=tile, halo=halo)
        return made, torch.cat(members, dim=1)
