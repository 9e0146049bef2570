"""The two extremes: sites without linkage, and people copied whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff.baselines import summary_of
from genodiff.baselines.people import NewPeople, complete_alleles, complete_haplotypes, label_frequencies, parts

__all__ = ["Bootstrap", "IndependentSites"]


@dataclass(frozen=True)
class IndependentSites:
    """Every site on its own: frequencies within the label and nothing else.

    Both alleles of a call are drawn independently with the frequency of ALT among the called alleles of the label:
    Hardy–Weinberg proportions within labels, the Wahlund excess of homozygotes between them, no linkage.
    """

    name: ClassVar[str] = "independent-sites"
    summary: ClassVar[str] = summary_of(name)

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """See :meth:`genodiff.baselines.Baseline.generate`."""
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        alleles = np.empty((n, train.n_variants, 2), dtype=np.int8)
        for group, frequency in zip(people.groups, label_frequencies(people), strict=True):
            for part in parts(group.new, 2 * train.n_variants):
                alleles[part] = rng.random((len(part), train.n_variants, 2)) < frequency[:, None]
        return people.table(alleles, phased=train.is_phased)


@dataclass(frozen=True)
class Bootstrap:
    """People of the training data drawn with replacement within the label: the extreme of copying.

    Missing alleles are drawn from the frequency of the site within the label, and heterozygous calls without phase in
    phased data receive one by a coin, once per person and not once per copy; all else is as it was.
    """

    name: ClassVar[str] = "bootstrap"
    summary: ClassVar[str] = summary_of(name)

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """See :meth:`genodiff.baselines.Baseline.generate`."""
        rng = np.random.default_rng(seed)
        people = NewPeople.draw(train, n, rng)
        if train.is_phased:
            rows = complete_haplotypes(people, rng)
            alleles = rows.reshape(train.n_samples, 2, train.n_variants).transpose(0, 2, 1)
        else:
            alleles = complete_alleles(people, rng)
        chosen = np.empty(n, dtype=np.intp)
        for group in people.groups:
            chosen[group.new] = rng.choice(group.train, size=len(group.new))
        return people.table(alleles[chosen], phased=train.is_phased)
