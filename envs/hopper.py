"""Hopper: a planar body on one leg, to stand or to hop forward.

Model, start states, observation and rewards are those of the DM Control suite's hopper domain (Tassa et al. 2018,
arXiv:1801.00690), except that height and speed in the reward lag one timestep (5 ms), as MuJoCo's sensors do. Touch lags
as much in the suite.

qpos is the torso's position (x, z) in metres and pitch in radians, then waist, hip, knee and ankle, qvel their
derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

STAND_HEIGHT = (0.6, 2.0)  # m, of the torso over the foot
HOP_SPEED = 2.0  # m/s, above which hopping is 1
PITCH = 2
FIRST_JOINT = 3


class Hopper(Task):
    """hopping rewards forward speed, else small controls; both only while it stands."""

    mjcf = Path(__file__).with_name("assets") / "hopper.xml"
    control_dt = 0.02
    observation_names = (
        ("height of the torso over its rest", 1, "m"),
        ("pitch of the torso", 1, "rad"),
        ("joint angles", 4, "rad"),
        ("velocity of the torso, forward and up", 2, "m/s"),
        ("pitch rate of the torso", 1, "rad/s"),
        ("joint velocities", 4, "rad/s"),
        ("force on toe and heel", 2, "log(1 + N)"),
    )
    episode_length = 1000
    nconmax = 12
    njmax = 52  # 12 contacts, more than random play and falls bring, and 4 limits
    reward_range = (0.0, 1.0)

    def __init__(self, *, hopping: bool = False) -> None:
        self.hopping = hopping

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos[:, PITCH].uniform_(-torch.pi, torch.pi, generator=generator)
        for joint, (lower, upper) in enumerate(physics.model.jnt_range[FIRST_JOINT:], FIRST_JOINT):
            physics.qpos[:, joint].uniform_(lower, upper, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos[:, 1:],  # 6, all but the distance covered
                physics.qvel,  # 7
                physics.sensor("toe").log1p(),  # 1
                physics.sensor("heel").log1p(),  # 1
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        standing = tolerance(physics.sensor("torso")[:, 2] - physics.sensor("foot")[:, 2], STAND_HEIGHT)
        if self.hopping:
            speed, enough = physics.sensor("velocity")[:, 0], (HOP_SPEED, float("inf"))
            hopping = tolerance(speed, enough, margin=HOP_SPEED / 2, value_at_margin=0.5, sigmoid="linear")
            return standing * hopping, {}
        control = tolerance(physics.ctrl, margin=1.0, value_at_margin=0.0, sigmoid="quadratic").mean(dim=1)
        return standing * (control + 4) / 5, {}
