"""Batched MuJoCo behind one contract, with two engines: C MuJoCo and MuJoCo Warp.

Both offer the same torch tensors, allocated once and written in place, float32:

    qpos         position                            (num_envs, nq)
    qvel         velocity                            (num_envs, nv)
    act          actuator activation                 (num_envs, na)
    ctrl         control, held during a step         (num_envs, nu)
    mocap_pos    position of mocap bodies            (num_envs, nmocap, 3)
    mocap_quat   orientation of mocap bodies         (num_envs, nmocap, 4)
    qfrc_applied force on degrees of freedom, held   (num_envs, nv)
    xfrc_applied force and torque on bodies in world
                 axes at their centre of mass, held  (num_envs, nbody, 6)
    time         simulation time in seconds          (num_envs,)
    sensordata   sensor values; after `step`, those
                 of the last forward pass, that is
                 one substep behind qpos             (num_envs, nsensordata)
    overflow     bits of exceeded buffer sizes       (num_envs,) int32, zero on C MuJoCo
    pictures     what views showed at the last       uint8 (num_envs, height, width, channels)
                 `render`                            by name of the view

What is held stays until it is written anew, or until a restart. Applied forces cost nothing until they are first used,
which must be before the first step.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import mujoco
import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.simulation.included import find_assets
from torch_ppo.simulation.views import View


class Physics(Protocol):
    """What a task and `Env` may use of an engine."""

    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    qpos: Tensor
    qvel: Tensor
    act: Tensor
    ctrl: Tensor
    mocap_pos: Tensor
    mocap_quat: Tensor
    qfrc_applied: Tensor
    xfrc_applied: Tensor
    time: Tensor
    sensordata: Tensor
    overflow: Tensor
    pictures: dict[str, Tensor]

    def step(self, num_substeps: int) -> None:
        """Advances all worlds by `num_substeps` timesteps with `ctrl` held."""

    def forward(self, where: Tensor | None = None) -> None:
        """Updates `sensordata` to the current state, of all worlds or at least `where` `(num_envs,)` is true."""

    def set_views(self, views: Mapping[str, View]) -> None:
        """What `render` draws (`simulation.views`), by name; before everything else. PhysicsError for what cannot be."""

    def render(self) -> None:
        """Draws the present state of all worlds into `pictures`."""

    def start_parts(self) -> dict[str, Tensor]:
        """The live tensors that a start state consists of, by name: position, velocity, activation, and what is held."""

    def reset(self, mask: Tensor, start: Mapping[str, Tensor]) -> None:
        """Where `mask` `(num_envs,)`: sets the parts of `start`, all of `start_parts`, and zeroes the rest of the state."""

    def set_model_fields(self, fields: dict[str, Tensor]) -> None:
        """Gives each world its own values `(num_envs, *field shape)` of fields of `model`, by name; before stepping.

        Constants that MuJoCo derives from them follow. `model` stays the nominal one.
        """

    def vary_model_fields(self, draws: Sequence[dict[str, Tensor]]) -> list[str]:
        """Lets `write_model_fields` change the fields of these samples of it; after `set_model_fields`, before stepping.

        Returns their names. PhysicsError says which of them cannot be written between steps, and why.
        """

    def write_model_fields(self, where: Tensor, fields: Mapping[str, Tensor]) -> None:
        """Gives worlds `where` `(num_envs,)` is true their values of `(num_envs, *field shape)`, of all fields that vary.

        Constants that MuJoCo derives from them follow. The state stays.
        """

    def model_field(self, name: str) -> Tensor:
        """A field of `model` as each world has it now, `(num_envs, *field shape)`, float32; not to be written."""

    def lasting_field(self, name: str) -> Tensor:
        """A copy of it without what episodes change: as `set_model_fields` left it, or nominal."""

    def model_state(self) -> dict[str, Tensor]:
        """The live tensors of fields that vary, which, copied back, give the worlds those models."""

    @property
    def can_be_compiled(self) -> bool:
        """Whether `step` may stand in a compiled function; it must have been called before."""

    def make_deterministic(self) -> None:
        """The same states and controls give the same bits from now on, on the same machine; before stepping."""

    def sensor(self, name: str) -> Tensor:
        """View of a named sensor, `(num_envs, dim)`."""

    def keyframe(self, name: str) -> dict[str, Tensor]:
        """A keyframe of the model: qpos, qvel, act, ctrl, mocap_pos, mocap_quat, each as of one world."""

    def state(self) -> dict[str, Tensor]:
        """The live tensors that, copied back, continue the simulation exactly."""


class PhysicsError(UserError):
    """A model or sensor that does not exist or does not compile."""


def load_spec(mjcf: Path | str) -> mujoco.MjSpec:
    """An MJCF file before it is compiled; PhysicsError names the file and MuJoCo's complaint."""
    if str(mjcf).lstrip().startswith("<"):
        raise PhysicsError("a task's mjcf is the path of a file; for a text, let make_model return the compiled model")
    if not Path(mjcf).is_file():
        raise PhysicsError(f"there is no model file {mjcf}")
    path = Path(mjcf).absolute()
    with _complaints_about(mjcf):
        spec = mujoco.MjSpec.from_file(str(path))
    find_assets(spec, path)
    return spec


def compile_spec(spec: mujoco.MjSpec, mjcf: Path | str) -> mujoco.MjModel:
    """The model; PhysicsError names the file that it is from, and MuJoCo's complaint."""
    with _complaints_about(mjcf):
        return spec.compile()


def load_model(mjcf: Path | str) -> mujoco.MjModel:
    """Compiles an MJCF file; PhysicsError names the file and MuJoCo's complaint."""
    return compile_spec(load_spec(mjcf), mjcf)


@contextlib.contextmanager
def _complaints_about(mjcf: Path | str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise PhysicsError(f"{mjcf} does not compile: {_in_one_line(error, mjcf)}") from None


def _in_one_line(error: ValueError, mjcf: Path | str) -> str:
    """MuJoCo's complaint; where it is about a file, how MuJoCo looks for files."""
    said = " ".join(str(error).removeprefix("Error: ").split())
    if re.search(r"plugin mujoco\.elasticity\.\w+ not found|unrecognized element Element 'composite'", said):
        return (
            f'{said}; this MuJoCo ({mujoco.__version__}) has flexes instead: <flexcomp> makes a cable (dim="1"), a cloth '
            '(dim="2") or a solid (dim="3"), and a chain of bodies bends with the stiffness of its joints'
        )
    if "opening file" not in said:
        return said
    return (
        f"{said}; files are looked for from the folder of {Path(mjcf).name}, under the meshdir or texturedir that is read "
        'last: repeat it there after the includes (<compiler meshdir="../robot/assets"/>), or attach the robot, which keeps '
        'its own (<asset><model name="robot" file="../robot/robot.xml"/></asset> and <attach model="robot" prefix="robot/"/>)'
    )


def sensor_slices(model: mujoco.MjModel) -> dict[str, slice]:
    """Columns of each named sensor in `sensordata`. Found once: torch.compile cannot ask MuJoCo."""
    sensors = (model.sensor(i) for i in range(model.nsensor))
    return {sensor.name: slice(int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0])) for sensor in sensors}


def sensor_slice(slices: dict[str, slice], name: str) -> slice:
    """Columns of a named sensor; PhysicsError names those there are."""
    if name not in slices:
        raise PhysicsError(f"the model has no sensor {name!r}; it has: {', '.join(slices) or 'none'}")
    return slices[name]


def keyframe(model: mujoco.MjModel, name: str, device: torch.device) -> dict[str, Tensor]:
    """See `Physics.keyframe`; PhysicsError names those there are."""
    names = [model.key(i).name for i in range(model.nkey)]
    if name not in names:
        raise PhysicsError(f"the model has no keyframe {name!r}; it has: {', '.join(names) or 'none'}")
    key = model.key(name)

    def part(values: object, *shape: int) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32).reshape(shape).to(device)

    return {
        "qpos": part(key.qpos, model.nq),
        "qvel": part(key.qvel, model.nv),
        "act": part(key.act, model.na),
        "ctrl": part(key.ctrl, model.nu),
        "mocap_pos": part(key.mpos, model.nmocap, 3),
        "mocap_quat": part(key.mquat, model.nmocap, 4),
    }


def normalize_quaternions(physics: Physics) -> None:
    """Gives the quaternions of free and ball joints in `qpos` length 1, in place; one of length 0 becomes no rotation."""
    first_of = {int(mujoco.mjtJoint.mjJNT_FREE): 3, int(mujoco.mjtJoint.mjJNT_BALL): 0}
    for kind, address in zip(physics.model.jnt_type, physics.model.jnt_qposadr, strict=True):
        if int(kind) in first_of:
            first = int(address) + first_of[int(kind)]
            quaternion = physics.qpos[:, first : first + 4]
            length = quaternion.norm(dim=1, keepdim=True)
            quaternion[:, :1] += length == 0
            quaternion /= torch.where(length == 0, 1.0, length)


@contextlib.contextmanager
def left_as_it_was(physics: Physics) -> Iterator[None]:
    """Puts the state back afterwards, so that another may be tried out inside."""
    before = {name: tensor.clone() for name, tensor in physics.state().items()}
    try:
        yield
    finally:
        for name, tensor in physics.state().items():
            tensor.copy_(before[name])


def overflow_in_words(number: int, which: str) -> str:
    """What is said where `number` of the envs called `which` have exceeded a buffer."""
    return (
        f"{number} {which} have exceeded a buffer of MuJoCo Warp and lost contacts or constraints; raise the task's "
        "nconmax or njmax"
    )


def masked_write(mask: Tensor, value: Tensor | float, target: Tensor) -> None:
    """target[mask] = value[mask], in place and without an index list; `mask` `(num_envs,)`."""
    mask = mask.view(-1, *[1] * (target.dim() - 1))
    if isinstance(value, Tensor):
        target.copy_(torch.where(mask, value, target))
    else:
        target.masked_fill_(mask, value)
