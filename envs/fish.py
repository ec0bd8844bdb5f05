"""Fish: swim to a target, upright.

Model, start states, observation and reward are those of swim in the DM Control suite's fish domain (Tassa et al.
2018, arXiv:1801.00690), except that the target lies in memory, not in the model.

qpos is the torso's position (3) and quaternion (4) and 7 joint angles, qvel their 13 derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

JOINT_RANGE = 0.2  # rad, half the width of the start
TARGET_RANGE = 0.4  # m, half the width of the square that targets are drawn from
TARGET_HEIGHT = (0.1, 0.3)  # m
TARGET_DISTANCE = 0.045  # m, mouth to target when they touch


class Fish(Task):
    """Rewards the mouth in or near the target, and a little being upright."""

    mjcf = Path(__file__).with_name("assets") / "fish.xml"
    control_dt = 0.04
    observation_names = (
        ("joint angles", 7, "rad"),
        ("cosine of the torso's lean", 1, "1"),
        ("from the mouth to the target, in the mouth's frame", 3, "m"),
        ("velocity of the torso", 3, "m/s"),
        ("angular velocity of the torso", 3, "rad/s"),
        ("joint velocities", 7, "rad/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 1  # there are none, but with 0 MuJoCo Warp integrates damping wrongly
    reward_range = (0.0, 1.0)

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        return {"target": torch.zeros(num_envs, 3, device=device)}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        quaternion = physics.qpos[:, 3:7].normal_(generator=generator)
        quaternion /= torch.linalg.vector_norm(quaternion, dim=1, keepdim=True)
        physics.qpos[:, 7:].uniform_(-JOINT_RANGE, JOINT_RANGE, generator=generator)
        memory["target"][:, :2].uniform_(-TARGET_RANGE, TARGET_RANGE, generator=generator)
        memory["target"][:, 2].uniform_(*TARGET_HEIGHT, generator=generator)

    def markers(self, physics: Physics, memory: Memory) -> Tensor:
        radius = torch.full_like(memory["target"][:, :1], TARGET_DISTANCE)
        return torch.cat([memory["target"], radius], dim=1)[:, None]

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos[:, 7:],  # 7
                _upright(physics)[:, None],  # 1
                _mouth_to_target(physics, memory),  # 3
                physics.qvel,  # 13
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        distance = torch.linalg.vector_norm(_mouth_to_target(physics, memory), dim=1)
        in_target = tolerance(distance, (0.0, TARGET_DISTANCE), margin=2 * TARGET_DISTANCE)
        return (7 * in_target + (_upright(physics) + 1) / 2) / 8, {}


def _upright(physics: Physics) -> Tensor:
    """Cosine between the torso's vertical and the world's, `(num_envs,)`."""
    return 1 - 2 * physics.qpos[:, 4:6].square().sum(1)


def _mouth_to_target(physics: Physics, memory: Memory) -> Tensor:
    """In the mouth's frame, `(num_envs, 3)`, in m."""
    offset = memory["target"] - physics.sensor("mouth")
    axes = torch.stack([physics.sensor(f"mouth_{axis}") for axis in "xyz"], dim=1)
    return (axes * offset[:, None]).sum(2)
