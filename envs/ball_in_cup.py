"""Ball in cup: swing a ball, tied to a cup by a string, into the cup.

Model, start states, observation and reward are those of the DM Control suite's ball_in_cup domain
(Tassa et al. 2018, arXiv:1801.00690). It draws a start again until the ball touches nothing; here the first of
NUM_TRIES draws that does so is taken, which leaves one start in a million touching the cup.

All motion is in the plane of x and z. qpos is x and z of the cup, then of the ball, in metres from their places in
the model, qvel their derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

CUP_HEIGHT = 0.6  # m, of the cup's rim where qpos is 0
BALL_HEIGHT = 0.2  # m, of the ball's centre where qpos is 0
BALL_RADIUS = 0.025  # m
WALL_RADIUS = 0.008  # m
TARGET_HEIGHT = -0.05  # m, of the target's centre from the rim
TARGET_SIZE = 0.05  # m, half the side of the target, a square that the ball must be in as a whole
# Centre lines of the right half of the cup's wall, from x, z to x, z in metres from the middle of the rim.
WALL = (((0.0, -0.1), (0.025, -0.1)), ((0.025, -0.1), (0.05, -0.075)), ((0.05, -0.075), (0.05, 0.0)))
START_X = 0.2  # m, half the width of the ball's start
START_Z = (0.2, 0.5)  # m, qpos
NUM_TRIES = 8  # about every seventh touches the cup


def distance_to_wall(x: Tensor, z: Tensor) -> Tensor:
    """Distance in metres of points `x`, `z`, from the middle of the rim, to the wall's nearest centre line."""
    x = x.abs()
    distance = torch.full_like(x, torch.inf)
    for (x0, z0), (x1, z1) in WALL:
        dx, dz = x1 - x0, z1 - z0
        along = (((x - x0) * dx + (z - z0) * dz) / (dx * dx + dz * dz)).clamp(0.0, 1.0)
        distance = distance.minimum(torch.hypot(x - x0 - along * dx, z - z0 - along * dz))
    return distance


class BallInCup(Task):
    """Starts at rest, the ball above, beside, below or in the cup; the reward is 1 while it is in, else 0."""

    mjcf = Path(__file__).with_name("assets") / "ball_in_cup.xml"
    control_dt = 0.02
    observation_names = (
        ("position of the cup, then the ball", 4, "m"),
        ("velocity of the cup, then the ball", 4, "m/s"),
    )
    episode_length = 1000
    nconmax = 8  # the ball on the five parts of the cup and the ground; the cup does not get down to the ground
    njmax = 21  # the string's limit and five contacts of four rows
    reward_range = (0.0, 1.0)

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        size = (physics.num_envs, NUM_TRIES)
        x = physics.qpos.new_empty(size).uniform_(-START_X, START_X, generator=generator)
        z = physics.qpos.new_empty(size).uniform_(*START_Z, generator=generator)
        free = distance_to_wall(x, z + (BALL_HEIGHT - CUP_HEIGHT)) > WALL_RADIUS + BALL_RADIUS
        chosen = free.float().argmax(1, keepdim=True)
        physics.qpos[:, 2:] = torch.cat([x.gather(1, chosen), z.gather(1, chosen)], dim=1)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos,  # 4
                physics.qvel,  # 4
            ],
            dim=1,
        )

    def success(self, physics: Physics, memory: Memory) -> Tensor:
        cup, ball = physics.qpos[:, :2], physics.qpos[:, 2:]
        x, z = (ball - cup).unbind(1)
        z = z + (BALL_HEIGHT - CUP_HEIGHT - TARGET_HEIGHT)
        return torch.maximum(x.abs(), z.abs()) < TARGET_SIZE - BALL_RADIUS

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.success(physics, memory).to(physics.qpos.dtype), {}
