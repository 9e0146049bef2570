"""Synthetic, training and held-out people brought to the same sites and to matched numbers.

Metrics work on *rows*: haplotypes (0/1, two rows per person) where all three tables are phased, genotypes (dosage
0/1/2, one row per person) otherwise. Three rules hold for all of them:

* A missing call (−1) is left out of frequencies, site by site. Where a whole row has to be compared (distances, copied
  runs, classifiers) it is replaced by the commonest state of the site among the real people, the same for all tables.
  Projections and covariances replace it by the mean of the site, which contributes nothing.
* A figure and its floor rest on equally many people: synthetic and training people are both cut to the smaller of the
  two numbers (seeded, without replacement) before they are compared with held-out people.
* Drawing is by person: the two haplotypes of a person stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.variants import VariantTable
from genodiff.evaluation.results import Metric, metric_generator

__all__ = ["Comparison", "Panel", "align", "person_rows"]


@dataclass(frozen=True)
class Panel:
    """Genotypes of one set of people at the compared sites.

    Attributes:
        rows: int8 (n_rows, sites), 0/1 for haplotypes and 0/1/2 for genotypes, −1 missing; row ``i`` belongs to person
            ``i // rows_per_person``.
        filled: ``rows`` with every missing call replaced by the commonest state of the site among real people.
        dosage: int8 (people, sites), 0/1/2, −1 missing.
        rows_per_person: 2 for haplotypes, 1 for genotypes.
        labels: population label of each person, or ``None``.
    """

    rows: NDArray[np.int8]
    filled: NDArray[np.int8]
    dosage: NDArray[np.int8]
    rows_per_person: int
    labels: NDArray[Any] | None = None

    @property
    def n_people(self) -> int:
        """Number of people."""
        return self.dosage.shape[0]

    @property
    def n_rows(self) -> int:
        """Number of haplotypes, or of genotypes."""
        return self.rows.shape[0]

    @property
    def max_state(self) -> int:
        """Largest state a row can hold: 1 for haplotypes, 2 for genotypes."""
        return 2 // self.rows_per_person

    @cached_property
    def called(self) -> NDArray[np.int64]:
        """Number of called alleles per site, (sites,)."""
        return (self.rows >= 0).sum(axis=0) * self.max_state

    @cached_property
    def alt_count(self) -> NDArray[np.int64]:
        """Number of ALT alleles among the called ones per site, (sites,)."""
        return np.where(self.rows > 0, self.rows, 0).sum(axis=0, dtype=np.int64)

    @cached_property
    def frequency(self) -> NDArray[np.float64]:
        """ALT allele frequency per site, (sites,); NaN where nobody is called."""
        return np.divide(self.alt_count, self.called, out=np.full(len(self.called), np.nan), where=self.called > 0)

    @cached_property
    def polymorphic(self) -> NDArray[np.bool_]:
        """Whether both alleles occur, (sites,)."""
        return (self.alt_count > 0) & (self.alt_count < self.called)

    @cached_property
    def maf(self) -> NDArray[np.float64]:
        """Minor allele frequency per site, (sites,), in [0, ½]; NaN where nobody is called."""
        return np.minimum(self.frequency, 1 - self.frequency)

    def people(self, index: NDArray[np.int64]) -> Panel:
        """The panel of some people only.

        Args:
            index: integer positions of the people.
        """
        r = person_rows(index, rows_per_person=self.rows_per_person)
        labels = None if self.labels is None else self.labels[index]
        return Panel(self.rows[r], self.filled[r], self.dosage[index], self.rows_per_person, labels)

    def draw(self, n: int, generator: np.random.Generator) -> Panel:
        """``n`` people drawn without replacement; the panel itself where it has no more than that."""
        if n >= self.n_people:
            return self
        return self.people(np.sort(generator.choice(self.n_people, n, replace=False)))

    def sites(self, index: NDArray[Any]) -> Panel:
        """The panel at some sites only, by boolean mask or integer positions."""
        return Panel(
            self.rows[:, index], self.filled[:, index], self.dosage[:, index], self.rows_per_person, self.labels
        )


def person_rows(index: NDArray[np.int64], *, rows_per_person: int) -> NDArray[np.int64]:
    """Row numbers that belong to the people in ``index``."""
    return (np.asarray(index)[:, None] * rows_per_person + np.arange(rows_per_person)).ravel()


@dataclass(frozen=True)
class Comparison:
    """The three sets of people at common sites.

    Attributes:
        holdout: held-out real people, T.
        synthetic: synthetic people, S, at most as many as there are training people.
        train: training people, R, at most as many as there are synthetic people: the floor of fidelity.
        synthetic_all: all synthetic people, for privacy.
        train_all: all training people, for privacy.
        sites: ``contig``, ``position``, ``id``, ``ref`` and ``alt`` of the common sites.
        n_dropped: number of sites that one table has and another lacks.
        seed: seed of every random draw.
        cm: genetic position of the common sites in cM, or ``None``.
    """

    holdout: Panel
    synthetic: Panel
    train: Panel
    synthetic_all: Panel
    train_all: Panel
    sites: pd.DataFrame
    n_dropped: int
    seed: int
    cm: NDArray[np.float64] | None = None

    @property
    def row_name(self) -> str:
        """What a row is: ``"haplotypes"`` or ``"genotypes"``."""
        return "haplotypes" if self.holdout.rows_per_person == 2 else "genotypes"

    @property
    def n_sites(self) -> int:
        """Number of common sites."""
        return len(self.sites)

    def site_metrics(self) -> list[Metric]:
        """How many sites are compared, and how many are not."""
        counts = {"sites_compared": self.n_sites, "sites_dropped": self.n_dropped}
        return [Metric("sites", name, n, float("nan"), n, "sites") for name, n in counts.items()]

    def generator(self, name: str) -> np.random.Generator:
        """Random generator of the metric ``name``."""
        return metric_generator(self.seed, name)


def _first_occurrence(keys: pd.Index) -> pd.Series:
    kept = np.flatnonzero(~keys.duplicated())
    return pd.Series(kept, index=keys[kept])


def _commonest_state(rows: list[NDArray[np.int8]], *, max_state: int) -> NDArray[np.int8]:
    counts = np.stack([sum(np.sum(r == k, axis=0) for r in rows) for k in range(max_state + 1)])
    return counts.argmax(axis=0).astype(np.int8)


def align(
    synthetic: VariantTable,
    *,
    train: VariantTable,
    holdout: VariantTable,
    genetic_map: Any = None,
    seed: int = 1,
) -> Comparison:
    """Bring three tables to their common sites and to matched numbers of people.

    Args:
        synthetic: synthetic people, S.
        train: the real people the generator was fitted on, R.
        holdout: real people it has not seen, T.
        genetic_map: object with ``cM(position)``, positions in bp to cM, or ``None``.
        seed: seed of every random draw.

    Raises:
        ValueError: no site in common, or fewer than two people in a table.
    """
    tables = {"holdout": holdout, "synthetic": synthetic, "train": train}
    for name, table in tables.items():
        if table.n_samples < 2:
            raise ValueError(f"{name} table has {table.n_samples} people: metrics need at least 2")
    places = {name: _first_occurrence(table.site_keys) for name, table in tables.items()}
    common = places["holdout"].index
    for place in places.values():
        common = common[common.isin(place.index)]
    if not len(common):
        sizes = ", ".join(f"{name} {table.n_variants}" for name, table in tables.items())
        raise ValueError(f"no site in common between the tables (sites: {sizes}); sites match by contig:pos:ref:alt")
    union = pd.Index(np.unique(np.concatenate([table.site_keys.to_numpy() for table in tables.values()])))

    chosen = {name: table.select(variants=places[name][common].to_numpy()) for name, table in tables.items()}
    phased = all(table.is_phased for table in tables.values())
    rows = {name: table.haplotype_rows() if phased else table.dosage() for name, table in chosen.items()}
    commonest = _commonest_state([rows["holdout"], rows["train"]], max_state=1 if phased else 2)
    panels = {
        name: Panel(
            rows=rows[name],
            filled=np.where(rows[name] < 0, commonest, rows[name]),
            dosage=table.dosage(),
            rows_per_person=2 if phased else 1,
            labels=table.labels,
        )
        for name, table in chosen.items()
    }
    n = min(panels["synthetic"].n_people, panels["train"].n_people)
    sites = chosen["holdout"].sites
    return Comparison(
        holdout=panels["holdout"],
        synthetic=panels["synthetic"].draw(n, metric_generator(seed, "match synthetic")),
        train=panels["train"].draw(n, metric_generator(seed, "match train")),
        synthetic_all=panels["synthetic"],
        train_all=panels["train"],
        sites=sites,
        n_dropped=len(union) - len(common),
        seed=seed,
        cm=None if genetic_map is None else np.asarray(genetic_map.cM(sites["position"].to_numpy()), dtype=np.float64),
    )
