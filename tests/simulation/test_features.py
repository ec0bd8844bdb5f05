"""What an MJCF may have: each feature on both engines, 200 steps, or its refusal in one line before anything is stepped."""

import mujoco
import pytest
import torch

from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.physics import PhysicsError, load_model

CPU = torch.device("cpu")
NUM_STEPS = 200
TOLERANCE = 1e-3  # of positions and activations; 1e-4 at most was measured

WORKS = {
    "mocap": """<mujoco>
<option timestep=".005"/>
<worldbody>
<geom type="plane" size="5 5 .1"/>
<body name="h" mocap="true" pos="0 0 1">
<geom size=".02" contype="0" conaffinity="0"/>
</body>
<body name="ball" pos="0 0 .8">
<freejoint/>
<geom name="b" size=".1" mass="1"/>
</body>
</worldbody>
<equality>
<weld body1="h" body2="ball"/>
</equality>
</mujoco>""",
    "equality": """<mujoco>
<option timestep=".005"/>
<worldbody>
<body name="a" pos="0 0 1">
<joint name="a" axis="0 1 0"/>
<geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
<body name="b" pos=".3 0 0">
<joint name="b" axis="0 1 0"/>
<geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
</body>
</body>
<body name="c" pos="0 1 1">
<freejoint/>
<geom type="box" size=".1 .1 .1"/>
</body>
<body name="d" pos=".3 1 1">
<freejoint/>
<geom type="box" size=".1 .1 .1"/>
</body>
</worldbody>
<equality>
<joint joint1="a" joint2="b" polycoef="0 1 0 0 0"/>
<weld body1="c" body2="d"/>
<connect body1="c" body2="world" anchor="0 0 .1"/>
</equality>
</mujoco>""",
    "fixed tendon": """<mujoco>
<option timestep=".005"/>
<worldbody>
<body pos="0 0 1">
<joint name="a" axis="0 1 0"/>
<geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
<body pos=".3 0 0">
<joint name="b" axis="0 1 0"/>
<geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
</body>
</body>
</worldbody>
<tendon>
<fixed name="t" stiffness="3" damping=".2" range="-.5 .5">
<joint joint="a" coef="1"/>
<joint joint="b" coef="-1"/>
</fixed>
</tendon>
<actuator>
<motor tendon="t"/>
</actuator>
</mujoco>""",
    "spatial tendon": """<mujoco>
<option timestep=".005"/>
<worldbody>
<site name="s0" pos="-.2 0 1.2"/>
<body pos="0 0 1">
<joint name="a" axis="0 1 0" damping=".1"/>
<geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
<geom name="w" type="cylinder" size=".06 .1" euler="90 0 0" contype="0" conaffinity="0"/>
<site name="s1" pos=".2 0 .05"/>
</body>
</worldbody>
<tendon>
<spatial name="t" stiffness="30" damping="1" springlength=".2">
<site site="s0"/>
<geom geom="w"/>
<site site="s1"/>
</spatial>
</tendon>
<actuator>
<motor tendon="t" gear="2"/>
</actuator>
</mujoco>""",
    "muscle": """<mujoco>
<option timestep=".005"/>
<worldbody>
<body pos="0 0 1">
<joint name="a" axis="0 1 0" range="-60 60" damping=".5"/>
<geom type="capsule" size=".03" fromto="0 0 0 .3 0 0"/>
</body>
</worldbody>
<actuator>
<muscle joint="a" gear=".05" />
</actuator>
</mujoco>""",
    "adhesion": """<mujoco>
<option timestep=".005"/>
<worldbody>
<geom type="plane" size="5 5 .1"/>
<body name="b" pos="0 0 .098">
<freejoint/>
<geom size=".1" mass="1"/>
</body>
<body name="c" pos="1 0 1.02">
<geom type="box" size=".3 .3 .1"/>
</body>
<body name="e" pos="1 0 .821">
<freejoint/>
<geom type="box" size=".1 .1 .1" mass=".5"/>
</body>
</worldbody>
<actuator>
<adhesion body="e" gain="40" ctrlrange="0 1"/>
<adhesion body="b" gain="3" ctrlrange="0 1"/>
</actuator>
</mujoco>""",
    "userdata": """<mujoco>
<size nuserdata="3"/>
<option timestep=".005"/>
<worldbody>
<geom type="plane" size="5 5 .1"/>
<body pos="0 0 .3">
<freejoint/>
<geom size=".1"/>
</body>
</worldbody>
</mujoco>""",
    "height field": """<mujoco>
<option timestep=".005" cone="elliptic"/>
<asset>
<hfield name="h" nrow="5" ncol="5" size="1 1 .3 .1" elevation="0 0 0 0 0 0 1 1 1 0 0 1 1 1 0 0 1 1 1 0 0 0 0 0 0"/>
</asset>
<worldbody>
<geom type="hfield" hfield="h"/>
<body pos="0.13 0.04 .39">
<freejoint/>
<geom size=".1"/>
</body>
</worldbody>
</mujoco>""",
    "mesh": """<mujoco>
<option timestep=".005" cone="elliptic"/>
<asset>
<mesh name="m" vertex="-.1 -.1 0 .1 -.1 0 .1 .1 0 -.1 .1 0 -.1 -.1 .1 -.1 .1 .1"/>
</asset>
<worldbody>
<geom type="plane" size="5 5 .1"/>
<body pos="0 0 .06">
<freejoint/>
<geom type="mesh" mesh="m"/>
</body>
</worldbody>
</mujoco>""",
    "cable": """<mujoco>
<option timestep=".002"/>
<worldbody>
<geom type="plane" size="5 5 .1"/>
<flexcomp name="c" type="grid" dim="1" count="6 1 1" spacing=".1 .1 .1" pos="0 0 .6" euler="0 40 0" radius=".01" mass=".1">
<edge equality="true" damping=".1"/>
<contact selfcollide="none"/>
</flexcomp>
</worldbody>
</mujoco>""",
    "flex": """<mujoco>
<option timestep=".002" solver="CG" tolerance="1e-6"/>
<worldbody>
<geom type="plane" size="5 5 .1"/>
<flexcomp name="f" type="grid" count="4 4 1" spacing=".1 .1 .1" pos="0 0 .3" radius=".01" dim="2" mass=".3">
<edge equality="true" damping=".1"/>
<contact selfcollide="none"/>
</flexcomp>
</worldbody>
</mujoco>""",
}

# The model, and what is said on which engines.
PENDULUM = "<mujoco><worldbody><body><joint name='a' %s/><geom size='.1'/></body></worldbody>%s</mujoco>"
BALLS = (
    "<mujoco>%s<worldbody>"
    + "".join(f"<body pos='{i} 0 1'><freejoint/><geom size='.1'/></body>" for i in range(12))
    + "</worldbody></mujoco>"
)
REFUSED = {
    "delays": (
        PENDULUM % ("", "<actuator><motor joint='a' delay='.02' nsample='20'/></actuator>"),
        ("mujoco", "warp"),
        "a delay or interval, .*; action_delay and history of the configuration do that",
    ),
    "yielding springs": (
        PENDULUM % ("stiffness='1' springyield='.1'", ""),
        ("mujoco", "warp"),
        'springs that yield, .*; springyield="0" would work',
    ),
    "plugins": (
        "<mujoco><extension><plugin plugin='mujoco.pid'><instance name='pid'><config key='kp' value='4'/>"
        "<config key='ki' value='1'/></instance></plugin></extension>"
        + (PENDULUM % ("", "<actuator><plugin joint='a' plugin='mujoco.pid' instance='pid' actdim='1'/></actuator>"))[8:],
        ("warp",),
        "Actuator plugins not supported; physics = mujoco would work",
    ),
    "disabled actuators": (
        "<mujoco><option actuatorgroupdisable='2'/>"
        + (PENDULUM % ("", "<actuator><motor joint='a' group='1'/><motor name='off' joint='a' group='2'/></actuator>"))[8:],
        ("warp",), "switches actuator 'off' off, which it ignores; a model without those actuators or physics = mujoco",
    ),
    "solver PGS": (BALLS % "<option solver='PGS'/>", ("warp",), 'mjSOL_PGS .*; solver="Newton" or physics = mujoco would'),
    "a large dense model": (
        BALLS % "<option jacobian='dense'/>", ("warp",), r'nv = 72\); jacobian="sparse" or physics = mujoco would',
    ),
}  # fmt: skip


def stepped(model, engine):
    physics = make_physics(model, 2, device=CPU, engine=engine, nconmax=64, njmax=300)
    for k in range(NUM_STEPS // 10):
        physics.ctrl.fill_(0.5 if k % 2 else 0.2)
        if model.nmocap:
            physics.mocap_pos[:, 0, 0] += 0.01
        physics.step(10)
    assert not physics.overflow.any()
    return torch.cat([physics.qpos, physics.act], 1)


@pytest.mark.parametrize(
    "feature", [pytest.param(name, marks=[pytest.mark.slow] if name in ("flex", "cable") else []) for name in WORKS]
)
def test_engines_agree(feature):
    model = mujoco.MjModel.from_xml_string(WORKS[feature])
    mine, theirs = (stepped(model, engine) for engine in ("mujoco", "warp"))
    torch.testing.assert_close(mine, theirs, atol=TOLERANCE, rtol=0)
    moved = (mine[0, : model.nq] - torch.as_tensor(model.qpos0, dtype=torch.float32)).abs().max()
    assert moved > 1e-3


@pytest.mark.parametrize("feature", REFUSED)
def test_what_cannot_be_done_is_said(feature):
    xml, engines, words = REFUSED[feature]
    model = mujoco.MjModel.from_xml_string(xml)
    for engine in engines:
        with pytest.raises(PhysicsError, match=words) as error:
            make_physics(model, 2, device=CPU, engine=engine)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "parts",
    [
        "<extension><plugin plugin='mujoco.elasticity.cable'/></extension><worldbody/>",
        "<worldbody><composite type='cable' count='4 1 1' size='1'/></worldbody>",
    ],
)
def test_elasticity_of_an_older_mujoco_is_flexes_now(tmp_path, parts):
    """Plugins of elasticity and composites went with MuJoCo 4; what a cable is in it works."""
    path = tmp_path / "cable.xml"
    path.write_text(f"<mujoco>{parts}</mujoco>")
    with pytest.raises(PhysicsError, match=r"cable.xml does not compile: .*; this MuJoCo .* <flexcomp> makes") as error:
        load_model(path)
    assert "\n" not in str(error.value)
