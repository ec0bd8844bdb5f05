"""What of a robot the text of its first task depends on."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from torch_ppo.errors import UserError
from torch_ppo.simulation.physics import compile_spec, load_spec

CONTROL_DT = 0.02  # s, about
EPISODE_SECONDS = 10.0
FREE, BALL = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_BALL)


class StarterError(UserError):
    """A robot for which no task can be begun, or a place where none can be written."""


class FloatingBase(NamedTuple):
    """The free joint that a robot hangs on.

    qpos, qvel:   where its numbers begin
    up:           the axis of the body that points upwards in the home pose, a unit vector in the body's frame
    height:       in m, of the home pose; lowered, where there is no keyframe, to where the robot touches the floor
    fallen:       height below which it has fallen; None without gravity
    is_lowered:   whether `height` is not that of the home pose
    """

    qpos: int
    qvel: int
    up: tuple[float, float, float]
    height: float
    fallen: float | None
    is_lowered: bool


@dataclass(frozen=True)
class Robot:
    """What a task's text depends on.

    keyframe:    name of the home pose; None for the model's qpos0
    controls:    of each actuator its name, the control at action 0, and how far action 1 is from there
    base:        None for a robot that is fixed to the world
    joints:      slices of qpos that are hinges and slides
    observed:    slices of qpos that are observed: all but x and y of the base
    needs_floor: whether there is nothing to stand on
    """

    model: mujoco.MjModel
    keyframe: str | None
    controls: list[tuple[str, float, float]]
    base: FloatingBase | None
    joints: list[tuple[int, int]]
    observed: list[tuple[int, int]]
    needs_floor: bool

    @property
    def control_dt(self) -> float:
        """Seconds between two actions, a multiple of the model's timestep."""
        return float(f"{self.substeps * self.model.opt.timestep:.12g}")

    @property
    def substeps(self) -> int:
        """Timesteps per action."""
        return max(1, round(CONTROL_DT / self.model.opt.timestep))

    @property
    def episode_length(self) -> int:
        """In env steps."""
        return max(10, round(EPISODE_SECONDS / self.control_dt))


def look_at(mjcf: Path) -> Robot:
    """What there is to know of a robot. StarterError if it has no actuators."""
    spec = load_spec(mjcf)
    model = compile_spec(spec, mjcf)
    if model.nu == 0:
        raise StarterError(
            f"{mjcf} has no actuators, so there is nothing that a policy could do; give it an <actuator>"
        )
    joint = _free_joint(model)
    needs_floor = joint is not None and _has_gravity(model) and not _floors(model)
    if needs_floor:
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
        model = compile_spec(spec, mjcf)
    data = mujoco.MjData(model)
    key = _home(model)
    if key is not None:
        mujoco.mj_resetDataKeyframe(model, data, key)
    mujoco.mj_forward(model, data)
    base = None if joint is None else _base(model, data, joint, is_posed=key is not None)
    first = [] if base is None else [(base.qpos, base.qpos + 2)]
    movable = [int(model.jnt_qposadr[i]) for i in range(model.njnt) if int(model.jnt_type[i]) not in (FREE, BALL)]
    return Robot(
        model,
        None if key is None else model.key(key).name,
        [_control(model, data, i, has_home=key is not None) for i in range(model.nu)],
        base,
        _runs(movable),
        _runs([i for i in range(model.nq) if not any(low <= i < high for low, high in first)]),
        needs_floor,
    )


def _home(model: mujoco.MjModel) -> int | None:
    """The keyframe to start from: home, stand, or the first with a name."""
    names = {model.key(i).name: i for i in reversed(range(model.nkey))}
    wanted = [name for name in ("home", "stand", *reversed(names)) if names.get(name) is not None and name]
    return names[wanted[0]] if wanted else None


def _free_joint(model: mujoco.MjModel) -> int | None:
    """The free joint of the tree that most actuated joints are in: not that of a thing to be grasped."""
    free = [i for i in range(model.njnt) if int(model.jnt_type[i]) == FREE]
    trees = {int(model.body_rootid[model.jnt_bodyid[i]]): i for i in free}
    moved = [int(model.body_rootid[body]) for body in _moved_bodies(model)]
    counts = {root: moved.count(root) for root in dict.fromkeys(moved)}
    most = max(counts, key=counts.get, default=None)
    return trees.get(most)


def _moved_bodies(model: mujoco.MjModel) -> list[int]:
    """A body that each actuator acts on, where that is simple to say."""
    kinds = mujoco.mjtTrn
    found = []
    for kind, target in zip(map(kinds, model.actuator_trntype), model.actuator_trnid[:, 0], strict=True):
        if kind in (kinds.mjTRN_JOINT, kinds.mjTRN_JOINTINPARENT):
            found.append(int(model.jnt_bodyid[target]))
        elif kind in (kinds.mjTRN_SITE, kinds.mjTRN_SLIDERCRANK):
            found.append(int(model.site_bodyid[target]))
        elif kind == kinds.mjTRN_BODY:
            found.append(int(target))
        elif kind == kinds.mjTRN_TENDON:
            first = model.tendon_adr[target]
            wrap, of = model.wrap_type[first], int(model.wrap_objid[first])
            owner = model.jnt_bodyid if wrap == int(mujoco.mjtWrap.mjWRAP_JOINT) else model.site_bodyid
            found.append(int(owner[of]) if 0 <= of < len(owner) else 0)
    return [body for body in found if body > 0]


def _has_gravity(model: mujoco.MjModel) -> bool:
    return bool(model.opt.gravity[2] < 0) and not (model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_GRAVITY))


def _floors(model: mujoco.MjModel) -> list[int]:
    """Geoms of the world that things can touch."""
    touched = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    return [i for i in range(model.ngeom) if model.body_weldid[model.geom_bodyid[i]] == 0 and touched[i]]


def _base(model: mujoco.MjModel, data: mujoco.MjData, joint: int, *, is_posed: bool) -> FloatingBase:
    body, qpos = int(model.jnt_bodyid[joint]), int(model.jnt_qposadr[joint])
    up = np.round(data.xmat[body].reshape(3, 3)[2], 6) + 0.0  # the world's z in the body's frame
    home = float(data.qpos[qpos + 2])
    floor, gap = _floor_below(model, data, body)
    height = home if is_posed else home - gap
    above = height - floor
    fallen = floor + 0.5 * above if above > 0 else height - 0.25 * float(model.stat.extent)
    fallen = float(f"{fallen:.3g}") if _has_gravity(model) else None
    # A little above: a foot that starts within the floor is thrown out of it.
    lowered = math.ceil(1000 * height + 1) / 1000
    is_lowered = not is_posed and gap > 0.01
    return FloatingBase(
        qpos, int(model.jnt_dofadr[joint]), tuple(map(float, up)), lowered if is_lowered else home, fallen, is_lowered
    )


def _floor_below(model: mujoco.MjModel, data: mujoco.MjData, body: int) -> tuple[float, float]:
    """Height of the floor in m, and how far the robot of a body is above it; 0 and 0 where that is not known."""
    robot = [
        i
        for i in range(model.ngeom)
        if model.body_rootid[model.geom_bodyid[i]] == model.body_rootid[body]
        and (model.geom_contype[i] or model.geom_conaffinity[i])
    ]
    planes = [i for i in _floors(model) if model.geom_type[i] == int(mujoco.mjtGeom.mjGEOM_PLANE)]
    flat = [i for i in planes if data.geom_xmat[i].reshape(3, 3)[2, 2] > 0.99]
    if not (flat and robot):
        return 0.0, 0.0
    reach = 10 * float(model.stat.extent) + abs(float(data.xpos[body][2]))
    gap = min(mujoco.mj_geomDistance(model, data, flat[0], i, reach, None) for i in robot)
    return float(data.geom_xpos[flat[0]][2]), max(0.0, gap) if gap < reach else 0.0


def _control(model: mujoco.MjModel, data: mujoco.MjData, i: int, *, has_home: bool) -> tuple[str, float, float]:
    """Of an actuator: its name, the control at action 0, and how far action 1 is from there.

    A position servo holds the home pose at 0, and 1 is a quarter of its range further, or half a radian. Others have 0 in
    the middle of their range, unless the home pose has controls of its own.
    """
    low, high = map(float, model.actuator_ctrlrange[i])
    is_limited = bool(model.actuator_ctrllimited[i])
    is_servo = (
        model.actuator_biastype[i] == int(mujoco.mjtBias.mjBIAS_AFFINE)
        and model.actuator_biasprm[i, 1] != 0
        and model.actuator_biasprm[i, 1] == -model.actuator_gainprm[i, 0]
    )
    own = float(data.ctrl[i]) if has_home and data.ctrl.any() else None
    if is_servo:
        center = float(data.actuator_length[i]) if own is None else own
        reach = (high - low) / 4 if is_limited else 0.5
    else:
        center = own if own is not None else (low + high) / 2 if is_limited else 0.0
        reach = (high - low) / 2 if is_limited else 1.0
    if is_limited:
        center = min(max(center, low), high)
    return model.actuator(i).name or f"actuator {i}", float(f"{center:.5g}") + 0.0, float(f"{reach:.5g}")


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Slices (first, end) that the numbers make up, in their order."""
    if not numbers:
        return []
    ends = [i + 1 for i, (a, b) in enumerate(pairwise(numbers)) if b != a + 1]
    return [(numbers[a], numbers[b - 1] + 1) for a, b in pairwise([0, *ends, len(numbers)])]
