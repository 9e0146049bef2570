"""From a table of people to the rows a model learns, and back.

Where the input is phased the rows are haplotypes with states 0/1, two per person; otherwise they are people with
dosages 0/1/2. A missing call, and in phased mode an unphased heterozygous call, has no state and is masked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_prep.variants import MISSING, VariantTable

__all__ = ["Units", "units_of"]


@dataclass(frozen=True)
class Units:
    """Rows to learn from.

    Attributes:
        states: int8 (rows, sites), 0 … ploidy, −1 where unknown. Rows of one person are consecutive.
        ploidy: 1 for haplotypes, 2 for dosages: the largest state.
        per_person: rows per person, 2 or 1.
        unphased: bool (rows, sites), or ``None`` if there are none: unknown states of heterozygous calls without phase.
            One of the two rows of the person carries ALT, so that such a call counts half an allele in each.
    """

    states: NDArray[np.int8]
    ploidy: int
    per_person: int
    unphased: NDArray[np.bool_] | None = None

    @property
    def n_people(self) -> int:
        """Number of people."""
        return len(self.states) // self.per_person

    def at(self, sites: NDArray[np.int64]) -> Units:
        """The same rows at some sites."""
        unphased = None if self.unphased is None else np.ascontiguousarray(self.unphased[:, sites])
        return replace(self, states=np.ascontiguousarray(self.states[:, sites]), unphased=unphased)

    def rows_of(self, people: NDArray[np.intp]) -> NDArray[np.intp]:
        """Row indices of some people, in order."""
        return (people[:, None] * self.per_person + np.arange(self.per_person)).ravel()

    def frequency(self) -> NDArray[np.float64]:
        """Frequency of the ALT allele among known states, (sites,); 0 where nothing is known."""
        count, total = self.tally(slice(None))
        return total / np.maximum(count * self.ploidy, 1)

    def tally(self, rows: slice | NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Number of known states and their sum over some rows, (sites,) each; unphased calls count as ½.

        Without them a site would lose heterozygous people only, and its rarer allele with them.
        """
        states = self.states[rows]
        count = (states >= 0).sum(0)
        total = np.where(states > 0, states, 0).sum(0, dtype=np.int64).astype(np.float64)
        if self.unphased is not None:
            half = self.unphased[rows].sum(0)
            count, total = count + half, total + half / 2
        return count, total

    def phased_at_random(self, rng: np.random.Generator) -> NDArray[np.int8]:
        """The states with the unphased heterozygous calls given to either row of their person by a coin."""
        if self.unphased is None:
            return self.states
        coin = rng.integers(0, 2, size=self.unphased[::2].shape, dtype=np.int8)
        return np.where(self.unphased, np.stack([coin, 1 - coin], axis=1).reshape(self.states.shape), self.states)


def units_of(table: VariantTable) -> Units:
    """The rows of a table: haplotypes if most heterozygous calls are phased, dosages otherwise."""
    if not table.is_phased:
        return Units(states=table.dosage(), ploidy=2, per_person=1)
    states = table.haplotype_rows()
    if not table.unphased_het.any():
        return Units(states=states, ploidy=1, per_person=2)
    unphased = np.repeat(table.unphased_het, 2, axis=0)
    return Units(np.where(unphased, np.int8(MISSING), states), ploidy=1, per_person=2, unphased=unphased)


def haplotypes_from(states: NDArray[np.int8], *, ploidy: int) -> NDArray[np.int8]:
    """Haplotypes (people, sites, 2) from rows of states; a dosage of 1 becomes 0/1 in arbitrary order."""
    if ploidy == 1:
        return np.ascontiguousarray(states.reshape(-1, 2, states.shape[1]).transpose(0, 2, 1))
    return np.stack([(states > 1).astype(np.int8), (states > 0).astype(np.int8)], axis=2)
