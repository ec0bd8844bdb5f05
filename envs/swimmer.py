"""Swimmer: a chain of six links in a plane swims to a target.

Model, start states, observation and reward are those of swimmer6 in the DM Control suite's swimmer domain
(Tassa et al. 2018, arXiv:1801.00690), except that the target lies in memory, not in the model: it is not rendered.

qpos is the head's position (2) and angle and 5 joint angles, qvel their derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

LINKS = ("head", "link1", "link2", "link3", "link4", "link5")
TARGET_RADIUS = 0.1  # m
TARGET_RANGE = 2.0  # m, half the width of the square that targets are drawn from
CLOSE_TARGET_RANGE = 0.3  # m, likewise for close ones
CLOSE_TARGET_PROBABILITY = 0.2


class Swimmer(Task):
    """Rewards the nose in or near the target."""

    mjcf = Path(__file__).with_name("assets") / "swimmer.xml"
    control_dt = 0.03
    observation_names = (
        ("joint angles", 5, "rad"),
        ("from the nose to the target, in the head's frame", 2, "m"),
        ("velocity across and along, and angular velocity, of each link", 18, "m/s, m/s, rad/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 5  # a limit of each joint between links
    reward_range = (0.0, 1.0)

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        return {"target": torch.zeros(num_envs, 2, device=device)}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos[:, 2].uniform_(-torch.pi, torch.pi, generator=generator)
        joint_range = physics.model.jnt_range[-1, 1].item()
        physics.qpos[:, 3:].uniform_(-joint_range, joint_range, generator=generator)
        target = memory["target"].uniform_(-TARGET_RANGE, TARGET_RANGE, generator=generator)
        close = torch.empty_like(target[:, :1]).uniform_(generator=generator) < CLOSE_TARGET_PROBABILITY
        target *= torch.where(close, CLOSE_TARGET_RANGE / TARGET_RANGE, 1.0)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        velocities = []
        for link in LINKS:
            velocities += [physics.sensor(f"{link}_velocity")[:, :2], physics.sensor(f"{link}_gyro")[:, 2:]]
        return torch.cat(
            [
                physics.qpos[:, 3:],  # 5
                _nose_to_target(physics, memory),  # 2
                *velocities,  # 6 x 3: velocity across and along the link, angular velocity
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        distance = torch.linalg.vector_norm(_nose_to_target(physics, memory), dim=1)
        return tolerance(distance, (0.0, TARGET_RADIUS), margin=5 * TARGET_RADIUS, sigmoid="long_tail"), {}


def _nose_to_target(physics: Physics, memory: Memory) -> Tensor:
    """In the head's frame, `(num_envs, 2)`, in m."""
    offset = memory["target"] - physics.sensor("nose")[:, :2]
    axes = torch.stack([physics.sensor("head_x")[:, :2], physics.sensor("head_y")[:, :2]], dim=1)
    return (axes * offset[:, None]).sum(2)
