"""Haplotype backgrounds: a hidden Markov model along the chromosome whose states are clusters of local haplotypes.

A Gaussian base knows pairs of sites; haplotypes are not pairs of sites but mosaics of ancestral backgrounds. Every tile
has M backgrounds, cluster means of the rows over a window around the tile, and rows pass from the backgrounds of one
tile to those of the next as the rows learned from do. Given what the noisy states say about each site, the posterior
over the paths is exact (forward–backward), and so is the state it implies at every site. That state is shown to the
network, which then need not discover haplotypes by gradient descent.

A training row is part of the backgrounds it is compared with, a new row is not. Shown as they are, backgrounds would
look more trustworthy in training than they turn out to be in sampling, and what the network learned from them would be
a copy. So a row that is being learned is first taken out of its own backgrounds, exactly (:class:`Membership`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genodiff.genotypes.chains import Chain, Walkers

__all__ = ["LEAST_ROWS", "Backgrounds", "Membership", "windows"]

LEAST_ROWS = 3
"""Fewest rows that make a background: less would be a copy of somebody."""

_PSEUDO_ROWS = 0.3
_PSEUDO_ANCHORS = torch.logspace(-1.5, 2.0, 29, dtype=torch.float64)
"""Numbers of rows of no background in particular that are tried."""
_ERROR = 0.001
"""Share of alleles that differ from those of the background."""
_STRONGEST = 30.0

_BLOCK = 64
"""Tiles whose anchors are looked up at once."""


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


@dataclass(frozen=True)
class _Run:
    """Tiles that a run of sites touches, the place of its first site in the first of them, and its length."""

    tiles: slice
    offset: int
    sites: int


class Backgrounds(nn.Module):
    """M backgrounds for every tile, and the paths between those of neighbouring tiles.

    Args:
        means: mean states of the members, (tiles, tile, M), with a share of a pseudo-row at the site mean.
        variance: pooled variance of a site within its background, (tiles, tile), > 0; used for dosages.
        sizes: rows on each background, (tiles, M).
        paths: rows on background i of tile t and j of tile t + 1: int64 (3, number), columns (t, i · M + j, rows),
            t ascending.
        anchored: rows of anchor a on background j of tile t: int64 (3, number), columns (t, a · M + j, rows), t
            ascending.
        share: of every anchor among the rows, (A,), > 0.
        pseudo: rows of no background in particular that the anchors of a background are mixed with, (), > 0.
        tile: sites per tile.
        ploidy: largest state.
    """

    means: Tensor
    variance: Tensor
    sizes: Tensor
    paths: Tensor
    anchored: Tensor
    share: Tensor
    pseudo: Tensor

    def __init__(
        self,
        means: Tensor,
        variance: Tensor,
        sizes: Tensor,
        paths: Tensor,
        anchored: Tensor,
        share: Tensor,
        pseudo: Tensor,
        *,
        tile: int,
        ploidy: int = 1,
    ) -> None:
        super().__init__()
        self.tile, self.ploidy = tile, ploidy
        self.register_buffer("means", means)
        self.register_buffer("variance", variance)
        self.register_buffer("sizes", sizes)
        self.register_buffer("paths", paths)
        self.register_buffer("anchored", anchored)
        self.register_buffer("share", share)
        self.register_buffer("pseudo", pseudo)
        self._chained: Chain | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What moves or converts the tensors; the chain is made anew from them."""
        self._chained = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Without the chain, whose sparse matrices can be neither copied nor pickled."""
        return {**self.__dict__, "_chained": None}

    @property
    def count(self) -> int:
        """Number of backgrounds M."""
        return self.means.shape[-1]

    @property
    def chain(self) -> Chain:
        """The chain of backgrounds along the chromosome."""
        if self._chained is None:
            self._chained = Chain(self.sizes, self.paths)
        return self._chained

    def _affinity(self, first: int, last: int) -> Tensor:
        """P(anchor | background) in tiles first … last − 1, (tiles, M, A)."""
        m, kinds = self.count, len(self.share)
        lo, hi = torch.searchsorted(self.anchored[0].contiguous(), self.anchored.new_tensor([first, last])).tolist()
        t, pair, rows = self.anchored[:, lo:hi]
        out = (self.pseudo * self.share).repeat(last - first, m, 1)
        out.view(-1)[((t - first) * m + pair % m) * kinds + pair // m] += rows.to(out.dtype)
        return out.div_(self.sizes[first:last].unsqueeze(2) + self.pseudo)

    def _weighed(
        self, evidence: Tensor, run: slice, anchor: Tensor | None, own: Tensor | None
    ) -> tuple[Tensor, Walkers | None]:
        """Likelihoods weighed by what rows of an anchor do, z of :mod:`genodiff.genotypes.chains`.

        Args:
            evidence: log-likelihood of what is seen, (tiles, M, B), used up.
            run: the tiles.
            anchor: anchor of each row, (B,), if known.
            own: background of each row in every tile, (tiles, B), if it is to be left out.

        Returns:
            z, (tiles, M, B), and the rows to leave out.
        """
        # A background that nobody is on must not be the measure of the others.
        evidence.masked_fill_((self.sizes[run] == 0).unsqueeze(2), -torch.inf)
        weight = evidence.sub_(evidence.amax(1, keepdim=True)).exp_()
        left = None if own is None else Walkers(own, self.chain.less(run, own))
        if anchor is None:
            return weight, left
        for at in range(0, len(weight), _BLOCK):
            first, last = run.start + at, min(run.stop, run.start + at + _BLOCK)
            # One tile more, into which the last one leads.
            table = self._affinity(first, min(run.stop, last + 1))
            tiles, inside = slice(first, first + len(table)), slice(at, at + last - first)
            if left is None:
                table = table / self.chain.expected(tiles, table)
                weight[inside] *= table[: last - first].index_select(2, anchor)
                continue
            part = slice(at, at + len(table))
            some = Walkers(left.own[part], left.less[part])
            gain = table.index_select(2, anchor)
            alone = self._alone(tiles, gain.gather(1, some.own.unsqueeze(1)).squeeze(1), some.own)
            gain.scatter_(1, some.own.unsqueeze(1), alone.unsqueeze(1))
            gain /= self.chain.expected(tiles, gain, some)
            weight[inside] *= gain[: last - first]
        return weight, left

    def _alone(self, tiles: slice, affinity: Tensor, own: Tensor) -> Tensor:
        """P(anchor | background) of backgrounds that one row of this anchor has left, (tiles, B)."""
        size = self.sizes[tiles].gather(1, own) + self.pseudo
        return ((affinity * size - 1) / (size - 1)).clamp_min(1e-12)

    @torch.no_grad()
    def forward(
        self,
        linear: Tensor,
        precision: Tensor,
        *,
        anchor: Tensor | None = None,
        first_site: int = 0,
        leave_out: Membership | None = None,
    ) -> Tensor:
        """States implied by the posterior over paths, (B, sites).

        Of alleles the expected state given the paths and the site's own evidence; of dosages that of the background.

        Args:
            linear: h of the site-wise likelihood exp(h x − ½ P x²), (B, sites), for a run of sites.
            precision: P, same shape or (1, sites), ≥ 0.
            anchor: anchor of each row, (B,), where it is known.
            first_site: index of the first site of the run.
            leave_out: rows to take out of their own backgrounds, in the order of the batch.
        """
        run = self._run(first_site, linear.shape[-1])
        odds, slope, curve = self._likelihood(linear, precision, run)
        means = self.means[run.tiles]
        evidence = self._evidence(slope, curve, means)
        own: Tensor | None = None
        change = torch.zeros(())
        if leave_out is not None:
            own = leave_out.background[:, run.tiles].T
            size = self.sizes[run.tiles].gather(1, own).unsqueeze(-1)
            a = means.transpose(1, 2).gather(1, own.unsqueeze(-1).expand(-1, -1, self.tile))
            without = (a * (size + _PSEUDO_ROWS) - self._cut(leave_out.states, run)) / (size + _PSEUDO_ROWS - 1)
            score = slope * without if curve is None else slope * without + curve * without.square()
            evidence.scatter_(1, own.unsqueeze(1), score.sum(-1).unsqueeze(1))
            change = (without - a).transpose(1, 2)
        r = self._posterior(evidence, run.tiles, anchor, own)
        mean = torch.bmm(means, r)
        if own is not None:
            mean += r.gather(1, own.unsqueeze(1)) * change
        return self._state(self._joined(mean, run), odds)

    @torch.no_grad()
    def draw(
        self,
        linear: Tensor,
        precision: Tensor,
        *,
        anchor: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What one path drawn from the posterior implies, and what all paths do, (B, sites) each.

        Args:
            linear: h of the site-wise likelihood over the whole chromosome, (B, sites).
            precision: P, same shape or (1, sites), ≥ 0.
            anchor: anchor of each row, (B,), where it is known.
            generator: source of the paths.
        """
        run = self._run(0, linear.shape[-1])
        odds, slope, curve = self._likelihood(linear, precision, run)
        z, _ = self._weighed(self._evidence(slope, curve, self.means), run.tiles, anchor, None)
        v = self.chain.forward(run.tiles, z)
        u = torch.rand(len(v), v.shape[2], generator=generator, device=linear.device)
        path = self.chain.draw(run.tiles, v, u)
        drawn = self.means.gather(2, path.unsqueeze(1).expand(-1, self.tile, -1))
        overall = torch.bmm(self.means, self.chain.posterior(run.tiles, z, v))
        return self._state(self._joined(drawn, run), odds), self._state(self._joined(overall, run), odds)

    @torch.no_grad()
    def assign(self, states: Tensor) -> Tensor:
        """Likeliest background of complete rows in every tile, given all of their alleles, (B, tiles).

        Args:
            states: alleles over the whole chromosome, (B, sites), −1 where unknown.
        """
        known = (states >= 0).to(self.means)
        linear = 2 * _STRONGEST * (states.to(self.means) - 0.5) * known
        run = self._run(0, linear.shape[-1])
        _, slope, curve = self._likelihood(linear, torch.zeros_like(linear[:1]), run)
        return self._posterior(self._evidence(slope, curve, self.means), run.tiles, None, None).argmax(1).T

    def _run(self, first_site: int, sites: int) -> _Run:
        first, offset = divmod(first_site, self.tile)
        return _Run(slice(first, first - (-(offset + sites) // self.tile)), offset, sites)

    def _cut(self, x: Tensor, run: _Run) -> Tensor:
        """(B, sites) of a run → (tiles, B, tile)."""
        return windows(x, self.tile, 0, offset=run.offset)

    @staticmethod
    def _joined(x: Tensor, run: _Run) -> Tensor:
        """(tiles, tile, B) → (B, sites) of a run."""
        return x.permute(2, 0, 1).reshape(x.shape[2], -1)[:, run.offset : run.offset + run.sites]

    def _likelihood(self, linear: Tensor, precision: Tensor, run: _Run) -> tuple[Tensor, Tensor, Tensor | None]:
        """Odds of the own evidence (alleles), and log-likelihood of a background as a·slope + a²·curve."""
        precision = precision.expand_as(linear)
        if self.ploidy == 1:
            odds = torch.exp((linear - 0.5 * precision).clamp(-_STRONGEST, _STRONGEST))
            one, zero = _seen(odds)
            return odds, self._cut((one / zero).log(), run), None
        p = self._cut(precision, run)
        # Integrating the site's state out of its background, N(a, v): precision P/(1 + P v) about h/P.
        damping = 1 / (1 + p * self.variance[run.tiles].unsqueeze(1))
        return linear, self._cut(linear, run) * damping, -0.5 * p * damping

    @staticmethod
    def _evidence(slope: Tensor, curve: Tensor | None, means: Tensor) -> Tensor:
        """Log-likelihood of every background, (tiles, M, B)."""
        means = means.transpose(1, 2)
        out = torch.bmm(means, slope.transpose(1, 2))
        return out if curve is None else out.add_(torch.bmm(means.square(), curve.transpose(1, 2)))

    def _state(self, mean: Tensor, odds: Tensor) -> Tensor:
        """Expected state given the mean of the background and the site's own evidence."""
        mean = mean.clamp(0, self.ploidy)
        if self.ploidy == 2:
            return mean
        one, zero = _seen(odds)
        return mean * ((1 - _ERROR) * odds / one) + (1 - mean) * (_ERROR * odds / zero)

    def _posterior(self, evidence: Tensor, run: slice, anchor: Tensor | None, own: Tensor | None) -> Tensor:
        """Posterior over the backgrounds of every tile, (tiles, M, B), from log-likelihoods, which are used up."""
        z, left = self._weighed(evidence, run, anchor, own)
        return self.chain.posterior(run, z, self.chain.forward(run, z, left), left)

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
        anchor: Tensor | None = None,
        anchors: int = 1,
        ploidy: int = 1,
        rounds: int = 6,
    ) -> tuple[Backgrounds, Tensor]:
        """Lloyd's algorithm in every window, and the paths of the rows through its clusters.

        How far the counts of anchors are believed is chosen by what they say of rows left out of them.

        Args:
            states: rows (n, sites), float, unknown states filled in.
            count: backgrounds per tile, at most; fewer where the window has fewer distinct rows.
            tile: sites per tile.
            halo: sites of context on either side.
            generator: chooses the rows clusters start from.
            anchor: anchor of every row, (n,); all alike if ``None``.
            anchors: number of anchors.
            ploidy: largest state.
            rounds: iterations.

        Returns:
            the backgrounds, and the background of every row in every tile, (n, tiles).
        """
        n, sites = states.shape
        tiles = -(-sites // tile)
        count = min(count, n)
        prior = states.mean(0)
        members = torch.empty(n, tiles, dtype=torch.int64)
        for t in range(tiles):
            lo, hi = max(0, t * tile - halo), min(sites, (t + 1) * tile + halo)
            weight = _weight(torch.arange(lo, hi), t, tile).sqrt()
            found = _clusters(
                states[:, lo:hi] * weight, prior[lo:hi] * weight, count, generator=generator, rounds=rounds
            )
            members[:, t] = found.unique(return_inverse=True)[1]
        count = int(members.max()) + 1
        means, variances = torch.zeros(tiles, tile, count), torch.full((tiles, tile), 1e-3)
        sizes = torch.zeros(tiles, count)
        for t in range(tiles):
            inside = slice(t * tile, min(sites, (t + 1) * tile))
            x = states[:, inside]
            sizes[t] = torch.bincount(members[:, t], minlength=count)
            total = torch.zeros(count, x.shape[1]).index_add_(0, members[:, t], x)
            mean = (total + _PSEUDO_ROWS * prior[inside]) / (sizes[t] + _PSEUDO_ROWS).unsqueeze(1)
            means[t, : x.shape[1]] = mean.T
            variances[t, : x.shape[1]] = (x - mean[members[:, t]]).square().mean(0).clamp_min(1e-3)
        pair = members[:, :-1] * count + members[:, 1:]
        found, rows = (torch.arange(tiles - 1) * count**2 + pair).unique(return_counts=True)
        paths = torch.stack([found // count**2, found % count**2, rows])
        anchor = torch.zeros(n, dtype=torch.int64) if anchor is None else anchor
        triple = (torch.arange(tiles) * anchors + anchor.unsqueeze(1)) * count + members
        found, rows = triple.unique(return_counts=True)
        anchored = torch.stack([found // (anchors * count), found % (anchors * count), rows])
        share = (torch.bincount(anchor, minlength=anchors) + 1 / anchors) / (n + 1)
        of = sizes.ravel()[anchored[0] * count + anchored[1] % count]
        pseudo = _pseudo_count(anchored[2], of, share[anchored[1] // count])
        return cls(means, variances, sizes, paths, anchored, share, pseudo, tile=tile, ploidy=ploidy), members


def _pseudo_count(rows: Tensor, of: Tensor, prior: Tensor) -> Tensor:
    """Pseudo-rows α under which rows left out one at a time are likeliest, ().

    The probability of a kind of which ``rows`` of ``of`` are is (rows + α · prior) / (of + α).

    Args:
        rows: of each kind, (number,), ≥ 1.
        of: rows that might have been of the kind, (number,).
        prior: probability of the kind before any row, (number,).
    """
    n, m, q = (x.double() for x in (rows, of, prior))
    likelihood = torch.stack([(n * ((n - 1 + a * q) / (m - 1 + a)).log()).sum() for a in _PSEUDO_ANCHORS])
    return _PSEUDO_ANCHORS[likelihood.argmax()].float()


def _seen(odds: Tensor) -> tuple[Tensor, Tensor]:
    """Likelihood of the own evidence under a background with allele 1 and under one with allele 0."""
    return _ERROR + (1 - _ERROR) * odds, 1 - _ERROR + _ERROR * odds


def _weight(sites: Tensor, tile_number: int, tile: int) -> Tensor:
    """Weight of sites in the clusters of a tile: 1 inside, falling outside with the cube of the distance."""
    first = tile_number * tile
    away = torch.maximum(first - sites, sites - (first + tile - 1)).clamp_min(0)
    return (1 + 2 * away / tile) ** -3.0


def _clusters(x: Tensor, prior: Tensor, count: int, *, generator: torch.Generator, rounds: int) -> Tensor:
    """Cluster of every row: k-means from distinct rows, the commoner the likelier, (n,)."""
    code = x.double() @ torch.randn(x.shape[1], generator=generator, dtype=torch.float64)
    _, which, often = code.unique(return_inverse=True, return_counts=True)
    example = torch.zeros(len(often), dtype=torch.int64).scatter_(0, which, torch.arange(len(x)))
    key = torch.rand(len(often), generator=generator, dtype=torch.float64).log() / often
    # Rows that are alike are one, as heavy as they are many.
    x, weight = x[example], often.to(x.dtype)
    heavy = x * weight.unsqueeze(1)
    a = x[key.topk(min(count, len(often))).indices]
    for _ in range(rounds):
        nearest = _nearest(x, a)
        size = torch.zeros(len(a)).index_add_(0, nearest, weight)
        total = torch.zeros_like(a).index_add_(0, nearest, heavy)
        a = (total + _PSEUDO_ROWS * prior) / (size + _PSEUDO_ROWS).unsqueeze(1)
    enough = size >= min(LEAST_ROWS, int(size.max()))
    while True:
        a = a[enough]
        nearest = _nearest(x, a)
        # Means are those of the last round, so that a background may lose rows to its neighbours once more.
        size = torch.zeros(len(a)).index_add_(0, nearest, weight)
        enough = size >= min(LEAST_ROWS, int(size.max()))
        if enough.all():
            return nearest[which]


def _nearest(x: Tensor, a: Tensor) -> Tensor:
    """Index of the nearest of the points a, (n,)."""
    # NumPy's argmax takes a quarter of the time of Torch's.
    return torch.from_numpy((x @ a.T - 0.5 * a.square().sum(1)).numpy().argmax(1))
