"""Small VCFs as text, and tables with every kind of call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep import VariantTable

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

NAMES = ("A", "B", "C", "D")


def header(names: tuple[str, ...] = NAMES, contigs: tuple[str, ...] = ("22",)) -> str:
    lines = ["##fileformat=VCFv4.2", "##reference=test"]
    lines += [f"##contig=<ID={c}>" for c in contigs]
    lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
    lines += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *names])]
    return "\n".join(lines) + "\n"


def record(
    position: object,
    calls: str,
    *,
    ref: str = "A",
    alt: str = "C",
    contig: str = "22",
    name: str = ".",
    keys: str = "GT",
) -> str:
    """One data line; calls are separated by blanks."""
    return "\t".join([contig, str(position), name, ref, alt, ".", "PASS", ".", keys, *calls.split()]) + "\n"


def write(folder: Path, text: str | bytes, name: str = "x.vcf") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def real(name: str) -> Path:
    """A shared file of real genotypes; the test is skipped where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real genotypes are absent: {name}")
    return path


def make_table(
    haplotypes: object,
    *,
    phased: object = None,
    position: object = None,
    labels: object = None,
    contig: object = "22",
) -> VariantTable:
    """A table from alleles (samples, variants, 2)."""
    h = np.array(haplotypes, dtype=np.int8)
    n, m = h.shape[:2]
    sites = pd.DataFrame(
        {
            "contig": contig,
            "position": np.arange(1, m + 1) * 10 if position is None else position,
            "id": [f"rs{j}" for j in range(m)],
            "ref": "A",
            "alt": "G",
        }
    )
    samples = pd.DataFrame(index=pd.Index([f"P{i}" for i in range(n)], name="sample"))
    table = VariantTable(
        haplotypes=h, sites=sites, samples=samples, phased=None if phased is None else np.array(phased, dtype=bool)
    )
    return table if labels is None else table.with_labels(labels)
