"""``genodiff utility``: what synthetic genotypes are good for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genodiff.cli.options import judged_from, judged_options, output_options, seed_option, show_bars
from genodiff.utility import TASKS

__all__ = ["utility"]


class _Tasks(click.ParamType):
    """Some of the tasks, in any order."""

    name = "TASK,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in TASKS:
                self.fail(f"{name!r} is not one of {', '.join(TASKS)}", param, ctx)
        return tuple(dict.fromkeys(names))


@click.command()
@judged_options(purpose="put to use", holds="utility.csv, utility.md and figures/", use="Use")
@click.option("--tasks", type=_Tasks(),
              help=f"Some of {', '.join(TASKS)}; all that are possible if not given.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads of Beagle; all if not given.")
@click.option("--memory", "memory_gb", type=click.IntRange(min=1), default=4, show_default=True,
              help="Memory of Beagle in GB.")  # fmt: skip
@seed_option
@output_options
def utility(output: Path, **o: Any) -> None:
    """Put synthetic genotypes to use beside real ones: imputation, ancestry, association, scores.

    Held-out people are imputed from a synthetic reference panel (by Beagle, where it is installed), their labels are
    told by a classifier trained on synthetic people, simulated traits are studied in both, LD scores and polygenic
    scores are compared. Every figure stands beside that of as many training people in the place of the synthetic ones.

    \b
    Example:
      genodiff utility --synthetic s.vcf.gz --train a.vcf.gz --holdout b.vcf.gz --map chr22.gmap.gz -o useful/
    """
    from genodiff.utility.command import run

    names = ("tasks", "seed", "threads", "memory_gb", "force")
    said = run(judged_from(o), output, progress=show_bars(o["quiet"]), **{name: o[name] for name in names})
    click.echo(f"{said}\npage: {output / 'utility.md'}")
