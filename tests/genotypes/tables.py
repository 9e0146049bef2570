"""Small tables and a configuration that fits them in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.simulate import simulate_coalescent
from data_prep.variants import VariantTable
from genodiff.core.training import TrainingConfig
from genodiff.genotypes.config import ModelConfig
from genodiff.genotypes.network import NetworkConfig

SMALL = ModelConfig(
    passes=None,
    block_sites=(32, 64),
    sampling_steps=12,
    network=NetworkConfig(tile=16, width=16, dilations=(1, 2), window=4),
    training=TrainingConfig(steps=30, batch=16, warmup=5, validate_every=10),
    precision="float32",
)


def small(**changes: Any) -> ModelConfig:
    training = replace(SMALL.training, **changes.pop("training", {}))
    return replace(SMALL, training=training, **changes)


def table_of(
    haplotypes: NDArray[np.int8], *, phased: NDArray[np.bool_] | None = None, labels: list[str] | None = None
) -> VariantTable:
    """A table of (people, sites, 2) alleles at sites 100 bp apart."""
    people, sites, _ = haplotypes.shape
    return VariantTable(
        haplotypes=np.ascontiguousarray(haplotypes, dtype=np.int8),
        sites=pd.DataFrame(
            {"contig": "22", "position": 1000 + 100 * np.arange(sites), "id": ".", "ref": "A", "alt": "G"}
        ),
        samples=pd.DataFrame({} if labels is None else {"label": labels}, index=[f"P{i}" for i in range(people)]),
        phased=phased,
        header=("##contig=<ID=22>",),
    )


def coalescent(people: int, sites: int, *, seed: int = 3, demography: str = "ooa3", maf: float = 0.05) -> VariantTable:
    """The first sites of a simulated panel above an allele frequency."""
    table = simulate_coalescent(people, length_bp=1500 * sites, seed=seed, demography=demography)  # type: ignore[arg-type]
    frequency = table.allele_frequency()
    keep = np.flatnonzero(np.minimum(frequency, 1 - frequency) >= maf)
    assert len(keep) >= sites
    return table.select(variants=keep[:sites])
