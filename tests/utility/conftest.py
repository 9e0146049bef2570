"""Simulated people of the embedded example, split, and the same with every site shuffled on its own."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from genodiff.evaluation.panels import Comparison, align
from tests.commands import EXAMPLE, EXAMPLE_PANEL

needs_beagle = pytest.mark.skipif(shutil.which("beagle") is None, reason="the program beagle is not installed")


def independent(table: VariantTable, *, seed: int = 3) -> VariantTable:
    """People whose alleles are permuted among haplotypes site by site: frequencies stay, linkage goes."""
    rows = np.random.default_rng(seed).permuted(table.haplotype_rows(), axis=0)
    haplotypes = np.ascontiguousarray(rows.reshape(table.n_samples, 2, -1).transpose(0, 2, 1))
    return VariantTable(haplotypes=haplotypes, sites=table.sites, samples=table.samples)


@pytest.fixture(scope="session")
def people() -> dict[str, VariantTable]:
    """``train`` (200 people), ``holdout`` (100 others) and ``independent``, made of the former."""
    table, _ = read_variants(EXAMPLE, maf=0.005, max_missing=0.0, progress=False)
    table = attach_panel(table, read_panel(EXAMPLE_PANEL), source=EXAMPLE_PANEL)
    order = np.random.default_rng(1).permutation(table.n_samples)
    train, holdout = (table.select(samples=np.sort(part)) for part in (order[:200], order[200:]))
    return {"train": train, "holdout": holdout, "independent": independent(train)}


@pytest.fixture(scope="session")
def same(people: dict[str, VariantTable]) -> Comparison:
    """Training people in the place of synthetic ones."""
    return align(people["train"], train=people["train"], holdout=people["holdout"])


@pytest.fixture(scope="session")
def shuffled(people: dict[str, VariantTable]) -> Comparison:
    """Independent sites in the place of synthetic people."""
    return align(people["independent"], train=people["train"], holdout=people["holdout"])
