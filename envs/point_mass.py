"""Point mass: push a ball on a horizontal table to the centre and keep it there.

Model, start states, observation and reward are those of the DM Control suite's point_mass domain, task easy
(Tassa et al. 2018, arXiv:1801.00690). The motors act on the joints, where the suite's act on fixed tendons, which
make no difference here.

qpos is the ball's x and y in metres from the target, qvel their derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

TARGET_RADIUS = 0.015  # m
START_POSITION = 0.29  # m, half the width of the start and of the range of motion


class PointMass(Task):
    """Starts anywhere, at rest; the reward is highest where the ball is in the target and little force is used."""

    mjcf = Path(__file__).with_name("assets") / "point_mass.xml"
    control_dt = 0.02
    observation_names = (
        ("position", 2, "m"),
        ("velocity", 2, "m/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 4  # the limits of both axes
    reward_range = (0.0, 1.0)

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos.uniform_(-START_POSITION, START_POSITION, generator=generator)

    def success(self, physics: Physics, memory: Memory) -> Tensor:
        return physics.qpos.norm(dim=1) <= TARGET_RADIUS

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos,  # 2
                physics.qvel,  # 2
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        near_target = tolerance(physics.qpos.norm(dim=1), (0.0, TARGET_RADIUS), TARGET_RADIUS)
        control = tolerance(physics.ctrl, margin=1.0, value_at_margin=0.0, sigmoid="quadratic").mean(1)
        small_control = (4 + control) / 5
        return near_target * small_control, {}
