"""Humanoid: stand up, walk or run, from a random pose in the air.

Model, observation and rewards are those of the DM Control suite's humanoid domain (Tassa et al. 2018,
arXiv:1801.00690). Start states are drawn as there, but not redrawn where limbs penetrate each other: in a quarter of
them some do, and are pushed apart.

qpos is the torso's position (3) and quaternion (4) and 21 joint angles, qvel their 27 derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

STAND_HEIGHT = 1.4  # m, of the head
HEAD_OFFSET = 0.19  # m, head above torso, along the torso
UPRIGHT_COSINE = 0.9
STILL_MARGIN = 2.0  # m/s, horizontal velocity that counts as moving in stand
WALK_SPEED = 1.0  # m/s
RUN_SPEED = 10.0  # m/s
EXTREMITIES = ("left_hand", "left_foot", "right_hand", "right_foot")


class Humanoid(Task):
    """Rewards standing still, or with a `move_speed` in m/s moving at least that fast, in any direction."""

    mjcf = Path(__file__).with_name("assets") / "humanoid.xml"
    control_dt = 0.025
    observation_names = (
        ("joint angles", 21, "rad"),
        ("height of the head", 1, "m"),
        ("hands and feet from the torso, in its frame", 12, "m"),
        ("vertical, in the torso's frame", 3, "1"),
        ("velocity of the centre of mass", 3, "m/s"),
        ("velocity of the torso", 3, "m/s"),
        ("angular velocity of the torso", 3, "rad/s"),
        ("joint velocities", 21, "rad/s"),
    )
    episode_length = 1000
    nconmax = 32  # MuJoCo Warp also counts geoms that are only near each other
    njmax = 80
    reward_range = (0.0, 1.0)

    def __init__(self, *, move_speed: float = 0.0) -> None:
        self.move_speed = move_speed

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        quaternion = physics.qpos[:, 3:7]
        quaternion.uniform_(0.0, 1.0, generator=generator)  # not all orientations, as in the suite
        quaternion /= torch.linalg.vector_norm(quaternion, dim=1, keepdim=True)
        for column, (low, high) in enumerate(physics.model.jnt_range[1:].tolist(), start=7):
            physics.qpos[:, column].uniform_(low, high, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        vertical = _torso_vertical(physics)
        return torch.cat(
            [
                physics.qpos[:, 7:],  # 21
                _head_height(physics, vertical)[:, None],  # 1
                *(physics.sensor(name) for name in EXTREMITIES),  # 4 x 3, in the torso's frame
                vertical,  # 3
                physics.sensor("velocity"),  # 3, of the centre of mass
                physics.qvel,  # 27
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        vertical = _torso_vertical(physics)
        head_height = _head_height(physics, vertical)
        standing = tolerance(head_height, (STAND_HEIGHT, torch.inf), margin=STAND_HEIGHT / 4)
        upright = tolerance(
            vertical[:, 2], (UPRIGHT_COSINE, torch.inf), margin=1.9, value_at_margin=0.0, sigmoid="linear"
        )
        control = tolerance(physics.ctrl, margin=1.0, value_at_margin=0.0, sigmoid="quadratic").mean(1)
        small_control = (4 + control) / 5
        velocity = physics.sensor("velocity")[:, :2]
        if self.move_speed == 0:
            still = tolerance(velocity, margin=STILL_MARGIN).mean(1)
            return small_control * standing * upright * still, {}
        speed = torch.linalg.vector_norm(velocity, dim=1)
        move = tolerance(
            speed, (self.move_speed, torch.inf), margin=self.move_speed, value_at_margin=0.0, sigmoid="linear"
        )
        return small_control * standing * upright * (5 * move + 1) / 6, {}


def _torso_vertical(physics: Physics) -> Tensor:
    """The world's vertical in the torso's frame, `(num_envs, 3)`."""
    w, x, y, z = physics.qpos[:, 3:7].unbind(1)
    return torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=1)


def _head_height(physics: Physics, vertical: Tensor) -> Tensor:
    """`(num_envs,)`, in m, from `vertical` of `_torso_vertical`."""
    return physics.qpos[:, 2] + HEAD_OFFSET * vertical[:, 2]
