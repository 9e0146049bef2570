"""What a file of genotypes, a model folder or the filters of a run have to say, as text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.alleles import AlleleRules, Multiallelic
from data_prep.builds import build_of
from data_prep.errors import InputError
from data_prep.filters import FilterReport
from data_prep.formats import is_store, require_store
from data_prep.readers import open_source, read_variants
from data_prep.sexes import read_sexes
from data_prep.variants import VariantTable

__all__ = ["inspect", "removals"]


def inspect(
    path: Path,
    *,
    region: str | None = None,
    sex: Path | None = None,
    build: str | None = None,
    multiallelic: Multiallelic = "drop",
    structural: bool = True,
    progress: bool = False,
) -> list[tuple[str, str]]:
    """``genodiff inspect``: what a file of genotypes or a model folder holds, as pairs of name and value.

    Args:
        path: the file or folder.
        region: contig or region; of a file with several, their numbers of records are told without.
        sex: file of the sexes of people, for X.
        build: of the genome, where the header does not tell.
        multiallelic: as for :class:`~data_prep.alleles.AlleleRules`.
        structural: likewise.
        progress: show a bar.
    """
    if path.is_dir() and not is_store(path):
        require_store(path)
        if not (path / "model.json").is_file() and (path / "model" / "model.json").is_file():
            raise InputError(f"{path} is the output of synthesize: give {path / 'model'}")
        from genodiff.genotypes.model import GenotypeModel

        facts = GenotypeModel.load(path, device="cpu").describe()
        return [(k.replace("_", " "), _shown(v)) for k, v in facts.items()]
    source = open_source(path)
    told = build_of(source.header)
    known = ("build", (build or "not told by the header") if told is None else told.name)
    counts = source.contigs() if region is None else {}
    if len(counts) > 1:
        rows = [("people", f"{len(source.samples):,}"), known]
        rows += [(f"contig {name}", f"{count:,} records") for name, count in counts.items()]
        return [*rows, ("more", f"with --region, for example --region {next(iter(counts))}")]
    table, filters = read_variants(
        path, region=region, maf=0.0, max_missing=1.0, rules=AlleleRules(multiallelic, structural),
        sexes=None if sex is None else read_sexes(sex), build=build, progress=progress,
    )  # fmt: skip
    frequency = table.allele_frequency()
    maf = np.minimum(frequency, 1 - frequency)
    sites = table.sites
    first, last = int(sites["position"].iloc[0]), int(sites["position"].iloc[-1])
    rows = [
        ("people", f"{table.n_people:,}"),
        known,
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
    return [*rows, *(("note", note) for note in filters.notes)]


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
