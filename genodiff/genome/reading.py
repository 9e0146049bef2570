"""Chromosomes as the commands for several of them read them: those of which everybody has two copies."""

from __future__ import annotations

import os
from typing import Any

from data_prep.errors import InputError, PloidyError
from data_prep.filters import FilterReport
from data_prep.readers import read_variants
from data_prep.variants import VariantTable

__all__ = ["read_autosome"]


def read_autosome(path: str | os.PathLike[str], **options: Any) -> tuple[VariantTable, FilterReport]:
    """What :func:`data_prep.readers.read_variants` returns of a chromosome, without sexes.

    Args:
        path: genotypes of one chromosome.
        options: those of :func:`data_prep.readers.read_variants`.

    Raises:
        InputError: the file cannot be used, or has haploid calls of X, or Y or mitochondria.
    """
    try:
        return read_variants(path, **options)
    except PloidyError as error:
        raise InputError(
            f"{error.found}: where chromosomes of the same people go together, autosomes alone are read; "
            "X goes by itself through genodiff synthesize --sex"
        ) from error
