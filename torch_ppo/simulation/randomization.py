"""Worlds whose models differ: MuJoCo model fields with a value per world, and the constants that follow from them."""

import copy
from collections.abc import Iterator

import mujoco
import numpy as np
import torch
from torch import Tensor

from torch_ppo.simulation.physics import PhysicsError

# What `mj_setConst` computes from masses, inertias, armatures and the rest pose, and a step reads.
DERIVED_FIELDS = (
    "body_subtreemass",
    "body_invweight0",
    "dof_invweight0",
    "actuator_acc0",
    "tendon_length0",
    "tendon_invweight0",
)

ModelFields = dict[str, Tensor]


def check_fields(model: mujoco.MjModel, num_worlds: int, fields: ModelFields) -> None:
    """PhysicsError if there is no dict, or a field is none of MjModel's, not float, not `(num_worlds, *its shape)`, or not finite."""
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
    if "geom_size" in fields and "geom_rbound" not in fields:
        raise PhysicsError(
            "randomisation gives geom_size, but not geom_rbound, the bounding radius by which geoms collide"
        )


def world_models(model: mujoco.MjModel, num_worlds: int, fields: ModelFields) -> Iterator[mujoco.MjModel]:
    """The model of each world, in order: a copy of `model` with the world's `fields` and what follows from them."""
    check_fields(model, num_worlds, fields)
    values, data = _numbers(fields), mujoco.MjData(model)
    for world in range(num_worlds):
        own = copy.copy(model)
        _assign(own, data, values, world)
        yield own


def with_derived_fields(model: mujoco.MjModel, num_worlds: int, fields: ModelFields) -> dict[str, np.ndarray]:
    """`fields` and those of `DERIVED_FIELDS` that they change, float64 `(num_worlds, *field shape)`."""
    check_fields(model, num_worlds, fields)
    names = [*fields, *(name for name in DERIVED_FIELDS if name not in fields and getattr(model, name).size)]
    derived = {name: np.empty((num_worlds, *getattr(model, name).shape)) for name in names}
    # One copy for all worlds: a copy takes a millisecond, what it is used for a sixtieth of that.
    values, data, own = _numbers(fields), mujoco.MjData(model), copy.copy(model)
    for world in range(num_worlds):
        _assign(own, data, values, world)
        for name, value in derived.items():
            value[world] = getattr(own, name)
    unchanged = {name for name, value in derived.items() if (value == getattr(model, name)).all()}
    return {name: value for name, value in derived.items() if name in fields or name not in unchanged}


def _numbers(fields: ModelFields) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().double().numpy() for name, value in fields.items()}


def _assign(own: mujoco.MjModel, data: mujoco.MjData, values: dict[str, np.ndarray], world: int) -> None:
    """Writes the fields of a world into `own`, and what follows from them."""
    for name, value in values.items():
        getattr(own, name)[:] = value[world]
    mujoco.mj_setConst(own, data)
