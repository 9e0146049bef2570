"""``genodiff baseline``: one command per baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from genodiff.cli.options import (
    OUTPUTS,
    PATH,
    Commands,
    F,
    data_from,
    data_options,
    device_options,
    holdout_options,
    output_options,
    seed_option,
    show_bars,
    stack,
)

__all__ = ["baseline"]


class _Baselines(Commands):
    """One command per baseline, made from the fields of its dataclass when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from genodiff.baselines import names

        return names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _baseline_command(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click would make every command for its line, and so import every method, torch included.
        from genodiff.baselines import names, summary_of

        with formatter.section("Commands"):
            formatter.write_dl([(name, summary_of(name)) for name in names()])


@click.group(cls=_Baselines)
def baseline() -> None:
    """Make people by another method, to compare: from single sites to the mosaics of HAPGEN2 and HAPNEST.

    \b
    Example:
      genodiff baseline li-stephens chr22.vcf.gz -o mosaic.vcf.gz --map chr22.gmap.gz
    """


def _kind(hint: Any) -> Any:
    """The type of an option by that of its field: ``X`` for ``X | None``, a choice for a ``Literal``."""
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    return next((a for a in get_args(hint) if a is not type(None)), hint)


def _baseline_command(name: str) -> click.Command:
    """Reads as ``fit`` does and writes as ``sample`` does; the fields of the method are further options."""
    from genodiff.baselines import baseline_class

    method = baseline_class(name)
    hints = get_type_hints(method)
    own = {field.name: field for field in fields(method)}  # type: ignore[arg-type]

    def option(key: str) -> Callable[[F], F]:
        kind = _kind(hints[key])
        flag = "--" + key.replace("_", "-")
        return click.option(
            f"{flag}/--no-{flag[2:]}" if kind is bool else flag, key, type=kind,
            default=own[key].default, show_default=own[key].default is not None, help=own[key].metadata["help"],
        )  # fmt: skip

    @click.argument("vcf", type=PATH)
    @click.option("-o", "--output", type=PATH, required=True, help=OUTPUTS)
    @click.option("-n", "--samples", "n", type=click.IntRange(min=1),
                  help="Number of people to make; as many as were learned from if not given.")  # fmt: skip
    @stack(*map(option, own))
    @data_options
    @holdout_options(0.0)
    @seed_option
    @device_options
    @output_options
    def command(vcf: Path, output: Path, n: int | None, **o: Any) -> None:
        from genodiff.baselines.command import run

        table, said = run(
            name, {key: o[key] for key in own}, data_from(vcf, o), output, n=n,
            device=o["device"], threads=o["threads"], force=o["force"], progress=show_bars(o["quiet"]),
        )  # fmt: skip
        click.echo("\n".join([*said, f"{table.n_people:,} people at {table.n_variants:,} sites: {output}"]))

    about = (
        f"{method.summary}\n\nBeside the VCF s.vcf.gz lie s.panel.tsv (if there are labels) and s.provenance.json.\n\n"
        f"\b\nExample:\n  genodiff baseline {name} chr22.vcf.gz -o s.vcf.gz --panel panel.tsv"
        + (" --maf 0" if name.startswith("dp-") else "")
    )
    return click.command(name, help=about, short_help=method.summary)(command)
