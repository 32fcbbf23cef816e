"""`bsqc completion`: the script that a shell loads for Tab."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
      bash   bsqc completion bash > ~/.local/share/bash-completion/completions/bsqc
      zsh    bsqc completion zsh > "${fpath[1]}/_bsqc"
      fish   bsqc completion fish > ~/.config/fish/completions/bsqc.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # click.Choice lets only click's own shells through
    click.echo(script(ctx.find_root().command, {}, "bsqc", "_BSQC_COMPLETE").source())
