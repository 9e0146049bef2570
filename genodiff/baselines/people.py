"""What all baselines share: who the new people are, complete calls to copy from, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.variants import VariantTable

__all__ = [
    "Group",
    "NewPeople",
    "complete_alleles",
    "complete_haplotypes",
    "label_frequencies",
    "parts",
    "rows_of",
    "sample_names",
]

_CELLS = 1 << 22
"""Rows × sites that are worked on at a time: some 32 MB of float64."""


def sample_names(count: int) -> pd.Index:
    """BL000001 …: the names of people made by a baseline, all of one width."""
    width = max(6, len(str(count)))
    return pd.Index([f"BL{i:0{width}d}" for i in range(1, count + 1)], name="sample")


@dataclass(frozen=True)
class Group:
    """The people of one label.

    Attributes:
        label: the label; empty where there are none.
        train: indices of the people learned from.
        new: indices of the people to make; may be empty.
    """

    label: str
    train: NDArray[np.intp]
    new: NDArray[np.intp]


@dataclass(frozen=True)
class NewPeople:
    """Who is to be made.

    Attributes:
        source: the people learned from.
        labels: label of every new person, (n,), or ``None``.
        groups: one per label; a single one where there are no labels.
    """

    source: VariantTable
    labels: NDArray[np.str_] | None
    groups: tuple[Group, ...]

    @classmethod
    def draw(cls, train: VariantTable, n: int, rng: np.random.Generator) -> NewPeople:
        """Labels in the proportions of ``train`` by systematic resampling, in random order.

        Every label occurs its expected number of times, rounded up or down at random, so that the composition carries
        next to no sampling noise of its own.

        Raises:
            ValueError: fewer than 1 person asked for, or nobody to learn from.
        """
        if n < 1:
            raise ValueError(f"at least 1 person must be asked for, got {n}")
        if train.n_samples < 1:
            raise ValueError("there is nobody to learn from")
        if train.labels is None:
            return cls(train, None, (Group("", np.arange(train.n_samples), np.arange(n)),))
        names, member = np.unique(train.labels, return_inverse=True)
        share = np.bincount(member) / len(member)
        ticks = (np.arange(n) + rng.random()) / n
        drawn = np.searchsorted(share.cumsum(), ticks, side="right").clip(0, len(names) - 1)[rng.permutation(n)]
        groups = tuple(
            Group(str(name), np.flatnonzero(member == k), np.flatnonzero(drawn == k)) for k, name in enumerate(names)
        )
        return cls(train, names[drawn], groups)

    def table(self, haplotypes: NDArray[np.int8], *, phased: bool) -> VariantTable:
        """The new people as a table at the sites of the source.

        Args:
            haplotypes: alleles (n, sites, 2), complete.
            phased: whether the order of the two alleles of a call has a meaning; if not, a heterozygote becomes 0/1.
        """
        samples = pd.DataFrame(index=sample_names(len(haplotypes)))
        if self.labels is not None:
            samples["label"] = self.labels.astype(object)
        if not phased:
            haplotypes = np.sort(haplotypes, axis=2)
        mask = None if phased else np.zeros(haplotypes.shape[:2], dtype=bool)
        return VariantTable(np.ascontiguousarray(haplotypes), self.source.sites, samples, mask, self.source.header)


def label_frequencies(people: NewPeople) -> NDArray[np.float64]:
    """Frequency of ALT per label and site, (groups, sites); that of everybody where nobody of a label is called.

    A site without any call has frequency 0.
    """
    everybody = np.nan_to_num(people.source.allele_frequency(), nan=0.0)
    if len(people.groups) == 1:
        return everybody[None]
    out = np.stack([people.source.select(samples=group.train).allele_frequency() for group in people.groups])
    return np.where(np.isnan(out), everybody, out)


def complete_alleles(people: NewPeople, rng: np.random.Generator) -> NDArray[np.int8]:
    """Alleles of the people learned from, (people, sites, 2), without gaps.

    A missing allele is drawn from the frequency of its site within the label: frequencies stay as they are, and linkage
    is lost for these calls alone.
    """
    alleles = np.array(people.source.haplotypes)
    missing = alleles < 0
    if not missing.any():
        return alleles
    for group, frequency in zip(people.groups, label_frequencies(people), strict=True):
        person, site, chromosome = np.nonzero(missing[group.train])
        alleles[group.train[person], site, chromosome] = rng.random(len(site)) < frequency[site]
    return alleles


def complete_haplotypes(people: NewPeople, rng: np.random.Generator) -> NDArray[np.int8]:
    """Haplotypes of the people learned from, (2 · people, sites), rows 2i and 2i + 1 of person i, without gaps.

    The two alleles of a heterozygous call without phase go to the two rows by a coin: files write it 0/1, and taking
    that for a phase would put ALT on the second chromosome of everybody.
    """
    alleles = complete_alleles(people, rng)
    person, site = np.nonzero(people.source.unphased_het)
    turned = rng.random(len(site)) < 0.5
    person, site = person[turned], site[turned]
    alleles[person, site] = alleles[person, site, ::-1]
    return np.ascontiguousarray(alleles.transpose(0, 2, 1)).reshape(-1, alleles.shape[1])


def rows_of(people: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of the haplotypes of some people, in order."""
    return (2 * people[:, None] + np.arange(2)).ravel()


def parts(rows: NDArray[np.intp], width: int) -> Iterator[NDArray[np.intp]]:
    """``rows`` in pieces that keep ``piece × width`` within bounds of memory, at least one row each."""
    size = max(1, _CELLS // max(1, width))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
