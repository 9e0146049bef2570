"""Markov chains along the tiles of a chromosome whose steps are counts: forward and backward, many rows at once.

Of the M² steps between the states of neighbouring tiles only as many were ever gone as there were rows, so they are
kept as sparse matrices C, to which a pseudo-row that goes anywhere adds a matrix of rank one:

    P(j | i) = (C_ij + α q_j) / (n_i + α),    q even over the states that somebody is in

A row of a known kind (an anchor) walks by P(j | i) g(j) / E(i) with g(j) = P(kind | j), E(i) = Σ_j P(j | i) g(j). With
the likelihood w of what is seen and z = w g / E in every tile, both recursions need one sparse product a tile:

    v_t = z_t ∘ Pᵀ v_{t−1},    u_t = P (z_{t+1} ∘ u_{t+1}),    posterior_t ∝ v_t ∘ u_t

States come first and rows of the batch last, (tiles, M, B), which is how sparse products like it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Chain", "Walkers"]

PSEUDO_ROWS = 0.1
"""Rows that go anywhere, α."""

_LEAST = 1e-30


@dataclass(frozen=True)
class Walkers:
    """Rows that were counted and are to be left out of the counts.

    Attributes:
        own: state of every row in every tile of a run, (tiles, B).
        less: what one row weighs among those that leave its state, (tiles, B).
    """

    own: Tensor
    less: Tensor


class Chain:
    """Steps between the states of neighbouring tiles.

    Args:
        sizes: rows in every state, (tiles, M).
        paths: rows in state i of tile t and j of tile t + 1: int64 (3, number), columns (t, i · M + j, rows).

    Attributes:
        sizes: as given.
        scale: 1/(n_i + α), (tiles − 1, M).
        anywhere: q of the next tile, (tiles − 1, M).
        onto: C_ij/(n_i + α) for every tile but the last, (M, M).
        back: their transposes.
    """

    def __init__(self, sizes: Tensor, paths: Tensor) -> None:
        tiles, m = sizes.shape
        t, pair, rows = paths
        i, j = pair // m, pair % m
        possible = (sizes[1:] > 0).to(sizes.dtype)
        self.sizes = sizes
        self.scale = 1 / (sizes[:-1] + PSEUDO_ROWS)
        self.anywhere = possible / possible.sum(1, keepdim=True).clamp_min(1.0)
        value = rows.to(sizes.dtype) * self.scale[t, i]
        self.onto = _matrices(t, i, j, value, tiles=tiles - 1, states=m)
        self.back = _matrices(t, j, i, value, tiles=tiles - 1, states=m)

    def less(self, tiles: slice, own: Tensor) -> Tensor:
        """What one row weighs among those that leave its state, for states (tiles, B) of a run."""
        return 1 / (self.sizes[tiles].gather(1, own) + (PSEUDO_ROWS - 1))

    def ahead(self, t: int, x: Tensor) -> Tensor:
        """E[x(state in tile t + 1) | state in tile t], (M, B) → (M, B)."""
        return torch.mm(self.onto[t], x).addr_(PSEUDO_ROWS * self.scale[t], self.anywhere[t] @ x)

    def along(self, t: int, v: Tensor) -> Tensor:
        """Weights of states in tile t carried to tile t + 1, (M, B) → (M, B)."""
        return torch.mm(self.back[t], v).addr_(self.anywhere[t], (PSEUDO_ROWS * self.scale[t]) @ v)

    def expected(self, run: slice, g: Tensor, left: Walkers | None = None) -> Tensor:
        """E of a run: what g in the next tile is expected to be, (tiles, M, B); 1 in the last.

        Args:
            run: the tiles.
            g: (tiles, M, B), without the rows left out.
            left: those rows, one per column.
        """
        out = torch.ones_like(g)
        for t in range(len(g) - 1):
            out[t] = self._without(self.ahead(run.start + t, g[t + 1]), g[t + 1], left, t)
        return out.clamp_min_(1e-12)

    def forward(self, run: slice, z: Tensor, left: Walkers | None = None) -> Tensor:
        """v of a run, each tile's summing to one, (tiles, M, B), from z, (tiles, M, B)."""
        out = torch.empty_like(z)
        v = self.sizes[run.start].unsqueeze(1).expand(z.shape[1:])
        if left is not None:
            v = v.scatter_add(0, left.own[:1], v.new_full((1, v.shape[1]), -1.0))
        for t in range(len(z)):
            if t:
                v = self._carried(run.start + t - 1, v, left, t - 1)
            v = torch.mul(v, z[t], out=out[t])
            v /= v.sum(0).clamp_min_(_LEAST)
        return out

    def posterior(self, run: slice, z: Tensor, v: Tensor, left: Walkers | None = None) -> Tensor:
        """Posterior of the states given what is seen on either side, in the place of v, (tiles, M, B)."""
        u = torch.ones_like(v[0])
        for t in range(len(z) - 2, -1, -1):
            y = u.mul_(z[t + 1])
            u = self._without(self.ahead(run.start + t, y), y, left, t).clamp_min_(0.0)
            u /= u.sum(0).clamp_min_(_LEAST)
            v[t] *= u
        return v.div_(v.sum(1, keepdim=True).clamp_min_(_LEAST))

    def _carried(self, tile: int, v: Tensor, left: Walkers | None, t: int) -> Tensor:
        """Weights carried on without the rows left out: who takes a path away leaves the others with the rest."""
        if left is None:
            return self.along(tile, v)
        here, there = left.own[t : t + 1], left.own[t + 1 : t + 2]
        c = v.gather(0, here) * left.less[t]
        return self.along(tile, v.scatter_add(0, here, c)).scatter_add_(0, there, -c).clamp_min_(0.0)

    def _without(self, ahead: Tensor, x: Tensor, left: Walkers | None, t: int) -> Tensor:
        """E[x | state] with the rows left out, from that with them: it differs in a row's own state."""
        if left is None:
            return ahead
        own, less = left.own[t : t + 1], left.less[t]
        there = ahead.gather(0, own)
        return ahead.scatter_(0, own, there + less * (there - x.gather(0, left.own[t + 1 : t + 2])))

    def draw(self, run: slice, v: Tensor, u: Tensor) -> Tensor:
        """A path of every row drawn from the posterior, (tiles, B).

        Args:
            run: the tiles.
            v: as :meth:`forward` gives it.
            u: uniform numbers, (tiles, B).
        """
        path = torch.empty(u.shape, dtype=torch.int64, device=v.device)
        for t in range(len(v) - 1, -1, -1):
            mass = v[t]
            if t < len(v) - 1:
                there = torch.zeros_like(mass).scatter_(0, path[t + 1 : t + 2], 1.0)
                mass = mass * self.ahead(run.start + t, there)
            mass = mass.cumsum(0)
            path[t] = (mass < u[t] * mass[-1]).sum(0).clamp_max(len(mass) - 1)
        return path


def _matrices(t: Tensor, row: Tensor, column: Tensor, value: Tensor, *, tiles: int, states: int) -> list[Tensor]:
    """A matrix (states, states) for every tile, in the form whose products are fastest on the device."""
    order = ((t * states + row) * states + column).argsort()
    row, column, value = row[order], column[order], value[order]
    ends = [0, *torch.bincount(t, minlength=tiles).cumsum(0).tolist()]
    parts = [slice(*bounds) for bounds in itertools.pairwise(ends)]
    form = _form(value.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return [form(row[part], column[part], value[part], states) for part in parts]


def _csr(row: Tensor, column: Tensor, value: Tensor, states: int) -> Tensor:
    first = torch.nn.functional.pad(torch.bincount(row, minlength=states).cumsum(0), (1, 0)).int()
    return torch.sparse_csr_tensor(first, column.int(), value, size=(states, states), check_invariants=False)


def _coo(row: Tensor, column: Tensor, value: Tensor, states: int) -> Tensor:
    index = torch.stack([row, column])
    return torch.sparse_coo_tensor(index, value, (states, states), is_coalesced=True, check_invariants=False)


def _dense(row: Tensor, column: Tensor, value: Tensor, states: int) -> Tensor:
    out = value.new_zeros(states, states)
    out[row, column] = value
    return out


def _form(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """Compressed rows where MKL or CUDA multiply them, pairs on other processors, all numbers on other devices."""
    if device.type == "cuda" or (device.type == "cpu" and torch.backends.mkl.is_available()):
        return _csr
    return _coo if device.type == "cpu" else _dense
