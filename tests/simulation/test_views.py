"""Pictures of the simulation: against geometry, against OpenGL, and of the right moment wherever an env looks."""

import dataclasses
from typing import ClassVar

import mujoco
import pytest
import torch

from tests.helpers.ball import DISTANCE, RADIUS, SIZE, BallTask, column, seen_column
from tests.helpers.opengl import has_opengl
from torch_ppo import Task, UserError, View
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.model_fields import SEEN
from torch_ppo.simulation.views import ViewError

KEY = "pixels/front"
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("error")


ENGINES = ["warp", pytest.param("mujoco", marks=pytest.mark.skipif(not has_opengl(), reason="no OpenGL here"))]


def make_env(task=None, num_envs=4, engine="warp", **options):
    options = {"episode_length": 5, **options}
    return Env(
        task or BallTask(),
        num_envs,
        device=CPU,
        generator=torch.Generator().manual_seed(0),
        engine=engine,
        **options,
    )


def push(env, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(env.num_envs, 1, generator=generator) - 1


def drawn(engine, positions=(-0.9, 0.0, 0.7), **view):
    """Pictures of the ball at these places, as the physics draws them."""
    env = make_env(BallTask(**view), len(positions), engine)
    env.physics.qpos[:, 0] = torch.tensor(positions)
    env.physics.render()
    return env.physics.pictures["front"]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_ball_is_where_geometry_has_it(engine):
    """Columns of a pinhole camera, and the middle row; rows from the top."""
    positions = torch.tensor([-0.9, -0.2, 0.0, 0.7])
    pictures = drawn(engine, positions.tolist(), height=96, width=128)
    assert pictures.shape == (4, 96, 128, 3) and pictures.dtype == torch.uint8
    torch.testing.assert_close(seen_column(pictures), column(positions, 128, 96), rtol=0, atol=0.6)
    red = pictures[2, :, :, 0].float() - pictures[2, :, :, 1]
    rows = (red.clamp(min=0).sum(1) * (torch.arange(96) + 0.5)).sum() / red.clamp(min=0).sum()
    assert abs(rows - 48) < 0.6
    assert pictures[2, 48, 64].tolist()[0] > 150 and pictures[2, 48, 64, 1:].tolist() == [0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_depth_is_in_bytes_of_its_range(engine):
    """Along the camera's axis: the ball's front, the wall, and beyond the range."""
    (picture,) = drawn(engine, [0.0], kind="depth", depth_range=(1.0, 6.0), height=25, width=25)
    assert picture.shape == (25, 25, 1)
    assert abs(picture[12, 12, 0].item() - 255 * (DISTANCE - RADIUS - 1.0) / 5.0) <= 1
    wall = 255 * (DISTANCE + 2.0 - 1.0) / 5.0
    assert all(abs(picture[row, column, 0].item() - wall) <= 1 for row in (0, 24) for column in (0, 24))
    (near,) = drawn(engine, [0.0], kind="depth", depth_range=(0.0, 4.0))
    assert near[0, 0, 0] == 255
    (without,) = drawn(engine, [0.0], kind="depth", depth_range=(0.0, 9.0), groups=(0,))
    assert without[0, 0, 0] == 255 and without[SIZE // 2, SIZE // 2, 0] < 90


@pytest.mark.parametrize("engine", ENGINES)
def test_kinds_are_parts_of_one_picture(engine):
    together = drawn(engine, kind="rgbd", depth_range=(1.0, 6.0))
    colour, depth = drawn(engine, kind="rgb"), drawn(engine, kind="depth", depth_range=(1.0, 6.0))
    assert torch.equal(together, torch.cat([colour, depth], -1))
    gray = drawn(engine, kind="gray")
    assert torch.equal(gray[..., 0].int(), colour.int().sum(-1) // 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_samples_soften_edges_only(engine):
    hard, soft = (drawn(engine, [0.0, 0.01, 0.02], samples=samples)[..., 0].int() for samples in (1, 4))
    assert (hard - soft)[:, SIZE // 2, SIZE // 2].abs().max() <= 2
    edges = [len(picture.unique()) for picture in (hard, soft)]
    assert edges[1] > edges[0]
    assert not torch.equal(soft[0], soft[1])  # a hundredth of a metre is a fourteenth of a pixel


SCENE = """
<mujoco>
  <asset>
    <texture name="sky" type="skybox" builtin="flat" rgb1="0 0 1" width="8" height="8"/>
    <texture name="checks" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0 0 0" width="64" height="64"/>
    <material name="checks" texture="checks" texrepeat="4 4" rgba="0.5 0.5 0.5 1"/>
  </asset>
  <worldbody>
    <light name="lamp" type="directional" pos="0 0 4" dir="0 0 -1" diffuse="0.6 0.6 0.6"/>
    <camera name="above" pos="0 -3 3" xyaxes="1 0 0 0 0.7 0.7"/>
    <geom type="plane" size="2 2 0.1" material="checks"/>
    <geom name="box" type="box" size="0.4 0.4 0.4" pos="0 0 1" rgba="0 1 0 1"/>
    <body><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1" pos="1 0 1" group="3"/></body>
  </worldbody>
  <actuator><motor joint="slide"/></actuator>
</mujoco>
"""


class SceneTask(BallTask):
    def __init__(self, **view):
        self.with_state = True
        self.views = {"front": View(**{"camera": "above", "height": 48, "width": 48, **view})}

    def make_model(self):
        return mujoco.MjModel.from_xml_string(SCENE)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_option_of_a_view_acts(engine):
    def picture(**view):
        env = make_env(SceneTask(**view), 1, engine)
        env.physics.qpos.zero_()
        env.physics.render()
        return env.physics.pictures["front"][0].int()

    plain = picture(textures=False)
    assert plain[0, 0].tolist() == [0, 0, 0]  # nothing is there
    sky = picture(textures=False, sky=True)
    assert sky[0, 0, 2] > 200
    checks = picture()
    assert checks[40:].float().std() > 2 * plain[40:].float().std()
    shadows = picture(textures=False, shadows=True)
    assert (plain - shadows).max() > 20  # below the box it is darker, and nowhere lighter
    assert (shadows - plain).max() <= 3
    hidden = picture(textures=False, groups=(0, 3))
    assert not torch.equal(hidden, plain)


@pytest.mark.skipif(not has_opengl(), reason="no OpenGL here")
@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_engines_draw_the_same(kind):
    """All but the pixels along edges; textures are filtered otherwise."""
    options = [(SceneTask, {"sky": True, "textures": False}), (SceneTask, {"textures": False}), (BallTask, {})]
    for make, view in options:
        pictures = []
        for engine in ("warp", "mujoco"):
            env = make_env(make(kind=kind, height=64, width=64, depth_range=(1.0, 9.0), **view), 1, engine)
            env.physics.qpos.fill_(0.3)
            env.physics.render()
            pictures.append(env.physics.pictures["front"][0].float())
        difference = (pictures[0] - pictures[1]).abs()
        assert (difference > 12).float().mean() < 0.03 and difference.median() <= 2


def check_pictures(env, shown=None):
    """Every env's newest picture is of the state that it is in."""
    shown = env.observation[KEY][..., -3:] if shown is None else shown
    torch.testing.assert_close(seen_column(shown), column(env.physics.qpos[:, 0]), rtol=0, atol=0.6)


class NewEveryEpisode(BallTask):
    """With memory and a model that are new in every episode."""

    def make_memory(self, num_envs, device):
        return {"command": torch.zeros(num_envs, 1, device=device)}

    def each_episode(self, memory, generator):
        memory["command"].uniform_(generator=generator)

    def observe(self, physics, memory):
        return torch.cat([physics.sensor("place"), memory["command"]], 1)

    def randomize_episode(self, physics, generator):
        mass = physics.lasting_field("body_mass")
        return {"body_mass": mass * (1 + torch.rand(mass.shape, generator=generator))}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("auto_reset", ["cached", "random", "fresh"])
@pytest.mark.parametrize("task", [BallTask, NewEveryEpisode])
def test_pictures_are_of_the_present_state(engine, auto_reset, task):
    """After a reset, a step, and a restart in the middle of it, whatever restarts are."""
    env = make_env(task(), 4, engine, auto_reset=auto_reset, action_repeat=2, episode_length=6, randomize_episode=True)
    check_pictures(env)
    ends = 0
    for i in range(8):
        env.step(push(env, i))
        ends += env.done.sum().item()
        check_pictures(env)
    assert ends == 8
    env.reset()
    check_pictures(env)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_final_observation_is_of_the_end(engine):
    env = make_env(engine=engine, episode_length=3, keep_final=True)
    for i in range(3):
        env.step(push(env, i))
    assert env.done.all()
    check_pictures(env)
    place = env.final_state[:, 0]
    torch.testing.assert_close(seen_column(env.final_observation[KEY]), column(place), rtol=0, atol=0.6)
    assert not torch.equal(env.final_observation[KEY], env.observation[KEY])


def test_stacks_have_frames_one_after_another_in_the_channels():
    env = make_env(history=3)
    assert env.observation[KEY].shape == (4, SIZE, SIZE, 9) and env.observation["state"].shape == (4, 3)
    first = env.observation[KEY][..., :3].clone()
    assert torch.equal(env.observation[KEY], first.repeat(1, 1, 1, 3))
    env.step(push(env))
    second = env.observation[KEY][..., -3:].clone()
    assert torch.equal(env.observation[KEY], torch.cat([first, first, second], -1))
    env.step(push(env))
    assert torch.equal(env.observation[KEY][..., :6], torch.cat([first, second], -1))
    for _ in range(3):
        env.step(push(env))
    assert env.done.all() and torch.equal(env.observation[KEY], first.repeat(1, 1, 1, 3))
    only = make_env(history=3, history_obs_keys=("state",))
    assert only.observation[KEY].shape == (4, SIZE, SIZE, 3) and only.observation["state"].shape == (4, 3)


def test_observations_stay_where_they_are_and_sizes_say_their_shape():
    env = make_env(BallTask(with_state=False))
    assert env.observation_sizes == {KEY: (SIZE, SIZE, 3)} and env.seen is env.observation
    address = env.observation[KEY].data_ptr()
    for _ in range(7):
        seen, _, _ = env.step(push(env))
    assert seen[KEY].data_ptr() == address
    assert make_env().observation_sizes == {"state": 1, KEY: (SIZE, SIZE, 3)}


def test_drawing_leaves_the_physics_as_it_is():
    """A task with views goes bit for bit as without."""
    seeing, blind = BallTask(), BallTask()
    blind.views = {}
    envs = [make_env(task) for task in (seeing, blind)]
    for i in range(12):
        for env in envs:
            env.step(push(env, i))
        for name, x in envs[0].physics.state().items():
            assert torch.equal(x, envs[1].physics.state()[name]), name


def test_the_same_seed_gives_the_same_pictures():
    def pictures(capture):
        env = make_env(capture=capture)
        return torch.stack([env.step(push(env, i))[0][KEY].clone() for i in range(8)])

    assert torch.equal(pictures(True), pictures(True))
    assert torch.equal(pictures(True), pictures(False))


LIT = """
<mujoco>
  <asset><material name="shiny" rgba="0.6 0.5 0.4 1" specular="0.5" shininess="0.3" emission="0.1"/></asset>
  <visual><headlight active="0"/></visual>
  <worldbody>
    <light name="spot" type="spot" pos="0 -2 3" dir="0 0.5 -1" cutoff="40" exponent="8" ambient="0.1 0.1 0.1"
      diffuse="0.5 0.5 0.5" specular="0.3 0.3 0.3"/>
    <camera name="front" pos="0 -3 1" xyaxes="1 0 0 0 0.3 1" fovy="50"/>
    <geom type="plane" size="2 2 0.1" rgba="0.4 0.6 0.7 1"/>
    <geom type="box" size="0.4 0.4 0.4" pos="0.3 0 0.4" material="shiny"/>
    <body pos="-0.8 0 0.6">
      <joint name="slide" type="slide" axis="1 0 0"/><geom size="0.3" material="shiny"/>
      <light name="follower" mode="trackcom" pos="0 -1 0.5" dir="0 1 -0.5" diffuse="0.4 0.3 0.2"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide"/></actuator>
</mujoco>
"""
# Fields that one cannot make 0.7 times as large.
OTHERWISE = {"light_dir": torch.tensor([[0.3, 0.5, -0.9], [0.2, 1.0, -0.5]])}


class LitTask(SceneTask):
    """Scene and per-world values of one field: those of the model, and others."""

    def __init__(self, field=None, **view):
        super().__init__(**{"camera": "front", "samples": 1, **view})
        self.field, self.other = field, None

    def make_model(self):
        return mujoco.MjModel.from_xml_string(LIT)

    def values(self):
        nominal = torch.as_tensor(getattr(self.make_model(), self.field), dtype=torch.float32)
        if self.field in OTHERWISE:
            other = torch.nn.functional.normalize(OTHERWISE[self.field], dim=-1)
        else:
            other = nominal * 0.7
        if self.field == "geom_size":
            other[0] = nominal[0]  # OpenGL draws a plane as the nominal model has it
        return torch.stack([nominal, other])

    def randomize(self, physics, generator):
        return {self.field: self.values()}

    def randomize_episode(self, physics, generator):
        return {self.field: self.values()}


def compiled_with(field, value):
    """A task whose model has these values for all worlds."""

    class Compiled(LitTask):
        def make_model(self):
            model = super().make_model()
            getattr(model, field)[:] = value
            mujoco.mj_setConst(model, mujoco.MjData(model))
            return model

    return Compiled()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("when", [pytest.param("for good", marks=pytest.mark.slow), "episode"])
@pytest.mark.parametrize("field", sorted(SEEN | {"cam_pos", "geom_size"}))
def test_what_worlds_have_of_their_own_is_seen(engine, when, field):
    """Each world as a model that has its values for all, at the place where it is."""
    task = LitTask(field)
    if engine == "warp" and when == "episode" and field in ("light_pos", "light_dir"):
        with pytest.raises(UserError, match=r"light_\w+0.* follow"):
            make_env(task, 2, engine, randomize_episode=True)
        return
    options = {"randomization_fn": task.randomize} if when == "for good" else {"randomize_episode": True}
    env = make_env(task, 2, engine, **options)
    for i in range(7):
        env.step(push(env, i))
    nominal, other = env.observation[KEY]
    expected = []
    for value, place in zip(task.values(), env.physics.qpos, strict=True):
        alone = make_env(compiled_with(field, value.numpy()), 1, engine)
        alone.physics.qpos.copy_(place[None])
        alone.physics.render()
        expected.append(alone.physics.pictures["front"][0])
    for found, picture in zip((nominal, other), expected, strict=True):
        assert ((found.int() - picture).abs() > 2).float().mean() < 0.01
    alone.physics.qpos.copy_(env.physics.qpos[1:])
    plain = make_env(LitTask("geom_rgba"), 1, engine)
    plain.physics.qpos.copy_(env.physics.qpos[1:])
    plain.physics.render()
    assert not torch.equal(plain.physics.pictures["front"][0], other)


def test_rays_of_their_own_have_one_sample():
    with pytest.raises(UserError, match=r"samples = 2.*cam_fovy.*samples = 1"):
        task = LitTask("cam_fovy", samples=2)
        make_env(task, 2, randomization_fn=task.randomize)


MISTAKES = {
    "camera": ({"camera": "fornt"}, ["'fornt'", "'front'"]),
    "camera's number": ({"camera": 0}, ["camera = 0", "front"]),
    "size": ({"height": 0}, ["height = 0", "64"]),
    "kind": ({"kind": "grey"}, ["'grey'", "gray"]),
    "range": ({"depth_range": (2.0, 1.0)}, ["depth_range = (2.0, 1.0)"]),
    "groups": ({"groups": (4,)}, ["groups = (4,)", "[0, 1]"]),
    "no groups": ({"groups": ()}, ["groups = ()"]),
    "not groups": ({"groups": (7,)}, ["groups = (7,)", "5"]),
    "samples": ({"samples": 0}, ["samples = 0", "2"]),
}


@pytest.mark.parametrize("engine", ["warp", "mujoco"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_view_is_named(engine, mistake):
    view, words = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        make_env(BallTask(**view), engine=engine)
    assert all(word in str(error.value) for word in ("front", *words)) and "\n" not in str(error.value)


def test_views_are_views():
    task = BallTask()
    for views in ({"front": "front"}, [View("front")], {1: View("front")}):
        task.views = views
        with pytest.raises(UserError, match="View"):
            make_env(task)


def test_without_opengl_a_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr("torch_ppo.simulation.mujoco_views.gl_context", lambda width, height: 1 / 0)
    with pytest.raises(UserError) as error:
        make_env(engine="mujoco")
    assert all(word in str(error.value) for word in ("OpenGL", "physics = warp", "libegl1"))


class OwnPictures(BallTask):
    """Makes pictures of its own."""

    views: ClassVar = {}
    returned = torch.zeros(4, 6, 8, 3, dtype=torch.uint8)

    def __init__(self):
        self.with_state = True

    def observe(self, physics, memory):
        return {"pixels/own": self.returned}


def test_a_task_may_return_pictures_of_its_own():
    env = make_env(OwnPictures())
    env.step(push(env))
    assert env.observation["pixels/own"].dtype == torch.uint8 and env.observation_sizes == {"pixels/own": (6, 8, 3)}


@pytest.mark.parametrize("wrong", [torch.zeros(4, 6), torch.zeros(3, 6, 8, 3), torch.zeros(4, 6, 8, 3).int(), None])
def test_pictures_of_another_shape_are_refused(wrong):
    task = OwnPictures()
    task.returned = wrong
    with pytest.raises(UserError, match=r"pixels/own.*height, width, channels"):
        make_env(task)


def test_a_view_cannot_be_named_as_what_observe_returns():
    class Both(BallTask):
        def observe(self, physics, memory):
            return {KEY: torch.zeros(4, 6, 8, 3)}

    with pytest.raises(UserError, match="another name"):
        make_env(Both())


def test_a_view_is_a_value():
    view = View("front", 24, 24)
    assert view == View(camera="front", height=24, width=24) and hash(view) == hash(View("front", 24, 24))
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.width = 3
    assert issubclass(ViewError, UserError) and Task.views == {}
