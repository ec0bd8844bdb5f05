"""Walker: a planar biped, to stand, walk or run.

Model, start states, observation and rewards are those of the DM Control suite's walker domain (Tassa et al. 2018,
arXiv:1801.00690), except that the speed in the reward lags one timestep (2.5 ms), as MuJoCo's sensors do.

qpos is the torso's height over its rest and forward position in metres (z, x) and pitch in radians, then hip, knee and
ankle of the right and of the left leg, qvel their derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

TORSO_HEIGHT = 1.3  # m, where qpos is 0
STAND_HEIGHT = 1.2  # m, of the torso, above which standing is 1
WALK_SPEED, RUN_SPEED = 1.0, 8.0  # m/s
PITCH = 2
FIRST_JOINT = 3


class Walker(Task):
    """move_speed is the forward speed in m/s above which the reward of a standing walker is 1; at 0 it has to stand."""

    mjcf = Path(__file__).with_name("assets") / "walker.xml"
    control_dt = 0.025
    observation_names = (
        ("cosine and sine of the pitch of torso and of right and left thigh, leg, foot", 14, "1"),
        ("height of the torso", 1, "m"),
        ("velocity of the torso, up and forward", 2, "m/s"),
        ("pitch rate of the torso", 1, "rad/s"),
        ("velocities of right and left hip, knee, ankle", 6, "rad/s"),
    )
    episode_length = 1000
    nconmax = 14
    njmax = 62  # 14 contacts and 6 limits: all that there can be
    reward_range = (0.0, 1.0)

    def __init__(self, *, move_speed: float = 0.0) -> None:
        self.move_speed = move_speed

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos[:, PITCH].uniform_(-torch.pi, torch.pi, generator=generator)
        for joint, (lower, upper) in enumerate(physics.model.jnt_range[FIRST_JOINT:], FIRST_JOINT):
            physics.qpos[:, joint].uniform_(lower, upper, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        pitch = physics.qpos[:, PITCH, None]  # of the torso; legs turn the other way
        legs = []
        for joints in physics.qpos[:, FIRST_JOINT:].split(3, dim=1):
            hip, knee, ankle = joints.split(1, dim=1)  # added up one by one: cumsum is not deterministic on CUDA
            legs += [pitch - hip, pitch - (hip + knee), pitch - (hip + knee + ankle)]
        pitches = torch.cat([pitch, *legs], dim=1)
        return torch.cat(
            [
                torch.stack([pitches.cos(), pitches.sin()], dim=2).flatten(1),  # 14, of torso, thigh, leg, foot, ...
                physics.qpos[:, :1] + TORSO_HEIGHT,  # 1
                physics.qvel,  # 9
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        height = physics.qpos[:, 0] + TORSO_HEIGHT
        standing = tolerance(height, (STAND_HEIGHT, float("inf")), margin=STAND_HEIGHT / 2)
        upright = (1 + physics.qpos[:, PITCH].cos()) / 2
        stand = (3 * standing + upright) / 4
        if self.move_speed == 0:
            return stand, {}
        speed, enough = physics.sensor("velocity")[:, 0], (self.move_speed, float("inf"))
        moving = tolerance(speed, enough, margin=self.move_speed / 2, value_at_margin=0.5, sigmoid="linear")
        return stand * (5 * moving + 1) / 6, {}
