"""How well a trained policy follows a velocity command.

    python -m tools.track_command runs/quadruped_joystick-... --forward 0 0.5 1.0

All worlds hold one command for a while, then the next, with the policy's modes as actions and the task's noise on the
observations. Velocities are those that the task's reward compares with the command: the trunk's, in its own frame.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from torch_ppo.envs import make_task
from torch_ppo.errors import UserError, user_errors
from torch_ppo.learning.agent import Agent
from torch_ppo.running.checkpoint import agent_from_checkpoint, find_checkpoint, load_checkpoint
from torch_ppo.settings.command_line import Count, Duration, Least, Seed, read_command_line
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task

FOREVER = 10**6  # policy steps until the next command


@dataclasses.dataclass(frozen=True)
class TrackArguments:
    """Hold commands, and compare the velocities with them."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder or checkpoint of a task with a velocity command."""
    forward: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Forward velocities to command, in m/s."""
    left: float = 0.0
    """Velocity to the left of each command, in m/s."""
    turn: float = 0.0
    """Yaw rate of each command, in rad/s."""
    seconds: Duration = 8.0
    """How long each command is held."""
    settle: Annotated[float, Least(0)] = 2.0
    """Seconds at the beginning that do not count."""
    num_envs: Count = 16
    """Worlds."""
    seed: Seed = 0
    """Seed of start states and noise."""


@dataclasses.dataclass(frozen=True)
class Tracking:
    """Means over worlds and time: velocity forward and left in m/s, yaw rate in rad/s, how far each is off; and falls."""

    velocity: Tensor  # (3,)
    error: Tensor  # (3,), of the absolute difference
    falls: int


def hold(task: Task, command: Tensor) -> None:
    """Lets every episode of `task` begin with `command` `(3,)` and keep it."""
    own = task.each_episode

    def each_episode(memory: dict[str, Tensor], generator: torch.Generator) -> None:
        own(memory, generator)
        if not {"command", "command_steps"} <= memory.keys():
            raise UserError(f"{type(task).__name__} has no velocity command to follow")
        memory["command"].copy_(command.expand_as(memory["command"]))
        memory["command_steps"].fill_(FOREVER)

    task.each_episode = each_episode


@torch.no_grad()
def track(agent: Agent, config: dict[str, object], command: Tensor, arguments: TrackArguments) -> Tracking:
    """The policy's modes in worlds that all have `command` `(3,)`."""
    task = make_task(config["env"])
    hold(task, command)
    env = Env(
        task,
        arguments.num_envs,
        episode_length=FOREVER,
        action_repeat=config["action_repeat"],
        **{name: config[name] for name in ("history", "history_obs_keys", "action_delay") if name in config},
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(arguments.seed),
    )
    step_seconds = task.control_dt * config["action_repeat"]
    settle, steps = (round(seconds / step_seconds) for seconds in (arguments.settle, arguments.seconds))
    velocities, falls = [], 0
    for step in range(steps):
        env.step(agent.mode(env.observation))
        falls += int(env.termination.sum())
        if step >= settle:
            planar, yaw_rate = env.physics.sensor("velocity")[:, :2], env.physics.sensor("gyro")[:, 2:]
            velocities.append(torch.cat([planar, yaw_rate], dim=1))
    velocity = torch.stack(velocities)  # (time, num_envs, 3)
    return Tracking(velocity.mean((0, 1)), (velocity - command).abs().mean((0, 1)), falls)


@user_errors()
def main() -> None:
    """The program `python -m tools.track_command`."""
    arguments = read_command_line(TrackArguments, "tools.track_command")
    if arguments.settle >= arguments.seconds:
        raise UserError(f"nothing is left of {arguments.seconds} s after {arguments.settle} s of settling")
    checkpoint = load_checkpoint(find_checkpoint(arguments.run, "best"))
    agent = agent_from_checkpoint(checkpoint)
    for number, forward in enumerate(arguments.forward):
        command = torch.tensor([forward, arguments.left, arguments.turn])
        found = track(agent, checkpoint["config"], command, arguments)
        if number == 0:
            print("command (m/s m/s rad/s)   velocity                 off by                   falls")
        columns = [" ".join(f"{x:+7.2f}" for x in row.tolist()) for row in (command, found.velocity, found.error)]
        print(*columns, f"{found.falls:5d}", sep="  ")


if __name__ == "__main__":
    main()
