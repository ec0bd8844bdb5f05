"""All tasks in one table; or the first task of a new robot.

torch-ppo tasks
torch-ppo tasks walker_walk my_robot.py:MyRobot
torch-ppo tasks --new my_robot.xml
"""

import dataclasses
import importlib.util
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

import torch
import tyro

from torch_ppo.command import columns, reader_may_leave
from torch_ppo.environments.finding import simulated_task
from torch_ppo.envs import ALIASES, ENVS, OTHER_NAMES
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.formulas.pixels import PREFIX
from torch_ppo.running.terminal import is_terminal
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.files import config_names
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.mixing import mixing_methods
from torch_ppo.starting.files import write_starter

SEVERAL = 3  # envs in which a task is tried: one that takes them for each other can do so with one alone
LEAST_COLUMNS, LEAST_WIDTH = 5, 12  # of the table, and of its second column, however narrow the terminal
HEADER = ("task", "observation", "action", "step", "limit", "configurations", "trained on a CPU to", "also called")


@dataclasses.dataclass(frozen=True)
class TasksArguments:
    """List the tasks: sizes of observation and action, seconds per action, time limit, configurations, other names.

    With --new, write the first task of a robot instead.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAMES ...]")] = ()
    """Only these; also one of your own, package.module:Task or file.py:Task."""
    new: Path | None = None
    """MJCF file of a robot: write a task, a configuration for the CPU and a test beside it."""
    output: Path | None = None
    """Folder to write them into, with --new."""


def describe(name: str) -> tuple[str, ...]:
    """The columns of a task."""
    task = simulated_task(name)
    env = Env(
        task,
        SEVERAL,
        episode_length=task.episode_length,
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        engine="mujoco",
        vision=False,  # nothing is to be drawn for a list
    )
    if mixing := mixing_methods(env):
        print(
            f"warning: {type(task).__name__}.{', '.join(mixing)}: what env 1 gets changes with the state of env 0; x.mean(dim=1) "
            "or another reduction of each env's own numbers would keep them apart",
            file=sys.stderr,
        )
    seen = {f"{PREFIX}{name}": view for name, view in task.views.items()}
    sizes = [
        *env.observation_sizes.items(),
        *((key, f"{view.height} x {view.width} x {view.channels}") for key, view in seen.items()),
    ]
    sizes = ", ".join(f"{key} {size}" if len(sizes) > 1 or seen else f"{size}" for key, size in sizes)
    others = ", ".join(OTHER_NAMES.get(name, ()))
    limits = (f"{task.control_dt:g} s", f"{task.episode_length:,}")
    # A file of one's own goes by its whole path; here its name will do.
    return (
        Path(name).name if ":" in name else name,
        sizes,
        f"{env.action_dim}",
        *limits,
        configurations(name),
        trained(name),
        others,
    )


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Lines of a table, the first row of which is its head; of `width` characters, if that is given.

    For that the last columns are left out, which a line says, then the second is wrapped, then more are left out.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = len(widths)
    while width is not None and shown > LEAST_COLUMNS and _total(widths[:shown]) > width:
        shown -= 1
    if width is not None and _total(widths[:shown]) > width:
        least = max(LEAST_WIDTH, *(len(word) for row in rows for word in row[1].split()))
        widths[1] = max(least, widths[1] - (_total(widths[:shown]) - width))
    while width is not None and shown > 2 and _total(widths[:shown]) > width:
        shown -= 1
    lines = []
    for row in rows:
        cells = list(row[:shown])
        first, *more = textwrap.wrap(cells[1], widths[1]) or [""]
        cells[1] = first
        lines.append("  ".join(text.ljust(each) for text, each in zip(cells, widths, strict=False)).rstrip())
        lines += [f"{'':{widths[0]}}  {text}" for text in more]
    if shown < len(widths):
        left_out = textwrap.wrap(f"{', '.join(rows[0][shown:])}: in a wider terminal, or through | cat", width)
        lines += ["", *left_out]
    return lines


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def configurations(name: str) -> str:
    """What the shipped configurations of a task are for: gpu, cpu, or both."""
    machines = {"gpu": name, "cpu": f"{name}_cpu"}
    return ", ".join(machine for machine, config in machines.items() if config in config_names())


def trained(name: str) -> str:
    """How far its CPU configuration has been seen to come, as the file says: `# Trained: 947 of 1000 after 1.8M ...`."""
    if f"{name}_cpu" not in config_names():
        return ""
    text = (resources.files("torch_ppo.configs") / f"{name}_cpu.toml").read_text()
    found = re.match(r"# Trained: (.+? after [\d.]+M)", text)
    return found[1] if found else ""


def begin(arguments: TasksArguments) -> None:
    """Writes a first task for `--new`, and prints what and how to go on."""
    if arguments.new is None or arguments.names:
        raise ConfigError("--new and --output write a first task: --new my_robot.xml --output tasks, and no names")
    (task, configuration, test), name = write_starter(arguments.new, arguments.output)
    print(f"{task}\n{configuration}\n{test}\n\nnext:")
    env, configuration, test = (shlex.quote(str(word)) for word in (f"{task}:{name}", configuration, test))
    print(
        f"  python -m pytest {test}" + ("" if importlib.util.find_spec("pytest") else "   # after: pip install pytest")
    )
    print(f"  python -m torch_ppo.train --env {env} --config {configuration}")
    print(f"  python -m torch_ppo.play --env {env} --policy random")


def main() -> None:
    """The program `torch-ppo tasks`."""
    with reader_may_leave(), user_errors():
        words = [word for word in sys.argv[1:] if word != "--env"]  # as it once was
        arguments = read_command_line(TasksArguments, "tasks", words)
        if arguments.new is not None or arguments.output is not None:
            begin(arguments)
            return
        rows = [HEADER, *(describe(ALIASES.get(name, name)) for name in arguments.names or sorted(ENVS))]
        print("\n".join(table(rows, columns(sys.stdout) if is_terminal(sys.stdout) else None)))


if __name__ == "__main__":
    main()
