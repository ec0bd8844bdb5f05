"""Reacher: bring the tip of a two-link arm, moving in a horizontal plane, to a target.

Model, start states, observation and reward are those of the DM Control suite's reacher domain
(Tassa et al. 2018, arXiv:1801.00690), except that the target is in the task's memory and not in the model.

qpos is the shoulder's and the wrist's angle in radians, qvel their derivatives. Memory is `target`, metres.
"""

from pathlib import Path

import mujoco
import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task, View

from .rewards import tolerance

UPPER_LENGTH = 0.12  # m, shoulder to wrist
LOWER_LENGTH = 0.12  # m, wrist to the centre of the finger
FINGER_RADIUS = 0.01  # m
EASY_TARGET_RADIUS = 0.05  # m
HARD_TARGET_RADIUS = 0.015  # m
WRIST_RANGE = 160 / 180 * torch.pi  # rad, to either side
TARGET_DISTANCE = (0.05, 0.2)  # m, of the target from the shoulder


TARGET_COLOUR = (0.9, 0.2, 0.2, 1.0)
TARGET_HEIGHT = 0.002  # m, half of the disc's; it lies under the arm


def finger_position(angles: Tensor) -> Tensor:
    """x and y of the finger `(num_envs, 2)` in metres at shoulder and wrist `angles` `(num_envs, 2)`."""
    upper, lower = angles[:, 0], angles.sum(1)
    x = UPPER_LENGTH * upper.cos() + LOWER_LENGTH * lower.cos()
    y = UPPER_LENGTH * upper.sin() + LOWER_LENGTH * lower.sin()
    return torch.stack([x, y], dim=1)


class Reacher(Task):
    """The reward is 1 while finger and target, two discs, overlap, else 0; hard makes the target smaller."""

    mjcf = Path(__file__).with_name("assets") / "reacher.xml"
    control_dt = 0.02
    observation_names = (
        ("joint angles", 2, "rad"),
        ("from the fingertip to the target", 2, "m"),
        ("joint velocities", 2, "rad/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 2  # the wrist's two limits
    reward_range = (0.0, 1.0)

    def __init__(self, *, hard: bool = False) -> None:
        self.reach = FINGER_RADIUS + (HARD_TARGET_RADIUS if hard else EASY_TARGET_RADIUS)

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        return {"target": torch.zeros(num_envs, 2, device=device)}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos[:, 0].uniform_(-torch.pi, torch.pi, generator=generator)
        physics.qpos[:, 1].uniform_(-WRIST_RANGE, WRIST_RANGE, generator=generator)
        # The target is uniform in direction and distance.
        target = memory["target"].uniform_(generator=generator)
        direction = target[:, 0] * (2 * torch.pi)
        nearest, farthest = TARGET_DISTANCE
        distance = nearest + target[:, 1] * (farthest - nearest)
        target.copy_(torch.stack([direction.sin() * distance, direction.cos() * distance], dim=1))

    def markers(self, physics: Physics, memory: Memory) -> Tensor:
        x, y = memory["target"].unbind(1)
        radius = torch.full_like(x, self.reach - FINGER_RADIUS)
        return torch.stack([x, y, torch.zeros_like(x), radius], dim=1)[:, None]

    def to_target(self, physics: Physics, memory: Memory) -> Tensor:
        """Vector from the finger to the target in metres, `(num_envs, 2)`."""
        return memory["target"] - finger_position(physics.qpos)

    def success(self, physics: Physics, memory: Memory) -> Tensor:
        return self.to_target(physics, memory).norm(dim=1) <= self.reach

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos,  # 2
                self.to_target(physics, memory),  # 2
                physics.qvel,  # 2
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return tolerance(self.to_target(physics, memory).norm(dim=1), (0.0, self.reach)), {}


class ReacherVision(Reacher):
    """The target is seen, and not told: a red disc in the pictures of a camera above; beside them, joints are."""

    observation_names = (("joint angles", 2, "rad"), ("joint velocities", 2, "rad/s"))

    def __init__(self, *, hard: bool = False) -> None:
        super().__init__(hard=hard)
        self.views = {"top": View(camera="top")}

    def make_spec(self) -> mujoco.MjSpec:
        spec = super().make_spec()
        target = spec.worldbody.add_body(name="target", mocap=True, pos=[0, 0, TARGET_HEIGHT]).add_geom(
            name="target", rgba=TARGET_COLOUR, size=[self.reach - FINGER_RADIUS, TARGET_HEIGHT, 0]
        )
        target.type = mujoco.mjtGeom.mjGEOM_CYLINDER
        target.mass, target.contype, target.conaffinity = 0.0, 0, 0
        return spec

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        super().start(physics, memory, generator)
        physics.mocap_pos[:, 0, :2] = memory["target"]

    def markers(self, physics: Physics, memory: Memory) -> None:
        return None

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat([physics.qpos, physics.qvel], dim=1)
