"""Worlds whose models differ: MuJoCo model fields with a value per world, and the constants that follow from them."""

import copy
from collections.abc import Iterator

import mujoco
import numpy as np
import torch
from torch import Tensor

from torch_ppo.physics import PhysicsError

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
    values = {name: value.detach().cpu().double().numpy() for name, value in fields.items()}
    data = mujoco.MjData(model)
    for world in range(num_worlds):
        own = copy.copy(model)
        for name, value in values.items():
            getattr(own, name)[:] = value[world]
        mujoco.mj_setConst(own, data)
        yield own


def with_derived_fields(model: mujoco.MjModel, num_worlds: int, fields: ModelFields) -> dict[str, np.ndarray]:
    """`fields` and those of `DERIVED_FIELDS` that they change, float64 `(num_worlds, *field shape)`."""
    check_fields(model, num_worlds, fields)
    names = [*fields, *(name for name in DERIVED_FIELDS if name not in fields and getattr(model, name).size)]
    values = {name: np.empty((num_worlds, *getattr(model, name).shape)) for name in names}
    for world, own in enumerate(world_models(model, num_worlds, fields)):
        for name, value in values.items():
            value[world] = getattr(own, name)
    unchanged = {name for name, value in values.items() if (value == getattr(model, name)).all()}
    return {name: value for name, value in values.items() if name in fields or name not in unchanged}
