"""From a table of people to the rows a model learns, and back.

Where the input is phased the rows are haplotypes with states 0/1, two per person; otherwise they are people with
dosages 0/1/2. A missing call, and in phased mode an unphased heterozygous call, has no state and is masked.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    states: NDArray[np.int8]
    ploidy: int
    per_person: int

    @property
    def n_people(self) -> int:
        """Number of people."""
        return len(self.states) // self.per_person

    def rows_of(self, people: NDArray[np.intp]) -> NDArray[np.intp]:
        """Row indices of some people, in order."""
        return (people[:, None] * self.per_person + np.arange(self.per_person)).ravel()

    def frequency(self) -> NDArray[np.float64]:
        """Frequency of the ALT allele among known states, (sites,); 0 where nothing is known."""
        known = (self.states >= 0).sum(0)
        total = np.where(self.states > 0, self.states, 0).sum(0, dtype=np.int64)
        return total / np.maximum(known * self.ploidy, 1)


def units_of(table: VariantTable) -> Units:
    """The rows of a table: haplotypes if most heterozygous calls are phased, dosages otherwise."""
    if not table.is_phased:
        return Units(states=table.dosage(), ploidy=2, per_person=1)
    states = table.haplotype_rows()
    if table.phased is not None:
        unknown = np.repeat(table.unphased_het, 2, axis=0)
        states = np.where(unknown, np.int8(MISSING), states)
    return Units(states=states, ploidy=1, per_person=2)


def haplotypes_from(states: NDArray[np.int8], *, ploidy: int) -> NDArray[np.int8]:
    """Haplotypes (people, sites, 2) from rows of states; a dosage of 1 becomes 0/1 in arbitrary order."""
    if ploidy == 1:
        return np.ascontiguousarray(states.reshape(-1, 2, states.shape[1]).transpose(0, 2, 1))
    return np.stack([(states > 1).astype(np.int8), (states > 0).astype(np.int8)], axis=2)
