"""The same mixture of populations on both sides of a comparison."""

from __future__ import annotations

import numpy as np

from data_prep.variants import VariantTable

__all__ = ["match_labels"]

_TOLERANCE = 0.02


def match_labels(table: VariantTable, like: VariantTable, *, seed: int = 1) -> VariantTable:
    """People of ``table`` in the label proportions of ``like``, as many as there are.

    Allele frequencies, LD and F_IS of Europeans alone are not those of a mixed panel. Where people of chosen labels
    were asked for, they are to be compared with real people mixed in the same way.

    Args:
        table: people to choose from.
        like: people whose proportions count.
        seed: of the choice.

    Returns:
        ``table`` itself where either has no labels, where no share differs by more than .02, or where a label of
        ``like`` does not occur in it; otherwise a random choice of its people.
    """
    if table.labels is None or like.labels is None:
        return table
    names, wanted = np.unique(like.labels, return_counts=True)
    share = wanted / wanted.sum()
    there = np.array([(table.labels == name).sum() for name in names])
    mixed_alike = np.abs(there / table.n_samples - share).max() <= _TOLERANCE
    if mixed_alike or (there == 0).any():
        return table
    counts = np.floor(share * (there / share).min() + 1e-9).astype(int)
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(np.flatnonzero(table.labels == name), size=max(1, int(n)), replace=False)
        for name, n in zip(names, counts, strict=True)
    ]
    return table.select(samples=np.sort(np.concatenate(chosen)))
