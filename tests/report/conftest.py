"""Small people with structure, an evaluation of them by the real suite, and the report written from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from data_prep.variants import VariantTable
from genodiff.evaluation.suite import Evaluation, evaluate_full
from genodiff.provenance import Provenance
from genodiff.report import write_report


def people(n: int, *, sites: int, seed: int, prefix: str, missing: float = 0.0, phased: bool = True) -> VariantTable:
    """People of two populations whose haplotypes are mosaics of eight founders each, so that there is LD."""
    founders_rng = np.random.default_rng(99)
    frequency = founders_rng.uniform(0.1, 0.9, (2, sites))
    founders = founders_rng.random((2, 8, sites)) < frequency[:, None, :]
    rng = np.random.default_rng(seed)
    labels = np.array(["<b>A", "B & C"])[np.arange(n) % 2]
    haplotypes = np.empty((n, sites, 2), dtype=np.int8)
    for i in range(n):
        for k in range(2):
            source = rng.integers(8, size=sites // 10 + 1).repeat(10)[:sites]
            haplotypes[i, :, k] = founders[i % 2, source, np.arange(sites)] ^ (rng.random(sites) < 0.01)
    haplotypes[rng.random((n, sites)) < missing] = -1
    return VariantTable(
        haplotypes=haplotypes,
        sites=pd.DataFrame(
            {
                "contig": "22",
                "position": 50_000_000 + 300 * np.arange(sites),
                "id": ".",
                "ref": "A",
                "alt": "C",
            }
        ),
        samples=pd.DataFrame({"label": labels}, index=[f"{prefix}{i}" for i in range(n)]),
        phased=None if phased else np.zeros((n, sites), dtype=bool),
    )


class Written(NamedTuple):
    """A report, and what it was written from."""

    page: Path
    evaluation: Evaluation
    tables: dict[str, VariantTable]
    history: pd.DataFrame
    provenance: dict[str, Any]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The report of 60 synthetic people, 70 training people and 55 held-out people at 160 sites."""
    tables = {
        "synthetic": people(60, sites=160, seed=1, prefix="GD"),
        "train": people(70, sites=160, seed=2, prefix="R"),
        "holdout": people(55, sites=160, seed=3, prefix="T", missing=0.01),
    }
    evaluation = evaluate_full(tables["synthetic"], train=tables["train"], holdout=tables["holdout"])
    history = pd.DataFrame(
        {"step": [0, 10, 20, 30], "train_loss": [0.6, 0.4, 0.3, 0.25], "holdout_loss": [0.6, np.nan, 0.35, 0.37]}
    )
    provenance = Provenance(command=("genodiff", "synthesize", "two words.vcf.gz"), seed=1, device="cpu")
    removed = {"maf": 12, "multi-allelic": 3}
    filters = {"source": "two words.vcf.gz", "n_records": 175, "kept": 160, "removed": removed, "maf": 0.01}
    provenance.record("filters", filters)
    record = provenance.to_dict()
    page = write_report(
        tmp_path_factory.mktemp("out") / "new",
        evaluation=evaluation,
        synthetic=tables["synthetic"],
        train=tables["train"],
        holdout=tables["holdout"],
        history=history,
        provenance=record,
        title="Synthetic genotypes & more",
    )
    return Written(page, evaluation, tables, history, record)
