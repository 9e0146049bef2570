"""``genodiff completion``: what a shell has to read to complete commands, options and their values."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what SHELL reads to complete commands, options and values.

    It is the same that _GENODIFF_COMPLETE=bash_source genodiff prints. Bash has to be 4.4 or newer.

    \b
    Examples:
      genodiff completion bash > ~/.local/share/bash-completion/completions/genodiff
      genodiff completion zsh > ~/.zfunc/_genodiff
      genodiff completion fish > ~/.config/fish/completions/genodiff.fish
    """
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    assert known is not None
    click.echo(known(ctx.find_root().command, {}, "genodiff", "_GENODIFF_COMPLETE").source())
