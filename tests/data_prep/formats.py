"""Tables of every kind of call in every format, and what must come back of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from data_prep import VariantTable
from data_prep.readers import read_variants

LIBRARIES = {".bed": "bed_reader", ".pgen": "pgenlib", ".vcz": "zarr", ".zarr": "zarr"}
OUTPUTS = (".vcf", ".vcf.gz", ".bcf", ".bed", ".pgen", ".haps", ".haps.gz", ".vcz", ".h5ad", ".zarr")
SINGLE = (".vcf.gz", ".bed", ".pgen", ".haps", ".vcz", ".h5ad")
"""One ending of every format."""

NAMES = ("A_1", "Zoë", "x:y", "007", "O'Neil", "a_b_c", "-9", "NA")
"""People: underscores, letters beyond ASCII, what looks like a number or a missing value."""


def needs(ending: str) -> None:
    """Skips a test where the library of a format is absent."""
    if ending in LIBRARIES:
        pytest.importorskip(LIBRARIES[ending], reason=f"{ending} needs {LIBRARIES[ending]}")


def program(name: str, *arguments: object, cwd: Path) -> str:
    """Standard output of a reference program; the test is skipped where it is absent."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    run = subprocess.run([name, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@st.composite
def tables(draw: st.DrawFn, *, phased: bool | None = None) -> VariantTable:
    """Tables of one to seven people at one to nine sites: missing calls, mixed phase, indels, odd names."""
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    h = (rng.random((n, m, 2)) < 0.5).astype(np.int8)
    h[rng.random((n, m)) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = -1
    mixed = draw(st.sampled_from(["all", "some", "none"])) if phased is None else ("all" if phased else "none")
    share = {"all": 1.0, "some": 0.5, "none": 0.0}[mixed]
    known = rng.random((n, m)) < share
    sites = pd.DataFrame(
        {
            "contig": draw(st.sampled_from(["22", "chr22", "X", "HLA-A_1"])),
            "position": np.cumsum(rng.integers(1, 2**26, m)),
            "id": [draw(st.sampled_from([".", f"rs{j}", f"22:{j}_A;x"])) for j in range(m)],
            "ref": [draw(st.sampled_from(["A", "ACGT"])) for _ in range(m)],
            "alt": [draw(st.sampled_from(["T", "TTGA"])) for _ in range(m)],
        }
    )
    names = draw(st.permutations(NAMES))[:n]
    return VariantTable(
        haplotypes=h,
        sites=sites,
        samples=pd.DataFrame(index=pd.Index(names, name="sample")),
        phased=None if share == 1.0 else known,
    )


def read(path: Path, **options: object) -> VariantTable:
    """The table of a file, without any filter of the data."""
    return read_variants(path, maf=None, max_missing=1.0, **options)[0]  # type: ignore[arg-type]


def assert_same(found: VariantTable, wanted: VariantTable, *, phase: bool = True, ids: bool = True) -> None:
    """Same people, sites and calls; the order of alleles counts where a heterozygous call is phased."""
    assert list(found.samples.index) == [str(name) for name in wanted.samples.index]
    columns = ["contig", "position", *(["id"] if ids else []), "ref", "alt"]
    left, right = (t.sites[columns].astype(str).to_numpy().tolist() for t in (found, wanted))
    assert left == right
    np.testing.assert_array_equal(found.dosage(), wanted.dosage())
    if not phase:
        assert (found.phased is not None) == bool((wanted.dosage() == 1).any())
        return
    np.testing.assert_array_equal(found.unphased_het, wanted.unphased_het)
    settled = ~wanted.unphased_het
    np.testing.assert_array_equal(found.haplotypes[settled], wanted.haplotypes[settled])
