"""The commands for several chromosomes of the same people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genodiff.cli.options import PATH, Labels, Range, holdout_options, one_of, output_options, seed_option, show_bars

__all__ = ["genome", "people", "survey"]


@click.command()
@click.argument("vcf", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for windows.tsv and unlinked.vcf.gz.")
@click.option("--region", help="Contig or contig:from-to (bp), for example 22:1-2000000.")
@click.option(
    "--window-sites",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Sites per window, about, at most.",
)
@click.option(
    "--maf",
    type=Range(0, 0.5),
    default=0.01,
    show_default=True,
    help="Least minor-allele frequency of the sites that are counted.",
)
@output_options
def survey(vcf: Path, output: Path, quiet: bool, **o: Any) -> None:
    """Divide the chromosome of VCF into windows, and pick unlinked sites to tell people apart by.

    windows.tsv holds a region per line for --region of genodiff fit; unlinked.vcf.gz the sites of MAF ≥ 5 % that are
    not in LD with one another (r² ≤ .2), for genodiff people. VCF is of an autosome: X goes by itself through
    synthesize --sex.

    \b
    Example:
      genodiff survey chr22.vcf.gz -o survey/22/ --window-sites 20000
    """
    from genodiff.genome.survey import survey as run

    sites, windows, unlinked = run(vcf, output, progress=show_bars(quiet), **o)
    click.echo(f"{sites:,} sites in {windows:,} windows, {unlinked:,} unlinked sites: {output}")


@click.command()
@click.argument("vcfs", type=PATH, nargs=-1, required=True, metavar="VCF…")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the lists.")
@click.option("--panel", type=PATH, help="Population labels of the real people.")
@click.option("--panel-column", help="Column of the panel to take labels from.")
@holdout_options(0.25)
@click.option(
    "-n",
    "--samples",
    "n",
    type=click.IntRange(min=1),
    help="Number of synthetic people; as many as are learned from if not given.",
)
@click.option("--labels", type=Labels(), help="Synthetic people per population label, as in EUR=3000,AFR=2000.")
@click.option(
    "--least", type=click.IntRange(min=1), default=25, show_default=True,
    help="Fewest people learned from in a group. A label of fewer is one group all the same, and is told of on stderr.",
)  # fmt: skip
@seed_option
@output_options
def people(vcfs: tuple[Path, ...], output: Path, force: bool, quiet: bool, **o: Any) -> None:
    """Say once for all chromosomes who is learned from, who is held out and who is to be made.

    VCF… are chromosomes of the same people, each once, or the unlinked.vcf.gz of survey. Within every label
    people are divided into groups by principal components of the whole genome. The folder receives panel.tsv (sample,
    label, group of the real people), train.txt, holdout.txt, people.tsv (the same of those to be made) and groups.tsv.

    \b
    Examples:
      genodiff people survey/*/unlinked.vcf.gz -o people/ --panel panel.tsv
      genodiff fit chr22.vcf.gz -o model/ --panel people/panel.tsv --panel-column group --panel-parent label \\
        --holdout-samples people/holdout.txt
      genodiff sample model/ --people people/people.tsv --people-column group -o chr22.synthetic.vcf.gz
    """
    one_of(o["n"], o["labels"])
    if any("=" in name for name in o["labels"] or {}):
        raise click.UsageError("--labels of genodiff people takes plain labels: a mixture is drawn by genodiff sample")
    from genodiff.genome.people import PeopleOptions
    from genodiff.genome.people import people as run

    line, notes = run(vcfs, PeopleOptions(**o), output, force=force, progress=show_bars(quiet))
    for note in notes:
        click.echo(note, err=True)
    click.echo(f"{line}: {output}")


@click.command()
@click.argument("sheet", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for report.html, metrics.csv and figures/.")
@click.option("--panel", type=PATH, help="Population labels of the real people.")
@click.option("--synthetic-panel", type=PATH, help="Population labels of the synthetic people.")
@click.option("--title", default="Synthetic genomes", show_default=True, help="Heading of the page.")
@seed_option
@output_options
def genome(sheet: Path, output: Path, force: bool, quiet: bool, **o: Any) -> None:
    """Judge several chromosomes of the same synthetic people together: one page, and whether they fit together.

    SHEET has a line per chromosome and the columns chromosome, synthetic, train, holdout (VCFs) and judged (folder of
    genodiff evaluate); paths count from where the sheet lies.

    \b
    Example:
      genodiff genome chromosomes.tsv -o genome/ --panel people/panel.tsv --synthetic-panel people/people.tsv
    """
    from genodiff.genome.command import judge_genome

    click.echo(judge_genome(sheet, output, force=force, progress=show_bars(quiet), **o))
    click.echo(f"report: {output / 'report.html'}")
