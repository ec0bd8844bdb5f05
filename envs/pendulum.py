"""Pendulum: swing a pole up with a torque too weak to lift it, and keep it upright.

Model, start states, observation and reward are those of the DM Control suite's pendulum domain
(Tassa et al. 2018, arXiv:1801.00690).

qpos is the pole's angle in radians from upright, qvel its derivative.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

ANGLE_COSINE_RANGE = (math.cos(math.radians(8)), 1.0)  # within 8 degrees of upright


class Pendulum(Task):
    """Starts at any angle, at rest; the reward is 1 while the pole is upright, else 0."""

    mjcf = Path(__file__).with_name("assets") / "pendulum.xml"
    control_dt = 0.02
    observation_names = (
        ("cosine of the angle from upright", 1, "1"),
        ("sine of it", 1, "1"),
        ("angular velocity", 1, "rad/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 1  # there are none, but with 0 MuJoCo Warp leaves the velocity as it is
    reward_range = (0.0, 1.0)

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos.uniform_(-torch.pi, torch.pi, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos.cos(),  # 1
                physics.qpos.sin(),  # 1
                physics.qvel,  # 1
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return tolerance(physics.qpos[:, 0].cos(), ANGLE_COSINE_RANGE), {}
