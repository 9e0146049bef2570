"""Who is learned from and who is held out: always by person, seeded, balanced by label."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.files import read_text
from data_prep.variants import VariantTable

__all__ = ["read_sample_list", "split_by_names", "split_people"]

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


def split_people(table: VariantTable, *, holdout: float = 0.25, seed: int = 1) -> Split:
    """Draw the people to hold out, the same share of every label, and of women and men where they are told apart.

    The number held out is ``holdout`` · people, rounded; labels receive their shares by largest remainder, so that
    each is within one row of its exact share. At least one person stays on either side.

    Args:
        table: people, with labels or without.
        holdout: share held out, in (0, 1).
        seed: any non-negative integer.

    Returns:
        Sorted row indices (train, holdout), disjoint and together everybody.

    Raises:
        ValueError: holdout outside (0, 1), or fewer than two people.
    """
    if not 0 < holdout < 1:
        raise ValueError(f"holdout must lie strictly between 0 and 1, got {holdout}")
    n = table.n_samples
    if n < 2:
        raise ValueError(f"{n} people cannot be split")
    total = int(np.clip(round(holdout * n), 1, n - 1))
    rng = np.random.default_rng(seed)
    labels = table.labels
    groups = np.zeros(n, dtype=np.int64) if labels is None else np.unique(labels, return_inverse=True)[1]
    if "sex" in table.samples.columns:
        groups = np.unique(2 * groups + (table.samples["sex"] == "M").to_numpy(), return_inverse=True)[1]
    sizes = np.bincount(groups)
    exact = total * sizes / n
    share = np.floor(exact).astype(np.int64)
    # Ties between equal remainders are broken at random, not always for the first label.
    order = np.lexsort((rng.random(len(sizes)), -(exact - share)))
    share[order[: total - share.sum()]] += 1
    held = np.concatenate(
        [rng.choice(np.flatnonzero(groups == g), size=share[g], replace=False) for g in range(len(sizes))]
    )
    mask = np.zeros(n, dtype=bool)
    mask[held] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def read_sample_list(path: str | os.PathLike[str]) -> list[str]:
    """Sample names, one per line (the first column counts); blank lines and lines that start with ``#`` are skipped.

    Raises:
        InputError: the file is missing or empty, or a name occurs twice.
    """
    names: list[str] = []
    for number, line in read_text(path, what="sample list"):
        if line.startswith("#"):
            continue
        name = (line.split("\t")[0] if "\t" in line else line).strip()
        if name in names:
            raise InputError(f"{path}, line {number}: sample {name!r} occurs twice")
        names.append(name)
    if not names:
        raise InputError(f"{path} names no sample: give one name per line")
    return names


def split_by_names(table: VariantTable, names: Sequence[str], *, source: str | os.PathLike[str] | None = None) -> Split:
    """Hold out the people with the given names.

    Args:
        table: people.
        names: of those held out.
        source: the file of names, for the message.

    Returns:
        Sorted row indices (train, holdout).

    Raises:
        InputError: a name that the table lacks, or nobody left to learn from.
    """
    known = pd.Index(table.samples.index.astype(str))
    wanted = pd.Index([str(name) for name in names])
    absent = wanted[~wanted.isin(known)]
    where = f"{source}: " if source else ""
    if len(absent):
        raise InputError(
            f"{where}{len(absent):,} of {len(wanted):,} people to hold out are not in the genotypes "
            f"(first: {absent[0]}): check the sample list"
        )
    mask = known.isin(wanted)
    if not mask.any() or mask.all():
        raise InputError(
            f"{where}{int(mask.sum()):,} of {len(known):,} people would be held out: leave people on both sides"
        )
    return np.flatnonzero(~mask), np.flatnonzero(mask)
