"""What a file of genotypes, a model folder or the filters of a run have to say, as text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import InputError
from data_prep.filters import FilterReport
from data_prep.formats import is_store
from data_prep.readers import read_variants
from data_prep.variants import VariantTable

__all__ = ["inspect", "removals"]


def inspect(path: Path, *, region: str | None = None, progress: bool = False) -> list[tuple[str, str]]:
    """``genodiff inspect``: what a file of genotypes or a model folder holds, as pairs of name and value."""
    if path.is_dir() and not is_store(path):
        if not (path / "model.json").is_file() and (path / "model" / "model.json").is_file():
            raise InputError(f"{path} is the output of synthesize: give {path / 'model'}")
        from genodiff.genotypes.model import GenotypeModel

        facts = GenotypeModel.load(path, device="cpu").describe()
        return [(k.replace("_", " "), _shown(v)) for k, v in facts.items()]
    table, filters = read_variants(path, region=region, maf=0.0, max_missing=1.0, progress=progress)
    frequency = table.allele_frequency()
    maf = np.minimum(frequency, 1 - frequency)
    sites = table.sites
    first, last = int(sites["position"].iloc[0]), int(sites["position"].iloc[-1])
    rows = [
        ("people", f"{table.n_samples:,}"),
        ("contig", str(sites["contig"].iloc[0])),
        ("span", f"{first:,}–{last:,} bp"),
        ("records", f"{filters.n_records:,}"),
        ("usable sites", f"{table.n_variants:,}"),
        *((f"removed, {reason}", f"{count:,}") for reason, count in filters.removed.items()),
        ("sites with MAF ≥ 1 %", f"{int((maf >= 0.01).sum()):,}"),
        ("sites with MAF ≥ 5 %", f"{int((maf >= 0.05).sum()):,}"),
        ("phased", _phase(table)),
        ("unphased heterozygous calls", f"{filters.unphased_het_calls:,}"),
        ("missing calls", f"{filters.missing_calls:,}"),
    ]
    return rows


def removals(output: Path) -> list[str]:
    """What the filters removed for the run that wrote the folder, as lines of text."""
    return FilterReport(**json.loads((output / "provenance.json").read_text())["filters"]).lines()


def _phase(table: VariantTable) -> str:
    """How calls are phased, and what the model makes of it."""
    if not table.unphased_het.any():
        return "yes: haplotypes are learned"
    return "mostly: haplotypes are learned, unphased calls masked" if table.is_phased else "no: dosages are learned"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:,}" for k, v in value.items()) or "none"
    if isinstance(value, float):
        return "–" if not math.isfinite(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
