"""Synthetic genotypes that keep the structure of real people and copy none of them.

The Python face is lazy: ``genodiff.GenotypeModel`` and ``genodiff.evaluate`` import torch and friends when first used.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

__all__ = ["GenotypeModel", "VariantTable", "__version__", "evaluate", "read_run", "read_variants"]


def __getattr__(name: str) -> Any:
    if name == "GenotypeModel":
        from genodiff.genotypes.model import GenotypeModel

        return GenotypeModel
    if name == "VariantTable":
        from data_prep.variants import VariantTable

        return VariantTable
    if name == "read_variants":
        from data_prep.readers import read_variants

        return read_variants
    if name == "read_run":
        from genodiff.runs import read_run

        return read_run
    if name == "evaluate":
        from genodiff.evaluation.suite import evaluate

        return evaluate
    raise AttributeError(f"module 'genodiff' has no attribute {name!r}")
