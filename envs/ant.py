"""Ant: a sphere on four legs, to run forward, or to get up from any pose.

`Ant` is Gymnasium's Ant-v5 with its default arguments (Towers et al. 2024, arXiv:2407.17032; the model is that of
Schulman et al. 2016, arXiv:1506.02438): model, start states, observation, reward and termination. Differences, all from
what is read where Ant-v5 reads MuJoCo's internals:

- The velocity in the reward comes from `qpos` before and after the step. Ant-v5 takes the torso's `xpos`, which is that
  of the last of the integrator's four stages: at most 0.06 m/s apart in 441 random steps, 0.0005 in the median.
- Contact forces are those at the beginning of the last timestep, as MuJoCo's sensors are. Ant-v5 has those of the
  integrator's last stage.
- A simulation that becomes inf or NaN ends its episode with reward 0.

`AntStand` is our own, with the same model.

qpos is the torso's position (3) and quaternion (4) and the angles of hip and ankle of the front left, back left, back
right and front right leg, qvel their 14 derivatives.
"""

from pathlib import Path

import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task

from .rewards import tolerance

HEALTHY_HEIGHT = (0.2, 1.0)  # m, of the torso
HEALTHY_REWARD = 1.0
CONTROL_COST = 0.5
CONTACT_COST = 5e-4
START_NOISE = 0.1

STAND_HEIGHT = 0.35  # m, of the torso
DROP_HEIGHT = 1.25  # m, of the torso; no limb reaches as far
UPRIGHT_COSINE = 0.9
FIRST_JOINT = 7

MJCF = Path(__file__).with_name("assets") / "ant.xml"
LEGS = ("front_left", "back_left", "back_right", "front_right")
BODIES = ("torso", *(f"{leg}_{part}" for leg in LEGS for part in ("hip", "leg", "foot")))


class Ant(Task):
    """Rewards the forward velocity in m/s and being healthy, less costs of control and contact."""

    mjcf = MJCF
    control_dt = 0.05
    observation_names = (
        ("height of the torso", 1, "m"),
        ("orientation of the torso", 4, "quaternion"),
        ("joint angles", 8, "rad"),
        ("velocity of the torso", 3, "m/s"),
        ("angular velocity of the torso", 3, "rad/s"),
        ("joint velocities", 8, "rad/s"),
        ("contact torque and force on each body, clipped to +-1", 78, "Nm, N"),
    )
    episode_length = 1000
    nconmax = 12  # at most 5 were seen, and 28 rows
    njmax = 64
    metric_names = ("reward_forward", "reward_survive", "reward_ctrl", "reward_contact")

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        return {"x_before": torch.zeros(num_envs, device=device)}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        noise = torch.empty_like(physics.qpos).uniform_(-START_NOISE, START_NOISE, generator=generator)
        physics.qpos.add_(noise)  # of the quaternion too, which is not made one of length 1 again
        physics.qvel.normal_(0.0, START_NOISE, generator=generator)

    def apply(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        memory["x_before"].copy_(physics.qpos[:, 0])
        physics.ctrl.copy_(action)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos[:, 2:],  # 13
                physics.qvel,  # 14
                contact_forces(physics).flatten(1),  # 78
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {
            "reward_forward": (physics.qpos[:, 0] - memory["x_before"]) / self.control_dt,
            "reward_survive": HEALTHY_REWARD * _healthy(physics).float(),
            "reward_ctrl": -CONTROL_COST * action.square().sum(1),
            "reward_contact": -CONTACT_COST * contact_forces(physics).square().sum((1, 2)),
        }
        return sum(terms.values()), terms

    def terminated(self, physics: Physics, memory: Memory) -> Tensor:
        return ~_healthy(physics)


class AntStand(Task):
    """Rewards a torso that is upright and no lower than an ant at rest, from any orientation; never ends."""

    mjcf = MJCF
    control_dt = 0.05
    observation_names = (
        ("height of the torso", 1, "m"),
        ("vertical of the torso, in the world", 3, "1"),
        ("joint angles", 8, "rad"),
        ("velocity of the torso", 3, "m/s"),
        ("angular velocity of the torso", 3, "rad/s"),
        ("joint velocities", 8, "rad/s"),
    )
    episode_length = 500
    nconmax = Ant.nconmax
    njmax = Ant.njmax
    reward_range = (0.0, 1.0)

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos[:, 2] = DROP_HEIGHT
        quaternion = physics.qpos[:, 3:7]
        quaternion.normal_(generator=generator)
        quaternion /= torch.linalg.vector_norm(quaternion, dim=1, keepdim=True)
        for column, (low, high) in enumerate(physics.model.jnt_range[1:].tolist(), start=FIRST_JOINT):
            physics.qpos[:, column].uniform_(low, high, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        return torch.cat(
            [
                physics.qpos[:, 2:3],  # 1
                torso_vertical(physics),  # 3
                physics.qpos[:, FIRST_JOINT:],  # 8
                physics.qvel,  # 14
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        standing = tolerance(physics.qpos[:, 2], (STAND_HEIGHT, torch.inf), margin=STAND_HEIGHT / 2)
        vertical = torso_vertical(physics)[:, 2]
        upright = tolerance(vertical, (UPRIGHT_COSINE, torch.inf), margin=1.9, value_at_margin=0.0, sigmoid="linear")
        control = tolerance(physics.ctrl, margin=1.0, value_at_margin=0.0, sigmoid="quadratic").mean(1)
        small_control = (4 + control) / 5
        return small_control * standing * upright, {}


def contact_forces(physics: Physics) -> Tensor:
    """MuJoCo's `cfrc_ext` of each of `BODIES`, clipped as in Ant-v5, `(num_envs, 13, 6)`.

    Torque in Nm about the ant's centre of mass, then force in N, both from the floor and in the world's frame.
    """
    wrenches = torch.stack([physics.sensor(name) for name in BODIES], dim=1)  # (num_envs, 13, 9)
    force, torque, position = wrenches.split(3, dim=2)
    arm = position - physics.sensor("center_of_mass")[:, None]
    torque = torque + torch.linalg.cross(arm, force)
    return torch.cat([torque, force], dim=2).clamp(-1.0, 1.0)


def torso_vertical(physics: Physics) -> Tensor:
    """The world's vertical in the torso's frame, `(num_envs, 3)`."""
    w, x, y, z = physics.qpos[:, 3:7].unbind(1)
    return torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=1)


def _healthy(physics: Physics) -> Tensor:
    """bool `(num_envs,)`."""
    low, high = HEALTHY_HEIGHT
    height = physics.qpos[:, 2]
    return (height >= low) & (height <= high)
