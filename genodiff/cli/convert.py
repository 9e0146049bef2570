"""``genodiff convert``: genotypes from one format into another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genodiff.cli.options import OUTPUTS, PATH, output_options, show_bars, site_options

__all__ = ["convert"]


@click.command()
@click.argument("path", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help=OUTPUTS)
@click.option("--region", help="Contig or contig:from-to (bp); needed if the file holds several contigs.")
@click.option("--samples", type=PATH, help="File with the people to write, one name a line, in this order.")
@site_options
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads that compress; all if not given.")
@output_options
def convert(path: Path, output: Path, threads: int | None, force: bool, quiet: bool, **o: Any) -> None:
    """Write the genotypes of PATH in the format that the ending of the output asks for.

    Read are .vcf, .vcf.gz, .bcf, PLINK 1 .bed, PLINK 2 .pgen, Oxford .haps, VCF-Zarr folders, AnnData .h5ad and .zarr.
    All biallelic records are kept, monomorphic and rare ones too, and haploid calls as haploid ones where the target
    holds them. What is left out, and what the target cannot hold, is said on stderr. Of PLINK files the sexes are those
    of the .fam or .psam where --sex is not given.

    \b
    Examples:
      genodiff convert chr22.vcf.gz -o chr22.pgen
      genodiff convert chr22.pgen -o part.bed --region 22:1-2000000 --samples people.txt
      genodiff convert chrX.pgen -o chrX.vcf.gz --build GRCh38
    """
    from genodiff.conversion import ReadOptions
    from genodiff.conversion import convert as run

    report, notes = run(path, output, ReadOptions(**o), threads=threads, force=force, progress=show_bars(quiet))
    for line in notes:
        click.echo(line, err=True)
    click.echo(f"{report.n_samples:,} people at {report.kept:,} sites: {output}")
