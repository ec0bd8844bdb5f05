"""Every model field that may differ between worlds, one by one: each world against a model compiled at its values.

What is compared with comes from MuJoCo's compiler (`MjSpec`), so nothing of ours and no `mj_setConst` takes part in it.
"""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
import pytest
import torch

from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.model_fields import EVERYWHERE, ONLY_MUJOCO, SEEN
from torch_ppo.simulation.physics import PhysicsError

CPU = torch.device("cpu")
MJCF = Path(__file__).parents[1] / "helpers" / "every_field.xml"
NOMINAL = mujoco.MjModel.from_xml_path(str(MJCF))
NUM_STEPS = 100
SIZES = {"nconmax": 64, "njmax": 256}
FACTORS = (1.0, 0.8)  # of a nominal world, and of one that is not

# Fields whose elements a factor would not do for: what is added, to which columns, of which elements (all but the first).
SHIFTED = {
    "qpos0": 0.05,
    "qpos_spring": 0.1,
    "body_pos": 0.01,
    "body_ipos": 0.02,
    "body_gravcomp": 0.3,
    "jnt_pos": 0.02,
    "geom_pos": 0.01,
    "geom_adhesion": 1.0,
    "site_pos": 0.02,
    "cam_pos": 0.02,
    "actuator_damping": 0.05,
    "actuator_armature": 0.02,
    "dof_frictionloss": 0.1,
    "geom_solmix": 0.5,
}
NEVER_NEGATIVE = {
    "actuator_damping", "actuator_armature", "dof_frictionloss", "geom_adhesion",
    "geom_solmix", "body_gravcomp",
}  # fmt: skip
TURNED = {"body_quat", "body_iquat", "geom_quat", "site_quat", "cam_quat"}

# The MJCF's name of a field, where that is another: of what, its attribute, and which of its numbers.
ATTRIBUTES = {
    "jnt_solref": "solref_limit",
    "jnt_solimp": "solimp_limit",
    "dof_solref": "solref_friction",
    "dof_solimp": "solimp_friction",
    "tendon_solref_lim": "solref_limit",
    "tendon_solimp_lim": "solimp_limit",
    "tendon_solref_fri": "solref_friction",
    "tendon_solimp_fri": "solimp_friction",
    "tendon_lengthspring": "springlength",
    "qpos0": "ref",
    "qpos_spring": "springref",
    "geom_fluid": "fluid_coefs",
}


def scalar_joints(model):
    """Joints of one degree of freedom, by number."""
    return [i for i in range(model.njnt) if model.jnt_type[i] in (2, 3)]


def elements(field):
    """Elements of a field that a world may have otherwise."""
    model = NOMINAL
    kind = field.partition("_")[0]
    if field in ("qpos0", "qpos_spring"):
        return [int(model.jnt_qposadr[i]) for i in scalar_joints(model)]
    if kind == "dof":
        return [int(model.jnt_dofadr[i]) for i in scalar_joints(model)]
    if field in ("jnt_pos", "jnt_axis"):
        return [model.joint(name).id for name in ("shoulder", "elbow", "mast")]
    if kind == "jnt":
        switched = {"jnt_range": model.jnt_limited, "jnt_actfrcrange": model.jnt_actfrclimited}
        return [i for i in scalar_joints(model) if field not in switched or switched[field][i]]
    if kind == "body":
        names = ("arm", "lower", "cart", "mast") if field in ("body_pos", "body_quat") else (
            "ball", "brick", "wedge", "arm", "lower", "mast")  # fmt: skip
        return [model.body(name).id for name in names]
    if field == "geom_size":
        return [i for i in range(model.ngeom) if model.geom_type[i] not in (0, 1, 7) and model.geom(i).name != "brick"]
    if field == "geom_solmix":
        return [model.geom("hills").id]
    if field == "geom_fluid":
        return [model.geom("brick").id]
    if field == "geom_surfacevel":
        return [model.geom(name).id for name in ("step", "ball", "brick")]
    if field in ("geom_pos", "geom_quat"):
        return [model.geom(name).id for name in ("step", "ball", "brick", "upper", "lower", "pulley")]
    if kind == "eq":
        return [0] if field == "eq_data" else [0, 1]
    switched = {
        "actuator_ctrlrange": model.actuator_ctrllimited,
        "actuator_forcerange": model.actuator_forcelimited,
        "actuator_actrange": model.actuator_actlimited,
        "tendon_range": model.tendon_limited,
        "tendon_actfrcrange": model.tendon_actfrclimited,
    }
    count = getattr(model, field).shape[0]
    if field == "actuator_cranklength":
        return [model.actuator("crank").id]
    if field == "actuator_lengthrange":
        return [model.actuator("muscle").id]
    if field in ("actuator_armature", "actuator_damping", "actuator_dampingpoly"):
        return [i for i in range(count) if model.actuator(i).name not in ("crank", "stick")]
    return [i for i in range(count) if field not in switched or switched[field][i]]


def varied(field):
    """The field in each world, `(worlds, *its shape)`; the first is nominal."""
    nominal = getattr(NOMINAL, field).copy()
    worlds = []
    if field == "hfield_data":  # the compiler scales it to lie between 0 and 1
        return np.stack([nominal**factor for factor in FACTORS])
    for factor in FACTORS:
        value = nominal.copy()
        for i in elements(field):
            step = factor - 1
            if field in TURNED:
                turn = np.array([1, 0.3 * step, 0.2 * step, 0.1 * step])
                mujoco.mju_mulQuat(value[i], nominal[i], turn / np.linalg.norm(turn))
            elif field == "jnt_axis":
                value[i] += 0.3 * step * np.array([1, 0, 1])
                value[i] /= np.linalg.norm(value[i])
            elif field == "geom_surfacevel":
                value[i][3:5] += step
            elif field in SHIFTED:
                shift = SHIFTED[field] * step / 0.25
                value[i] += abs(shift) if field in NEVER_NEGATIVE else shift
            elif field == "geom_fluid":
                value[i][1:6] *= factor
            elif field == "actuator_dynprm":
                value[i][:2] *= factor
            else:
                value[i] *= factor
        worlds.append(value)
    return np.stack(worlds)


def write(spec, field, value):
    """Gives the uncompiled model the field's values, element by element."""
    kind, _, attribute = field.partition("_")
    attribute = ATTRIBUTES.get(field, attribute)
    model = NOMINAL
    named = {
        "body": spec.bodies, "jnt": spec.joints, "dof": spec.joints, "qpos0": spec.joints, "qpos": spec.joints,
        "geom": spec.geoms, "site": spec.sites, "cam": spec.cameras, "pair": spec.pairs, "eq": spec.equalities,
        "tendon": spec.tendons, "actuator": spec.actuators, "sensor": spec.sensors,
    }  # fmt: skip
    if field == "hfield_data":
        spec.hfields[0].userdata = value.tolist()
        return
    for i in elements(field):
        number, joint = i, kind in ("dof", "qpos0", "qpos")
        if joint:
            address = model.jnt_dofadr if kind == "dof" else model.jnt_qposadr
            number = int(np.flatnonzero(address == i)[0])
        element = named[kind][number]
        assert element.id in (number, -1)
        if attribute in ("stiffness", "damping", "stiffnesspoly", "dampingpoly"):
            whole = np.array(getattr(element, attribute.removesuffix("poly")), dtype=float)
            if attribute.endswith("poly"):
                whole[1:] = value[i]
            else:
                whole[0] = value[i]
            setattr(element, attribute.removesuffix("poly"), whole)
        elif field == "geom_fluid":
            element.fluid_coefs = value[i][1:6]
        elif np.ndim(value[i]) == 0:
            setattr(element, attribute, float(value[i]))
        else:
            whole = np.array(getattr(element, attribute), dtype=float)
            whole[: value[i].size] = value[i][: whole.size]
            setattr(element, attribute, whole)


def start(model):
    """State and controls that every field matters for: things slide, roll, spin, swing into limits and are pulled."""
    rng = np.random.default_rng(0)
    qpos, qvel = model.qpos0.copy(), rng.uniform(-0.2, 0.2, model.nv)
    qvel[model.joint("shoulder").dofadr[0]] = -1.0
    qvel[6:9] = (0.8, 0.3, -0.1)  # the brick slides
    qpos[model.joint("elbow").qposadr[0]] = 0.4
    ctrl = rng.uniform(0.3, 0.9, model.nu)
    ctrl[model.actuator("servo").id] = 0.8  # beyond its range
    return qpos, qvel, ctrl


QPOS, QVEL, CTRL = start(NOMINAL)


def compiled_at(field, value):
    """The model that MuJoCo's compiler makes of the MJCF with these values."""
    spec = mujoco.MjSpec.from_file(str(MJCF))
    for body in spec.bodies[1:]:  # what is not asked for stays: sizes and places of geoms leave inertias alone
        nominal = NOMINAL.body(body.name)
        body.explicitinertial, body.mass = True, float(nominal.mass[0])
        body.ipos, body.iquat, body.inertia = nominal.ipos, nominal.iquat, nominal.inertia
    write(spec, field, value)
    model = spec.compile()
    np.testing.assert_allclose(getattr(model, field), value, rtol=1e-5, atol=1e-6)  # it is what was asked for
    return model


def end_of(model):
    """State and sensors after all steps in C MuJoCo."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = QPOS, QVEL, CTRL
    mujoco.mj_step(model, data, NUM_STEPS)
    return np.concatenate([data.qpos, data.qvel, data.act, data.sensordata])


class Compared(NamedTuple):
    """Worlds of which each has one field otherwise than nominal, and the last none.

    physics:  stepped to the end
    worlds:   field and compiled model of each world
    truth:    end states of the compiled models          (worlds, numbers)
    found:    end states of ours                         (worlds, numbers)
    """

    physics: object
    worlds: list[tuple[str, mujoco.MjModel]]
    truth: np.ndarray
    found: np.ndarray


@pytest.fixture(scope="module", params=["mujoco", "warp"])
def compared(request):
    """All fields at once, for MuJoCo Warp compiles its kernels for a long time."""
    fields = sorted(EVERYWHERE | (ONLY_MUJOCO if request.param == "mujoco" else set()))
    worlds = [(field, value) for field in fields for value in varied(field)[1:]]
    num_worlds = len(worlds) + 1
    values = {field: np.repeat(getattr(NOMINAL, field)[None], num_worlds, 0) for field in fields}
    for world, (field, value) in enumerate(worlds):
        values[field][world] = value
    physics = make_physics(NOMINAL, num_worlds, device=CPU, engine=request.param, **SIZES)
    physics.set_model_fields({name: torch.as_tensor(value, dtype=torch.float32) for name, value in values.items()})
    for part, value in (("qpos", QPOS), ("qvel", QVEL), ("ctrl", CTRL)):
        getattr(physics, part).copy_(torch.as_tensor(value, dtype=torch.float32))
    for _ in range(NUM_STEPS // 20):
        physics.step(20)
    assert not physics.overflow.any()
    found = torch.cat([physics.qpos, physics.qvel, physics.act, physics.sensordata], dim=1).double().numpy()
    models = [(field, compiled_at(field, value)) for field, value in worlds] + [("", NOMINAL)]
    return Compared(physics, models, np.stack([end_of(model) for _, model in models]), found)


def columns(engine_is_warp):
    """Numbers that are compared. A ball on a height field has other contacts in MuJoCo Warp, at most four of them."""
    names = [NOMINAL.body(NOMINAL.jnt_bodyid[j]).name for j in range(NOMINAL.njnt)]
    pebble = names.index("pebble")
    qpos, qvel = NOMINAL.jnt_qposadr[pebble], NOMINAL.nq + NOMINAL.jnt_dofadr[pebble]
    left_out = [*range(qpos, qpos + 7), *range(qvel, qvel + 6)] if engine_is_warp else []
    return [i for i in range(NOMINAL.nq + NOMINAL.nv + NOMINAL.na + NOMINAL.nsensordata) if i not in left_out]


def test_each_world_is_as_if_compiled_at_its_values(compared):
    is_warp = type(compared.physics).__name__ == "WarpPhysics"
    kept = columns(is_warp)
    wrong = []
    for field in dict.fromkeys(field for field, _ in compared.worlds[:-1]):
        mine = [i for i, (name, _) in enumerate(compared.worlds) if name == field]
        # The force on the last sensor is large, and so is its rounding.
        some = kept if field in ONLY_MUJOCO else kept[:-1]
        truth, found, nominal = (x[:, some] for x in (compared.truth[mine], compared.found[mine], compared.truth[-1:]))
        error, effect = np.abs(truth - found).max(), np.abs(truth - nominal).max()
        print(f"{field}: effect {effect:.1e}, error {error:.1e}")
        if error > (2e-3 if is_warp else 1e-3) or (not is_warp and effect < 3 * error):
            wrong.append(f"{field}: effect {effect:.1e}, error {error:.1e}")
    assert not wrong, "\n".join(wrong)


# What only pictures or sleeping use, and what says that there may be some: it may also be there where it is 0.
UNUSED = {"dof_length", "jnt_actuatorid", "tendon_actuatorid"}


def test_warp_has_what_it_makes_of_the_compiled_model(compared):
    """Every array of MuJoCo Warp's model, in each world, derived ones and all: no derived field is forgotten."""
    if type(compared.physics).__name__ != "WarpPhysics":
        pytest.skip("of MuJoCo Warp")
    import mujoco_warp as mjw
    import warp as wp

    ours = compared.physics._model
    wrong = []
    for world, (field, compiled) in enumerate(compared.worlds):
        theirs = mjw.put_model(compiled)
        for attribute in dataclasses.fields(theirs):
            name, value, mine = attribute.name, getattr(theirs, attribute.name), getattr(ours, attribute.name)
            if isinstance(value, wp.array) and name not in UNUSED:
                mine, value = mine.numpy(), value.numpy()
                row = mine[world % len(mine)][None] if mine.shape[:1] != value.shape[:1] else mine
                if row.shape != value.shape or not np.allclose(row, value, rtol=1e-4, atol=1e-5):
                    wrong.append(f"{field or 'nominal'}: {name}")
            elif isinstance(value, (bool, np.bool_)) and value and not mine:
                wrong.append(f"{field or 'nominal'}: {name} is switched off")
    assert not wrong, sorted(set(wrong))


@pytest.mark.parametrize("field", sorted(ONLY_MUJOCO))
def test_what_warp_cannot_have_is_refused(field):
    physics = make_physics(NOMINAL, 1, device=CPU, engine="warp", **SIZES)
    if field == "geom_fluid":
        sizes = torch.as_tensor(NOMINAL.geom_size, dtype=torch.float32)[None].clone()
        sizes[:, NOMINAL.geom("brick").id] *= 2
        with pytest.raises(PhysicsError, match="gives geom_size, from which geom_fluid follows"):
            physics.set_model_fields({"geom_size": sizes})
    with pytest.raises(
        PhysicsError, match=f"gives {field}, of which MuJoCo Warp has one for all worlds; physics = mujoco"
    ):
        physics.set_model_fields({field: torch.as_tensor(getattr(NOMINAL, field), dtype=torch.float32)[None]})


def balls_on_boxes(radius):
    """A body of three balls above a floor of boxes."""
    boxes = "".join(
        f'<geom type="box" size=".1 .1 .1" pos="{x} {y} -.1"/>'
        for x in (-0.4, -0.2, 0, 0.2, 0.4)
        for y in (-0.4, -0.2, 0, 0.2, 0.4)
    )
    balls = "".join(
        f'<geom name="b{p[0]}{p[2]}" size="{radius}" pos="{p} 0" density="1"/>' for p in ("0 0", "1 0", "0 1")
    )
    return f"""<mujoco><option timestep=".005"/><worldbody><body>{boxes}</body><body pos="0 0 .3"><freejoint/>
      <inertial mass="1" pos=".03 .03 0" diaginertia=".05 .05 .05"/>{balls.replace('"1', '".15').replace(" 1", " .15")}
    </body></worldbody></mujoco>"""


def test_the_page_lists_them():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = [
        line.split("|") for line in page.splitlines() if line.endswith(("| both |", "| C MuJoCo |")) and "`" in line
    ]
    listed = {engine.strip(): set() for *_, engine, _ in rows}
    for *_, names, engine, _ in rows:
        listed[engine.strip()] |= set(re.findall("`([a-z_0]+)`", names))
    assert listed["both"] >= EVERYWHERE and listed["C MuJoCo"] >= ONLY_MUJOCO
    assert not listed["both"] & ONLY_MUJOCO
    assert set(re.findall("`([a-z_0]+)`", page.partition("| seen |")[2].partition("\n")[0])) == SEEN


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
@pytest.mark.parametrize("bounds", [False, True], ids=["size alone", "size and bounds"])
def test_a_larger_geom_does_not_fall_through_the_floor(engine, bounds):
    """Bounds by which geoms are found to be near follow from the size; what is given for them is not needed."""
    radii = (0.05, 0.2)
    model = mujoco.MjModel.from_xml_string(balls_on_boxes(radii[0]))
    size = torch.as_tensor(model.geom_size, dtype=torch.float32).repeat(2, 1, 1)
    size[1, -3:, 0] = radii[1]
    physics = make_physics(model, 2, device=CPU, engine=engine, nconmax=64, njmax=256)
    given = {"geom_rbound": torch.as_tensor(model.geom_rbound, dtype=torch.float32).repeat(2, 1)} if bounds else {}
    physics.set_model_fields({"geom_size": size, **given})
    for _ in range(6):
        physics.step(50)
    for world, radius in enumerate(radii):
        truth = mujoco.MjModel.from_xml_string(balls_on_boxes(radius))
        data = mujoco.MjData(truth)
        mujoco.mj_step(truth, data, 300)
        assert abs(data.qpos[2] - radius) < 0.01
        assert abs(physics.qpos[world, 2].item() - data.qpos[2]) < 1e-3
