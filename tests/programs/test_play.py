"""A policy is shown as it acts: the right states, in pictures that show them, and the return that it had."""

import contextlib
import sys

import mujoco
import mujoco.viewer
import numpy as np
import pytest
import torch
from PIL import Image

from torch_ppo import play
from torch_ppo.envs import make_task
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.export import export_policy
from torch_ppo.running.broken_cases import keep_cases
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml
from torch_ppo.simulation.task import Task
from torch_ppo.watching import player, recording, window

WIDTH, HEIGHT = 64, 48


class Pictures:
    """Instead of a renderer: keeps the states it was asked to draw."""

    note = "nothing is drawn"

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
    monkeypatch.setattr(recording, "make_renderer", lambda *arguments: found)
    monkeypatch.setattr("torch_ppo.showing.video.has_mp4", lambda: False)
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
    env = player.make_env("pendulum_swingup", None, generator, "mujoco")
    states, total = [env.physics.qpos[0].numpy().copy()], 0.0
    for step in range(1, 81):
        env.step(2 * torch.rand(1, 1, generator=generator) - 1)
        total += env.reward.item()
        if step % 2 == 0:
            states.append(env.physics.qpos[0].numpy().copy())
    assert pictures.states.pop() == "closed"
    np.testing.assert_array_equal(np.array(pictures.states), np.array(states))
    output = capsys.readouterr().out
    assert output.startswith("nothing is drawn\n")
    assert f"return {total:.2f} in 80 env steps (not ended)" in output
    assert "pendulum_swingup.gif: 41 frames of 64x48, 1.6 s" in output
    with Image.open("pendulum_swingup.gif") as video:
        assert video.info["duration"] >= 40


@pytest.mark.parametrize("what", ["run", "run/checkpoints/best.pt", "run/policy.pt"])
def test_trained_policy(run_folder, pictures, monkeypatch, capsys, what):
    """Run folder, checkpoint and exported policy act alike, in episodes of the run's length and action repeat."""
    monkeypatch.chdir(run_folder.parent)
    assert program(monkeypatch, what, "--video", "a.gif") == 0
    agent = agent_from_checkpoint(load_checkpoint(run_folder / "checkpoints" / "best.pt"))
    config = Config(num_timesteps=1, episode_length=12, action_repeat=2)
    env = player.make_env("pendulum_swingup", config, torch.Generator().manual_seed(0), "mujoco")
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


def test_worlds(run_folder, pictures, monkeypatch, capsys):
    """Each has its own episode, and its own place in the picture."""
    monkeypatch.chdir(run_folder.parent)
    assert program(monkeypatch, "run", "--worlds", 3, "--video", "a.png", "--steps", 8) == 0
    agent = agent_from_checkpoint(load_checkpoint(run_folder / "checkpoints" / "best.pt"))
    config = Config(num_timesteps=1, episode_length=12, action_repeat=2)
    env = player.make_env("pendulum_swingup", config, torch.Generator().manual_seed(0), "mujoco", 3)
    states, totals = [env.physics.qpos.numpy().copy()], torch.zeros(3)
    with torch.no_grad():
        for step in range(8):
            env.step(agent.mode(env.observation))
            totals += env.reward * (step < 6)
            if env.done.all():
                env.reset()
            states.append(env.physics.qpos.numpy().copy())
    assert pictures.states.pop() == "closed"
    np.testing.assert_allclose(np.array(pictures.states).reshape(9, 3, 1), np.array(states), rtol=0, atol=1e-6)
    lines = capsys.readouterr().out.splitlines()
    for world, total in enumerate(totals.tolist()):
        assert f"world {world}: return {total:.2f} in 12 env steps (ended by the time limit)" in lines
        assert any(
            line.startswith(f"world {world}: ") and line.endswith("in 4 env steps (not ended)") for line in lines
        )
    with Image.open("a.png") as video:
        assert video.size == (2 * WIDTH + 2, 2 * HEIGHT + 2)


class Leaves(Task):
    """World i ends in step i + 1."""

    control_dt = 0.04
    mjcf = make_task("pendulum_swingup").mjcf

    def start(self, physics, memory, generator):
        physics.qpos[:, 0] = 100 * torch.arange(1.0, physics.num_envs + 1)

    def apply(self, physics, memory, action):
        pass

    def observe(self, physics, memory):
        return physics.qpos.clone()

    def reward(self, physics, memory, action):
        return torch.ones(physics.num_envs), {}

    def terminated(self, physics, memory):
        return physics.time[:] > self.control_dt * (physics.qpos[:, 0] / 100).round() - 1e-3


def test_a_world_that_ended_stands_still(pictures, tmp_path, monkeypatch, capsys):
    """The video goes on until the last has ended; of the others nothing new is drawn."""
    monkeypatch.setattr(player, "make_task", lambda name: Leaves())
    assert program(monkeypatch, *f"--env ant --policy zero --worlds 3 --video {tmp_path}/a.gif".split()) == 0
    drawn = [round(state[0] / 100) for state in pictures.states[:-1]]
    assert drawn == [1, 2, 3, 2, 3, 3]
    first = [line for line in capsys.readouterr().out.splitlines() if "return" in line]
    for world in range(3):
        assert f"world {world}: return {world + 1:.2f} in {world + 1} env steps (ended by the task)" in first


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
            "mine.py:Mine",
            "mine.py:Mine is a task, not a run folder or checkpoint; train --env mine.py:Mine makes a run of it",
        ),
        (
            "run --env cartpole",
            "best.pt does not fit: it observes state 3, but cartpole gives state 5",
        ),
        ("run/policy.pt --env cartpole", "policy.pt does not fit: it observes state 3, but cartpole gives state 5"),
        ("run/config.toml", "is a configuration, not a checkpoint"),
        ("run --steps 3 --seconds 1", "--steps and --seconds"),
        ("run --steps 0", "--steps 100 would work"),
        ("run --width 5", "--width is 5, but must be from 16 to 4096"),
        ("run --worlds 0", "--worlds is 0, but must be from 1 to 36"),
        ("run --camera nose", "camera is 'nose'"),
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
    monkeypatch.setattr(window.time, "sleep", slept.append)
    monkeypatch.setattr(window.time, "monotonic", lambda: 0.0)
    assert program(monkeypatch, run_folder, "--camera", "side") == 0
    (viewer,) = viewers
    assert viewer.shown.pop() == "closed" and len(viewer.shown) == 8
    assert viewer.cam.type == mujoco.mjtCamera.mjCAMERA_FIXED
    np.testing.assert_allclose(slept, 0.04 * np.arange(1, 9))  # two env steps of 0.02 s each time
    agent = agent_from_checkpoint(load_checkpoint(run_folder / "checkpoints" / "best.pt"))
    config = Config(num_timesteps=1, episode_length=12, action_repeat=2)
    env = player.make_env("pendulum_swingup", config, torch.Generator().manual_seed(0), "mujoco")
    for shown in viewer.shown:
        with torch.no_grad():
            env.step(agent.mode(env.observation))
        if env.done[0]:
            env.reset()
        np.testing.assert_array_equal(shown, env.physics.qpos[0].numpy())
    assert capsys.readouterr().out.count("return") == 1


def test_several_worlds_are_a_video_also_where_there_is_a_display(run_folder, pictures, monkeypatch, capsys):
    monkeypatch.chdir(run_folder.parent)
    monkeypatch.setenv("DISPLAY", ":7")
    assert program(monkeypatch, "run", "--worlds", 2, "--steps", 2) == 0
    assert "pendulum_swingup.gif: 3 frames" in capsys.readouterr().out


def test_ctrl_c_while_it_draws(run_folder, pictures, tmp_path, monkeypatch, capsys):
    """There is no video then, and whoever called it is told."""
    monkeypatch.chdir(tmp_path)

    def draw(data):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "draw", draw)
    assert program(monkeypatch, "run") == 130
    assert capsys.readouterr().err == "\nstopped\n" and not list(tmp_path.glob("*.gif"))


@pytest.mark.parametrize("seed", [-1, 2**63, 10**20])
def test_a_seed_that_is_none(run_folder, monkeypatch, capsys, seed):
    assert program(monkeypatch, run_folder, "--seed", seed, "--steps", 2) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "seed is " in error and "must be" in error and "less than 2**63\n" in error


def test_no_window(run_folder, monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.setattr(mujoco.viewer.glfw, "init", lambda: False)
    assert program(monkeypatch, run_folder) == 2
    assert "no window can be opened here; --video play.gif" in capsys.readouterr().err


# Broken worlds


class Exploding(Cartpole):
    """Its first world is thrown away in the seventh step."""

    def make_memory(self, num_envs, device):
        return {"t": torch.zeros(num_envs, device=device)}

    def after_step(self, physics, memory, action):
        memory["t"] += 1.0
        physics.qvel[:1] = torch.where(memory["t"][:1, None] == 7.0, 1e30, physics.qvel[:1])


@pytest.fixture
def case(tmp_path):
    """The file of a world that broke in the second unroll of a training step."""
    config = Config(
        env="cartpole", num_timesteps=1, num_envs=4, batch_size=4, num_minibatches=2, unroll_length=5, run_evals=False,
        device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    state = TrainingState(config, Exploding())
    state.broken_folder = tmp_path / "broken"
    state.collector()
    state.training_steps = 1
    keep_cases(state, state.env_steps)
    return tmp_path / "broken" / "0.pt"


def test_a_broken_world_is_shown(case, pictures, monkeypatch, capsys):
    monkeypatch.chdir(case.parent)
    assert program(monkeypatch, "--broken", case, "--video", "a.gif") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith('cartpole, seed 0, env 0, before 40 env steps: qvel of joint "slider" is 1e+30')
    assert printed[-1] == "a.gif: 2 of 2 steps, slowed down" and (case.parent / "a.gif").exists()
    assert len(pictures.states) == 3 and "|qvel| 1e+30" in printed[-2]


@pytest.mark.parametrize(
    ("file", "words"), [("no.pt", "is not a file of a broken world"), ("0.pt", "is of another model")]
)
def test_what_is_no_broken_world(case, pictures, monkeypatch, capsys, file, words):
    assert program(monkeypatch, "--broken", case.with_name(file), "--env", "walker_walk") == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
