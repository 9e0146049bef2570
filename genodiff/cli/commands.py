"""The commands from genotypes to judged genotypes: one call of :mod:`genodiff.pipeline` each."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from genodiff.cli.options import (
    OUTPUTS,
    PATH,
    data_from,
    data_options,
    device_options,
    figures_option,
    fit_from,
    holdout_options,
    judged_from,
    judged_options,
    named_path,
    one_of,
    output_options,
    people_options,
    seed_option,
    sex_option,
    show_bars,
    site_options,
    training_options,
)

__all__ = ["audit", "compare", "evaluate", "fit", "inspect", "sample", "synthesize"]

privacy_option = click.option(
    "--privacy", type=click.Choice(["standard", "strict"]), default="standard", show_default=True,
    help="Strict: people who are more like somebody learned from than 99 % of those are like one another are drawn "
         "anew; who still is after ten rounds is left out.",
)  # fmt: skip


@click.command()
@click.argument("vcf", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for all results.")
@data_options
@holdout_options(0.25)
@people_options
@privacy_option
@training_options
@seed_option
@device_options
@figures_option
@output_options
def synthesize(vcf: Path, output: Path, n: int | None, labels: dict[str, int] | None, **o: Any) -> None:
    """Learn from VCF, write synthetic people, and judge them against people held out.

    VCF is a .vcf, .vcf.gz or .bcf of diploid calls on one contig (or one --region of it), or of X outside the
    pseudo-autosomal regions with --sex, where men are haploid; or a .pgen, .bed, .haps, .vcz, .h5ad or .zarr. The
    folder receives
    synthetic.vcf.gz with its index, synthetic.panel.tsv, model/, metrics.csv, report.html, figures/, provenance.json;
    and synthetic.ancestry.tsv.gz, the true local ancestry, if a mixture of labels is asked for; and strict.csv, what
    --privacy strict costs in fidelity.
    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff synthesize chr22.vcf.gz -o out/
      genodiff synthesize chr22.vcf.gz -o out/ --panel panel.tsv --labels EUR=1000,AFR=500
      genodiff synthesize all.bcf -o out/ --region 22:1-2000000 --maf 0.05 --preset fast
      genodiff synthesize chrX.vcf.gz -o out/ --region X:2781480-155701382 --sex sex.tsv
    """
    one_of(n, labels)
    from genodiff import pipeline

    verdict = pipeline.synthesize(
        data_from(vcf, o), fit_from(o),
        pipeline.SampleOptions(n, labels, o["seed"], o["generations"], privacy=o["privacy"]), output,
        figures=o["figures"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    if verdict:
        click.echo(f"{verdict}\nreport: {output / 'report.html'}")


@click.command()
@click.argument("vcf", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the model.")
@data_options
@holdout_options(0.0)
@training_options
@seed_option
@device_options
@output_options
def fit(vcf: Path, output: Path, **o: Any) -> None:
    """Learn a model from VCF.

    \b
    Examples:
      genodiff fit chr22.vcf.gz -o model/ --panel panel.tsv
      torchrun --nproc-per-node 2 -m genodiff fit chr22.vcf.gz -o model/
    """
    from genodiff import pipeline

    model = pipeline.fit(data_from(vcf, o), fit_from(o), output, force=o["force"], progress=show_bars(o["quiet"]))
    if os.environ.get("RANK", "0") != "0":  # under torchrun one worker speaks for all
        return
    facts = model.describe()
    click.echo("\n".join(pipeline.removals(output)))
    click.echo(f"model of {facts['people']:,} people at {facts['sites']:,} sites: {output}")


@click.command()
@click.argument("model", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help=OUTPUTS)
@people_options
@click.option("--people", type=PATH, help="Panel of the people to draw, with their names and order, instead.")
@click.option("--people-column", help="Its column of labels, for example group; super_pop, label or pop if not given.")
@click.option("--map", "genetic_map", type=PATH, help="Genetic map (bp to cM), for mixtures of labels.")
@privacy_option
@click.option(
    "--against",
    type=PATH,
    help="VCF of the people the model was learned from, for --privacy strict: a model folder holds none.",
)
@sex_option
@seed_option
@device_options
@output_options
def sample(model: Path, output: Path, n: int | None, labels: dict[str, int] | None, **o: Any) -> None:
    """Draw new people from a MODEL folder.

    Beside the VCF s.vcf.gz lie s.panel.tsv (if the model has labels), s.provenance.json, and s.ancestry.tsv.gz with the
    true local ancestry if a mixture of labels is asked for.

    \b
    Examples:
      genodiff sample model/ -n 5000 -o synthetic.vcf.gz
      genodiff sample model/ --labels EUR=3000,AFR=2000 -o synthetic.vcf.gz --seed 7
      genodiff sample model/ --people people.tsv --people-column group -o synthetic.vcf.gz
      genodiff sample model/ --labels EUR=1000,AFR=0.8+EUR=0.2:500 --map chr22.gmap.gz -o synthetic.vcf.gz
      genodiff sample model/ -o synthetic.vcf.gz --privacy strict --against train.vcf.gz
    """
    one_of(n, labels)
    if (o["privacy"] == "strict") != (o["against"] is not None):
        raise click.UsageError("--privacy strict and --against go together: give both or neither")
    if o["people"] is not None:
        if n is not None or labels is not None:
            raise click.UsageError("--people says how many to draw of which label: leave out --samples and --labels")
        if o["privacy"] == "strict":
            raise click.UsageError("--privacy strict leaves people out, --people wants everybody: give one of them")
    elif o["people_column"] is not None:
        raise click.UsageError("--people-column names a column of --people: give that, too")
    from genodiff import pipeline

    options = pipeline.SampleOptions(
        n, labels, o["seed"], o["generations"], o["genetic_map"], o["privacy"], o["against"], o["sex"], o["people"],
        o["people_column"],
    )  # fmt: skip
    table, note = pipeline.sample(
        model, options, output,
        device=o["device"], threads=o["threads"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    if note:
        click.echo(note)
    click.echo(f"{table.n_people:,} people at {table.n_variants:,} sites: {output}")


@click.command()
@judged_options(purpose="judge", holds="metrics.csv, report.html and figures/", use="Judge")
@seed_option
@figures_option
@output_options
def evaluate(output: Path, **o: Any) -> None:
    """Judge synthetic genotypes made by anything: fidelity and privacy, every figure with its floor.

    \b
    Example:
      genodiff evaluate --synthetic s.vcf.gz --train a.vcf.gz --holdout b.vcf.gz -o judged/
    """
    from genodiff import pipeline

    verdict = pipeline.evaluate(
        judged_from(o), output,
        seed=o["seed"], figures=o["figures"], force=o["force"], progress=show_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"{verdict}\nreport: {output / 'report.html'}")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="[NAME=]RUN…")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for comparison.csv, comparison.html, figures/.")
@click.option(
    "--different-sites",
    is_flag=True,
    help="The runs are of different sites, as chromosomes are: only ratios to floors can be compared.",
)
@figures_option
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def compare(runs: tuple[str, ...], output: Path, **o: Any) -> None:
    """Hold runs side by side: every metric of each beside its floor, and curves laid over one another.

    A RUN is the output folder of synthesize or evaluate, and is called by the NAME before it or that of the folder.

    \b
    Examples:
      genodiff compare fast/ balanced/ -o compared/
      genodiff compare ours=out/ mosaic=judged/ -o compared/
      genodiff compare chr20/ chr21/ chr22/ -o compared/ --different-sites
    """
    from genodiff.compare import compare as held

    found = held([named_path(run) for run in runs], output, **o)
    for run, verdict in zip(found.runs, found.verdicts, strict=True):
        click.echo("\n".join(f"{run.name}: {line}" for line in verdict.lines))
    click.echo(f"comparison: {output / 'comparison.html'}")


@click.command()
@click.argument("model", type=PATH)
@click.option("--members", type=PATH, required=True, help="VCF of people the model was learned from.")
@click.option(
    "--non-members",
    "others",
    type=PATH,
    required=True,
    help="VCF of people of the same population it was not learned from.",
)
@click.option("--panel", type=PATH, help="Population labels of both, if the attacker knows them.")
@sex_option
@click.option("-o", "--output", type=PATH, help="Folder for audit.csv and audit.md.")
@seed_option
@device_options
@output_options
def audit(model: Path, members: Path, others: Path, output: Path | None, quiet: bool, **o: Any) -> None:  # fmt: skip
    """Attack a MODEL folder: does it tell people it was learned from from people it was not?

    To be run before a model is shared. The model's loss on each haplotype at several noise levels, that loss less the
    loss of the base alone, and the distance to the nearest haplotype background in the file are scores of membership.

    \b
    Example:
      genodiff audit model/ --members train.vcf.gz --non-members others.vcf.gz -o audited/
    """
    from genodiff.audit import run

    click.echo(run(model, members, others, output, progress=show_bars(quiet), **o))
    if output is not None:
        click.echo(f"audit: {output / 'audit.md'}")


@click.command()
@click.argument("path", type=PATH)
@click.option("--region", help="Contig or contig:from-to (bp).")
@site_options
def inspect(path: Path, **o: Any) -> None:
    """Say what a file of genotypes or a model folder holds.

    Of a file with several contigs and no --region: how many records each has, and the build.

    \b
    Examples:
      genodiff inspect chr22.vcf.gz
      genodiff inspect genome.vcf.gz --region X:2699521-154931043 --sex sex.tsv
      genodiff inspect model/
    """
    from genodiff import pipeline

    rows = pipeline.inspect(path, **o, progress=sys.stderr.isatty())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")
