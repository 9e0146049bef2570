"""Longest runs that rows share with a panel, exactly, by the positional Burrows–Wheeler transform.

At every site the rows of both sets are kept sorted by their states read backwards from that site. In that order the
rows that share the longest run ending at the site are neighbours, so one pass over the sites, each step linear in the
number of rows, finds the longest match of every query with the whole panel (Durbin 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["longest_shared_runs"]


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


def longest_shared_runs(queries: NDArray[np.int8], panel: NDArray[np.int8]) -> NDArray[np.int64]:
    """Longest run of consecutive sites at which each query equals some row of the panel.

    Args:
        queries: int8 (n, sites), states from 0, no missing call.
        panel: int8 (m, sites), likewise.

    Returns:
        int64 (n,): length in sites, of one and the same panel row throughout.
    """
    if queries.shape[1] != panel.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} sites, the panel has {panel.shape[1]}")
    n, n_sites = queries.shape
    # Site-major: each step reads one contiguous line.
    states = np.ascontiguousarray(np.concatenate([queries, panel]).T)
    top = int(states.max(initial=0))
    total = states.shape[1]
    order = np.arange(total)
    start = np.zeros(total, dtype=np.int64)
    longest = np.zeros(n, dtype=np.int64)
    if not len(panel):
        return longest
    for site in range(n_sites):
        order, start = _next_order(order, start, states[site][order], site, top)
        is_panel = order >= n
        none = site + 1
        above = _start_with_panel(is_panel, start, none)
        # Seen from below, the run of places i and i + 1 is stored at i + 1: shift by one before turning round.
        shifted = np.append(start[1:], none)[::-1]
        below = _start_with_panel(is_panel[::-1], shifted, none)[::-1]
        run = none - np.minimum(above, below)
        chosen = ~is_panel
        found = order[chosen]
        longest[found] = np.maximum(longest[found], run[chosen])
    return longest
