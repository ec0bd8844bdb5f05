"""Finger: two links that spin the body of a hinge beside them, or turn its tip to a target.

Model, start states, observation and rewards are those of the DM Control suite's finger domain (Tassa et al. 2018,
arXiv:1801.00690). Differences:

- The pins of knuckle and hinge do not collide, as in MuJoCo Playground's port: they lie inside geoms that do.
- A start has no contacts if one of `START_ATTEMPTS` draws has none; the suite draws up to 1000 times.

qpos is the angles of the two links, then of the hinge, in radians, qvel their derivatives. Positions are (x, z) in
metres from the hinge.
"""

import math
from pathlib import Path

import mujoco
import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

PROXIMAL, DISTAL, HINGE = 0, 1, 2
LINK_RANGE = math.radians(110)  # rad, half the width
PROXIMAL_AT_REST = -math.pi / 2  # rad, where it hangs
KNUCKLE = -0.4  # m, x
PROXIMAL_LENGTH = 0.18  # m
FINGERTIP = (0.13, 0.161)  # m along the distal link, ends of the fingertip's axis
FINGERTIP_RADIUS = 0.03  # m
CAP_OFFSET, CAP_LENGTH, CAP_RADIUS = 0.02, 0.09, 0.04  # m, of the hinged body's two capsules; half the axis' length
TIP_RADIUS = CAP_LENGTH + CAP_RADIUS  # m, of the circle of tip and target
EASY_TARGET, HARD_TARGET = 0.07, 0.03  # m, radius
HINGE_POSITION = (0.2, 0.4)  # m, x and z in the world
SPIN_VELOCITY = 15.0  # rad/s
SPIN_DAMPING = 0.03  # N m s, of the hinge
START_ATTEMPTS = 8  # each touches with a probability of 9 %


def on_circle(angle: Tensor, radius: Tensor | float) -> Tensor:
    """Position `(..., 2)` at `angle` `(...)` from the top, clockwise."""
    return torch.stack([radius * angle.sin(), radius * angle.cos()], dim=-1)


def touches(qpos: Tensor) -> Tensor:
    """Whether the fingertip, at four points of its axis, touches the hinged body, `(...)`; `qpos` `(..., 3)`."""
    proximal = PROXIMAL_AT_REST - qpos[..., PROXIMAL, None]
    distal = proximal - qpos[..., DISTAL, None]
    along = torch.linspace(*FINGERTIP, 4, device=qpos.device)
    x, z = (-on_circle(proximal, PROXIMAL_LENGTH) - on_circle(distal, along)).unbind(dim=-1)
    x, cos, sin = x + KNUCKLE, qpos[..., HINGE, None].cos(), qpos[..., HINGE, None].sin()
    x, z = (x * cos + z * sin).abs(), (z * cos - x * sin).abs()  # in the body, which is symmetric
    distance = torch.hypot(x - CAP_OFFSET, (z - CAP_LENGTH).clamp(min=0.0))
    return (distance < CAP_RADIUS + FINGERTIP_RADIUS).any(dim=-1)


class Finger(Task):
    """With a target_radius in metres, the tip has to be turned into a target of that size; without, the body spun."""

    mjcf = Path(__file__).with_name("assets") / "finger.xml"
    control_dt = 0.02
    episode_length = 1000
    nconmax = 4
    njmax = 15  # 4 contacts, 2 limits, the hinge's friction
    reward_range = (0.0, 1.0)

    def __init__(self, *, target_radius: float | None = None) -> None:
        self.target_radius = target_radius

    def make_model(self) -> mujoco.MjModel:
        model = super().make_model()
        if self.target_radius is None:
            model.dof_damping[HINGE] = SPIN_DAMPING
        return model

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        """target: angle of the target from the top, clockwise `(num_envs,)`."""
        return {} if self.target_radius is None else {"target": torch.zeros(num_envs, device=device)}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        qpos = torch.empty(physics.num_envs, START_ATTEMPTS, 3, device=physics.device)
        qpos.uniform_(-1.0, 1.0, generator=generator)
        qpos[..., :HINGE] *= LINK_RANGE
        qpos[..., HINGE] *= torch.pi
        first_free = touches(qpos).int().argmin(dim=1)
        physics.qpos.copy_(qpos.take_along_dim(first_free[:, None, None], dim=1)[:, 0])
        if self.target_radius is not None:
            memory["target"].uniform_(-torch.pi, torch.pi, generator=generator)

    def tip(self, physics: Physics) -> Tensor:
        """Position `(num_envs, 2)`."""
        return on_circle(-physics.qpos[:, HINGE], TIP_RADIUS)

    def target(self, memory: Memory) -> Tensor:
        """Position `(num_envs, 2)`."""
        return on_circle(memory["target"], TIP_RADIUS)

    def target_distance(self, physics: Physics, memory: Memory) -> Tensor:
        """From the tip to the target's surface, negative inside `(num_envs,)`."""
        return torch.linalg.vector_norm(self.target(memory) - self.tip(physics), dim=1) - self.target_radius

    def markers(self, physics: Physics, memory: Memory) -> Tensor | None:
        if self.target_radius is None:
            return None
        x, z = self.target(memory).unbind(1)
        radius = torch.full_like(x, self.target_radius)
        return torch.stack([x + HINGE_POSITION[0], torch.zeros_like(x), z + HINGE_POSITION[1], radius], dim=1)[:, None]

    @property
    def observation_names(self) -> tuple[tuple[str, int, str], ...]:
        names = (
            ("angles of the finger's joints", 2, "rad"),
            ("fingertip, in the spinner's plane", 2, "m"),
            ("velocities of the finger's joints and of the spinner", 3, "rad/s"),
            ("force on the fingertip's top and bottom", 2, "log(1 + N)"),
        )
        target = (("target, in the spinner's plane", 2, "m"), ("distance of the spinner's tip from it", 1, "m"))
        return names if self.target_radius is None else names + target

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        observation = [
            physics.qpos[:, :HINGE],  # 2
            self.tip(physics),  # 2
            physics.qvel,  # 3
            physics.sensor("touch_top").log1p(),  # 1
            physics.sensor("touch_bottom").log1p(),  # 1
        ]
        if self.target_radius is not None:
            observation += [
                self.target(memory),  # 2
                self.target_distance(physics, memory)[:, None],  # 1
            ]
        return torch.cat(observation, dim=1)

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.target_radius is None:
            reached = physics.qvel[:, HINGE] <= -SPIN_VELOCITY
        else:
            reached = self.target_distance(physics, memory) <= 0
        return reached.float(), {}
