"""Synthetic genotypes that keep the structure of real people and copy none of them.

The Python face is lazy: ``genodiff.GenotypeModel`` and ``genodiff.evaluate`` import torch and friends when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["GenotypeModel", "VariantTable", "__version__", "evaluate", "read_run", "read_variants"]


_HOMES = {
    "GenotypeModel": "genodiff.genotypes.model",
    "VariantTable": "data_prep.variants",
    "evaluate": "genodiff.evaluation.suite",
    "read_run": "genodiff.runs",
    "read_variants": "data_prep.readers",
}
"""Modules of what is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        globals()[name] = getattr(import_module(_HOMES[name]), name)
        return globals()[name]
    raise AttributeError(f"module 'genodiff' has no attribute {name!r}")
