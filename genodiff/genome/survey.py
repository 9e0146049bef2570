"""``genodiff survey``: one pass over a chromosome that says how to divide it and what to tell people apart by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.regions import Region, windows
from data_prep.thinning import Unlinked
from data_prep.vcf_write import write_vcf
from genodiff.files import atomic_text
from genodiff.genome.reading import read_autosome
from genodiff.provenance import Provenance
from genodiff.staging import Staging

__all__ = ["survey"]


def survey(
    vcf: Path, output: Path, *, region: str | None, window_sites: int, maf: float, force: bool, progress: bool
) -> tuple[int, int, int]:
    """Writes ``windows.tsv``, ``unlinked.vcf.gz`` and ``provenance.json`` into a folder.

    Args:
        vcf: one chromosome, or a file of several with a region.
        output: folder to appear.
        region: contig or contig:from-to (bp).
        window_sites: sites per window, about, at most.
        maf: least minor-allele frequency, among everybody, of the sites that are counted.
        force: replace an output that exists.
        progress: show a bar.

    Returns:
        Sites counted, windows, unlinked sites of MAF ≥ 5 %.

    Raises:
        InputError: the file cannot be used, or no site is left.
        OutputError: the output cannot be written.
    """
    provenance = Provenance(configuration={"region": region, "window_sites": window_sites, "maf": maf})
    with Staging(output, force=force, inputs=[vcf]) as staging:
        choose = Unlinked()
        with provenance.stage("read"):
            table, report = read_autosome(vcf, region=region, maf=maf, choose=choose, progress=progress)
            provenance.add_input(vcf)
        provenance.record("filters", report.to_dict())
        position = np.concatenate(choose.passed)
        contig = str(table.sites["contig"].iloc[0])
        whole = Region(contig) if region is None else replace(Region.parse(region), contig=contig)
        found = windows(whole, position, most=window_sites)
        lines = ["window\tregion\tsites"]
        for number, place in enumerate(found, 1):
            sites = int(((position >= place.start) & (position <= place.end)).sum())
            lines.append(f"{number:03d}\t{place}\t{sites}")
        atomic_text(staging.path / "windows.tsv", "\n".join(lines) + "\n")
        write_vcf(table, staging.path / "unlinked.vcf.gz")
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return len(position), len(found), table.n_variants
