"""A policy is shown as it acts: the right states, in pictures that show them, and the return that it had."""

import contextlib
import gc
import importlib.util
import sys

import mujoco
import mujoco.viewer
import numpy as np
import pytest
import torch
from PIL import Image

from torch_ppo import play
from torch_ppo.envs import ENVS, make_task
from torch_ppo.export import export_policy
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml
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
from torch_ppo.showing.video import ANIMATIONS, VideoError, check_video, write_video
from torch_ppo.simulation.task import Task

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


# The model of the pictures


@pytest.mark.parametrize("name", ENVS)
def test_picture_model_has_the_same_state(name):
    """Nothing that moves or weighs is added, and everything that is needed to see it."""
    task = make_task(name)
    model, picture = task.make_model(), picture_model(task)
    for field in ("qpos0", "body_mass", "body_inertia", "body_ipos", "jnt_type", "jnt_qposadr", "dof_armature"):
        np.testing.assert_array_equal(getattr(picture, field), getattr(model, field), err_msg=field)
    assert picture.nlight > 0 and any(picture.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)
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
                assert number > 5 and np.hypot(column - expected[0], row - expected[1]) < 1.5
            assert picture[:5].min() > 60 and np.ptp(picture[0, :, 0].astype(int)) < 40  # sky


@pytest.mark.parametrize("name", ["reacher_hard", "fish_swim", "finger_turn_easy"])
def test_markers(name):
    """A target that the model does not have is where the task's observation says, and its radius away from the reward."""
    env = play.make_env(name, None, torch.Generator().manual_seed(0), "mujoco")
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


def test_no_opengl(ball, monkeypatch):
    monkeypatch.setattr("torch_ppo.showing.render.gl_context", lambda width, height: 1 / 0)
    model = picture_model(ball)
    with pytest.raises(RenderError, match=r"OpenGL does not work here .*; --renderer rays would"):
        GLRenderer(model, 0, WIDTH, HEIGHT)


# Video files


def moving_square(num_frames=5):
    frames = np.full((num_frames, HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    for i, frame in enumerate(frames):
        frame[8:24, 8 * i : 8 * i + 16] = (220, 30, 30)
    return list(frames)


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_animation(tmp_path, suffix):
    frames = moving_square()
    write_video(tmp_path / f"a{suffix}", frames, 0.04)
    with Image.open(tmp_path / f"a{suffix}") as video:
        assert video.n_frames == len(frames) and video.size == (WIDTH, HEIGHT)
        for i, frame in enumerate(frames):
            video.seek(i)
            found = np.asarray(video.convert("RGB")).astype(int)
            assert video.info["duration"] == 40 and video.info["loop"] == 0
            assert np.abs(found - frame).mean() < 6


def test_gif_has_colours_of_all_frames(tmp_path):
    """Each frame has a colour of its own."""
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]
    frames = [np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8) for colour in colours]
    write_video(tmp_path / "a.gif", frames, 0.04)
    with Image.open(tmp_path / "a.gif") as video:
        for i, colour in enumerate(colours):
            video.seek(i)
            assert np.abs(np.asarray(video.convert("RGB"))[0, 0].astype(int) - colour).max() < 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of imageio-ffmpeg's unclosed pipes
def test_mp4(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    frames = [
        np.pad(frame, ((0, 1), (0, 1), (0, 0))) for frame in moving_square(25)
    ]  # odd sizes lose a row and a column
    write_video(tmp_path / "a.mp4", frames, 0.04)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    assert next(reader)["source_size"] == (WIDTH, HEIGHT)
    found = [np.frombuffer(frame, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3).astype(int) for frame in reader]
    assert len(found) == len(frames)
    assert np.abs(np.array(found) - np.array(frames)[:, :HEIGHT, :WIDTH]).mean() < 10
    gc.collect()


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.avi", "has to end in .gif"), ("no/a.gif", "there is no folder no"), ("folder.gif", "is a folder")],
)
def test_no_video(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(VideoError, match=words):
        check_video(tmp_path.relative_to(tmp_path) / name)


def test_mp4_without_the_extra(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "imageio_ffmpeg" else find_spec(name))
    with pytest.raises(VideoError, match=r"needs imageio-ffmpeg, the extra video: pip install 'torch-ppo\[video\]'"):
        check_video(tmp_path / "a.mp4")


# The program


class Pictures:
    """Instead of a renderer: keeps the states it was asked to draw."""

    def __init__(self):
        self.states = []

    def draw(self, data):
        self.states.append(data.qpos.copy())
        return np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)

    def close(self):
        self.states.append("closed")


@pytest.fixture
def pictures(monkeypatch):
    found = Pictures()
    monkeypatch.setattr(play, "make_renderer", lambda *arguments: found)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return found


@pytest.fixture
def run_folder(tmp_path):
    """A run of the pendulum with an untrained last checkpoint, a best one of another seed, and its policy."""
    for name, seed in {"last": 0, "best": 1}.items():
        config = Config(
            env="pendulum_swingup",
            num_timesteps=1,
            seed=seed,
            episode_length=12,
            action_repeat=2,
            policy_hidden_layer_sizes=(4,),
            value_hidden_layer_sizes=(4,),
            run_evals=False,
            device="cpu",
        )
        state = TrainingState(config, make_task(config.env))
        save_checkpoint(state.checkpoint(), tmp_path / "run" / "checkpoints" / f"{name}.pt")
    (tmp_path / "run" / "config.toml").write_text(to_toml(state.config))
    export_policy(state.agent, tmp_path / "run" / "policy.pt")
    return tmp_path / "run"


def program(monkeypatch, *arguments):
    """Runs `python -m torch_ppo.play` in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["torch_ppo.play", *map(str, arguments)])
    try:
        play.main()
    except SystemExit as end:
        return end.code
    return 0


def test_random_policy(pictures, tmp_path, monkeypatch, capsys):
    """The return and the states are those of the same actions in an env stepped by hand."""
    monkeypatch.chdir(tmp_path)
    assert program(monkeypatch, "--env", "PendulumSwingup", "--policy", "random", "--seconds", "1.6") == 0
    generator = torch.Generator().manual_seed(0)
    env = play.make_env("pendulum_swingup", None, generator, "mujoco")
    states, total = [env.physics.qpos[0].numpy().copy()], 0.0
    for step in range(1, 81):
        env.step(2 * torch.rand(1, 1, generator=generator) - 1)
        total += env.reward.item()
        if step % 2 == 0:
            states.append(env.physics.qpos[0].numpy().copy())
    assert pictures.states.pop() == "closed"
    np.testing.assert_array_equal(np.array(pictures.states), np.array(states))
    output = capsys.readouterr().out
    assert f"return {total:.2f} in 80 env steps (not ended)" in output
    assert "pendulum_swingup.gif: 41 frames of 320x240, 1.6 s" in output
    with Image.open("pendulum_swingup.gif") as video:
        assert video.info["duration"] >= 40


@pytest.mark.parametrize("what", ["run", "run/checkpoints/best.pt", "run/policy.pt"])
def test_trained_policy(run_folder, pictures, monkeypatch, capsys, what):
    """Run folder, checkpoint and exported policy act alike, in episodes of the run's length and action repeat."""
    monkeypatch.chdir(run_folder.parent)
    assert program(monkeypatch, what, "--video", "a.gif") == 0
    agent = agent_from_checkpoint(load_checkpoint(run_folder / "checkpoints" / "best.pt"))
    config = Config(num_timesteps=1, episode_length=12, action_repeat=2)
    env = play.make_env("pendulum_swingup", config, torch.Generator().manual_seed(0), "mujoco")
    states, total = [env.physics.qpos[0].numpy().copy()], 0.0
    with torch.no_grad():
        for _ in range(6):
            env.step(agent.mode(env.observation))
            states.append(env.physics.qpos[0].numpy().copy())
            total += env.reward.item()
    assert env.done.all()
    # The end itself is not seen: env and picture are at the next start then.
    np.testing.assert_allclose(np.array(pictures.states[:-1]), np.array(states[:-1]), rtol=0, atol=1e-6)
    assert f"return {total:.2f} in 12 env steps (ended by the time limit)" in capsys.readouterr().out


def test_last_checkpoint_and_samples(run_folder, pictures, monkeypatch):
    played = {}
    for options in ("", "--checkpoint last", "--stochastic"):
        assert program(monkeypatch, run_folder, *options.split(), "--video", run_folder / "a.gif") == 0
        played[options] = np.array(pictures.states[:-1])
        pictures.states.clear()
    assert not np.allclose(played[""], played["--checkpoint last"])
    assert not np.allclose(played[""], played["--stochastic"])


def test_other_engine_and_zero_policy(pictures, tmp_path, monkeypatch, capsys):
    for engine in ("mujoco", "warp"):
        arguments = f"--env pendulum_swingup --policy zero --steps 20 --engine {engine} --video {tmp_path}/a.webp"
        assert program(monkeypatch, *arguments.split()) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("return")]
    assert len(lines) == 2 and lines[0] == lines[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "say what to play"),
        ("run --policy zero", "say what to play"),
        ("--policy zero", "the task is not known"),
        ("run/policy.pt --stochastic", "--stochastic needs a run folder or a checkpoint"),
        ("--policy zero --env pendulum", "there is no env 'pendulum'"),
        ("nowhere", "no run folder or checkpoint nowhere"),
        (
            "run --env cartpole",
            "run observes {'state': 3} and has 1 actions, but cartpole gives {'state': 5} and takes 1",
        ),
        ("run/policy.pt --env cartpole", "policy.pt does not fit: the task has an observation of 5 and 1 actions"),
        ("run/config.toml", "is not a whole checkpoint"),
        ("run --steps 3 --seconds 1", "--steps and --seconds"),
        ("run --steps 0", "--steps 100 would work"),
        ("run --width 5", "--width is 5, but must be from 16 to 4096"),
        ("run --camera nose", "--camera is 'nose'"),
        ("run --video a.avi", "has to end in .gif"),
    ],
)
def test_bad_arguments(run_folder, pictures, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(run_folder.parent)
    assert program(monkeypatch, *arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert pictures.states == [] and not list(run_folder.parent.glob("*.gif"))


# The viewer


class Viewer:
    """Instead of MuJoCo's viewer: keeps the states that it was shown, and is closed after some."""

    def __init__(self, model, data, close_after):
        self.data, self.close_after, self.shown = data, close_after, []
        self.cam = mujoco.MjvCamera()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.shown.append("closed")

    def is_running(self):
        return len(self.shown) < self.close_after

    def lock(self):
        return contextlib.nullcontext()

    def sync(self):
        self.shown.append(self.data.qpos.copy())


def test_viewer(run_folder, monkeypatch, capsys):
    """The states of the run's policy, one after another in real time, until the window is closed."""
    viewers = []

    def launch_passive(model, data, **options):
        viewers.append(Viewer(model, data, close_after=8))
        return viewers[0]

    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(mujoco.viewer, "launch_passive", launch_passive)
    monkeypatch.setattr(mujoco.viewer.glfw, "init", lambda: True)
    slept = []
    monkeypatch.setattr(play.time, "sleep", slept.append)
    monkeypatch.setattr(play.time, "monotonic", lambda: 0.0)
    assert program(monkeypatch, run_folder, "--camera", "side") == 0
    (viewer,) = viewers
    assert viewer.shown.pop() == "closed" and len(viewer.shown) == 8
    assert viewer.cam.type == mujoco.mjtCamera.mjCAMERA_FIXED
    np.testing.assert_allclose(slept, 0.04 * np.arange(1, 9))  # two env steps of 0.02 s each time
    agent = agent_from_checkpoint(load_checkpoint(run_folder / "checkpoints" / "best.pt"))
    config = Config(num_timesteps=1, episode_length=12, action_repeat=2)
    env = play.make_env("pendulum_swingup", config, torch.Generator().manual_seed(0), "mujoco")
    for shown in viewer.shown:
        with torch.no_grad():
            env.step(agent.mode(env.observation))
        if env.done[0]:
            env.reset()
        np.testing.assert_array_equal(shown, env.physics.qpos[0].numpy())
    assert capsys.readouterr().out.count("return") == 1


def test_no_window(run_folder, monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(mujoco.viewer.glfw, "init", lambda: False)
    assert program(monkeypatch, run_folder) == 2
    assert "no window can be opened here; --video play.gif" in capsys.readouterr().err
