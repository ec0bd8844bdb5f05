"""Cart-pole: keep the pole of a cart upright (balance), or swing it up first (swingup).

Model, start states, observation and rewards are those of the DM Control suite's cartpole domain
(Tassa et al. 2018, arXiv:1801.00690), except that the integrator is semi-implicit Euler, as in MuJoCo
Playground's port: a step costs a third of the suite's RK4 on a CPU and a quarter on a GPU. `integrator="rk4"`
gives the suite's own dynamics.

qpos is the cart's position in metres and the pole's angle in radians from upright, qvel their derivatives.
"""

from pathlib import Path

import mujoco
import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task, View

from .rewards import tolerance

CART_RANGE = (-0.25, 0.25)  # m, sparse reward
ANGLE_COSINE_RANGE = (0.995, 1.0)  # sparse reward
CART_MARGIN = 2.0  # m
ANGULAR_VELOCITY_MARGIN = 5.0  # rad/s
START_POSITION = 0.1  # m, half the width of the balance start
START_ANGLE = 0.034  # rad, half the width of the balance start
START_NOISE = 0.01  # m, rad, m/s, rad/s
FALLEN = torch.pi / 2  # rad, from pictures
FARTHEST = 3.0  # m, likewise; the rail ends before
INTEGRATORS = {"euler": mujoco.mjtIntegrator.mjINT_EULER, "rk4": mujoco.mjtIntegrator.mjINT_RK4}


class Cartpole(Task):
    """swing_up starts with the pole hanging; sparse rewards only a centred cart with an upright pole.

    integrator is "euler" or "rk4".
    """

    mjcf = Path(__file__).with_name("assets") / "cartpole.xml"
    control_dt = 0.01
    observation_names = (
        ("cart position", 1, "m"),
        ("cosine of the angle from upright", 1, "1"),
        ("sine of it", 1, "1"),
        ("cart velocity", 1, "m/s"),
        ("angular velocity", 1, "rad/s"),
    )
    episode_length = 1000
    nconmax = 0
    njmax = 2  # the slider's two limits
    reward_range = (0.0, 1.0)

    def __init__(self, *, swing_up: bool = False, sparse: bool = False, integrator: str = "euler") -> None:
        self.swing_up, self.sparse, self.integrator = swing_up, sparse, INTEGRATORS[integrator]

    def make_model(self) -> mujoco.MjModel:
        model = super().make_model()
        model.opt.integrator = self.integrator
        return model

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        if self.swing_up:
            physics.qpos.normal_(0.0, START_NOISE, generator=generator)
            physics.qpos[:, 1] += torch.pi
        else:
            physics.qpos.uniform_(-1.0, 1.0, generator=generator)
            physics.qpos[:, 0] *= START_POSITION
            physics.qpos[:, 1] *= START_ANGLE
        physics.qvel.normal_(0.0, START_NOISE, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor:
        position, angle = physics.qpos[:, :1], physics.qpos[:, 1:]
        return torch.cat(
            [
                position,  # 1
                angle.cos(),  # 1
                angle.sin(),  # 1
                physics.qvel,  # 2
            ],
            dim=1,
        )

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        cart_position, pole_angle_cosine = physics.qpos[:, 0], physics.qpos[:, 1].cos()
        if self.sparse:
            in_place = tolerance(cart_position, CART_RANGE) * tolerance(pole_angle_cosine, ANGLE_COSINE_RANGE)
            return in_place, {}
        upright = (pole_angle_cosine + 1) / 2
        centered = (1 + tolerance(cart_position, margin=CART_MARGIN)) / 2
        control = tolerance(physics.ctrl[:, 0], margin=1.0, value_at_margin=0.0, sigmoid="quadratic")
        small_control = (4 + control) / 5
        small_velocity = (1 + tolerance(physics.qvel[:, 1], margin=ANGULAR_VELOCITY_MARGIN)) / 2
        return upright * small_control * small_velocity * centered, {}


class CartpoleVision(Cartpole):
    """MuJoCo Playground's cart-pole from pictures: balance, with its additive reward, until the pole has fallen.

    The policy sees nothing but the pictures of a fixed camera, gray, of which the configuration stacks three.
    """

    control_dt = 0.02
    episode_length = 250
    observation_names = ()
    reward_range = (-2.0, 0.1)
    metric_names = (
        "alive",
        "pole_pos_penalty",
        "cart_pos_penalty",
        "cart_vel_penalty",
        "pole_vel_penalty",
        "action_penalty",
    )

    def __init__(self, *, size: int = 64, samples: int = 1) -> None:
        super().__init__()
        self.views = {
            "view_0": View(camera="fixed", height=size, width=size, kind="gray", textures=False, samples=samples)
        }

    def observe(self, physics: Physics, memory: Memory) -> dict[str, Tensor]:
        return {}

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        position, angle = physics.qpos.unbind(1)
        cart_velocity, angular_velocity = physics.qvel.unbind(1)
        terms = {
            "alive": torch.full_like(position, 0.1),
            "pole_pos_penalty": -((1 - angle.cos()) ** 2),
            "cart_pos_penalty": -0.02 * position**2,
            "cart_vel_penalty": -0.01 * cart_velocity.abs(),
            "pole_vel_penalty": -0.005 * angular_velocity.abs(),
            "action_penalty": -0.01 * action.square().sum(1),
        }
        return sum(terms.values()), terms

    def terminated(self, physics: Physics, memory: Memory) -> Tensor:
        position, angle = physics.qpos.unbind(1)
        return (position.abs() > FARTHEST) | (angle.abs() > FALLEN)
