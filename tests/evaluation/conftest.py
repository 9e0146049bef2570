"""Small tables of people with structure and linkage, made from a few ancestral haplotypes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from data_prep.variants import VariantTable

MakeTable = Callable[..., VariantTable]


def table_of(
    haplotypes: NDArray[np.int8], *, labels: NDArray[np.str_] | None = None, prefix: str = "P", **columns: object
) -> VariantTable:
    """A table of (people, sites, 2) alleles at sites 100 bp apart."""
    n, m, _ = haplotypes.shape
    sites = pd.DataFrame(
        {"contig": "22", "position": 1000 + 100 * np.arange(m), "id": ".", "ref": "A", "alt": "G"} | columns
    )
    samples = pd.DataFrame(index=[f"{prefix}{i}" for i in range(n)])
    if labels is not None:
        samples["label"] = labels
    return VariantTable(haplotypes=np.ascontiguousarray(haplotypes, dtype=np.int8), sites=sites, samples=samples)


def people_from(founders: NDArray[np.int8], n: int, generator: np.random.Generator) -> NDArray[np.int8]:
    """(n, sites, 2) mosaics of founder haplotypes: linkage by long tracts, fresh mutation at 1 % of sites."""
    k, m = founders.shape
    switch = generator.random((2 * n, m)) < 0.05
    source = np.where(switch, generator.integers(k, size=(2 * n, m)), -1)
    source[:, 0] = generator.integers(k, size=2 * n)
    last = np.maximum.accumulate(np.where(source >= 0, np.arange(m), 0), axis=1)
    rows = founders[np.take_along_axis(source, last, axis=1), np.arange(m)]
    rows = rows ^ (generator.random(rows.shape) < 0.01)
    return rows.reshape(n, 2, m).transpose(0, 2, 1).astype(np.int8)


@pytest.fixture(scope="session")
def trio() -> dict[str, VariantTable]:
    """Three disjoint sets of people from two populations: ``train``, ``holdout`` and ``synthetic`` (honest)."""
    generator = np.random.default_rng(7)
    m = 120
    frequency = generator.beta(0.8, 0.8, size=m)
    founders = [
        (generator.random((12, m)) < np.clip(frequency + generator.normal(0, 0.15, m), 0.02, 0.98)).astype(np.int8)
        for _ in range(2)
    ]
    tables = {}
    for name, n in (("train", 60), ("holdout", 40), ("synthetic", 60)):
        haplotypes = np.concatenate([people_from(f, n // 2, generator) for f in founders])
        labels = np.repeat(["AAA", "BBB"], n // 2)
        tables[name] = table_of(haplotypes, labels=labels, prefix=name)
    return tables
