"""The command line: options in, one call of the library each.

Nothing heavy is imported before a command runs, so that ``genodiff --help`` is instant.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import click

from genodiff import __version__
from genodiff.cli import baseline, commands, completion, convert, genome, reproduce, simulate, utility
from genodiff.cli.options import Commands

__all__ = ["main"]


_ANNOUNCED = "genodiff.commands"
"""Entry point under which an installed package announces a group of commands of its own."""


class _Main(Commands):
    """Own commands, then those that installed packages announce; these are looked up, and loaded, by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *sorted(entry_points(group=_ANNOUNCED).names - set(own))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        return next((found.load() for found in entry_points(group=_ANNOUNCED, name=cmd_name)), None)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="genodiff")
def main() -> None:
    """Synthetic genotypes with the structure of real people, copied from none of them.

    \b
    Examples:
      genodiff synthesize chr22.vcf.gz -o out/ --panel panel.tsv
      genodiff fit chr22.vcf.gz -o model/ && genodiff sample model/ -n 5000 -o synthetic.vcf.gz
      genodiff evaluate --synthetic s.vcf.gz --train a.vcf.gz --holdout b.vcf.gz -o judged/
      genodiff compare out/ judged/ -o compared/

    \b
    Exit codes:
      0    done, or help shown
      1    an error that is not yours: a traceback follows, please report it
      2    options or input that cannot be used: one line says which, and what to do; nothing is written
      130  interrupted; fit, sample and synthesize go on when the same command is given again
    """


# In the order of the help: modules are imported, so that no group takes the place of its module in the package.
for command in (
    commands.synthesize,
    commands.fit,
    commands.sample,
    commands.evaluate,
    commands.compare,
    commands.audit,
    genome.survey,
    genome.people,
    genome.genome,
    utility.utility,
    simulate.simulate,
    baseline.baseline,
    reproduce.reproduce,
    commands.inspect,
    convert.convert,
    completion.completion,
):
    main.add_command(command)
