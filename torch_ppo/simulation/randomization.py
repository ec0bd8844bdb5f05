"""Worlds whose models differ: MuJoCo model fields with a value per world, and the constants that follow from them."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import mujoco
import numpy as np
import torch
from torch import Tensor

from torch_ppo.simulation.model_fields import (
    DERIVED,
    DERIVED_ONCE,
    NOT_NEGATIVE,
    READ_BY_SET_CONST,
    why_not,
    why_not_per_episode,
    without_effect,
)
from torch_ppo.simulation.physics import PhysicsError
from torch_ppo.simulation.views import NO_VIEWS, View

ModelFields = dict[str, Tensor]
# Samples of a field by which it is found out what follows from it: all do, unless the field stays as it is.
LOOKED_AT = 16


def check_fields(
    model: mujoco.MjModel, num_worlds: int, fields: ModelFields, engine: str, views: Mapping[str, View] = NO_VIEWS
) -> ModelFields:
    """The fields that are to be set; PhysicsError says what is wrong with one, and what would work.

    Each must be a field of MjModel that can differ between worlds of this engine (`model_fields`), finite, and
    `(num_worlds, *its shape)`; those that only pictures show need `views` of the task. Bounds of geoms may stand beside `geom_size`, but follow from it.
    """
    if not isinstance(fields, dict):
        raise PhysicsError(
            f"randomisation gives a {type(fields).__name__}, but must give a dict of fields of MjModel by name, "
            "(num_worlds, *field shape) each"
        )
    for name, value in fields.items():
        nominal = getattr(model, name, None)
        if not isinstance(nominal, np.ndarray) or not np.issubdtype(nominal.dtype, np.floating):
            raise PhysicsError(f"randomisation gives {name!r}, which is not a field of numbers in MuJoCo's MjModel")
        expected = (num_worlds, *nominal.shape)
        if not isinstance(value, Tensor) or tuple(value.shape) != expected:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise PhysicsError(f"randomisation gives {name} as {found}, but the model and the worlds need {expected}")
        if not torch.isfinite(value).all():
            raise PhysicsError(f"randomisation gives a {name} that is inf or NaN")
        if name in NOT_NEGATIVE and (value < 0).any():
            raise PhysicsError(f"randomisation gives a {name} of {value.min().item():g}, but it cannot be negative")
    follows = {name for name in ("geom_rbound", "geom_aabb") if name in fields and "geom_size" in fields}
    fields = {name: value for name, value in fields.items() if name not in follows}
    for name, value in fields.items():
        reason = why_not(name, engine, views)
        if reason is not None:
            raise PhysicsError(f"randomisation gives {name}, {reason}")
        for ignored in without_effect(model, name, _numbers(value)):
            raise PhysicsError(f"randomisation gives another {name}, but {ignored}")
    return fields


def check_episode_fields(
    model: mujoco.MjModel,
    num_worlds: int,
    draws: Sequence[ModelFields],
    engine: str,
    views: Mapping[str, View] = NO_VIEWS,
) -> ModelFields:
    """The fields that episodes may change, with all values in `draws`, `(any number, *field shape)`.

    PhysicsError as of `check_fields`, and for what this engine cannot have new in every episode.
    """
    first = check_fields(model, num_worlds, draws[0], engine, views)
    if not first:
        raise PhysicsError("randomisation gives no fields in every episode; without randomize_episode it would work")
    for draw in draws[1:]:
        if draw.keys() != draws[0].keys():
            raise PhysicsError(
                f"randomisation gives {', '.join(draw)} in an episode and {', '.join(draws[0])} in another; the same "
                "fields every time, some at physics.lasting_field(name), would work"
            )
    samples = {name: torch.cat([draw[name] for draw in draws]).detach() for name in first}
    check_fields(model, num_worlds * len(draws), samples, engine, views)
    for name, value in samples.items():
        follow = set() if engine == "mujoco" else changed_constants(model, name, value[:LOOKED_AT])
        reason = why_not_per_episode(model, name, _numbers(value), follow, engine, views)
        if reason is not None:
            raise PhysicsError(f"randomisation gives {name} in every episode, {reason}")
    return samples


def changed_constants(model: mujoco.MjModel, field: str, values: Tensor) -> set[str]:
    """Those of `DERIVED` that are otherwise at any of a field's `values` `(any number, *field shape)`."""
    found = with_derived_fields(model, len(values), {field: values})
    itself = field in DERIVED and not np.allclose(found[field], _numbers(values), rtol=1e-5, atol=1e-7)
    return (found.keys() - {field}) | ({field} if itself else set())


def world_models(model: mujoco.MjModel, num_worlds: int, fields: ModelFields) -> Iterator[mujoco.MjModel]:
    """The model of each world, in order: a copy of `model` with the world's checked `fields` and what follows from them."""
    values, data = {name: _numbers(value) for name, value in fields.items()}, mujoco.MjData(model)
    for world in range(num_worlds):
        own = copy.copy(model)
        _assign(own, data, {name: value[world] for name, value in values.items()})
        yield own


def set_fields(own: mujoco.MjModel, data: mujoco.MjData, fields: ModelFields, world: int) -> None:
    """Gives a model the checked `fields` of a world, and what follows from them."""
    _assign(own, data, {name: _numbers(value[world]) for name, value in fields.items()})


def with_derived_fields(
    model: mujoco.MjModel, num_worlds: int, fields: ModelFields, kept: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Checked `fields`, and those of `DERIVED` that they change or that are `kept`; float64 `(num_worlds, *field shape)`."""
    names = [*fields, *(name for name in DERIVED if name not in fields and getattr(model, name).size)]
    derived = {name: np.empty((num_worlds, *getattr(model, name).shape)) for name in names}
    # One copy for all worlds: a copy takes a millisecond, what it is used for a sixtieth of that.
    values, data = {name: _numbers(value) for name, value in fields.items()}, mujoco.MjData(model)
    own = copy.copy(model)
    for world in range(num_worlds):
        _assign(own, data, {name: value[world] for name, value in values.items()})
        for name, value in derived.items():
            value[world] = getattr(own, name)
        for name in DERIVED_ONCE:
            if not np.allclose(getattr(own, name), getattr(model, name)):
                raise PhysicsError(
                    f"randomisation gives {', '.join(fields)}, from which {name} follows, of which MuJoCo Warp has one for "
                    "all worlds; physics = mujoco would work"
                )
    unchanged = {name for name, value in derived.items() if (value == getattr(model, name)).all()}
    return {name: value for name, value in derived.items() if name in (*fields, *kept) or name not in unchanged}


def widest_model(model: mujoco.MjModel, fields: ModelFields) -> mujoco.MjModel:
    """A model with the largest value of each element in any world: what no world needs is 0 in it.

    MuJoCo Warp leaves out what is 0 in the model that it is given, such as a tendon's springs.
    """
    widest = copy.copy(model)
    values = {name: _numbers(value) for name, value in fields.items()}
    largest = {
        name: np.take_along_axis(value, np.abs(value).argmax(0)[None], 0)[0]
        for name, value in values.items()
        if value.size
    }
    _assign(widest, mujoco.MjData(model), largest)
    for name in (*DERIVED_ONCE, "dof_length"):  # these are for all worlds
        getattr(widest, name)[:] = getattr(model, name)
    return widest


def geom_poses(model: mujoco.MjModel, num_worlds: int, fields: ModelFields) -> tuple[Tensor, Tensor] | None:
    """Where geoms stand at `qpos0` in each world, `(num_worlds, ngeom, 3)` and `(num_worlds, ngeom, 3, 3)`, float32.

    MuJoCo Warp computes poses of static geoms once, for all worlds. None if `fields` do not change any.
    """
    if not fields.keys() & {"body_pos", "body_quat", "geom_pos", "geom_quat"}:
        return None
    poses = []
    for own in world_models(model, num_worlds, fields):
        data = mujoco.MjData(own)
        mujoco.mj_kinematics(own, data)
        poses.append((data.geom_xpos.copy(), data.geom_xmat.reshape(-1, 3, 3).copy()))
    position, orientation = (torch.as_tensor(np.stack(part), dtype=torch.float32) for part in zip(*poses, strict=True))
    return position, orientation


def _numbers(value: Tensor) -> np.ndarray:
    return value.detach().cpu().double().numpy()


def _assign(own: mujoco.MjModel, data: mujoco.MjData, values: dict[str, np.ndarray]) -> None:
    """Writes the fields of a world into `own`, and what follows from them."""
    for name, value in values.items():
        getattr(own, name)[:] = value
    if values.keys() & READ_BY_SET_CONST:
        try:
            mujoco.mj_setConst(own, data)
        except mujoco.FatalError as error:
            raise PhysicsError(f"randomisation gives {', '.join(values)}, but MuJoCo says: {error}") from None
