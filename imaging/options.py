"""What the commands share: options, kinds of values, and errors said in one line."""

from __future__ import annotations

import errno
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from genodiff.core.training import TrainingConfig, TrainingResult
    from imaging.runs import Source

__all__ = [
    "PATH",
    "Commands",
    "Real",
    "SetName",
    "Widths",
    "config_of",
    "data_options",
    "gain_option",
    "limit_threads",
    "method_option",
    "model_path_option",
    "output_options",
    "say_trained",
    "seed_option",
    "show_bars",
    "source_of",
    "stack",
    "subspaces_option",
    "threads_option",
    "training_options",
]

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
_WIDEST = 8192
"""Most channels of a network."""

_NOT_WRITABLE = frozenset(
    (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM, errno.EIO, errno.ENAMETOOLONG)
)


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


def stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order of the help."""

    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


class SetName(click.ParamType):
    """The name of a data set; the names are looked up when one is given, for they live in a heavy module."""

    name = "SET"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from imaging.datasets import NAMES

        if value not in NAMES:
            self.fail(f"no data set is called {value!r}: choose one of {', '.join(NAMES)}", param, ctx)
        return str(value)


class Real(click.FloatRange):
    """A finite number within bounds; click's own lets what is not a number pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number", param, ctx)
        return found


data_options = stack(
    click.option("--data", type=SetName(), default="fashion-mnist", show_default=True,
                 help="fashion-mnist, emoji, mnist, cifar10, afhq, ffhq, or folder (of any images)."),
    click.option("--data-path", type=PATH, help="Where its files are, if not where their Debian package puts them."),
    click.option("--size", type=click.IntRange(8, 4096), default=32, show_default=True,
                 help="Side of the images in pixels."),
)  # fmt: skip
seed_option = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True,
                     help="Equal seeds give equal results on the CPU.")  # fmt: skip
threads_option = click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all if not given.")
output_options = stack(
    click.option("--force", is_flag=True, help="Replace an output that exists."),
    click.option("--quiet", is_flag=True, help="No progress bars."),
)


training_options = stack(
    click.option("--steps", type=click.IntRange(min=1), help="Training steps, instead of the default."),
    click.option("--batch", type=click.IntRange(1, 100_000), help="Images per step, instead of the default."),
    click.option("--learning-rate", type=Real(min=0, min_open=True),
                 help="Peak rate, instead of the default."),
)  # fmt: skip


class Widths(click.ParamType):
    """Whole numbers ≥ 1 with commas between."""

    name = "N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() and 0 < int(part) <= _WIDEST for part in parts):
            self.fail(f"{value!r} is not a list of whole numbers from 1 to {_WIDEST:,}, as in 32,64,128", param, ctx)
        return tuple(int(part) for part in parts)


def source_of(o: dict[str, Any]) -> Source:
    """What :data:`data_options` says."""
    from imaging.runs import Source

    return Source(o["data"], o["data_path"], o["size"])


def config_of(default: TrainingConfig, o: dict[str, Any]) -> TrainingConfig:
    """``default`` with what :data:`training_options` says instead."""
    said = {key: o[key] for key in ("steps", "batch", "learning_rate") if o[key] is not None}
    return replace(default, **said)


def say_trained(result: TrainingResult, output: Path) -> None:
    """How long training was, how good, and where its model is."""
    click.echo(f"{result.steps:,} steps, validation loss {result.best_validation:.4f}: {output}")


def show_bars(quiet: bool) -> bool:
    """Bars are for people who watch: a log or a pipe receives lines only."""
    return not quiet and sys.stderr.isatty()


def limit_threads(threads: int | None) -> None:
    """What :data:`threads_option` says."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


model_path_option = click.option(
    "--data-path", type=PATH, help="Where the files of the model's data are, if not as usual."
)
gain_option = click.option("--gain", type=Real(min=0, min_open=True), default=10.0, show_default=True,
                     help="How many times faster a schedule is learned than a network.")  # fmt: skip
subspaces_option = click.option("--subspaces", type=click.IntRange(1, 8), default=2, show_default=True,
                     help="Bands of frequency, each with its own schedule; 1 is isotropic.")  # fmt: skip
method_option = click.option("--method", type=click.Choice(["gradient", "constant-speed"]), default="gradient",
                     show_default=True, help="Learn the schedule beside the network, or fit it to the error the "
                     "network leaves and train on.")  # fmt: skip
