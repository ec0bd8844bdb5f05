"""A script with which the shell completes programs, options and names at the press of Tab.

    torch-ppo completion bash > ~/.local/share/bash-completion/completions/torch-ppo
    torch-ppo completion zsh > ~/.torch-ppo.zsh && echo 'source ~/.torch-ppo.zsh' >> ~/.zshrc

What it completes is what `--help` shows, so that a new program or option is in it once it is written anew.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from dataclasses import dataclass
from typing import Annotated, Literal
from unittest import mock

import tyro

from torch_ppo.__main__ import PROGRAMS
from torch_ppo.command import reader_may_leave
from torch_ppo.dialects import DIALECTS
from torch_ppo.envs import ENVS
from torch_ppo.errors import user_errors
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.files import config_names, preset_names

TASKS = tuple(sorted(ENVS))
# What follows an option whose values --help does not list.
VALUES = {
    "--env": TASKS,
    "--config": (*config_names(), *preset_names()),
    "--dialect": tuple(DIALECTS),
    "--from": ("ours", *DIALECTS),
    "--to": ("ours", *DIALECTS),
    "--checkpoint": ("best", "last"),
    "--device": ("auto", "cpu", "cuda"),
}
# What a program takes without an option; files, where it is not here.
WORDS = {"train": TASKS, "seeds": TASKS, "tasks": TASKS, "completion": ("bash", "zsh")}
ALSO = {"seeds": "train"}  # takes the options of that program, too

SCRIPT = """\
# Completion of torch-ppo, made by `torch-ppo completion {shell}`.
{head}_torch_ppo() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" program="${{COMP_WORDS[1]}}" words=""
    COMPREPLY=()
    # bash takes --env=cartpole for three words
    if [ "$word" = "=" ]; then word=""
    elif [ "$before" = "=" ]; then before="${{COMP_WORDS[COMP_CWORD-2]}}"
    fi
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{programs} --help --version"
    elif [ "${{word#-}}" != "$word" ]; then
        case "$program" in
{options}
        esac
    else
        case "$program $before" in
{values}
        *" --"*) ;;
{words}
        esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o default -F _torch_ppo torch-ppo
"""
HEADS = {"bash": "", "zsh": "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"}


@dataclass(frozen=True)
class CompletionArguments:
    """Print a script for the shell, so that Tab completes programs, options and names."""

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]
    """Whose script."""


def help_of(program: str) -> str:
    """What a program's --help prints, on lines as long as an option needs, and not so long that tyro makes columns."""
    output = io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
        mock.patch.object(sys, "argv", [f"torch-ppo {program}", "--help"]),
        mock.patch.dict(os.environ, {"COLUMNS": "110"}),
    ):
        importlib.import_module(PROGRAMS[program][0]).main()
    return output.getvalue()


def options_in(text: str) -> dict[str, tuple[str, ...]]:
    """Each option that a --help shows, with its choices if it lists any."""
    found = {}
    for line in re.findall(r"^[\s│]*((?:-\w, )?--\w.*)$", text, re.MULTILINE):
        signature = re.split(r"\s{2,}", line)[0]
        choices = [choice for group in re.findall(r"\{(.*?)\}", signature) for choice in group.split(",")]
        for option in re.findall(r"--[\w-]+", signature):
            found[option] = tuple(choice for choice in choices if choice != "None")
    return found


def script(shell: str) -> str:
    """The whole script."""
    options = {program: options_in(help_of(program)) for program in PROGRAMS}
    for program, other in ALSO.items():
        options[program] = {**options[other], **options[program]}
    listed, values = [], []
    for program, own in options.items():
        listed.append(f'        {program}) words="{" ".join(own)}" ;;')
        for option, choices in own.items():
            known = VALUES.get(option) or choices
            if known:
                values.append(f'        "{program} {option}") words="{" ".join(known)}" ;;')
    words = [f'        "{program} "*) words="{" ".join(known)}" ;;' for program, known in WORDS.items()]
    return SCRIPT.format(
        shell=shell,
        head=HEADS[shell],
        programs=" ".join(PROGRAMS),
        options="\n".join(listed),
        values="\n".join(values),
        words="\n".join(words),
    )


def main() -> None:
    """The program `torch-ppo completion`."""
    with reader_may_leave(), user_errors():
        arguments = read_command_line(CompletionArguments, "completion")
        print(script(arguments.shell), end="")


if __name__ == "__main__":
    main()
