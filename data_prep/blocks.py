"""Cut a chromosome into blocks at the places that the least linkage disequilibrium spans.

The cost of a cut before site c is the r² of all pairs on either side of it that are at most ``window`` sites apart,

    C(c) = Σ_{a < c ≤ b, b − a ≤ w} (r²_ab − 1/n),

where 1/n is what n independent haplotypes show by chance. Moving the cut by one site adds the pairs that start there
and drops those that end there, so that C needs only two sums per site. Dynamic programming then finds the cuts of least
total cost among all that keep the block sizes in bounds. Time and memory are linear in sites.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from data_prep.variants import VariantTable

__all__ = ["cut_costs", "ld_blocks"]

_TILE = 512
_MAX_ROWS = 2000


def ld_blocks(
    data: VariantTable | NDArray[np.int8], *, min_size: int = 100, max_size: int = 400, window: int = 200
) -> NDArray[np.int64]:
    """Block boundaries: block k holds the sites ``boundaries[k]`` to ``boundaries[k + 1] − 1``.

    Args:
        data: a table, or haplotypes (or dosages) as rows, int8 (rows, variants), −1 missing. Of a table, haplotypes are
            used where it is phased and dosages where it is not; contigs are cut apart.
        min_size: fewest sites of a block. Where a contig has fewer, or no number of blocks fits both bounds, blocks are
            as equal as needed and may be smaller.
        max_size: most sites of a block.
        window: pairs at most this many sites apart count.

    Returns:
        int64 (blocks + 1,), from 0 to the number of variants, strictly increasing; ``[0]`` where there are none.

    Raises:
        ValueError: sizes that are not 1 ≤ min_size ≤ max_size, or a window below 1.
    """
    if not 1 <= min_size <= max_size:
        raise ValueError(f"block sizes must satisfy 1 ≤ min_size ≤ max_size, got {min_size} and {max_size}")
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if isinstance(data, VariantTable):
        contig = data.sites["contig"].to_numpy()
        starts = [0, *(np.flatnonzero(contig[1:] != contig[:-1]) + 1).tolist()]
        values: NDArray[np.int8] = data.haplotypes if data.is_phased else data.dosage()
    else:
        values, starts = np.asarray(data), [0]
        if values.ndim != 2:
            raise ValueError(f"rows of haplotypes must have shape (rows, variants), got {values.shape}")
    n_variants = values.shape[1]
    if not n_variants:
        return np.zeros(1, dtype=np.int64)
    boundaries = [0]
    for start, stop in zip(starts, [*starts[1:], n_variants], strict=True):
        cost = cut_costs(values[:, start:stop], window=window)
        boundaries += [start + cut for cut in _cheapest_cuts(cost, min_size, max_size)]
    return np.array(boundaries, dtype=np.int64)


def _columns(values: NDArray[np.int8], start: int, stop: int) -> NDArray[np.float32]:
    """Standardised columns, (rows, stop − start); missing entries sit at the mean, constant columns are 0."""
    part = values[:, start:stop]
    if part.ndim == 3:  # both chromosomes of a person are rows
        part = part.transpose(0, 2, 1).reshape(-1, part.shape[1])
    if len(part) > _MAX_ROWS:
        part = part[np.linspace(0, len(part) - 1, _MAX_ROWS).astype(np.intp)]
    x = part.astype(np.float32)
    missing = part < 0
    if missing.any():
        x[missing] = 0
        called = np.maximum((~missing).sum(axis=0), 1)
        x -= x.sum(axis=0) / called
        x[missing] = 0
    else:
        x -= x.mean(axis=0)
    norm = np.sqrt(np.einsum("ij,ij->j", x, x, dtype=np.float64))
    return x * np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 1e-6).astype(np.float32)


def cut_costs(values: NDArray[np.int8], *, window: int = 200) -> NDArray[np.float64]:
    """Excess r² across every possible cut.

    Args:
        values: int8 (rows, variants) or (samples, variants, 2), −1 missing. At most 2,000 rows, evenly spread, count.
        window: pairs at most this many sites apart count.

    Returns:
        float64 (variants + 1,): element c is the cost of a cut between the sites c − 1 and c; both ends cost 0.
    """
    n_variants = values.shape[1]
    starting = np.zeros(n_variants)
    ending = np.zeros(n_variants)
    lag = np.arange(_TILE + window)[None, :] - np.arange(_TILE)[:, None]
    band = (lag >= 1) & (lag <= window)
    for start in range(0, n_variants, _TILE):
        x = _columns(values, start, min(start + _TILE + window, n_variants))
        own = min(_TILE, n_variants - start)
        r2 = x[:, :own].T @ x
        np.square(r2, out=r2)
        r2 -= np.float32(1 / max(len(x), 1))
        r2 *= band[:own, : r2.shape[1]]
        starting[start : start + own] += r2.sum(axis=1, dtype=np.float64)
        ending[start : start + r2.shape[1]] += r2.sum(axis=0, dtype=np.float64)
    cost = np.concatenate([[0.0], np.cumsum(starting - ending)])
    cost[-1] = 0.0
    return cost


def _cheapest_cuts(cost: NDArray[np.float64], min_size: int, max_size: int) -> list[int]:
    """End of every block (the last one included) for the cuts of least total cost."""
    n = len(cost) - 1
    fewest = -(-n // max_size)
    if n < fewest * min_size:
        min_size = max(1, n // fewest)
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    previous = np.zeros(n + 1, dtype=np.int64)
    # Starts that may still end at c, their best values increasing: the first is the least (sliding-window minimum).
    window: deque[int] = deque()
    for c in range(min_size, n + 1):
        new = c - min_size
        if best[new] < np.inf:
            while window and best[window[-1]] >= best[new]:
                window.pop()
            window.append(new)
        while window and window[0] < c - max_size:
            window.popleft()
        if window:
            best[c] = best[window[0]] + cost[c]
            previous[c] = window[0]
    cuts = [n]
    while previous[cuts[-1]] > 0:
        cuts.append(int(previous[cuts[-1]]))
    return cuts[::-1]
