"""Longest runs that rows share with a panel, exactly, by the positional Burrows–Wheeler transform.

At every site the rows of both sets are kept sorted by their states read backwards from that site. In that order the
rows that share the longest run ending at the site are neighbours, so one pass over the sites, each step linear in the
number of rows, finds the longest match of every query with the whole panel (Durbin 2014). The run that is longest in
sites need not be the longest in centimorgan; but of the runs that end at one site the same is longest in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Runs", "longest_shared_runs", "shared_runs", "shared_runs_with_others"]


@dataclass(frozen=True)
class Runs:
    """The longest run each row shares with a panel.

    Attributes:
        sites: its length in sites, int64 (rows,).
        span: largest distance from first to last site of a run, in the unit of the positions, float64 (rows,);
            ``None`` without positions. 0 for a run of one site.
    """

    sites: NDArray[np.int64]
    span: NDArray[np.float64] | None = None

    def __getitem__(self, rows: slice) -> Runs:
        return Runs(self.sites[rows], None if self.span is None else self.span[rows])


def _next_order(
    order: NDArray[np.int64], start: NDArray[np.int64], state: NDArray[np.int8], site: int, top: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort one site further; ``start[i]``: first site of the run that rows i − 1 and i of the order share."""
    orders, starts = [], []
    for k in range(top + 1):
        chosen = np.flatnonzero(state == k)
        if not len(chosen):
            continue
        # Between two rows that become neighbours the shared run begins at the latest start of those they skip.
        begin = np.concatenate([[0], chosen[:-1] + 1])
        block = np.maximum.reduceat(start[: chosen[-1] + 1], begin)
        block[0] = site + 1
        orders.append(order[chosen])
        starts.append(block)
    return np.concatenate(orders), np.concatenate(starts)


def _start_with_panel(is_panel: NDArray[np.bool_], start: NDArray[np.int64], none: int) -> NDArray[np.int64]:
    """First site of the run that each place shares with the nearest panel row before it (``none``: no such)."""
    group = np.cumsum(is_panel)
    # A running maximum that begins anew at every panel row: groups are lifted by more than any start can be.
    lift = group * (none + 1)
    inside = np.where(is_panel, 0, start)
    running = np.maximum.accumulate(inside + lift) - lift
    return np.where(group == 0, none, running)


def _start_with_other(owner: NDArray[np.int64], start: NDArray[np.int64], none: int, reach: int) -> NDArray[np.int64]:
    """First site of the run that each place shares with the nearest row of another owner before it.

    An owner has at most ``reach`` rows, so that one of the ``reach`` places before is another's, if there are as many.
    """
    found = np.full(len(owner), none)
    running = np.zeros(len(owner), dtype=start.dtype)
    for back in range(1, min(reach, len(owner) - 1) + 1):
        running[back:] = np.maximum(running[back:], start[1 : len(owner) - back + 1])
        free = (found[back:] == none) & (owner[back:] != owner[:-back])
        found[back:][free] = running[back:][free]
    return found


def _longest(
    states: NDArray[np.int8], n: int, begin: Callable[..., NDArray[np.int64]], positions: NDArray[Any] | None
) -> Runs:
    """One pass over the sites.

    Args:
        states: (sites, rows), the first n rows being those whose runs are wanted.
        n: their number.
        begin: (order, start, none) → for each place, first site of its longest run with a row it may be matched with
            that comes before it.
        positions: of the sites, or ``None``.
    """
    top = int(states.max(initial=0))
    order = np.arange(states.shape[1])
    start = np.zeros(len(order), dtype=np.int64)
    longest = np.zeros(n, dtype=np.int64)
    span = None if positions is None else np.zeros(n)
    for site, state in enumerate(states):
        order, start = _next_order(order, start, state[order], site, top)
        none = site + 1
        above = begin(order, start, none)
        # Seen from below, the run of places i and i + 1 is stored at i + 1: shift by one before turning round.
        below = begin(order[::-1], np.append(start[1:], none)[::-1], none)[::-1]
        first = np.empty(len(order), dtype=np.int64)
        first[order] = np.minimum(above, below)
        first = first[:n]
        np.maximum(longest, none - first, out=longest)
        if span is not None and positions is not None:
            np.maximum(span, positions[site] - positions[np.minimum(first, site)], out=span)
    return Runs(longest, span)


def _checked(positions: NDArray[Any] | None, sites: int) -> NDArray[np.float64] | None:
    if positions is None:
        return None
    places = np.asarray(positions, dtype=np.float64)
    if places.shape != (sites,) or (np.diff(places) < 0).any():
        raise ValueError(f"positions {places.shape} must be one for each of {sites} sites and never go back")
    return places


def shared_runs(queries: NDArray[np.int8], panel: NDArray[np.int8], *, positions: NDArray[Any] | None = None) -> Runs:
    """Longest run of consecutive sites at which each query equals some row of the panel, the same throughout.

    Args:
        queries: int8 (n, sites), states from 0, no missing call.
        panel: int8 (m, sites), likewise.
        positions: never decreasing positions of the sites, for example in cM, to measure runs by as well.
    """
    if queries.shape[1] != panel.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} sites, the panel has {panel.shape[1]}")
    n, sites = queries.shape
    places = _checked(positions, sites)
    if not len(panel):
        return Runs(np.zeros(n, dtype=np.int64), None if places is None else np.zeros(n))

    def begin(order: NDArray[np.int64], start: NDArray[np.int64], none: int) -> NDArray[np.int64]:
        return _start_with_panel(order >= n, start, none)

    # Site-major: each step reads one contiguous line.
    return _longest(np.ascontiguousarray(np.concatenate([queries, panel]).T), n, begin, places)


def shared_runs_with_others(
    rows: NDArray[np.int8], *, rows_per_person: int, positions: NDArray[Any] | None = None
) -> Runs:
    """Longest run that each row shares with a row of another person of the same set.

    Args:
        rows: int8 (n, sites), states from 0, no missing call; rows of one person beside one another.
        rows_per_person: rows of a person.
        positions: as for :func:`shared_runs`.
    """
    places = _checked(positions, rows.shape[1])

    def begin(order: NDArray[np.int64], start: NDArray[np.int64], none: int) -> NDArray[np.int64]:
        return _start_with_other(order // rows_per_person, start, none, rows_per_person)

    return _longest(np.ascontiguousarray(rows.T), len(rows), begin, places)


def longest_shared_runs(queries: NDArray[np.int8], panel: NDArray[np.int8]) -> NDArray[np.int64]:
    """:func:`shared_runs` in sites, (n,)."""
    return shared_runs(queries, panel).sites
