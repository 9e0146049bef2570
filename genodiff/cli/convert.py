"""``genodiff convert``: genotypes from one format into another."""

from __future__ import annotations

from pathlib import Path

import click

from genodiff.cli.options import OUTPUTS, PATH, show_bars

__all__ = ["convert"]


@click.command()
@click.argument("path", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help=OUTPUTS)
@click.option("--region", help="Contig or contig:from-to (bp); needed if the file holds several contigs.")
@click.option("--samples", type=PATH, help="File with the people to write, one name a line, in this order.")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads that compress; all if not given.")
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def convert(
    path: Path, output: Path, region: str | None, samples: Path | None, threads: int | None, force: bool, quiet: bool
) -> None:
    """Write the genotypes of PATH in the format that the ending of the output asks for.

    Read are .vcf, .vcf.gz, .bcf, PLINK 1 .bed, PLINK 2 .pgen, Oxford .haps, VCF-Zarr folders, AnnData .h5ad and .zarr.
    All biallelic diploid records are kept, monomorphic and rare ones too. What is left out, and what the target cannot
    hold, is said on stderr.

    \b
    Examples:
      genodiff convert chr22.vcf.gz -o chr22.pgen
      genodiff convert chr22.pgen -o part.bed --region 22:1-2000000 --samples people.txt
    """
    from genodiff.conversion import convert as run

    report, notes = run(
        path, output, region=region, samples=samples, threads=threads, force=force, progress=show_bars(quiet)
    )
    for line in notes:
        click.echo(line, err=True)
    click.echo(f"{report.n_samples:,} people at {report.kept:,} sites: {output}")
