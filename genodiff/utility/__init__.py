"""What synthetic genotypes are good for: imputation, ancestry, association, scores, beside real people in their place.

Importing the package is light; :func:`measure` and :func:`measure_full` load what they need when first used.
"""

from __future__ import annotations

from typing import Any

__all__ = ["TASKS", "measure", "measure_full"]

TASKS = ("imputation", "ancestry", "association", "scores")
"""What can be measured, in the order of the table."""


def __getattr__(name: str) -> Any:
    if name in ("measure", "measure_full"):
        from genodiff.utility import suite

        return getattr(suite, name)
    raise AttributeError(f"module 'genodiff.utility' has no attribute {name!r}")
