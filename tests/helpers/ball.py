"""A task that is to be looked at: a red ball on a rail in front of a camera, whose picture is known from geometry."""

import math

import mujoco
import torch
from torch import Tensor

from torch_ppo import Memory, Physics, Task, View

DISTANCE, RADIUS, FIELD = 3.0, 0.3, 60.0  # m, m, degrees
SIZE = 24  # pixels
MJCF = f"""
<mujoco>
  <option timestep="0.01"><flag contact="disable" gravity="disable"/></option>
  <visual><headlight ambient="0.5 0.5 0.5" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    <light name="lamp" type="directional" dir="0 1 0" diffuse="0.4 0.4 0.4" specular="0 0 0"/>
    <camera name="front" pos="0 -{DISTANCE} 0" xyaxes="1 0 0 0 0 1" fovy="{FIELD}"/>
    <geom name="wall" type="box" size="9 0.5 9" pos="0 2.5 0" rgba="0.1 0.1 0.1 1" group="1"/>
    <body name="ball">
      <joint name="slide" type="slide" axis="1 0 0" damping="10"/>
      <geom name="ball" type="sphere" size="{RADIUS}" mass="1" rgba="1 0 0 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide" gear="20" ctrllimited="true" ctrlrange="-1 1"/></actuator>
  <sensor><jointpos name="place" joint="slide"/></sensor>
</mujoco>
"""


class BallTask(Task):
    """Episodes begin with the ball somewhere within a metre, at rest; a state of 1 number, if `with_state`."""

    control_dt = 0.05
    nconmax, njmax = 0, 0

    def __init__(self, *, with_state: bool = True, **view: object) -> None:
        self.with_state = with_state
        self.views = {"front": View(**{"camera": "front", "height": SIZE, "width": SIZE, **view})}

    def make_model(self) -> mujoco.MjModel:
        return mujoco.MjModel.from_xml_string(MJCF)

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        physics.qpos.uniform_(-1.0, 1.0, generator=generator)

    def observe(self, physics: Physics, memory: Memory) -> Tensor | dict[str, Tensor]:
        return physics.qpos.clone() if self.with_state else {}

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> Tensor:
        return -physics.qpos[:, 0].abs()


def column(x: Tensor, width: int = SIZE, height: int = SIZE) -> Tensor:
    """Where a camera with a pinhole sees the middle of the ball's outline, in pixels from the left edge; `x` in m."""
    focal = height / 2 / math.tan(math.radians(FIELD / 2))
    middle, half = torch.atan(x / DISTANCE), torch.asin(RADIUS / (DISTANCE**2 + x**2).sqrt())
    return width / 2 + focal * (torch.tan(middle - half) + torch.tan(middle + half)) / 2


def seen_column(picture: Tensor) -> Tensor:
    """Mean column of the red pixels of rgb pictures `(n, height, width, 3)`, each weighed by how red it is."""
    red = (picture[..., 0].float() - picture[..., 1].float()).clamp(min=0.0)
    columns = torch.arange(picture.shape[2]) + 0.5
    return (red * columns).sum((1, 2)) / red.sum((1, 2))
