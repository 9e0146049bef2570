"""Label proportions are matched by leaving people out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from data_prep.composition import match_labels
from data_prep.variants import VariantTable


def people(**counts: int) -> VariantTable:
    labels = [name for name, n in counts.items() for _ in range(n)]
    sites = pd.DataFrame({"contig": ["1"], "position": [5], "id": ["."], "ref": ["A"], "alt": ["C"]})
    samples = pd.DataFrame({"label": labels}, index=[f"{name}{i}" for i, name in enumerate(labels)])
    return VariantTable(np.zeros((len(labels), 1, 2), dtype=np.int8), sites, samples)


def counted(table: VariantTable) -> dict[str, int]:
    assert table.labels is not None
    return dict(zip(*(a.tolist() for a in np.unique(table.labels, return_counts=True)), strict=True))


def test_as_many_people_as_the_proportions_allow() -> None:
    real = people(AFR=40, EUR=30, SAS=50)
    assert counted(match_labels(real, people(EUR=20, AFR=10))) == {"AFR": 15, "EUR": 30}
    assert counted(match_labels(real, people(EUR=7))) == {"EUR": 30}


def test_equal_seeds_choose_equal_people() -> None:
    real, like = people(AFR=40, EUR=30), people(EUR=3, AFR=1)
    first, second = (match_labels(real, like, seed=4).samples.index for _ in range(2))
    assert list(first) == list(second)
    assert list(first) != list(match_labels(real, like, seed=5).samples.index)


def test_table_stays_as_it_is_where_nothing_is_to_be_matched() -> None:
    real = people(AFR=40, EUR=60)
    assert match_labels(real, people(AFR=41, EUR=59)) is real
    assert match_labels(real, people(AFR=1, SAS=1)) is real
    unlabelled = VariantTable(real.haplotypes, real.sites, real.samples[[]])
    assert match_labels(unlabelled, real) is unlabelled
    assert match_labels(real, unlabelled) is real
