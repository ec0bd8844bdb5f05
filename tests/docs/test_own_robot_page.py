"""docs/own_robot.md as it stands, with a stand-in for Menagerie's Go1: the same folders and names, simpler shapes."""

import subprocess
import sys
from pathlib import Path

import mujoco
import pytest

import torch_ppo
from tests.helpers.pages import DOCS, run_page
from torch_ppo.simulation.physics import load_model

LEG = """
<body name="{0}_hip" pos="{1} {2} 0"><joint class="abduction" name="{0}_hip_joint"/><geom class="visual" mesh="hip"/>
  <body name="{0}_thigh" pos="0 {3} 0"><joint class="hip" name="{0}_thigh_joint"/>
    <geom size="0.015" fromto="0 0 0 0 0 -.2"/>
    <body name="{0}_calf" pos="0 0 -.213"><joint class="knee" name="{0}_calf_joint"/>
      <geom size="0.01" fromto="0 0 0 0 0 -.19"/><geom name="{0}" type="sphere" size="0.023" pos="0 0 -.213"/></body>
  </body></body>
"""
LEGS = (
    ("FR", 0.19, -0.047, -0.08),
    ("FL", 0.19, 0.047, 0.08),
    ("RR", -0.19, -0.047, -0.08),
    ("RL", -0.19, 0.047, 0.08),
)
ACTUATORS = "".join(
    f'<position class="{kind}" name="{leg[0]}_{part}" joint="{leg[0]}_{part}_joint"/>'
    for leg in LEGS
    for part, kind in (("hip", "abduction"), ("thigh", "hip"), ("calf", "knee"))
)
POSE = 4 * " 0 0.9 -1.8"
GO1 = f"""
<mujoco model="go1">
  <compiler angle="radian" meshdir="assets" autolimits="true"/>
  <default><default class="go1">
    <geom type="capsule"/><joint axis="0 1 0" damping="2" armature="0.01"/><position kp="100" forcerange="-24 24"/>
    <default class="abduction"><joint axis="1 0 0" range="-0.863 0.863"/><position ctrlrange="-0.863 0.863"/></default>
    <default class="hip"><joint range="-0.686 4.501"/><position ctrlrange="-0.686 4.501"/></default>
    <default class="knee"><joint range="-2.818 -0.888"/><position ctrlrange="-2.818 -0.888"/></default>
    <default class="visual"><geom type="mesh" contype="0" conaffinity="0"/></default>
  </default></default>
  <asset><mesh class="go1" file="hip.obj"/></asset>
  <worldbody><body name="trunk" pos="0 0 0.445" childclass="go1"><freejoint/>
    <geom size="0.125 0.04 0.057" type="box" mass="5"/><site name="imu"/>{"".join(LEG.format(*leg) for leg in LEGS)}
  </body></worldbody>
  <actuator>{ACTUATORS}</actuator>
  <keyframe><key name="home" qpos="0 0 0.27 1 0 0 0{POSE}" ctrl="{POSE}"/></keyframe>
</mujoco>
"""
SCENE = """
<mujoco model="go1 scene">
  <include file="go1.xml"/>
  <worldbody><geom name="floor" size="0 0 0.05" type="plane"/></worldbody>
</mujoco>
"""
MESH = "v 0 0 0\nv .03 0 0\nv 0 .03 0\nv 0 0 .03\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder beside a robot's, which is Menagerie's at the same time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder in (Path("their_robot"), Path("menagerie", "unitree_go1")):
        (folder / "assets").mkdir(parents=True)
        (folder / "assets" / "hip.obj").write_text(MESH)
        (folder / "go1.xml").write_text(GO1)
        (folder / "scene.xml").write_text(SCENE)
    monkeypatch.setenv("MUJOCO_MENAGERIE_PATH", str(tmp_path / "menagerie"))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def test_the_page_as_written(place, monkeypatch, capsys):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    printed = run_page(DOCS / "own_robot.md", monkeypatch, capsys)
    rows = {line.split()[0]: line.split()[1:3] for line in printed.splitlines() if ":" in line and "0.02 s" in line}
    assert rows == {"go1_walk.py:Go1Walk": [str(9 + 12 + 12), "12"], "pair.py:Pair": [str(2 * (19 + 18)), "24"]}
    # The scene with the robot included has its meshes, and attached it has them under other names.
    scene = load_model("scene.xml")
    assert (scene.nmesh, scene.nu, scene.nkey) == (1, 12, 1)
    attached = '<asset><model name="go1" file="their_robot/go1.xml"/></asset>'
    attached += '<worldbody><frame><attach model="go1" body="trunk" prefix="go1/"/></frame></worldbody>'
    Path("attached.xml").write_text(f"<mujoco>{attached}</mujoco>")
    assert load_model("attached.xml").site("go1/imu").id == 0
    assert before == {path: path.read_bytes() for path in before}  # none of their files is edited
    # What is said to be written is, and its test passes.
    assert sorted(path.name for path in Path("mine").iterdir()) == ["go1.py", "go1.toml", "test_go1.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "mjGEOM_PLANE" in Path("mine/go1.py").read_text()


def test_it_stands_and_goes(place, monkeypatch, capsys):
    """Go1Walk stays up with actions of 0 for a second, and its sensors say so."""
    run_page(DOCS / "own_robot.md", monkeypatch, capsys)
    env = torch_ppo.make_env("go1_walk.py:Go1Walk", num_envs=2)
    for _ in range(50):
        _, reward, done = env.step(env.observation["state"].new_zeros(2, 12))
        assert not done.any()
    assert (reward > 0.45).all() and env.physics.sensor("up")[0, 2] > 0.98
    assert env.physics.model.sensor("gyro").type == int(mujoco.mjtSensor.mjSENS_GYRO)
