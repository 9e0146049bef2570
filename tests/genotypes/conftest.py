from __future__ import annotations

import pytest

from data_prep.variants import VariantTable
from tests.genotypes.tables import coalescent
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def table() -> VariantTable:
    """60 labelled people at 200 sites, phased."""
    return coalescent(60, 200)
