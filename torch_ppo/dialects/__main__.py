"""Reads a configuration in another library's words and prints it in ours or in a third one's.

python -m torch_ppo.dialects ppo.yml --from sb3 --to rsl_rl
"""

import json
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from torch_ppo.command import reader_may_leave
from torch_ppo.dialects import DIALECTS, propose_dialect, read_dialect, write_dialect
from torch_ppo.dialects.reading import Reading
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.settings.plan import summary

KNOWN = ", ".join(f"{name} ({module.ABOUT})" for name, module in DIALECTS.items())


@dataclass(frozen=True)
class DialectsArguments:
    """Read a configuration in another library's words and print it in ours or in a third one's."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """TOML, JSON, YAML, Python or shell text; FILE:SECTION for one section of it."""
    source: Annotated[str, tyro.conf.arg(name="from", help=f"The file's dialect: ours, {KNOWN}.")] = "ours"
    target: Annotated[str, tyro.conf.arg(name="to", help="The dialect to print: ours, or one of these.")] = "ours"
    num_envs: int | None = None
    """Where the file, in another dialect, does not say."""


def settings_toml(reading: Reading) -> str:
    """Our settings as TOML, without those that TOML has no word for."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in reading.settings.items() if value is not None)


def main() -> None:
    """The program `python -m torch_ppo.dialects`. Settings go to the output, the account of them to the errors."""
    with reader_may_leave(), user_errors():
        arguments = read_command_line(DialectsArguments, "dialects")
        if arguments.source == "ours":
            if arguments.num_envs is not None:
                raise ConfigError("--num-envs is for a file in another dialect that does not say; ours does")
            proposal = propose_dialect(arguments.file)
            if proposal is not None:
                raise ConfigError(proposal.replace("--dialect", "--from"))
            config = load_config(arguments.file)
            text = "".join(f"{line}\n" for line in summary(config).splitlines())
        else:
            reading = read_dialect(arguments.file, arguments.source, num_envs=arguments.num_envs)
            print(reading, file=sys.stderr)
            config = Config(**{"num_timesteps": 1, **reading.settings})
            text = settings_toml(reading)
        if arguments.target != "ours":
            text, writing = write_dialect(config, arguments.target)
            print(writing, file=sys.stderr)
        print(text, end="")


if __name__ == "__main__":
    main()
