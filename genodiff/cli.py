"""The command line: options in, one call of :mod:`genodiff.pipeline` each.

Nothing heavy is imported before a command runs, so that ``genodiff --help`` is instant.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from genodiff import __version__

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)


class _Commands(click.Group):
    """Turns errors the user can mend into one line on stderr and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            resumes = ctx.invoked_subcommand in ("fit", "synthesize")
            _fail(
                "interrupted" + "; the same command goes on from its last checkpoint, if it had come to one" * resumes,
                status=130,
            )
        except Exception as error:
            from genodiff.pipeline import as_user_error

            line = as_user_error(error)
            if line is None:
                raise
            _fail(" ".join(line.split()), status=2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _fail(line: str, *, status: int) -> None:
    click.echo(f"genodiff: {line}", err=True)
    sys.exit(status)


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


class _Range(click.FloatRange):
    """A range of finite numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


data_options = _stack(
    click.option("--panel", type=_PATH,
                 help="Population labels: a table with the columns sample and super_pop, label or pop."),
    click.option("--panel-column", help="Column of the panel to take labels from."),
    click.option("--region", help="Contig or contig:from-to (bp), for example 22:1-2000000."),
    click.option("--map", "genetic_map", type=_PATH, help="Genetic map (bp to cM): PLINK, HapMap or SHAPEIT format."),
    click.option("--maf", type=_Range(0, 0.5), default=0.01, show_default=True,
                 help="Least minor-allele frequency among the people learned from; 0 keeps every polymorphic site."),
    click.option("--max-missing", type=_Range(0, 1), default=0.1, show_default=True,
                 help="Largest share of people without a call at a site."),
)  # fmt: skip

training_options = _stack(
    click.option("--preset", type=click.Choice(["fast", "balanced", "best"]), default="balanced", show_default=True,
                 help="Minutes, tens of minutes, or hours of training."),
    click.option("--steps", type=click.IntRange(min=0), help="Training steps, instead of the preset's."),
    click.option("--anchors", type=click.IntRange(min=1), help="Number of anchors; chosen from the data if not given."),
)  # fmt: skip

seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True,
                           help="Equal seeds give equal results on the CPU.")  # fmt: skip
device_options = _stack(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
    click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all if not given."),
)
output_options = _stack(
    click.option("--force", is_flag=True, help="Replace an output that exists."),
    click.option("--quiet", is_flag=True, help="No progress bars."),
)


def holdout_options(default: float) -> Callable[[F], F]:
    """``--holdout`` and ``--holdout-samples``."""
    return _stack(
        click.option("--holdout", type=_Range(0, 1, max_open=True), default=default, show_default=True,
                     help="Share of people held out, the same share of every label."),
        click.option("--holdout-samples", type=_PATH, help="File with the names of the people to hold out, instead."),
    )  # fmt: skip


class _Labels(click.ParamType):
    name = "LABEL=N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        if isinstance(value, dict):
            return value
        out: dict[str, int] = {}
        for item in value.split(","):
            label, _, count = item.partition("=")
            if not label.strip() or not count.strip().isdigit() or int(count) < 1:
                self.fail(f"{item!r} is not LABEL=N with N ≥ 1, as in EUR=3000,AFR=2000", param, ctx)
            if label.strip() in out:
                self.fail(f"label {label.strip()!r} is given twice", param, ctx)
            out[label.strip()] = int(count)
        return out


people_options = _stack(
    click.option("-n", "--samples", "n", type=click.IntRange(min=1),
                 help="Number of synthetic people; as many as were learned from if not given."),
    click.option("--labels", type=_Labels(),
                 help="People per population label, as in EUR=3000,AFR=2000; needs a panel at fit."),
)  # fmt: skip


def _progress(quiet: bool) -> bool:
    """Bars are for people who watch: a log or a pipe receives lines only."""
    return not quiet and sys.stderr.isatty()


def _one_of(n: int | None, labels: dict[str, int] | None) -> None:
    if n is not None and labels is not None:
        raise click.UsageError("give either --samples or --labels, not both")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="genodiff")
def main() -> None:
    """Synthetic genotypes with the structure of real people, copied from none of them.

    \b
    Examples:
      genodiff synthesize chr22.vcf.gz -o out/ --panel panel.tsv
      genodiff fit chr22.vcf.gz -o model/ && genodiff sample model/ -n 5000 -o synthetic.vcf.gz
      genodiff evaluate --synthetic s.vcf.gz --train a.vcf.gz --holdout b.vcf.gz -o judged/
    """


@main.command()
@click.argument("vcf", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for all results.")
@data_options
@holdout_options(0.25)
@people_options
@training_options
@seed_option
@device_options
@output_options
def synthesize(vcf: Path, output: Path, n: int | None, labels: dict[str, int] | None, **o: Any) -> None:
    """Learn from VCF, write synthetic people, and judge them against people held out.

    VCF is a .vcf, .vcf.gz or .bcf of diploid calls on one contig (or one --region of it). The folder receives
    synthetic.vcf.gz with its index, synthetic.panel.tsv, model/, metrics.csv, report.html, figures/, provenance.json.
    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      genodiff synthesize chr22.vcf.gz -o out/
      genodiff synthesize chr22.vcf.gz -o out/ --panel panel.tsv --labels EUR=1000,AFR=500
      genodiff synthesize all.bcf -o out/ --region 22:1-2000000 --maf 0.05 --preset fast
    """
    _one_of(n, labels)
    from genodiff import pipeline

    verdict = pipeline.synthesize(
        _data(vcf, o), _fit_options(o), pipeline.SampleOptions(n, labels, o["seed"]), output,
        force=o["force"], progress=_progress(o["quiet"]),
    )  # fmt: skip
    if verdict:
        click.echo(f"{verdict}\nreport: {output / 'report.html'}")


@main.command()
@click.argument("vcf", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for the model.")
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

    model = pipeline.fit(_data(vcf, o), _fit_options(o), output, force=o["force"], progress=_progress(o["quiet"]))
    if os.environ.get("RANK", "0") != "0":  # under torchrun one worker speaks for all
        return
    facts = model.describe()
    click.echo("\n".join(pipeline.removals(output)))
    click.echo(f"model of {facts['people']:,} people at {facts['sites']:,} sites: {output}")


@main.command()
@click.argument("model", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="VCF to write: .vcf.gz (with index), .vcf or .bcf.")
@people_options
@seed_option
@device_options
@output_options
def sample(model: Path, output: Path, n: int | None, labels: dict[str, int] | None, **o: Any) -> None:
    """Draw new people from a MODEL folder.

    Beside the VCF s.vcf.gz lie s.panel.tsv (if the model has labels) and s.provenance.json.

    \b
    Examples:
      genodiff sample model/ -n 5000 -o synthetic.vcf.gz
      genodiff sample model/ --labels EUR=3000,AFR=2000 -o synthetic.vcf.gz --seed 7
    """
    _one_of(n, labels)
    from genodiff import pipeline

    table = pipeline.sample(
        model, pipeline.SampleOptions(n, labels, o["seed"]), output,
        device=o["device"], threads=o["threads"], force=o["force"], progress=_progress(o["quiet"]),
    )  # fmt: skip
    click.echo(f"{table.n_samples:,} people at {table.n_variants:,} sites: {output}")


@main.command()
@click.option("--synthetic", type=_PATH, required=True, help="VCF of the people to judge.")
@click.option("--train", type=_PATH, required=True, help="VCF of the people the generator learned from.")
@click.option("--holdout", type=_PATH, required=True, help="VCF of people it has not seen.")
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for metrics.csv, report.html and figures/.")
@click.option("--panel", type=_PATH, help="Population labels of the real people.")
@click.option("--synthetic-panel", type=_PATH, help="Population labels of the synthetic people.")
@click.option("--map", "genetic_map", type=_PATH, help="Genetic map (bp to cM).")
@click.option("--region", help="Contig or contig:from-to (bp).")
@click.option("--maf", type=_Range(0, 0.5), default=0.0, show_default=True,
              help="Judge only sites with at least this minor-allele frequency in --train.")  # fmt: skip
@seed_option
@output_options
def evaluate(output: Path, synthetic: Path, train: Path, holdout: Path, quiet: bool, **o: Any) -> None:
    """Judge synthetic genotypes made by anything: fidelity and privacy, every figure with its floor.

    \b
    Example:
      genodiff evaluate --synthetic s.vcf.gz --train a.vcf.gz --holdout b.vcf.gz -o judged/
    """
    from genodiff import pipeline

    verdict = pipeline.evaluate(synthetic, train, holdout, output, progress=_progress(quiet), **o)
    click.echo(f"{verdict}\nreport: {output / 'report.html'}")


@main.group()
def simulate() -> None:
    """Simulate genotypes with known truth."""


_sim_output = click.option("-o", "--output", type=_PATH, required=True, help="VCF to write: .vcf.gz, .vcf or .bcf.")


@simulate.command("ld-blocks")
@_sim_output
@click.option("--people", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--sites", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--block-size", type=click.IntRange(min=1), default=20, show_default=True, help="Sites per LD block.")
@click.option(
    "--decay",
    type=_Range(min=0, min_open=True),
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
@_sim_output
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
@seed_option
@click.option("--force", is_flag=True, help="Replace an output that exists.")
def coalescent(output: Path, people: int, length_bp: int, seed: int, force: bool) -> None:
    """A coalescent with recombination, three populations out of Africa. Needs the extra ``sim`` (msprime).

    \b
    Example:
      genodiff simulate coalescent --people 600 --length 2000000 -o ooa.vcf.gz
    """
    from data_prep.simulate import simulate_coalescent

    _write_simulated(simulate_coalescent(people, length_bp=length_bp, seed=seed), output, force=force)


def _write_simulated(table: Any, output: Path, *, force: bool) -> None:
    from genodiff import pipeline

    pipeline.write_table(table, output, force=force)
    click.echo(f"{table.n_samples:,} people at {table.n_variants:,} sites: {output}")


class _Baselines(click.Group):
    """One command per baseline, made from the fields of its dataclass when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from genodiff.baselines import names

        return names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _baseline_command(cmd_name) if cmd_name in self.list_commands(ctx) else None


@main.group(cls=_Baselines)
def baseline() -> None:
    """Make people by another method, to compare: from single sites to the mosaics of HAPGEN2 and HAPNEST.

    \b
    Example:
      genodiff baseline li-stephens chr22.vcf.gz -o mosaic.vcf.gz --map chr22.gmap.gz
    """


def _baseline_command(name: str) -> click.Command:
    """Reads as ``fit`` does and writes as ``sample`` does; the fields of the method are further options."""
    from dataclasses import fields
    from typing import get_args, get_type_hints

    from genodiff.baselines import baseline_class

    method = baseline_class(name)
    hints = get_type_hints(method)
    own = {field.name: field for field in fields(method)}  # type: ignore[arg-type]

    def option(key: str) -> Callable[[F], F]:
        kind = next((a for a in get_args(hints[key]) if a is not type(None)), hints[key])
        flag = "--" + key.replace("_", "-")
        return click.option(
            f"{flag}/--no-{flag[2:]}" if kind is bool else flag, key, type=kind,
            default=own[key].default, show_default=own[key].default is not None, help=own[key].metadata["help"],
        )  # fmt: skip

    @click.argument("vcf", type=_PATH)
    @click.option("-o", "--output", type=_PATH, required=True, help="VCF to write: .vcf.gz (with index), .vcf or .bcf.")
    @click.option("-n", "--samples", "n", type=click.IntRange(min=1),
                  help="Number of people to make; as many as were learned from if not given.")  # fmt: skip
    @_stack(*map(option, own))
    @data_options
    @holdout_options(0.0)
    @seed_option
    @device_options
    @output_options
    def command(vcf: Path, output: Path, n: int | None, **o: Any) -> None:
        from genodiff.baselines.command import run

        table, said = run(
            name, {key: o[key] for key in own}, _data(vcf, o), output, n=n,
            device=o["device"], threads=o["threads"], force=o["force"], progress=_progress(o["quiet"]),
        )  # fmt: skip
        click.echo("\n".join([*said, f"{table.n_samples:,} people at {table.n_variants:,} sites: {output}"]))

    about = (
        f"{method.summary}\n\nBeside the VCF s.vcf.gz lie s.panel.tsv (if there are labels) and s.provenance.json.\n\n"
        f"\b\nExample:\n  genodiff baseline {name} chr22.vcf.gz -o s.vcf.gz --panel panel.tsv"
    )
    return click.command(name, help=about, short_help=method.summary)(command)


@main.group()
def reproduce() -> None:
    """Run the experiments of the GOU paper again: tables beside the printed ones, figures, claims.

    \b
    Examples:
      genodiff reproduce gou-mixture
      genodiff reproduce gou-chr22 --budget full
    """


def _budget_options(function: F) -> F:
    return _stack(
        click.option("-o", "--output", type=_PATH, default=Path("docs/results/gou"), show_default=True,
                     help="Folder for the page, its figures and its tables."),
        click.option("--seeds", type=click.IntRange(min=1), help="Number of seeds; 2 for quick, 5 for full."),
        click.option("--budget", type=click.Choice(["quick", "full"]), default="quick", show_default=True,
                     help="Minutes, or as long as it takes."),
        device_options,
        click.option("--quiet", is_flag=True, help="No progress bars."),
    )(function)  # fmt: skip


def _reproduced(module: str, output: Path, *, quiet: bool, device: str, threads: int | None, **o: Any) -> None:
    from importlib import import_module

    import torch

    from genodiff.genotypes.model import resolve_device

    torch.set_num_threads(threads or os.cpu_count() or 1)
    o["seeds"] = o["seeds"] or {"quick": 2, "full": 5}[o["budget"]]
    experiment = import_module(f"genodiff.reproduce.{module}")
    page = experiment.reproduce(output, progress=_progress(quiet), device=str(resolve_device(device)), **o)
    click.echo(f"page: {page}")


@reproduce.command("gou-mixture")
@_budget_options
def gou_mixture(output: Path, **o: Any) -> None:
    """Table 1 and Figure 1 (two Gaussians in the plane), the error of the start law, the claims of section 6.

    \b
    Examples:
      genodiff reproduce gou-mixture
      genodiff reproduce gou-mixture --budget full --seeds 5 -o results/
    """
    _reproduced("mixture", output, **o)


@reproduce.command("gou-snps")
@_budget_options
def gou_snps(output: Path, **o: Any) -> None:
    """Table 2: simulated SNPs in LD blocks, 500 people at 1,000 sites.

    \b
    Examples:
      genodiff reproduce gou-snps
      genodiff reproduce gou-snps --budget full --device cuda
    """
    _reproduced("snps", output, **o)


@reproduce.command("gou-chr22")
@click.option("--vcf", type=_PATH, help="Real genotypes; the embedded example if not given.")
@click.option("--panel", type=_PATH, help="Population labels of the people in --vcf.")
@_budget_options
def gou_chr22(output: Path, **o: Any) -> None:
    """Table 3 and Figure 2: real genotypes of chromosome 22.

    \b
    Examples:
      genodiff reproduce gou-chr22
      genodiff reproduce gou-chr22 --vcf chr22.vcf.gz --panel panel.tsv --budget full
    """
    _reproduced("chr22", output, **o)


@main.command()
@click.argument("path", type=_PATH)
@click.option("--region", help="Contig or contig:from-to (bp).")
def inspect(path: Path, region: str | None) -> None:
    """Say what a VCF or a model folder holds.

    \b
    Examples:
      genodiff inspect chr22.vcf.gz
      genodiff inspect model/
    """
    from genodiff import pipeline

    rows = pipeline.inspect(path, region=region, progress=sys.stderr.isatty())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _data(vcf: Path, o: dict[str, Any]) -> Any:
    from genodiff.pipeline import DataOptions

    return DataOptions(
        path=vcf, panel=o["panel"], panel_column=o["panel_column"], region=o["region"], genetic_map=o["genetic_map"],
        maf=o["maf"], max_missing=o["max_missing"], holdout=o["holdout"], holdout_samples=o["holdout_samples"],
        seed=o["seed"],
    )  # fmt: skip


def _fit_options(o: dict[str, Any]) -> Any:
    from genodiff.pipeline import FitOptions

    names = ("preset", "seed", "device", "threads", "steps", "anchors")
    return FitOptions(**{name: o[name] for name in names})


if __name__ == "__main__":
    main()
