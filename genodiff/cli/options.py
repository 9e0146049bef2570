"""What the commands share: types of values, options, and errors told in one line."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from genodiff.loading import DataOptions, JudgedOptions
    from genodiff.pipeline import FitOptions

__all__ = [
    "OUTPUTS",
    "PATH",
    "Commands",
    "F",
    "Labels",
    "Range",
    "data_from",
    "data_options",
    "device_options",
    "figures_option",
    "fit_from",
    "holdout_options",
    "judged_from",
    "judged_options",
    "named_path",
    "one_of",
    "output_options",
    "people_options",
    "seed_option",
    "sex_option",
    "show_bars",
    "site_options",
    "stack",
    "training_options",
]

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

OUTPUTS = "Genotypes to write: .vcf.gz (with index), .vcf, .bcf, .pgen, .bed, .haps, .vcz, .h5ad or .zarr."


class Commands(click.Group):
    """Turns errors the user can mend into one line on stderr and exit status 2."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if parent is not None:  # whose invoke tells it
                raise
            _refuse(error, ())

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminable():
                return super().invoke(ctx)
        except click.UsageError as error:
            # Of a value that is not there click does not say in which command.
            _refuse(error, (*_path(ctx), ctx.invoked_subcommand or "") if error.ctx is None else _path(error.ctx))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as stop:
            resumes = ctx.invoked_subcommand in ("fit", "sample", "synthesize")
            ended, status = ("terminated", 143) if isinstance(stop, _Terminated) else ("interrupted", 130)
            _fail(
                ended + "; the same command goes on from what was kept, if it had come that far" * resumes,
                status=status,
            )
        except Exception as error:
            from genodiff.pipeline import as_user_error

            line = as_user_error(error)
            if line is None:
                raise
            _fail(" ".join(line.split()), status=2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Terminated(KeyboardInterrupt):
    """The process was asked to end, as a cluster asks when time is up."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what was made is put in order first."""

    def end(*_: object) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(line: str, *, status: int) -> NoReturn:
    click.echo(f"genodiff: {line}", err=True)
    sys.exit(status)


def _path(ctx: click.Context) -> tuple[str, ...]:
    """The names of a command and of the groups it lies in, without that of the program."""
    return () if ctx.parent is None else (*_path(ctx.parent), str(ctx.info_name))


def _refuse(error: click.UsageError, command: tuple[str, ...]) -> NoReturn:
    """Says what is wrong with the options of a command in one line, where click takes four."""
    # A group that is called without a command shows its help; click before 8.2 does so without an error.
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        raise error
    message = " ".join(error.format_message().split()).removesuffix(".")
    remedy = " ".join(("genodiff", *command, "--help"))
    _fail(f"{message[:1].lower()}{message[1:]} (see {remedy})", status=2)


def stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order of the help."""

    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


class Range(click.FloatRange):
    """A range of finite numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


sex_option = click.option(
    "--sex", type=PATH,
    help="Who is a man: a table with the columns sample and sex, or a PLINK .fam or .psam; of PLINK files their own if "
         "not given. Needed for X outside the pseudo-autosomal regions, not used elsewhere.",
)  # fmt: skip

site_options = stack(
    sex_option,
    click.option("--build", type=click.Choice(["GRCh37", "GRCh38"]),
                 help="Build of the genome, where the header does not tell."),
    click.option("--multiallelic", type=click.Choice(["drop", "split", "join"]), default="drop", show_default=True,
                 help="Records with several alternate alleles: leave out, make a record of each, or learn each and "
                      "write one record again."),
    click.option("--structural/--no-structural", default=True, show_default=True,
                 help="Read structural variants (<DEL>, breakends) as biallelic sites."),
)  # fmt: skip

data_options = stack(
    click.option("--panel", type=PATH,
                 help="Population labels: a table with the columns sample and super_pop, label or pop."),
    click.option("--panel-column", help="Column of the panel to take labels from."),
    click.option("--panel-parent",
                 help="Column of what these labels lie within, from which a label of few people borrows; super_pop "
                      "where every label lies in one."),
    click.option("--region", help="Contig or contig:from-to (bp), for example 22:1-2000000."),
    click.option("--map", "genetic_map", type=PATH, help="Genetic map (bp to cM): PLINK, HapMap or SHAPEIT format."),
    click.option("--maf", type=Range(0, 0.5), default=0.01, show_default=True,
                 help="Least minor-allele frequency among the people learned from; 0 keeps every polymorphic site."),
    click.option("--max-missing", type=Range(0, 1), default=0.1, show_default=True,
                 help="Largest share of people without a call at a site."),
    site_options,
)  # fmt: skip


_SITES = ("sex", "build", "multiallelic", "structural")


def judged_options(*, purpose: str, holds: str, use: str) -> Callable[[F], F]:
    """Genotypes made by anything and the real people beside them, in words of what is done with them."""
    return stack(
        click.option("--synthetic", type=PATH, required=True, help=f"VCF of the people to {purpose}."),
        click.option("--train", type=PATH, required=True, help="VCF of the people the generator learned from."),
        click.option("--holdout", type=PATH, required=True, help="VCF of people it has not seen."),
        click.option("-o", "--output", type=PATH, required=True, help=f"Folder for {holds}."),
        click.option("--panel", type=PATH, help="Population labels of the real people."),
        click.option("--synthetic-panel", type=PATH, help="Population labels of the synthetic people."),
        click.option("--map", "genetic_map", type=PATH, help="Genetic map (bp to cM)."),
        click.option("--region", help="Contig or contig:from-to (bp)."),
        click.option("--maf", type=Range(0, 0.5), default=0.0, show_default=True,
                     help=f"{use} only sites with at least this minor-allele frequency in --train."),
        site_options,
    )  # fmt: skip


training_options = stack(
    click.option("--preset", type=click.Choice(["fast", "balanced", "best"]), default="balanced", show_default=True,
                 help="Minutes, tens of minutes, or hours of training."),
    click.option("--steps", type=click.IntRange(min=0), help="Training steps, instead of the preset's."),
    click.option("--anchors", type=click.IntRange(min=1), help="Number of anchors; chosen from the data if not given."),
    click.option("--compile", "compiled", is_flag=True,
                 help="Compile the network first: a minute, for long fits on CUDA."),
    click.option("--ignore-memory", is_flag=True,
                 help="Go on where far more memory seems to be needed than there is."),
)  # fmt: skip

seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True,
                           help="Equal seeds give equal results on the CPU.")  # fmt: skip
device_options = stack(
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
    click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all if not given."),
)
figures_option = click.option(
    "--figures", type=click.Choice(["png", "pdf", "svg"]), default="png", show_default=True,
    help="Kind of the files in figures/: pdf and svg are vector graphics, for print.",
)  # fmt: skip
output_options = stack(
    click.option("--force", is_flag=True, help="Replace an output that exists."),
    click.option("--quiet", is_flag=True, help="No progress bars."),
)


def holdout_options(default: float) -> Callable[[F], F]:
    """``--holdout`` and ``--holdout-samples``, of which one may be given."""

    def either(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        given = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
        if all(ctx.get_parameter_source(name) in given for name in ("holdout", "holdout_samples")):
            raise click.UsageError("give either --holdout or --holdout-samples, not both", ctx)
        return value

    return stack(
        click.option("--holdout", type=Range(0, 1, max_open=True), default=default, show_default=True, callback=either,
                     help="Share of people held out, the same share of every label."),
        click.option("--holdout-samples", type=PATH, callback=either,
                     help="File with the names of the people to hold out, instead."),
    )  # fmt: skip


class Labels(click.ParamType):
    """Numbers of people per population label or mixture of labels."""

    name = "LABEL=N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        if isinstance(value, dict):
            return value
        out: dict[str, int] = {}
        for item in value.split(","):
            mixture, colon, count = item.rpartition(":")
            mixed = bool(colon) and "=" in mixture and "=" not in count
            label, _, count = (mixture, "", count) if mixed else item.partition("=")
            label, count = label.strip(), count.strip()
            if not label or not count.isdigit() or int(count) < 1:
                wanted = "LABEL=SHARE+LABEL=SHARE:N" if mixed or "+" in item else "LABEL=N"
                example = "AFR=0.8+EUR=0.2:500" if mixed or "+" in item else "EUR=3000,AFR=2000"
                self.fail(f"{item!r} is not {wanted} with N ≥ 1, as in {example}", param, ctx)
            if mixed:
                self._check(label, param, ctx)
            if label in out:
                self.fail(f"label {label!r} is given twice", param, ctx)
            out[label] = int(count)
        return out

    def _check(self, mixture: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
        from data_prep.errors import InputError
        from genodiff.genotypes.admixture import shares_of

        try:
            shares_of(mixture)
        except InputError as error:
            self.fail(str(error), param, ctx)


people_options = stack(
    click.option("-n", "--samples", "n", type=click.IntRange(min=1),
                 help="Number of synthetic people; as many as were learned from if not given."),
    click.option("--labels", type=Labels(),
                 help="People per population label, as in EUR=3000,AFR=2000, or per mixture of labels, as in "
                      "AFR=0.8+EUR=0.2:500; needs a panel at fit."),
    click.option("--generations", type=Range(0, min_open=True), default=8.0, show_default=True,
                 help="Generations since mixtures came about: ancestry may change so often per Morgan (of --map, or "
                      "1 cM per Mb)."),
)  # fmt: skip


def show_bars(quiet: bool) -> bool:
    """Bars are for people who watch: a log or a pipe receives lines only."""
    return not quiet and sys.stderr.isatty()


def named_path(text: str) -> tuple[str | None, Path]:
    """``name=path`` or ``path``; a path that is there is never taken apart."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name or not path:
        raise click.UsageError(f"{text!r} is not NAME=RUN, as in ours=out/")
    return name, Path(path)


def one_of(n: int | None, labels: dict[str, int] | None) -> None:
    """Refuses two numbers of people that may contradict each other."""
    if n is not None and labels is not None:
        raise click.UsageError("give either --samples or --labels, not both")


def data_from(vcf: Path, o: dict[str, Any]) -> DataOptions:
    """What :data:`data_options`, :func:`holdout_options` and the seed say of ``vcf``."""
    from genodiff.loading import DataOptions

    return DataOptions(
        path=vcf, panel=o["panel"], panel_column=o["panel_column"],
        panel_parent=o["panel_parent"], region=o["region"], genetic_map=o["genetic_map"],
        maf=o["maf"], max_missing=o["max_missing"], holdout=o["holdout"], holdout_samples=o["holdout_samples"],
        seed=o["seed"], **{name: o[name] for name in _SITES},
    )  # fmt: skip


def judged_from(o: dict[str, Any]) -> JudgedOptions:
    """What :func:`judged_options` say."""
    from genodiff.loading import JudgedOptions

    names = ("synthetic", "train", "holdout", "panel", "synthetic_panel", "genetic_map", "region", "maf", *_SITES)
    return JudgedOptions(**{name: o[name] for name in names})


def fit_from(o: dict[str, Any]) -> FitOptions:
    """What :data:`training_options`, :data:`device_options` and the seed say."""
    from genodiff.pipeline import FitOptions

    names = ("preset", "seed", "device", "threads", "steps", "anchors", "compiled", "ignore_memory")
    return FitOptions(**{name: o[name] for name in names})
