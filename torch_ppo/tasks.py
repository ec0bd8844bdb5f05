"""All tasks in one table.

torch-ppo tasks
torch-ppo tasks walker_walk my_robot.py:MyRobot
"""

import dataclasses
import re
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import torch
import tyro

from torch_ppo.command import called, reader_may_leave
from torch_ppo.envs import ALIASES, ENVS, OTHER_NAMES, make_task
from torch_ppo.errors import user_errors
from torch_ppo.settings.files import config_names
from torch_ppo.simulation.env import Env

HEADER = ("task", "observation", "action", "step", "limit", "configurations", "trained on a CPU to", "also called")


@dataclasses.dataclass(frozen=True)
class TasksArguments:
    """List the tasks: sizes of observation and action, seconds per action, time limit, configurations, other names."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Only these; also one of your own, package.module:Task or file.py:Task."""


def describe(name: str) -> tuple[str, ...]:
    """The columns of a task."""
    task = make_task(name)
    env = Env(
        task,
        1,
        episode_length=task.episode_length,
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        engine="mujoco",
    )
    several = len(env.observation_sizes) > 1
    sizes = ", ".join(f"{key} {size}" if several else f"{size}" for key, size in env.observation_sizes.items())
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


def main() -> None:
    """The program `torch-ppo tasks`."""
    with reader_may_leave(), user_errors():
        words = [word for word in sys.argv[1:] if word != "--env"]  # as it once was
        arguments = tyro.cli(TasksArguments, args=words, prog=called("tasks"))
        rows = [HEADER, *(describe(ALIASES.get(name, name)) for name in arguments.names or sorted(ENVS))]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
