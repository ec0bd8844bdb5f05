"""Batched MuJoCo behind one contract, with two engines: C MuJoCo and MuJoCo Warp.

Both offer the same torch tensors, allocated once and written in place, float32:

    qpos         position                            (num_envs, nq)
    qvel         velocity                            (num_envs, nv)
    act          actuator activation                 (num_envs, na)
    ctrl         control, held during a step         (num_envs, nu)
    time         simulation time in seconds          (num_envs,)
    sensordata   sensor values; after `step`, those
                 of the last forward pass, that is
                 one substep behind qpos             (num_envs, nsensordata)
    overflow     bits of exceeded buffer sizes       (num_envs,) int32, zero on C MuJoCo
"""

from pathlib import Path
from typing import Protocol

import mujoco
import torch
from torch import Tensor

from torch_ppo.errors import UserError


class Physics(Protocol):
    """What a task and `Env` may use of an engine."""

    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    qpos: Tensor
    qvel: Tensor
    act: Tensor
    ctrl: Tensor
    time: Tensor
    sensordata: Tensor
    overflow: Tensor

    def step(self, num_substeps: int) -> None:
        """Advances all worlds by `num_substeps` timesteps with `ctrl` held."""

    def forward(self) -> None:
        """Updates `sensordata` to the current state."""

    def reset(self, mask: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Where `mask` `(num_envs,)`: sets position and velocity, zeroes the rest of the state."""

    def set_model_fields(self, fields: dict[str, Tensor]) -> None:
        """Gives each world its own values `(num_envs, *field shape)` of fields of `model`, by name; before stepping.

        Constants that MuJoCo derives from them follow. `model` stays the nominal one.
        """

    def sensor(self, name: str) -> Tensor:
        """View of a named sensor, `(num_envs, dim)`."""

    def state(self) -> dict[str, Tensor]:
        """The live tensors that, copied back, continue the simulation exactly."""


class PhysicsError(UserError):
    """A model or sensor that does not exist or does not compile."""


def load_model(mjcf: Path | str) -> mujoco.MjModel:
    """Compiles an MJCF file; PhysicsError names the file and MuJoCo's complaint."""
    if str(mjcf).lstrip().startswith("<"):
        raise PhysicsError("a task's mjcf is the path of a file; for a text, let make_model return the compiled model")
    if not Path(mjcf).is_file():
        raise PhysicsError(f"there is no model file {mjcf}")
    try:
        return mujoco.MjModel.from_xml_path(str(mjcf))
    except ValueError as error:
        raise PhysicsError(f"{mjcf} does not compile: {error}") from None


def sensor_slices(model: mujoco.MjModel) -> dict[str, slice]:
    """Columns of each named sensor in `sensordata`. Found once: torch.compile cannot ask MuJoCo."""
    sensors = (model.sensor(i) for i in range(model.nsensor))
    return {sensor.name: slice(int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0])) for sensor in sensors}


def sensor_slice(slices: dict[str, slice], name: str) -> slice:
    """Columns of a named sensor; PhysicsError names those there are."""
    if name not in slices:
        raise PhysicsError(f"the model has no sensor {name!r}; it has: {', '.join(slices) or 'none'}")
    return slices[name]


def masked_write(mask: Tensor, value: Tensor | float, target: Tensor) -> None:
    """target[mask] = value[mask], in place and without an index list; `mask` `(num_envs,)`."""
    mask = mask.view(-1, *[1] * (target.dim() - 1))
    if isinstance(value, Tensor):
        target.copy_(torch.where(mask, value, target))
    else:
        target.masked_fill_(mask, value)
