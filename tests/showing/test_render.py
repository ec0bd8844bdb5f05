"""Pictures show the state that they are of, on both renderers."""

import contextlib

import mujoco
import mujoco.viewer
import numpy as np
import pytest
import torch

from torch_ppo.envs import ENVS, make_task
from torch_ppo.errors import UserError
from torch_ppo.showing.render import (
    TRACKING,
    GLRenderer,
    RenderError,
    find_camera,
    make_renderer,
    model_of_pictures,
    picture_model,
    show_state,
)
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task
from torch_ppo.watching import player

WIDTH, HEIGHT = 64, 48

# A red ball that slides sideways, and on it a blue mark; no light, no sky and no camera.
BALL = """
<mujoco>
  <worldbody>
    <body pos="0 0 1">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.3" rgba="1 0 0 1"/>
      <site name="mark" type="box" size="0.15 0.15 0.15" pos="0 0 0.7" rgba="0 0 1 1"/>
      <site name="hidden" size="0.5" pos="0 0 -1" rgba="0 0 1 1" group="4"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide"/></actuator>
</mujoco>
"""


class Ball(Task):
    """The reward is where the ball is."""

    control_dt = 0.02
    episode_length = 30

    def __init__(self, mjcf):
        self.mjcf = mjcf

    def start(self, physics, memory, generator):
        physics.qpos.uniform_(-0.5, 0.5, generator=generator)

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, physics.qvel], dim=1)

    def reward(self, physics, memory, action):
        return physics.qpos[:, 0].clone(), {}


@pytest.fixture
def ball(tmp_path):
    (tmp_path / "ball.xml").write_text(BALL)
    return Ball(tmp_path / "ball.xml")


@pytest.mark.parametrize("name", ENVS)
def test_picture_model_has_the_same_state(name):
    """Nothing that moves or weighs is added, and everything that is needed to see it."""
    task = make_task(name)
    model, picture = task.make_model(), picture_model(task)
    for field in ("qpos0", "body_mass", "body_inertia", "body_ipos", "jnt_type", "jnt_qposadr", "dof_armature"):
        np.testing.assert_array_equal(getattr(picture, field), getattr(model, field), err_msg=field)
    assert picture.nlight > 0 and any(picture.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)
    assert picture.nhfield == model.nhfield
    np.testing.assert_array_equal(picture.hfield_data, model.hfield_data)
    added = picture.ngeom - model.ngeom
    assert added == np.isin(model.site_group, (0, 1, 2)).sum()
    drawn = [picture.geom(i) for i in range(picture.ngeom) if not picture.geom(i).name]
    assert sum(int(geom.contype[0]) for geom in drawn) == sum(
        int(model.geom_contype[i]) for i in range(model.ngeom) if not model.geom(i).name
    )


@pytest.mark.parametrize("name", ENVS)
def test_tracking_camera_looks_at_the_robot(name):
    """The centre of mass of all that moves is near the middle of the picture, also where the robot has gone."""
    model = picture_model(make_task(name))
    data = mujoco.MjData(model)
    camera = find_camera(model, TRACKING)
    root = int(model.cam_bodyid[camera])
    slides = np.isin(model.jnt_type, (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE))
    for gone in (0.0, 0.2):
        data.qpos[:] = model.qpos0
        data.qpos[model.jnt_qposadr[slides & (model.jnt_bodyid == root)]] += gone
        mujoco.mj_forward(model, data)
        to_robot = data.subtree_com[root] - data.cam_xpos[camera]
        forward = -data.cam_xmat[camera].reshape(3, 3)[:, 2]
        assert forward @ to_robot / np.linalg.norm(to_robot) > np.cos(np.radians(1))
        assert data.cam_xmat[camera].reshape(3, 3)[2, 1] > 0.5  # upright


def test_light_sky_and_camera_are_added(ball):
    picture = picture_model(ball)
    assert picture.nlight == 1 and picture.ntex == 1 and picture.ncam == 1
    assert find_camera(picture, None) == find_camera(picture, "track") == 0
    with pytest.raises(RenderError, match="'tracks', but the model has no such camera; did you mean 'track'"):
        find_camera(picture, "tracks")


HAND = """
<mujoco>
  <statistic extent="85"/>
  <worldbody>
    <geom name="floor" type="plane" size="50 50 1"/>
    WORLD
    <body pos="0 0 1">
      <joint type="slide" axis="1 0 0"/>
      <geom type="capsule" size="0.1" fromto="-0.4 0 0 0.4 0 0"/>
      HAND
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize(
    ("world", "hand", "taken"),
    [
        ('<camera name="first" pos="0 -3 1"/>', "", "first"),
        ("", '<camera name="first" pos="0 -3 1" mode="trackcom"/>', "first"),
        ("", '<camera name="first" pos="0 -3 1" mode="track"/>', "first"),
        ("", '<camera name="first"/>', TRACKING),  # an eye in the hand
        ('<body><camera name="first" pos="0 -3 1"/></body>', "", "first"),  # a stand that does not move
        ('<camera name="first" pos="0 -3 1" mode="trackcom"/>', "", TRACKING),
        ('<camera name="first" pos="0 -3 1" mode="targetbody" target="ball"/><body name="ball"/>', "", TRACKING),
        ("", "", TRACKING),
    ],
)
def test_camera_by_default(tmp_path, world, hand, taken):
    """The model's first unless it turns with the robot or after something."""
    (tmp_path / "hand.xml").write_text(HAND.replace("WORLD", world).replace("HAND", hand))
    model = picture_model(Ball(tmp_path / "hand.xml"))
    assert model.camera(find_camera(model, None)).name == taken


def test_tracking_camera_is_near_a_robot_on_a_large_floor(tmp_path):
    """Its width, 1 m, is a good part of the picture, however far the floor goes."""
    (tmp_path / "hand.xml").write_text(HAND.replace("WORLD", "").replace("HAND", ""))
    model = picture_model(Ball(tmp_path / "hand.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    distance = np.linalg.norm(data.cam_xpos[find_camera(model, TRACKING)] - [0, 0, 1])
    seen = 2 * distance * np.tan(np.radians(model.cam_fovy[0] / 2))
    assert 0.3 < 1.0 / seen < 0.8


def test_what_a_task_adds_is_drawn(ball):
    """To its file, in make_spec: both models have it."""

    class Walled(Ball):
        def make_spec(self):
            spec = super().make_spec()
            spec.worldbody.add_geom(name="wall", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 1, 1])
            return spec

    task = Walled(ball.mjcf)
    assert task.make_model().geom("wall").id == 0 and picture_model(task).geom("wall").id == 0


def test_a_model_of_the_tasks_own_making():
    """There is no file to add to: it is shown as it is."""

    class Made(Task):
        def make_model(self):
            return mujoco.MjModel.from_xml_string(BALL)

    assert picture_model(Made()).nlight == 0
    with pytest.raises(RenderError, match="no camera"):
        find_camera(picture_model(Made()), None)


def colour_centre(picture, channel):
    """Mean column and row of the pixels in which one colour is strong and the others are not, and their number."""
    others = np.delete(picture.astype(int), channel, axis=2).max(axis=2)
    rows, columns = np.nonzero(picture[:, :, channel] > 2 * others + 40)
    return columns.mean(), rows.mean(), len(rows)


def project(model, data, point):
    """Column and row of a point of the world as the first camera sees it."""
    x, y, z = data.cam_xmat[0].reshape(3, 3).T @ (point - data.cam_xpos[0])
    focal = HEIGHT / 2 / np.tan(np.radians(model.cam_fovy[0]) / 2)
    return WIDTH / 2 + focal * x / -z, HEIGHT / 2 - focal * y / -z


@pytest.mark.parametrize("kind", ["rays", "gl"])
def test_pictures(ball, kind):
    """Ball and mark are where the camera's geometry says, in their colours, before a sky."""
    model = picture_model(ball)
    model.cam_mode[0] = mujoco.mjtCamLight.mjCAMLIGHT_FIXED
    model.cam_bodyid[0] = 0
    model.cam_pos[0], model.cam_quat[0] = [0, -4, 1], [np.sqrt(0.5), np.sqrt(0.5), 0, 0]
    data = mujoco.MjData(model)
    try:
        renderer = make_renderer(kind, model, 0, WIDTH, HEIGHT)
    except RenderError:
        assert kind == "gl"
        pytest.skip("no OpenGL here")
    with contextlib.closing(renderer):
        for position in (-0.6, 0.5):
            data.qpos[0] = position
            mujoco.mj_forward(model, data)
            picture = renderer.draw(data)
            assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
            for channel, point in {0: data.geom_xpos[0], 2: data.site_xpos[0]}.items():
                column, row, number = colour_centre(picture, channel)
                expected = project(model, data, point)
                assert number > 5 and np.hypot(column - expected[0], row - expected[1]) < 2
            assert picture[:5].min() > 60 and np.ptp(picture[0, :, 0].astype(int)) < 40  # sky


# What is seen of this one in MuJoCo is its skin; its geoms are in hidden groups.
SKINNED = """
<mujoco>
  <option solver="PGS" noslip_iterations="2"/>
  <worldbody>
    <body name="trunk" pos="0 0 1">
      <freejoint/>
      <geom size="0.3" rgba="1 0 0 1" group="3"/>
      <geom size="0.4" rgba="0 0 1 1" group="5" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <deformable>
    <skin name="fur" vertex="0 0 1  1 0 1  0 1 1" face="0 1 2">
      <bone body="trunk" bindpos="0 0 1" bindquat="1 0 0 0" vertid="0 1 2" vertweight="1 1 1"/>
    </skin>
  </deformable>
</mujoco>
"""


@pytest.mark.parametrize("solver", ["PGS", "CG"])
def test_what_a_skin_covers_is_seen(tmp_path, solver):
    """Rays draw no skin, and say so; and they draw models that MuJoCo Warp would not simulate."""
    (tmp_path / "skinned.xml").write_text(SKINNED.replace("PGS", solver))
    model = picture_model(Ball(tmp_path / "skinned.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with contextlib.closing(make_renderer("rays", model, 0, WIDTH, HEIGHT)) as renderer:
        column, row, number = colour_centre(renderer.draw(data), 0)
    assert number > 20 and np.hypot(column - WIDTH / 2, row - HEIGHT / 2) < 2  # the red one, of the first hidden group
    assert renderer.note.startswith("skins are not drawn by renderer rays; geoms of group 3 are, instead")
    assert model.opt.solver == getattr(mujoco.mjtSolver, f"mjSOL_{solver}")  # as it was


def test_nothing_to_see(tmp_path):
    hidden = BALL.replace("<geom", '<geom group="3"').replace('name="mark"', 'name="mark" group="3"')
    (tmp_path / "hidden.xml").write_text(hidden)
    with pytest.raises(UserError, match="no geom of the model is in a group that is drawn"):
        make_renderer("rays", picture_model(Ball(tmp_path / "hidden.xml")), 0, WIDTH, HEIGHT)


def test_no_skin_no_note(ball):
    assert make_renderer("rays", picture_model(ball), 0, WIDTH, HEIGHT).note == ""


@pytest.mark.parametrize("name", ["reacher_hard", "fish_swim", "finger_turn_easy"])
def test_markers(name):
    """A target that the model does not have is where the task's observation says, and its radius away from the reward."""
    env = player.make_env(name, None, torch.Generator().manual_seed(0), "mujoco")
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    show_state(env, model, data)
    (marker,) = np.flatnonzero(model.geom_bodyid == model.nbody - 1)
    target = data.geom_xpos[marker]
    assert model.nmocap == 1 and model.geom_rgba[marker, 3] < 1
    observation = env.observation["state"][0].numpy()
    if name == "reacher_hard":
        tip = data.body("finger").xpos
        np.testing.assert_allclose(target[:2] - tip[:2], observation[2:4], atol=1e-6)
        assert model.geom_size[marker, 0] == pytest.approx(0.015)
    elif name == "fish_swim":
        mouth = data.geom("mouth")
        np.testing.assert_allclose(np.linalg.norm(target - mouth.xpos), np.linalg.norm(observation[8:11]), atol=1e-6)
    else:
        distance = np.linalg.norm(target - data.site("tip").xpos)
        assert distance - model.geom_size[marker, 0] == pytest.approx(observation[-1], abs=1e-6)


def test_every_world_shows_its_own_state(tmp_path):
    """Joints and mocap bodies, beside the task's markers."""

    class Pushed(Ball):
        def start(self, physics, memory, generator):
            super().start(physics, memory, generator)
            physics.mocap_pos[:, 0] = torch.rand(physics.num_envs, 3, generator=generator)

        def markers(self, physics, memory):
            return torch.nn.functional.pad(physics.mocap_pos + 1.0, (0, 1), value=0.1)

    hand = '<body name="hand" mocap="true"><geom size="0.1"/></body>'
    (tmp_path / "pushed.xml").write_text(BALL.replace("</worldbody>", f"{hand}</worldbody>"))
    generator = torch.Generator().manual_seed(0)
    env = Env(Pushed(tmp_path / "pushed.xml"), 3, episode_length=9, device=torch.device("cpu"), generator=generator)
    model = model_of_pictures(env)
    data = mujoco.MjData(model)
    for world in range(3):
        show_state(env, model, data, world)
        expected = env.physics.mocap_pos[world, 0].numpy()
        assert data.qpos[0] == env.physics.qpos[world, 0].item()
        np.testing.assert_allclose(data.body("hand").xpos, expected, atol=1e-6)
        np.testing.assert_allclose(data.xpos[-1], expected + 1, atol=1e-6)


def test_no_opengl(ball, monkeypatch):
    monkeypatch.setattr("torch_ppo.showing.render.gl_context", lambda width, height: 1 / 0)
    model = picture_model(ball)
    with pytest.raises(RenderError, match=r"OpenGL does not work here .*; renderer rays would"):
        GLRenderer(model, 0, WIDTH, HEIGHT)
