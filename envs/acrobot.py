"""Acrobot: swing a two-link pole up by the motor of its elbow, and keep it upright.

Model, start states, observation and reward are those of the DM Control suite's acrobot domain
(Tassa et al. 2018, arXiv:1801.00690).

qpos is the upper link's angle in radians from upright and the lower link's from the upper, qvel their derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

LINK_LENGTH = 1.0  # m, of either link
TARGET_RADIUS = 0.2  # m, about the place of the tip where both links are upright
TARGET_MARGIN = 1.0  # m


class Acrobot(Task):
    """Starts at any angles, at rest; sparse rewards only a tip in the target, else also one near it."""

    mjcf = Path(__file__).with_name("assets") / "acrobot.xml"
    control_dt = 0.01
    observation_names = (
        ("sines of both links' angles from upright", 2, "1"),
        ("cosines of both links' angles from upright", 2, "1"),
        ("joint velocities", 2, "rad/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 0
    reward_range = (0.0, 1.0)

    def __init__(self, *, sparse: bool = False) -> None:
        self.margin = 0.0 if sparse else TARGET_MARGIN

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos.uniform_(-torch.pi, torch.pi, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        angles = physics.qpos.cumsum(1)  # both from upright
        return torch.cat(
            [
                angles.sin(),  # 2
                angles.cos(),  # 2
                physics.qvel,  # 2
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        angles = physics.qpos.cumsum(1)
        aside = LINK_LENGTH * angles.sin().sum(1)
        below = LINK_LENGTH * (2 - angles.cos().sum(1))
        return tolerance(torch.hypot(aside, below), (0.0, TARGET_RADIUS), self.margin), {}
