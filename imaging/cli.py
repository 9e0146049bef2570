"""``python -m imaging`` and ``genodiff imaging``: options in, one call of the library each.

Nothing heavy is imported before a command runs. ``genodiff`` finds this group by the entry point
``genodiff.commands`` of the distribution, so that neither package imports the other's command line.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from genodiff.core.training import TrainingConfig
    from imaging.runs import Source

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)
_NOT_WRITABLE = frozenset((errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM, errno.EIO))


class Commands(click.Group):
    """Turns errors the user can mend into one line on stderr and exit status 2."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            _refuse(error, str(info_name) if parent is None else f"{parent.command_path} {info_name}")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _refuse(error, error.ctx.command_path if error.ctx else f"{ctx.command_path} {ctx.invoked_subcommand}")
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _fail("interrupted; the same command goes on from its last checkpoint, if it had come to one", status=130)
        except Exception as error:
            line = _mendable(error)
            if line is None:
                raise
            _fail(line, status=2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _mendable(error: Exception) -> str | None:
    """What to say of an error that is the user's to mend; ``None`` for a defect of this program."""
    from imaging.errors import ImagingError

    if isinstance(error, ImagingError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return f"{error.filename or 'output'}: cannot be written ({error.strerror}): free space or choose another -o"
    if "torch" not in sys.modules:
        return None
    from genodiff.core.training import TrainingError

    return str(error) if isinstance(error, TrainingError) else None


def _fail(line: str, *, status: int) -> NoReturn:
    click.echo(f"imaging: {' '.join(line.split())}", err=True)
    sys.exit(status)


def _refuse(error: click.UsageError, command: str) -> NoReturn:
    """Says what is wrong with the options of a command in one line, where click takes four."""
    # A group that is called without a command shows its help; click before 8.2 does so without an error.
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        raise error
    message = " ".join(error.format_message().split()).removesuffix(".")
    _fail(f"{message[:1].lower()}{message[1:]} (see {command} --help)", status=2)


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order of the help."""

    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


class _Set(click.ParamType):
    """The name of a data set; the names are looked up when one is given, for they live in a heavy module."""

    name = "SET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from imaging.datasets import NAMES

        if value not in NAMES:
            self.fail(f"no data set is called {value!r}: choose one of {', '.join(NAMES)}", param, ctx)
        return str(value)


_data = _stack(
    click.option("--data", type=_Set(), default="fashion-mnist", show_default=True,
                 help="fashion-mnist, emoji, mnist, cifar10, afhq, ffhq, or folder (of any images)."),
    click.option("--data-path", type=_PATH, help="Where its files are, if not where their Debian package puts them."),
    click.option("--size", type=click.IntRange(min=8), default=32, show_default=True,
                 help="Side of the images in pixels."),
)  # fmt: skip
_seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True,
                     help="Equal seeds give equal results on the CPU.")  # fmt: skip
_threads = click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all if not given.")
_output = _stack(
    click.option("--force", is_flag=True, help="Replace an output that exists."),
    click.option("--quiet", is_flag=True, help="No progress bars."),
)


_training = _stack(
    click.option("--steps", type=click.IntRange(min=1), help="Training steps, instead of the default."),
    click.option("--batch", type=click.IntRange(min=1), help="Images per step, instead of the default."),
    click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True),
                 help="Peak rate, instead of the default."),
)  # fmt: skip


class _Widths(click.ParamType):
    """Whole numbers ≥ 1 with commas between."""

    name = "N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers, as in 32,64,128", param, ctx)
        return tuple(int(part) for part in parts)


def _source(o: dict[str, Any]) -> Source:
    """What :data:`_data` says."""
    from imaging.runs import Source

    return Source(o["data"], o["data_path"], o["size"])


def _config(default: TrainingConfig, o: dict[str, Any]) -> TrainingConfig:
    """``default`` with what :data:`_training` says instead."""
    said = {key: o[key] for key in ("steps", "batch", "learning_rate") if o[key] is not None}
    return replace(default, **said)


def _bars(quiet: bool) -> bool:
    """Bars are for people who watch: a log or a pipe receives lines only."""
    return not quiet and sys.stderr.isatty()


def _limit(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Image diffusion with learned, anisotropic noise schedules.

    \b
    Examples:
      python -m imaging train --data fashion-mnist -o edm/
      python -m imaging learn-schedule edm/ -o ani/ && python -m imaging learn-time ani/ -o ani-time/
      python -m imaging sample ani-time/ -n 10000 --steps 5 -o few.npz
      python -m imaging evaluate few.npz --data fashion-mnist -o judged/
    """


@main.command()
@_data
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for the model.")
@_training
@click.option(
    "--widths",
    type=_Widths(),
    default="32,64,128",
    show_default=True,
    help="Channels of the U-Net at each resolution, finest first.",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Residual blocks at each resolution, down and up.",
)
@click.option(
    "--patch",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Side of the squares of pixels that the first layer folds into channels.",
)
@_seed
@_threads
@_output
def train(output: Path, **o: Any) -> None:
    """Train the baseline, EDM (Karras et al. 2022): isotropic noise on a fixed schedule.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      python -m imaging train --data fashion-mnist -o edm/
      python -m imaging train --data emoji --steps 40000 --widths 48,96,192 -o edm-emoji/
      python -m imaging train --data cifar10 --data-path cifar-10-batches-bin --widths 128,256,256 -o edm-cifar/
    """
    _limit(o["threads"])
    from imaging import runs
    from imaging.networks import UNetConfig

    result = runs.train_model(
        _source(o), output, network=UNetConfig(widths=o["widths"], blocks=o["blocks"], patch=o["patch"]),
        config=_config(runs.TRAINING, o), seed=o["seed"], force=o["force"], progress=_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"{result.steps:,} steps, validation loss {result.best_validation:.4f}: {output}")


_model_path = click.option("--data-path", type=_PATH, help="Where the files of the model's data are, if not as usual.")
_gain = click.option("--gain", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
                     help="How many times faster a schedule is learned than a network.")  # fmt: skip


@main.command("learn-schedule")
@click.argument("model", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for the model with its schedule.")
@click.option(
    "--subspaces",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="Bands of frequency, each with its own schedule; 1 is isotropic.",
)
@click.option(
    "--method",
    type=click.Choice(["gradient", "constant-speed"]),
    default="gradient",
    show_default=True,
    help="Learn the schedule beside the network, or fit it to the error the network leaves and train on.",
)
@click.option(
    "--score-correction/--no-score-correction",
    default=True,
    show_default=True,
    help="Account for the change of the score with the schedule.",
)
@click.option(
    "-c",
    "c",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Variance of the data in the objective.",
)
@_gain
@_training
@_model_path
@_seed
@_threads
@_output
def learn_schedule(model: Path, output: Path, method: str, **o: Any) -> None:
    """Learn a noise schedule for each band of frequency of a trained MODEL, by trajectory-level score matching.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      python -m imaging learn-schedule edm/ -o ani/
      python -m imaging learn-schedule edm/ --subspaces 1 -o iso/
      python -m imaging learn-schedule edm/ --method constant-speed --steps 1000 -o fitted/
    """
    _limit(o["threads"])
    from imaging import runs

    result = runs.learn_schedule(
        model, output, subspaces=o["subspaces"], constant_speed=method == "constant-speed",
        score_correction=o["score_correction"], c=o["c"], gain=o["gain"], config=_config(runs.LEARNING, o),
        path=o["data_path"], seed=o["seed"], force=o["force"], progress=_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"{result.steps:,} steps, validation loss {result.best_validation:.4f}: {output}")


@main.command("learn-time")
@click.argument("model", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for the model with its time.")
@click.option(
    "--window",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.125,
    show_default=True,
    help="Share of the whole time that one step is taken to have.",
)
@click.option(
    "--excess",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Weight of the score-matching loss beside the error of discretisation; 0 leaves it out.",
)
@_gain
@_training
@_model_path
@_seed
@_threads
@_output
def learn_time(model: Path, output: Path, **o: Any) -> None:
    """Learn where a sampler of MODEL should take its steps; network and schedule stay as they are.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      python -m imaging learn-time ani/ -o ani-time/
      python -m imaging learn-time iso/ --steps 500 -o iso-time/
    """
    _limit(o["threads"])
    from imaging import runs

    result = runs.learn_time(
        model, output, window=o["window"], excess=o["excess"], gain=o["gain"], config=_config(runs.LEARNING, o),
        path=o["data_path"], seed=o["seed"], force=o["force"], progress=_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"{result.steps:,} steps, validation loss {result.best_validation:.4f}: {output}")


@main.command()
@click.argument("model", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="File to write the images to (.npz).")
@click.option(
    "-n", "--samples", "n", type=click.IntRange(min=1), default=64, show_default=True, help="Number of images."
)
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    default=18,
    show_default=True,
    help="Steps of the sampler; 5, 6, 7, 8, 10, 18 and 40 call the network 9, 11, 13, 15, 19, 35 and 79 times.",
)
@_seed
@_threads
@_output
def sample(model: Path, output: Path, n: int, steps: int, **o: Any) -> None:
    """Draw images from a MODEL folder: an .npz of bytes, and a PNG of the first of them.

    \b
    Examples:
      python -m imaging sample edm/ -o edm.npz
      python -m imaging sample edm/ -n 10000 --steps 5 --seed 3 -o few.npz
    """
    _limit(o["threads"])
    from imaging import samples

    nfe = samples.sample_model(
        model, output, n=n, steps=steps, seed=o["seed"], force=o["force"], progress=_bars(o["quiet"])
    )
    click.echo(f"{n:,} images, the network called {nfe} times for each: {output}")


@main.command("train-features")
@_data
@click.option("-o", "--output", type=_PATH, required=True, help="File to write the weights to (.safetensors).")
@click.option("--steps", type=click.IntRange(min=1), help="Training steps, instead of 1,500.")
@_seed
@_threads
@_output
def train_features(output: Path, **o: Any) -> None:
    """Train the classifier in whose features sets of images are compared.

    An interrupted run goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      python -m imaging train-features --data fashion-mnist -o fmnist.safetensors
      python -m imaging train-features --data cifar10 --data-path cifar-10-batches-bin -o cifar10.safetensors
    """
    _limit(o["threads"])
    from imaging import runs

    accuracy = runs.train_features(
        _source(o), output,
        steps=o["steps"], seed=o["seed"], force=o["force"], progress=_bars(o["quiet"]),
    )  # fmt: skip
    click.echo(f"features that classify {accuracy:.1%} of the test images: {output}")


@main.command()
@click.argument("samples", type=_PATH)
@_data
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for metrics.csv, spectrum.png and page.md.")
@click.option(
    "--features", help="Name of shipped features or a file from train-features; those of the set if not given."
)
@click.option("--fid-weights", type=_PATH, help="Inception weights, for the true FID (needs torch-fidelity).")
@_seed
@_threads
@_output
def evaluate(samples: Path, output: Path, **o: Any) -> None:
    """Judge SAMPLES, an .npz from sample, or a folder or zip of images, made by anything.

    Fréchet distance in the features of a small classifier (never called FID), precision, recall and power by frequency,
    each with its floor: the same figure for real images held out.

    \b
    Examples:
      python -m imaging evaluate samples.npz --data fashion-mnist -o judged/
      python -m imaging evaluate images/ --data folder --data-path photos/ --features my.safetensors -o judged/
    """
    _limit(o["threads"])
    from imaging.samples import evaluate as judge

    table = judge(
        samples, _source(o), output, features=o["features"],
        fid_weights=o["fid_weights"], seed=o["seed"], force=o["force"],
    )  # fmt: skip
    click.echo(f"{table}\nfolder: {output}")
