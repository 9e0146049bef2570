"""``genodiff simulate``: genotypes with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genodiff.cli.options import OUTPUTS, PATH, Commands, Range, seed_option

__all__ = ["simulate"]


@click.group(cls=Commands)
def simulate() -> None:
    """Simulate genotypes with known truth."""


_output = click.option("-o", "--output", type=PATH, required=True, help=OUTPUTS)


@simulate.command("ld-blocks")
@_output
@click.option("--people", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--sites", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--block-size", type=click.IntRange(min=1), default=20, show_default=True, help="Sites per LD block.")
@click.option(
    "--decay",
    type=Range(min=0, min_open=True),
    default=0.2,
    show_default=True,
    help="Latent correlation of sites k apart in a block is exp(−decay · k).",
)
@click.option("--phased", is_flag=True, help="One latent vector per haplotype instead of one per person.")
@seed_option
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def ld_blocks(output: Path, people: int, sites: int, force: bool, **o: Any) -> None:
    """Blocks of latent Gaussian variables cut into genotypes (the GOU paper's simulated SNPs).

    \b
    Example:
      genodiff simulate ld-blocks --people 500 --sites 1000 -o snps.vcf.gz
    """
    from data_prep.simulate import simulate_ld_blocks

    truth = simulate_ld_blocks(people, sites, **o)
    _write_simulated(truth.table, output, force=force)


@simulate.command()
@_output
@click.option(
    "--people",
    type=click.IntRange(min=3),
    default=300,
    show_default=True,
    help="People, shared equally by the populations.",
)
@click.option(
    "--length",
    "length_bp",
    type=click.IntRange(min=1000),
    default=1_000_000,
    show_default=True,
    help="Length of the chromosome in bp.",
)
@click.option("--contig", default="1", show_default=True, help="Name of the chromosome.")
@seed_option
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def coalescent(output: Path, people: int, length_bp: int, contig: str, seed: int, force: bool) -> None:
    """A coalescent with recombination, three populations out of Africa. Needs the extra ``sim`` (msprime).

    \b
    Examples:
      genodiff simulate coalescent --people 600 --length 2000000 -o ooa.vcf.gz
      genodiff simulate coalescent --people 600 --contig 2 --seed 2 -o chr2.vcf.gz
    """
    from data_prep.simulate import simulate_coalescent

    _write_simulated(simulate_coalescent(people, length_bp=length_bp, contig=contig, seed=seed), output, force=force)


def _write_simulated(table: Any, output: Path, *, force: bool) -> None:
    from genodiff import pipeline

    for line in pipeline.write_table(table, output, force=force):
        click.echo(line, err=True)
    click.echo(f"{table.n_samples:,} people at {table.n_variants:,} sites: {output}")
