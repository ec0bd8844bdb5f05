"""Which fields of MuJoCo's model may differ between worlds, on which engine, and why the others may not.

Held by `tests/simulation/test_model_fields.py`, which compares every one of them with models compiled at its values.
"""

from collections.abc import Iterator, Mapping

import mujoco
import numpy as np

from torch_ppo.simulation.views import NO_VIEWS, View

# Fields that a step reads, and that both engines can have once per world.
EVERYWHERE = frozenset(
    f"{kind}_{name}"
    for kind, names in {
        "body": "pos quat ipos iquat mass inertia gravcomp",
        "jnt": "solref solimp pos axis stiffness stiffnesspoly range actfrcrange margin",
        "dof": "solref solimp frictionloss armature damping dampingpoly",
        "geom": "size pos quat friction solref solimp solmix margin gap surfacevel adhesion",
        "site": "pos quat",
        "cam": "pos quat",
        "pair": "solref solreffriction solimp margin gap adhesion friction",
        "eq": "solref solimp data",
        "tendon": "solref_lim solimp_lim solref_fri solimp_fri range actfrcrange margin stiffness stiffnesspoly damping "
        "dampingpoly armature frictionloss lengthspring",
        "actuator": "cranklength dynprm gainprm biasprm actrange damping dampingpoly armature forcerange ctrlrange gear "
        "lengthrange",
    }.items()
    for name in names.split()
) | {"qpos0", "qpos_spring"}

# Fields that only pictures show, for tasks whose policies see some: colours, lights, a camera's angle of view.
SEEN = frozenset(
    "geom_rgba mat_rgba mat_emission mat_specular mat_shininess light_pos light_dir light_ambient light_diffuse "
    "light_specular light_cutoff light_exponent cam_fovy".split()
)

# MuJoCo Warp has these once for all worlds.
ONLY_MUJOCO = frozenset({"geom_fluid", "hfield_data", "sensor_cutoff", "site_size"})

# What `mj_setConst` reads: where one of these differs, so do some of `DERIVED`.
READ_BY_SET_CONST = frozenset(
    "qpos0 qpos_spring body_pos body_quat body_ipos body_iquat body_mass body_inertia body_gravcomp jnt_pos jnt_axis "
    "dof_armature geom_size geom_pos geom_quat geom_margin geom_gap geom_surfacevel geom_adhesion geom_fluid site_pos "
    "site_quat cam_pos cam_quat pair_adhesion eq_data tendon_stiffness tendon_stiffnesspoly tendon_damping "
    "tendon_dampingpoly tendon_armature actuator_cranklength actuator_gear actuator_armature actuator_damping "
    "actuator_dampingpoly light_pos light_dir".split()
)

# What `mj_setConst` computes from others, a step reads, and MuJoCo Warp can have once per world: from which ones.
DERIVED = {
    "body_subtreemass": "body_mass",
    "body_invweight0": "body_mass and body_inertia",
    "dof_invweight0": "body_mass and body_inertia",
    "geom_aabb": "geom_size",
    "geom_rbound": "geom_size",
    "cam_pos0": "cam_pos",
    "cam_poscom0": "cam_pos",
    "cam_mat0": "cam_quat",
    "light_pos0": "light_pos",
    "light_poscom0": "light_pos",
    "light_dir0": "light_dir",
    "eq_data": "body_pos",
    "tendon_length0": "site_pos",
    "tendon_invweight0": "body_mass",
    "actuator_acc0": "actuator_gear",
}

# The same, of which MuJoCo Warp has one for all worlds.
DERIVED_ONCE = ("geom_fluid", "flexedge_length0", "flexedge_invweight0", "efm0_L")

# What follows from masses and inertias at rest.
_INVERSE = frozenset({"body_invweight0", "dof_invweight0", "tendon_invweight0", "actuator_acc0"})

# Fields that MuJoCo Warp can have new in every episode though others follow: those that `warp_constants` then computes.
FOLLOWED_ON_WARP = {
    "body_mass": _INVERSE | {"body_subtreemass"},
    **dict.fromkeys(("body_inertia", "body_ipos", "body_iquat", "dof_armature"), _INVERSE),
    "geom_size": frozenset({"geom_rbound", "geom_aabb"}),
}

# Fields whose elements act only where a flag of the model says so: the flag, and how an MJCF sets it.
SWITCHED = {
    "jnt_range": ("jnt_limited", 'limited="true"'),
    "jnt_actfrcrange": ("jnt_actfrclimited", 'actuatorfrclimited="true"'),
    "tendon_range": ("tendon_limited", 'limited="true"'),
    "tendon_actfrcrange": ("tendon_actfrclimited", 'actuatorfrclimited="true"'),
    "actuator_ctrlrange": ("actuator_ctrllimited", 'ctrllimited="true"'),
    "actuator_forcerange": ("actuator_forcelimited", 'forcelimited="true"'),
    "actuator_actrange": ("actuator_actlimited", 'actlimited="true"'),
}

# Masses, lengths and the like.
NOT_NEGATIVE = frozenset(
    "body_mass body_inertia dof_armature dof_damping dof_frictionloss geom_size geom_friction pair_friction tendon_armature "
    "tendon_frictionloss site_size geom_rgba mat_rgba light_ambient light_diffuse light_specular cam_fovy".split()
)

_KINDS = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "jnt": mujoco.mjtObj.mjOBJ_JOINT,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "tendon": mujoco.mjtObj.mjOBJ_TENDON,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
}


def why_not(name: str, engine: str, views: Mapping[str, View] = NO_VIEWS) -> str | None:
    """Why the field cannot differ between worlds on an engine, to follow "randomisation gives ..., "; None if it can.

    views:  what the task's policy sees
    """
    if name in EVERYWHERE or (name in ONLY_MUJOCO and engine == "mujoco") or (name in SEEN and views):
        return None
    if name in SEEN:
        return "which only pictures show, and the task has no views, which its policy would see"
    if name in ONLY_MUJOCO:
        return "of which MuJoCo Warp has one for all worlds; physics = mujoco takes it"
    if name in DERIVED:
        return f"which MuJoCo computes from {DERIVED[name]}; give that alone"
    if name in ("body_margin", "bvh_aabb", "dof_M0", "dof_length", "actuator_length0", *DERIVED_ONCE[1:]):
        return "which MuJoCo computes from others; give body_mass, geom_size and the like"
    if name.endswith("_springyield"):
        return "but springs that yield are not supported"
    if name.endswith("_delay") or name == "sensor_interval":
        return "but delays are not supported in models; action_delay delays actions"
    if name.startswith(("mesh_", "flex", "hfield_", "oct_", "wrap_", "bvh_", "skin_")):
        return "which is compiled into the model's structure; a task per variant would work"
    if name.startswith(("mat_", "light_", "tex_", "cam_")) or name.endswith(("_rgba", "_width", "_size")):
        return "which only pictures show, and of which they show the nominal model's"
    return "which no step reads"


def _differing(values: np.ndarray, nominal: np.ndarray) -> np.ndarray:
    """Elements of the field that differ from the nominal one in any world, bool `(n,)`; rounding to float32 does not count."""
    differs = ~np.isclose(values, nominal, rtol=1e-6, atol=1e-9)
    return differs.any(axis=(0, *range(2, differs.ndim)))


def _element(model: mujoco.MjModel, field: str, index: int) -> str:
    kind = field.partition("_")[0]
    name = mujoco.mj_id2name(model, _KINDS[kind], index) if kind in _KINDS else None
    return f"{'joint' if kind == 'jnt' else kind} {name!r}" if name else f"{kind} number {index}"


def without_effect(model: mujoco.MjModel, field: str, values: np.ndarray) -> Iterator[str]:
    """What would be ignored of accepted `values` `(num_worlds, *field shape)`, and what to do, in words."""
    differs = _differing(values, getattr(model, field))

    def first(where: np.ndarray) -> str | None:
        found = np.flatnonzero(differs & where)
        return _element(model, field, int(found[0])) if found.size else None

    if field in SWITCHED:
        flag, attribute = SWITCHED[field]
        if found := first(getattr(model, flag) == 0):
            yield f"{found} has none; {attribute} in the MJCF would give it one"
    if field == "geom_size":
        compiled = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_SDF, mujoco.mjtGeom.mjGEOM_HFIELD)
        if found := first(np.isin(model.geom_type, compiled)):
            yield f"the size of {found} is in its mesh or height field; leave that one as it is"
    if field in ("body_pos", "body_quat"):
        if found := first(model.body_mocapid >= 0):
            yield f"{found} is a mocap body; start may write physics.{field.replace('body', 'mocap')}"
        free = model.jnt_bodyid[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
        if found := first(np.isin(np.arange(model.nbody), free)):
            yield f"{found} moves freely; start may write physics.qpos"
    simple = {"body_ipos": model.body_simple, "body_iquat": model.body_simple}
    if model.njnt:
        simple |= dict.fromkeys(("jnt_pos", "jnt_axis"), model.body_simple[model.jnt_bodyid])
    if field in simple and (found := first(simple[field] != 0)):
        yield f'{found} is compiled with a diagonal mass matrix; <body simple="false"> in the MJCF would work'
    if field == "jnt_pos" and model.njnt and (found := first(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)):
        yield f"{found} is free and has no position; leave that one as it is"


def constants_read(model: mujoco.MjModel, views: Mapping[str, View] = NO_VIEWS) -> set[str]:
    """Those of `DERIVED` that a step of this model reads, or a picture of its `views`.

    Not all have a muscle, a sensor or a view of a camera that follows, or lights that do.
    """
    read = set(DERIVED)
    muscle = (int(mujoco.mjtGain.mjGAIN_MUSCLE), int(mujoco.mjtBias.mjBIAS_MUSCLE))
    if not ((model.actuator_gaintype == muscle[0]) | (model.actuator_biastype == muscle[1])).any():
        read -= {"actuator_acc0"}
    following = np.flatnonzero(model.cam_mode != mujoco.mjtCamLight.mjCAMLIGHT_FIXED)
    camera = int(mujoco.mjtObj.mjOBJ_CAMERA)
    seen = {*model.sensor_objid[model.sensor_objtype == camera], *model.sensor_refid[model.sensor_reftype == camera]}
    seen |= {model.camera(view.camera).id for view in views.values()}
    if not seen & set(following):
        read -= {"cam_pos0", "cam_poscom0", "cam_mat0"}
    if not views or (model.light_mode == mujoco.mjtCamLight.mjCAMLIGHT_FIXED).all():
        read -= {"light_pos0", "light_poscom0", "light_dir0"}
    return read


def why_not_per_episode(
    model: mujoco.MjModel,
    field: str,
    values: np.ndarray,
    follow: set[str],
    engine: str,
    views: Mapping[str, View] = NO_VIEWS,
) -> str | None:
    """Why an accepted field cannot be new in every episode, to follow "randomisation gives ..., "; None if it can.

    values:  samples                                             (any number, *field shape)
    follow:  those of `DERIVED` that change with them
    """
    if field == "qpos0":
        return "where start states stand, which are drawn without it; Task.randomize gives each world one for good"
    if engine == "mujoco":
        return None
    instead = "Task.randomize gives each world one for good, and physics = mujoco takes it in every episode"
    missing = sorted((follow & constants_read(model, views)) - FOLLOWED_ON_WARP.get(field, frozenset()))
    if field in ("body_pos", "body_quat", "jnt_pos", "jnt_axis"):  # `warp_constants` takes the pose at rest as it was
        missing = missing or ["the pose at rest"]
    if missing:
        verb = "follow" if len(missing) > 1 else "follows"
        return f"from which {' and '.join(missing)} {verb}, which MuJoCo Warp has for good; {instead}"
    if field in ("geom_pos", "geom_quat"):
        fixed = _differing(values, getattr(model, field)) & (model.body_weldid[model.geom_bodyid] == 0)
        if fixed.any():
            element = _element(model, field, int(np.flatnonzero(fixed)[0]))
            return f"but {element} does not move, and MuJoCo Warp places such for good; {instead}"
    return None
