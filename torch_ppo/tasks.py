"""All tasks in one table.

python -m torch_ppo.tasks
"""

import dataclasses

import torch
import tyro

from torch_ppo.envs import ENVS, OTHER_NAMES, make_task
from torch_ppo.errors import user_errors
from torch_ppo.simulation.env import Env


@dataclasses.dataclass(frozen=True)
class TasksArguments:
    """List the tasks: sizes of observation and action, seconds per action, time limit, and other names."""

    env: tuple[str, ...] = ()
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
    return name, sizes, f"{env.action_dim}", f"{task.control_dt:g} s", f"{task.episode_length:,}", others


def main() -> None:
    """The program `python -m torch_ppo.tasks`."""
    arguments = tyro.cli(TasksArguments, prog="python -m torch_ppo.tasks")
    header = ("task", "observation", "action", "step", "limit", "also called")
    with user_errors():
        rows = [header, *(describe(name) for name in arguments.env or sorted(ENVS))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
