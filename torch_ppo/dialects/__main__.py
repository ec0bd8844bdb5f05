"""Reads a configuration in another library's words and prints it in ours or in a third one's.

python -m torch_ppo.dialects ppo.yml --from sb3 --to rsl_rl
"""

import argparse
import json
import sys

from torch_ppo.command import called, reader_may_leave
from torch_ppo.dialects import DIALECTS, propose_dialect, read_dialect, write_dialect
from torch_ppo.dialects.reading import Reading
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.settings.plan import summary


def settings_toml(reading: Reading) -> str:
    """Our settings as TOML, without those that TOML has no word for."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in reading.settings.items() if value is not None)


def main() -> None:
    """The program `python -m torch_ppo.dialects`. Settings go to the output, the account of them to the errors."""
    parser = argparse.ArgumentParser(prog=called("dialects"), description=__doc__.splitlines()[0])
    parser.add_argument("file", help="TOML, JSON, YAML, Python or shell text; FILE:SECTION for one section of it")
    known = ", ".join(f"{name} ({module.ABOUT})" for name, module in DIALECTS.items())
    parser.add_argument("--from", dest="source", default="ours", help=f"the file's dialect: ours, {known}")
    parser.add_argument(
        "--to", dest="target", default="ours", help="the dialect to print: ours (default) or one of these"
    )
    parser.add_argument("--num-envs", type=int, help="where the file does not say")
    with reader_may_leave(), user_errors():
        arguments = parser.parse_args()
        if arguments.source == "ours":
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
