"""People of mixed descent: mosaics of haplotypes of several labels, as recombination since the mixing leaves them.

One pulse of mixing g generations ago: along a haplotype, breaks fall as a Poisson process of g per Morgan, and between
two breaks the ancestry is drawn anew by the proportions of the person (Falush, Stephens & Pritchard 2003). A tract of
an ancestry with proportion p then has the mean length 1 / (g (1 − p)) Morgans. Every mosaic has one haplotype of each
label to itself, so that within an ancestry linkage stays what it was, and no haplotype serves two people.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.errors import InputError, OutputError
from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable

__all__ = [
    "Mixing",
    "by_ancestry",
    "encode_tracts",
    "local_ancestry",
    "paint",
    "shares_of",
    "splice",
    "write_ancestry",
]

_TOLERANCE = 1e-6
_MORGANS_PER_BP = 1e-8
_COLUMN = "ancestry"


@dataclass(frozen=True)
class Mixing:
    """How people came to be mixed.

    Attributes:
        generations: g, since the mixing. An African American born about 1960 has the most African ancestors in cohorts
            of the early 1700s and likely a European one born after 1835 (Mooney et al. 2023): 10 to 5 generations of 25
            years, of which 8 is a mean.
        concentration: c of the Dirichlet law of a person's proportions about those asked for, with the variance
            p (1 − p) / (c + 1). 10 is what European ancestry of 21.9 ± 12.2 % among African Americans comes to
            (Zakharia et al. 2009); infinite gives everybody the same.
        genetic_map: where recombination happens; 1 cM per Mb if ``None``.

    Raises:
        ValueError: generations not positive and finite, or a concentration that is not positive.
    """

    generations: float = 8.0
    concentration: float = 10.0
    genetic_map: GeneticMap | None = None

    def __post_init__(self) -> None:
        if not 0 < self.generations < math.inf:
            raise ValueError(f"generations must be positive and finite, got {self.generations}")
        if not self.concentration > 0:
            raise ValueError(f"concentration must be positive, got {self.concentration}")

    def morgans(self, position: NDArray[np.int64]) -> NDArray[np.float64]:
        """Genetic position of sites in Morgans, (sites,); only differences matter."""
        if self.genetic_map is None:
            return position.astype(np.float64) * _MORGANS_PER_BP
        return self.genetic_map.cM(position) / 100

    def proportions(self, shares: NDArray[np.float64], n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Proportions of n people about ``shares`` (labels,), (n, labels)."""
        if math.isinf(self.concentration):
            return np.tile(shares, (n, 1))
        return rng.dirichlet(self.concentration * shares, n)


def shares_of(label: str, known: Iterable[str] = ()) -> dict[str, float]:
    """Proportions by label of ``AFR=0.8+EUR=0.2``; of a plain label, all of it.

    Args:
        label: a label, or labels with their shares.
        known: labels that are plain whatever they look like.

    Raises:
        InputError: fewer than two labels, one twice, a share outside (0, 1), or shares that do not sum to 1.

    Example:
        >>> shares_of("AFR=0.8+EUR=0.2")
        {'AFR': 0.8, 'EUR': 0.2}
        >>> shares_of("AFR")
        {'AFR': 1.0}
    """
    if label in set(known) or "=" not in label:
        return {label: 1.0}
    example = "as in AFR=0.8+EUR=0.2"
    out: dict[str, float] = {}
    for part in label.split("+"):
        name, _, text = (piece.strip() for piece in part.rpartition("="))
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not name or not 0 < share < 1:
            raise InputError(f"{label!r}: {part!r} is not a label and its share between 0 and 1, {example}")
        if name in out:
            raise InputError(f"{label!r}: label {name!r} is given twice")
        out[name] = share
    total = math.fsum(out.values())
    if len(out) < 2 or abs(total - 1) > _TOLERANCE:
        raise InputError(f"{label!r}: the shares of at least two labels must sum to 1, here {total:g}, {example}")
    return {name: share / total for name, share in out.items()}


def paint(
    proportions: NDArray[np.float64], morgans: NDArray[np.float64], *, generations: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Ancestry of haplotypes at every site, int8 (haplotypes, sites): a column of ``proportions``.

    Args:
        proportions: of each haplotype, (haplotypes, labels); rows sum to 1.
        morgans: genetic position of the sites, never decreasing.
        generations: breaks per Morgan.
        rng: of breaks and ancestries.
    """
    out = np.empty((len(proportions), len(morgans)), dtype=np.int8)
    span = float(morgans[-1] - morgans[0])
    for row, share in zip(out, proportions, strict=True):
        breaks = np.sort(morgans[0] + span * rng.random(rng.poisson(generations * span)))
        edges = np.concatenate([[0], np.searchsorted(morgans, breaks, side="right"), [len(morgans)]])
        drawn = np.searchsorted(share.cumsum()[:-1], rng.random(len(edges) - 1), side="right")
        row[:] = np.repeat(drawn, np.diff(edges))
    return out


def splice(sources: Sequence[NDArray[np.int8]], ancestry: NDArray[np.int8]) -> NDArray[np.int8]:
    """Haplotypes that have at every site the allele of the source their ancestry names.

    Args:
        sources: haplotypes of each label, (people, sites, 2).
        ancestry: index into ``sources``, (people, sites, 2).
    """
    out = sources[0].copy()
    for k, source in enumerate(sources):
        np.copyto(out, source, where=ancestry == k)
    return out


def encode_tracts(ancestry: NDArray[np.int8], labels: Sequence[str], position: NDArray[np.int64]) -> list[str]:
    """Tracts of every person as JSON: per haplotype a list of [label, start, end], half open and 0-based as in BED.

    A tract begins at its first site and ends where the next begins; the last one ends with the last site.

    Args:
        ancestry: index into ``labels``, (people, sites, 2).
        labels: their names.
        position: of the sites, bp, 1-based.
    """

    def tracts(row: NDArray[np.int8]) -> list[list[object]]:
        first = np.flatnonzero(np.diff(row, prepend=-1))
        edges = [*(position[first] - 1).tolist(), int(position[-1])]
        return [[labels[row[j]], edges[k], edges[k + 1]] for k, j in enumerate(first)]

    return [json.dumps([tracts(person[:, 0]), tracts(person[:, 1])], ensure_ascii=False) for person in ancestry]


def local_ancestry(table: VariantTable) -> pd.DataFrame | None:
    """True local ancestry of synthetic people, one row a tract; ``None`` where nobody is of mixed descent.

    Columns are ``sample``, ``haplotype`` (0 or 1), ``contig``, ``start`` and ``end`` (bp, 0-based and half open, as in
    BED) and ``label``.
    """
    if _COLUMN not in table.samples.columns:
        return None
    contig = str(table.sites["contig"].iloc[0])
    names = iter(table.people)
    rows: list[tuple[object, ...]] = []
    for count, text in zip(table.people_per_row, table.samples[_COLUMN], strict=True):
        # Of two men in a row each has one haplotype, his first.
        here = [next(names) for _ in range(count)]
        whose = [(here[0], 0), (here[-1], 2 - count)]
        for (name, haplotype), tracts in zip(whose, json.loads(text), strict=True):
            rows += [(name, haplotype, contig, start, end, label) for label, start, end in tracts]
    return pd.DataFrame(rows, columns=["sample", "haplotype", "contig", "start", "end", "label"])


def write_ancestry(table: VariantTable, path: str | os.PathLike[str]) -> None:
    """Writes :func:`local_ancestry` as a gzipped table with tabs; nothing where there is none.

    Raises:
        OutputError: the file cannot be written.
    """
    frame = local_ancestry(table)
    if frame is None:
        return
    content = frame.to_csv(sep="\t", index=False, lineterminator="\n").encode()
    try:
        with open(path, "wb") as handle:
            handle.write(gzip.compress(content, mtime=0))
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): check the folder and the free space"
        ) from error


def by_ancestry(table: VariantTable, known: Iterable[str]) -> tuple[NDArray[np.bool_], VariantTable]:
    """Who is of mixed descent, and the table with each of them under one of its labels, in proportion.

    Args:
        table: synthetic people.
        known: labels of real people.

    Returns:
        bool (people,), and the table to find real people of the same composition by.
    """
    known = set(known)
    mixed = np.zeros(table.n_samples, dtype=bool)
    if table.labels is None:
        return mixed, table
    labels = table.labels.astype(object)
    for label in np.unique(table.labels).tolist():
        try:
            shares = shares_of(label, known)
        except InputError:
            continue
        if len(shares) > 1 and set(shares) <= known:
            people = np.flatnonzero(table.labels == label)
            mixed[people] = True
            ticks = (np.arange(len(people)) + 0.5) / len(people)
            names = np.asarray(list(shares), dtype=object)
            labels[people] = names[np.searchsorted(np.cumsum(list(shares.values()))[:-1], ticks, side="right")]
    return mixed, table.with_labels(labels)
