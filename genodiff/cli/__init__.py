"""The command line: options in, one call of the library each.

Nothing heavy is imported before a command runs, so that ``genodiff --help`` is instant.
"""

from __future__ import annotations

import click

from genodiff import __version__
from genodiff.cli import baseline, commands, reproduce, simulate, utility
from genodiff.cli.options import Commands

__all__ = ["main"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="genodiff")
def main() -> None:
    """Synthetic genotypes with the structure of real people, copied from none of them.

    \b
    Examples:
      genodiff synthesize chr22.vcf.gz -o out/ --panel panel.tsv
      genodiff fit chr22.vcf.gz -o model/ && genodiff sample model/ -n 5000 -o synthetic.vcf.gz
      genodiff evaluate --synthetic s.vcf.gz --train a.vcf.gz --holdout b.vcf.gz -o judged/
    """


# In the order of the help: modules are imported, so that no group takes the place of its module in the package.
for command in (
    commands.synthesize,
    commands.fit,
    commands.sample,
    commands.evaluate,
    commands.audit,
    utility.utility,
    simulate.simulate,
    baseline.baseline,
    reproduce.reproduce,
    commands.inspect,
):
    main.add_command(command)
