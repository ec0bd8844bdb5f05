"""Cheetah: a planar running animal, to run forward as fast as it can.

Model, start states, observation and reward are those of the DM Control suite's cheetah domain (Tassa et al. 2018,
arXiv:1801.00690), except that the speed in the reward lags one timestep, as MuJoCo's sensors do.

qpos is the torso's position (x, z) in metres and pitch in radians, then the joints of the hind and of the front leg,
each thigh, shin, foot, qvel their derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

RUN_SPEED = 10.0  # m/s, above which the reward is 1
FIRST_JOINT = 3
SETTLING_STEPS = 200  # timesteps, in which it falls to the floor before an episode


class Cheetah(Task):
    """The reward grows with the forward speed of the centre of mass, up to `RUN_SPEED`."""

    mjcf = Path(__file__).with_name("assets") / "cheetah.xml"
    control_dt = 0.01
    observation_names = (
        ("height of the torso over its rest", 1, "m"),
        ("pitch of the torso", 1, "rad"),
        ("joint angles", 6, "rad"),
        ("velocity of the torso, forward and up", 2, "m/s"),
        ("pitch rate of the torso", 1, "rad/s"),
        ("joint velocities", 6, "rad/s"),
    )
    episode_length = 1000
    nconmax = 16
    njmax = 54  # 12 contacts, twice what random play and falls bring, and 6 limits
    reward_range = (0.0, 1.0)

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        for joint, (lower, upper) in enumerate(physics.model.jnt_range[FIRST_JOINT:], FIRST_JOINT):
            physics.qpos[:, joint].uniform_(lower, upper, generator=generator)
        for _ in range(SETTLING_STEPS):
            physics.step(1)
        everywhere = torch.ones(physics.num_envs, device=physics.device, dtype=torch.bool)
        physics.reset(everywhere, physics.start_parts())  # time is 0 again

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos[:, 1:],  # 8, all but the distance run
                physics.qvel,  # 9
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        speed, enough = physics.sensor("velocity")[:, 0], (RUN_SPEED, float("inf"))
        return tolerance(speed, enough, margin=RUN_SPEED, value_at_margin=0.0, sigmoid="linear"), {}
