"""How actions become controls: what a task declares, what its `apply` was found to do, and actuators out of reach."""

import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import mujoco
import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.formulas.controls import Scaling, controls_of
from torch_ppo.simulation.physics import Physics, keyframe, left_as_it_was

CTRLRANGE = "ctrlrange"
# MuJoCo's enumerations do not compare with the numbers in a model's arrays.
JOINTS = {int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT)}
ANGLES_AND_LENGTHS = {int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)}
TARGETS = {int(mujoco.mjtDyn.mjDYN_NONE), int(mujoco.mjtDyn.mjDYN_FILTER), int(mujoco.mjtDyn.mjDYN_FILTEREXACT)}
NUM_NAMES = 6  # that a message has


class ScalingError(UserError):
    """An action_scale or action_offset that the model's actuators cannot have."""


class Scaled(Protocol):
    """A task, as far as it is needed here."""

    action_scale: float | Sequence[float] | str | None
    action_offset: float | Sequence[float] | str | None


# Found once and kept as long as the simulation: a recorded graph knows the tensors by address.
_declared: weakref.WeakKeyDictionary[Physics, Scaling] = weakref.WeakKeyDictionary()


def declared_scaling(task: Scaled, physics: Physics) -> Scaling | None:
    """What the task's action_scale and action_offset amount to; None if it has neither. ScalingError."""
    if task.action_scale is None and task.action_offset is None:
        return None
    if physics not in _declared:
        scaling = find_scaling(physics.model, task.action_scale, task.action_offset, type(task).__name__)
        _declared[physics] = Scaling(*(x.to(physics.device) for x in scaling))
    return _declared[physics]


def find_scaling(model: mujoco.MjModel, scale: object, offset: object, who: str) -> Scaling:
    """Scale and offset as a `Task` has them, as tensors; on the CPU. ScalingError names `who` has it."""
    lower, upper = ranges(model)
    if isinstance(scale, str):
        if scale != CTRLRANGE:
            raise ScalingError(f'{who}.action_scale is {scale!r}, but must be numbers or "{CTRLRANGE}"')
        if offset is not None:
            raise ScalingError(
                f'{who}.action_offset is {offset!r}, but with action_scale = "{CTRLRANGE}" it is the middle of each range; '
                "leave one of them out"
            )
        endless = [name for name, x in zip(actuator_names(model), upper - lower, strict=True) if x.isinf()]
        if endless:
            raise ScalingError(
                f'{who}.action_scale is "{CTRLRANGE}", but {some(endless)} '
                f"{'has' if len(endless) == 1 else 'have'} no ctrlrange in the MJCF; numbers would work"
            )
        return Scaling((lower + upper) / 2, (upper - lower) / 2, lower, upper)
    if isinstance(offset, str):
        offset = pose_in_controls(model, offset)
    scale = torch.ones(model.nu) if scale is None else per_actuator(model, scale, f"{who}.action_scale")
    offset = torch.zeros(model.nu) if offset is None else per_actuator(model, offset, f"{who}.action_offset")
    return Scaling(offset, scale, lower, upper)


def unscaled(model: mujoco.MjModel) -> Scaling:
    """That of actions which are controls, on the CPU."""
    return Scaling(torch.zeros(model.nu), torch.ones(model.nu), *ranges(model))


def per_actuator(model: mujoco.MjModel, value: object, name: str) -> Tensor:
    """A number for all actuators, or one for each, as `(nu,)`."""
    try:
        numbers = torch.as_tensor(value, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.empty(0)
    if numbers.shape not in ((), (model.nu,)) or not numbers.isfinite().all():
        raise ScalingError(f"{name} is {value!r}, but must be a number, or one for each of the {model.nu} actuators")
    return numbers.expand(model.nu).clone()


def pose_in_controls(model: mujoco.MjModel, name: str) -> Tensor:
    """Controls `(nu,)` that hold a keyframe's pose: of a position servo the place of its joint, else the keyframe's ctrl."""
    key = keyframe(model, name, torch.device("cpu"))
    controls = key["ctrl"].clone()
    for i in range(model.nu):
        if is_position_servo(model, i):
            place = int(model.jnt_qposadr[model.actuator_trnid[i, 0]])
            controls[i] = float(model.actuator_gear[i, 0]) * key["qpos"][place]
    return controls


def is_position_servo(model: mujoco.MjModel, i: int) -> bool:
    """Whether actuator `i` pulls a hinge or slide to the position that its control is."""
    gain, bias = model.actuator_gainprm[i], model.actuator_biasprm[i]
    return bool(
        int(model.actuator_trntype[i]) in JOINTS
        and int(model.jnt_type[model.actuator_trnid[i, 0]]) in ANGLES_AND_LENGTHS
        and int(model.actuator_dyntype[i]) in TARGETS
        and int(model.actuator_gaintype[i]) == int(mujoco.mjtGain.mjGAIN_FIXED)
        and int(model.actuator_biastype[i]) == int(mujoco.mjtBias.mjBIAS_AFFINE)
        and gain[0] > 0
        and bias[0] == 0
        and abs(bias[1] + gain[0]) <= 1e-6 * gain[0]
    )


def actuator_names(model: mujoco.MjModel) -> list[str]:
    """Names of the actuators; those without one by number."""
    return [model.actuator(i).name or f"actuator {i}" for i in range(model.nu)]


def ranges(model: mujoco.MjModel) -> tuple[Tensor, Tensor]:
    """Least and greatest control of each actuator that has an effect, `(nu,)`; -inf and inf where there is no limit."""
    limited = torch.as_tensor(model.actuator_ctrllimited).bool()
    if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL:
        limited = torch.zeros_like(limited)
    lower, upper = torch.as_tensor(model.actuator_ctrlrange, dtype=torch.float32).unbind(1)
    return torch.where(limited, lower, -torch.inf), torch.where(limited, upper, torch.inf)


def out_of_reach(model: mujoco.MjModel, who: str) -> str | None:
    """What to say of a task whose actions are its controls, if the range of an actuator is not [-1, 1]."""
    lower, upper = (x.tolist() for x in ranges(model))
    names = actuator_names(model)
    others = [i for i in range(model.nu) if abs(lower[i]) < torch.inf and (lower[i], upper[i]) != (-1.0, 1.0)]
    if not others:
        return None
    found = some(f"{names[i]} ({lower[i]:g} to {upper[i]:g})" for i in others)
    text = (
        f"{who} passes actions, which are in [-1, 1], on as controls, but the ctrlrange of {found} is another; "
        f'action_scale = "{CTRLRANGE}" in the task would map [-1, 1] to it'
    )
    if any(is_position_servo(model, i) for i in others):
        text += ', or for position servos action_offset = "home", a keyframe, with action_scale = 0.5, in rad'
    return text


def some(names: Iterable[str]) -> str:
    """The first names of many, in words."""
    names = list(names)
    more = len(names) - NUM_NAMES
    return ", ".join(names if more <= 1 else [*names[:NUM_NAMES], f"{more} more"])


_said: set[str] = set()


def say_once(note: str | None) -> None:
    """Logs a note the first time that it comes."""
    if note is not None and note not in _said:
        _said.add(note)
        logging.getLogger("torch_ppo").warning("%s", note)


def measured_scaling(
    apply: Callable[[Physics, dict[str, Tensor], Tensor], None], physics: Physics, memory: dict[str, Tensor]
) -> Scaling | None:
    """What an `apply` does to actions in [-1, 1], if it is a scale and an offset that depend on nothing else.

    None otherwise, and where fewer than two envs could tell. Physics and memory are left as they were.
    """
    model, num_envs = physics.model, physics.num_envs
    if num_envs < 2:
        return None

    def controls(action: Tensor) -> Tensor:
        with left_as_it_was(physics):
            apply(physics, {name: tensor.clone() for name, tensor in memory.items()}, action)
            return physics.ctrl.cpu().clone()

    def filled(value: float) -> Tensor:
        return torch.full((num_envs, model.nu), value, device=physics.device)

    low, middle, high = (controls(filled(value))[0] for value in (-1.0, 0.0, 1.0))
    half = ((high - low) / 2).double().mul(1e6).round().div(1e6).float()  # without what rounding has made of it
    scaling = Scaling(middle, half, *ranges(model))
    spread = torch.rand(num_envs, model.nu, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for action in (filled(0.0).cpu(), spread):
        expected = controls_of(action, scaling)
        if not torch.allclose(controls(action.to(physics.device)), expected, rtol=1e-5, atol=1e-5):
            return None
    return scaling


def to_plain(scaling: Scaling, model: mujoco.MjModel) -> dict[str, list]:
    """A scaling with the actuators' names, for files: plain values, None where there is no limit."""
    numbers = {
        name: [x if abs(x) < torch.inf else None for x in part.tolist()] for name, part in scaling._asdict().items()
    }
    return {"actuators": actuator_names(model), **numbers}


def from_plain(plain: dict[str, list]) -> Scaling:
    """The scaling that `to_plain` was given, on the CPU."""
    endless = {"lower": -torch.inf, "upper": torch.inf}
    return Scaling(
        *(torch.tensor([endless[name] if x is None else x for x in plain[name]]) for name in Scaling._fields)
    )
