"""``slyther completion``: what a shell needs to complete commands, options, models, devices and formats."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import new_app

app = new_app()
VARIABLE = "_SLYTHER_COMPLETE"


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


@app.command("completion")
def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.", metavar="SHELL")]) -> None:
    """Print the shell script that completes commands and options with Tab.

    bash: `slyther completion bash > ~/.local/share/bash-completion/completions/slyther`.

    zsh: `slyther completion zsh > FOLDER/_slyther`, FOLDER being one of $fpath, before compinit.

    fish: `slyther completion fish > ~/.config/fish/completions/slyther.fish`.
    """
    from typer.completion import get_completion_script

    output.data(get_completion_script(prog_name="slyther", complete_var=VARIABLE, shell=shell.value))
