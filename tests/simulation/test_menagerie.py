"""Models of MuJoCo Menagerie are found where they lie, and only there; stand-ins of the same form, no downloads."""

import json
import sys

import pytest
import torch

from torch_ppo.simulation.env import Env
from torch_ppo.simulation.menagerie import CHECKOUT, MenagerieError, menagerie_model
from torch_ppo.simulation.task import Task

ROBOT = """
<mujoco model="leg">
  <worldbody>
    <body name="leg" pos="0 0 1">
      <joint name="knee" axis="0 1 0"/>
      <geom type="capsule" size="0.05" fromto="0 0 0 0 0 -0.5"/>
    </body>
  </worldbody>
  <actuator><motor joint="knee"/></actuator>
</mujoco>
"""
SCENE = (
    '<mujoco model="scene"><include file="leg.xml"/><worldbody><geom type="plane" size="0 0 1"/></worldbody></mujoco>'
)


def write_robot(folder):
    """A folder of the menagerie's form: a robot, and scenes that include it."""
    folder.mkdir(parents=True)
    (folder / "leg.xml").write_text(ROBOT)
    (folder / "scene.xml").write_text(SCENE)
    (folder / "scene_mjx.xml").write_text(SCENE)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("acme_leg", "acme_arm", "zeta_hand"):
        write_robot(tmp_path / "checkout" / name)
    (tmp_path / "checkout" / "assets").mkdir()
    monkeypatch.setenv(CHECKOUT, str(tmp_path / "checkout"))
    return tmp_path / "checkout"


def test_checkout(checkout, monkeypatch):
    assert menagerie_model("acme_leg") == checkout / "acme_leg" / "scene.xml"
    assert menagerie_model("zeta_hand", "scene_mjx.xml") == checkout / "zeta_hand" / "scene_mjx.xml"
    monkeypatch.setenv("HOME", str(checkout.parent))
    monkeypatch.setenv(CHECKOUT, "~/checkout")
    assert menagerie_model("acme_leg", "leg.xml") == checkout / "acme_leg" / "leg.xml"


def test_a_task_of_a_model(checkout):
    """The scene's include is found beside it."""

    class Leg(Task):
        control_dt = 0.01
        mjcf = menagerie_model("acme_leg")

        def start(self, physics, memory, generator):
            physics.qpos.uniform_(-1.0, 1.0, generator=generator)

        def observe(self, physics, memory):
            return physics.qpos

        def reward(self, physics, memory, action):
            return physics.qpos[:, 0].cos(), {}

    cpu, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    env = Env(Leg(), 2, episode_length=10, device=cpu, generator=generator)
    before = env.observation["state"].clone()
    env.step(torch.ones(2, 1))
    assert not torch.equal(env.observation["state"], before)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("acme_lag",), "checkout has no robot 'acme_lag'; did you mean 'acme_leg'?"),
        (("quadruped",), "known: acme_arm, acme_leg, zeta_hand"),
        (("acme_leg", "scene_mj.xml"), "acme_leg has no scene_mj.xml; did you mean 'scene_mjx.xml'?"),
    ],
)
def test_what_is_not_in_a_checkout(checkout, arguments, words):
    with pytest.raises(MenagerieError) as caught:
        menagerie_model(*arguments)
    assert words in str(caught.value) and str(checkout) in str(caught.value)


@pytest.mark.parametrize(("folder", "words"), [("nowhere", "not a folder"), ("empty", "has no robots")])
def test_a_wrong_checkout(tmp_path, monkeypatch, folder, words):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(CHECKOUT, str(tmp_path / folder))
    with pytest.raises(
        MenagerieError, match=f"{CHECKOUT} is .*{folder}, which .*{words}; set {CHECKOUT} to a checkout"
    ):
        menagerie_model("acme_leg")


def test_nothing_installed(monkeypatch):
    monkeypatch.delenv(CHECKOUT, raising=False)
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", None)
    with pytest.raises(MenagerieError, match=r"no models of MuJoCo Menagerie here; .*pip install '\.\[menagerie\]'"):
        menagerie_model("acme_leg")


def test_package(tmp_path, monkeypatch):
    """What it has downloaded is found; what it has not is not fetched."""
    package = pytest.importorskip("mujoco_menagerie")
    monkeypatch.delenv(CHECKOUT, raising=False)
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    monkeypatch.setenv("MENAGERIE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MENAGERIE_BASE_URL", "http://localhost:9")  # a download would fail, and otherwise
    with pytest.raises(MenagerieError, match="mujoco-menagerie prefetch unitree_go1"):
        menagerie_model("unitree_go1")
    with pytest.raises(MenagerieError, match="no robot 'unitree_go11'; did you mean 'unitree_go1'"):
        menagerie_model("unitree_go11")
    folder = package.Cache().model_path(package.get("unitree_go1"))
    write_robot(folder)
    (folder / ".complete").write_text(json.dumps({"files": {}}))
    assert menagerie_model("unitree_go1") == folder / "scene.xml"
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path / "models"))
    folder.rename(tmp_path / "models" / "unitree_go1")
    assert menagerie_model("unitree_go1", "leg.xml") == tmp_path / "models" / "unitree_go1" / "leg.xml"


def test_package_root_without_the_robot(tmp_path, monkeypatch):
    pytest.importorskip("mujoco_menagerie")
    monkeypatch.delenv(CHECKOUT, raising=False)
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    with pytest.raises(MenagerieError, match=f"there is no {tmp_path}/unitree_go1"):
        menagerie_model("unitree_go1")
