"""Gymnasium's environments: the same numbers as its own loop gives, whatever the number of processes."""

import os
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.making import make
from torch_ppo.environments import gymnasium_groups, gymnasium_spaces
from torch_ppo.errors import ConfigError
from torch_ppo.export import ExportArguments, export_from
from torch_ppo.exporting import torchscript
from torch_ppo.running.checkpoint import load_checkpoint

gymnasium = pytest.importorskip("gymnasium")
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

SMALL = {
    "num_timesteps": 512, "num_envs": 4, "num_eval_envs": 4, "batch_size": 4, "num_minibatches": 2, "unroll_length": 8,
    "policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,),
}  # fmt: skip


class Walk(gymnasium.Env):
    """A position that actions move: ends by itself beyond 1, where it is NaN if `broken`."""

    observation_space = spaces.Dict({"x": spaces.Box(-9, 9, (1,)), "side": spaces.Discrete(2)})
    action_space = spaces.Box(np.float32([-0.5, -np.inf]), np.float32([1.5, np.inf]))

    def __init__(self, broken=False):
        self.broken = broken

    def _seen(self):
        return {"x": np.float32([self.x]), "side": int(self.x > 0)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return self._seen(), {}

    def step(self, action):
        self.x += 0.2 * action[0] + 0.01 * action[1]
        reward = np.nan if self.broken and self.x > 1 else self.x
        return self._seen(), reward, self.x > 1 and not self.broken, False, {}


@pytest.fixture(autouse=True)
def registered():
    for name, broken in (("test/Walk-v0", False), ("test/Broken-v0", True)):
        gymnasium.register(name, entry_point=partial(Walk, broken), max_episode_steps=12)
    yield
    for name in ("test/Walk-v0", "test/Broken-v0"):
        del gymnasium.registry[name]


def test_the_same_numbers_as_gymnasiums_own_loop(monkeypatch):
    """Rewards, ends, observations before and after a restart; in one process and in two."""
    histories = []
    for least in (8, 2):  # envs per process
        monkeypatch.setattr(gymnasium_groups, "LEAST_PER_PROCESS", least)
        monkeypatch.setattr(gymnasium_groups.os, "sched_getaffinity", lambda pid: {0, 1})
        env = make("gym:test/Walk-v0", 4)
        assert env.env.num_groups == (1 if least == 8 else 2)
        assert env.observation_sizes == {"state": 3} and env.action_dim == 2 and env.episode_length == 12
        generator, rows = torch.Generator().manual_seed(1), [env.reset().clone()]
        for _ in range(40):
            env.step(2 * torch.rand(4, 2, generator=generator) - 1)
            names = ("reward", "termination", "truncation", "done", "steps", "observation", "final_observation")
            values = [getattr(env, name) for name in names]
            rows.append([(x["state"] if isinstance(x, dict) else x).clone() for x in values])
        histories.append(rows)
    for a, b in zip(*histories, strict=True):
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y)
    rows, generator = histories[0], torch.Generator().manual_seed(1)
    alone = gymnasium.make("test/Walk-v0")
    alone.reset(seed=0)
    alone.unwrapped.x = rows[0][2, 2].item()  # of env 2; "side" takes two numbers before it
    ended = 0
    for row in rows[1:]:
        action = (2 * torch.rand(4, 2, generator=generator) - 1)[2].numpy()
        scaled = np.float32([0.5 + action[0], action[1]])
        observation, reward, terminated, truncated, _ = alone.step(scaled)
        final = spaces.flatten(Walk.observation_space, observation)
        np.testing.assert_allclose(row[6][2], final, atol=1e-6)
        assert row[0][2] == pytest.approx(reward, abs=1e-6)
        assert [bool(x[2]) for x in row[1:4]] == [terminated, truncated and not terminated, terminated or truncated]
        if terminated or truncated:
            ended += 1
            alone.reset()
            alone.unwrapped.x = row[5][2, 2].item()
        np.testing.assert_allclose(
            row[5][2], spaces.flatten(Walk.observation_space, alone.unwrapped._seen()), atol=1e-6
        )
    assert ended > 2


def test_actions_are_those_of_the_box():
    rescaling = gymnasium_spaces.Rescaling(Walk.action_space)
    given = np.float32([[-1, -7], [0, 0], [1, 3], [5, 1]])
    np.testing.assert_allclose(rescaling(given), [[-0.5, -7], [0.5, 0], [1.5, 3], [1.5, 1]])
    assert rescaling.plain() == {
        "actuators": ["action 0", "action 1"], "offset": [0.5, 0.0], "scale": [1.0, 1.0],
        "lower": [-0.5, None], "upper": [1.5, None],
    }  # fmt: skip


def test_time_limits_and_repeats():
    env = make("gym:test/Walk-v0", 2, episode_length=6, action_repeat=2)
    env.reset()
    truncated = []
    for _ in range(6):
        env.step(torch.tensor([[-0.5, 0.0]] * 2))  # stays where it is
        truncated.append(env.truncation.tolist())
    assert truncated == [[0, 0], [0, 0], [1, 1]] * 2
    assert env.episode_metrics["length"].tolist() == [6, 6]
    torch.testing.assert_close(env.reward, 2 * env.final_observation["state"][:, -1])


def test_broken_worlds_restart():
    env = make("gym:test/Broken-v0", 2)
    env.reset()
    for _ in range(5):
        env.step(torch.tensor([[1.0, 0.0], [-0.5, 0.0]]))
    assert env.broken.counts.sum() >= 1 and env.observation["state"].isfinite().all()
    assert env.broken.causes[int(env.broken.counts.argmax())] == "reward"
    assert env.observation["state"][0].max() <= 1.0  # begun anew


def test_trains_the_pendulum_a_little(tmp_path):
    reports = []
    torch_ppo.train("gym:Pendulum-v1", num_evals=2, progress_fn=lambda step, m: reports.append(m), **SMALL)
    assert reports[0]["eval/avg_episode_length"] == 200.0
    assert -2000 < reports[1]["eval/episode_reward"] < -500
    result = torch_ppo.evaluate(lambda observation: torch.zeros(len(observation), 1), "gym:Pendulum-v1", episodes=4)
    assert result.lengths.tolist() == [200] * 4 and result.env == "gym:Pendulum-v1"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Gymnasium's processes
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_envs_there_already(mode, kind):
    """The same episodes as by the id, also of those that would restart in the step after an end."""
    vector = kind([partial(gymnasium.make, "test/Walk-v0")] * 3, autoreset_mode=mode)
    env = make(vector, 3, episode_length=12)
    own = make("gym:test/Walk-v0", 3)
    own.reset(), env.reset()
    assert torch.equal(env.observation["state"], own.observation["state"])
    for _ in range(20):
        for each in (env, own):
            each.step(torch.tensor([[-0.5, 0.5], [0.3, 0.0], [1.0, 1.0]]))
        for name in ("reward", "termination", "truncation", "episode_totals"):
            torch.testing.assert_close(getattr(env, name), getattr(own, name))
        for name in ("observation", "final_observation"):
            torch.testing.assert_close(getattr(env, name), getattr(own, name))
    vector.close()


def test_wrap_env_fn_is_given_one_env_without_time_limit():
    calls = []

    def wrap(env, episode_length, action_repeat, randomization_fn):
        calls.append((episode_length, action_repeat, randomization_fn))
        assert not isinstance(env, gymnasium.wrappers.TimeLimit)
        return gymnasium.wrappers.TimeLimit(gymnasium.wrappers.TransformReward(env, lambda r: r + 10.0), episode_length)

    _, _, metrics = torch_ppo.train(
        "gym:test/Walk-v0", wrap_env_fn=wrap, episode_length=5, **{**SMALL, "num_timesteps": 64}
    )
    assert set(calls) == {(5, 1, None)}
    assert metrics["eval/avg_episode_length"] <= 5.0
    assert metrics["eval/episode_reward"] > 8.0 * metrics["eval/avg_episode_length"]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("gym:Pendulun-v1", {}, "Gymnasium has no 'Pendulun-v1'; did you mean 'Pendulum-v1'?"),
        ("gym:no_such_module:Ant-v5", {}, "there is no module no_such_module"),
        (
            "gym:Pendulum-v1",
            {"distribution_type": "categorical"},
            "'categorical' is of discrete actions, but gym:Pendulum-v1",
        ),
        ("gym:Pendulum-v1", {"randomization_fn": print}, "randomization_fn changes models of our own"),
        ("gym:Pendulum-v1", {"auto_reset": "random"}, "auto_reset = 'random' has no effect in gym:Pendulum-v1"),
        (
            "gym:Pendulum-v1",
            {"wrap_env_fn": lambda env, **rules: 3},
            "wrap_env_fn returns 3, but must return a gymnasium.Env",
        ),
    ],
)
def test_what_cannot_be_is_one_line(given, options, words):
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train(given, **{**SMALL, **options})
    assert "\n" not in str(error.value)


def test_a_vector_env_that_restarts_a_step_late_is_refused():
    vector = gymnasium.make_vec("CartPole-v1", 4)  # a class of its own
    with pytest.raises(
        ConfigError, match=r"autoreset_mode NEXT_STEP, in which the step after an end is none.*vectorization"
    ):
        torch_ppo.train(vector, run_evals=False, **SMALL)


@pytest.mark.slow
def test_processes_leave_signals_to_their_parent(tmp_path):
    """Ctrl-C reaches all of a terminal's processes; the run still ends after its training step, with a checkpoint."""
    (tmp_path / "small.toml").write_text(
        "num_envs = 32\nbatch_size = 32\nnum_minibatches = 1\nunroll_length = 8\nnum_evals = 2\nnum_eval_envs = 16\n"
    )
    program = [sys.executable, "-m", "torch_ppo.train"]
    words = ["--env", "gym:Pendulum-v1", "--config", "small.toml", "--run-dir", "run", "--num-timesteps", "100000000"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen([*program, *words], cwd=tmp_path, **options) as process:
        for line in process.stdout:
            if line.lstrip().startswith("0 steps"):
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGINT
    assert "stopped at" in rest and "Traceback" not in rest
    steps = load_checkpoint(tmp_path / "run/checkpoints/last.pt")["env_steps"]
    words = ["--resume", "run", "--num-timesteps", str(steps + 256)]
    with subprocess.Popen([*program, *words], cwd=tmp_path, **options) as process:
        said = process.stdout.read()
    assert process.returncode == 0
    assert "gym:Pendulum-v1 cannot be checkpointed, so its episodes begin anew" in said


def test_a_process_that_is_killed_is_one_line(monkeypatch):
    monkeypatch.setattr(gymnasium_groups, "LEAST_PER_PROCESS", 2)
    monkeypatch.setattr(gymnasium_groups.os, "sched_getaffinity", lambda pid: {0, 1})
    env = make("gym:test/Walk-v0", 4)
    env.reset()
    processes = env.env._env.processes
    processes[1].kill()
    processes[1].join()
    with pytest.raises(ConfigError, match="a process of gym:test/Walk-v0 has ended, killed perhaps for want of memory"):
        for _ in range(3):
            env.step(torch.zeros(4, 2))
    env.env._env.close_extras(terminate=True)


@pytest.mark.slow
def test_learns_the_pendulum():
    _, _, metrics = torch_ppo.train(
        "gym:Pendulum-v1", 200_000, num_envs=16, batch_size=64, num_minibatches=4, unroll_length=16,
        num_updates_per_batch=8, learning_rate=1e-3, discounting=0.95, gae_lambda=0.9, normalize_observations=True,
        reward_scaling=0.1, num_evals=5, num_eval_envs=32, deterministic_eval=True, entropy_cost=1e-3,
    )  # fmt: skip
    assert metrics["eval/episode_reward"] > -300.0


def makes_vector(num_envs):
    return gymnasium.make_vec(
        "test/Walk-v0", num_envs, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )


def test_a_function_may_return_gymnasiums_own_envs():
    _, _, metrics = torch_ppo.train(makes_vector, **SMALL)
    assert metrics["eval/avg_episode_length"] <= 12


def test_one_env_of_gymnasiums_is_not_enough():
    with pytest.raises(ConfigError, match='one env of Gymnasium\'s, but envs are needed; "gym:test/Walk-v0"'):
        torch_ppo.train(gymnasium.make("test/Walk-v0"), **SMALL)


def test_a_policy_is_exported_with_what_is_known(tmp_path):
    """Its observations are of its own environment; there is no model."""
    settings = dict(SMALL, save_checkpoint_path=str(tmp_path / "saved"))
    torch_ppo.train("gym:test/Walk-v0", **settings)
    newest = max((tmp_path / "saved").rglob("*.pt"))
    export_from(ExportArguments(newest, output=tmp_path / "policy.pt"))
    _, contract = torchscript.read(tmp_path / "policy.pt")
    assert contract["joints"] is None
    assert contract["action"]["actuators"][0]["control_range"] == [-0.5, 1.5]


def test_envs_are_not_evaluated_in_while_they_train():
    """An evaluation would end the episodes under way, and show other ones than a run's own."""
    envs = makes_vector(4)
    for eval_env, given in ((None, "None"), (envs, "the same object")):
        with pytest.raises(
            ConfigError, match=f"eval_env is {given}, but the environment gym:test/Walk-v0 cannot also be"
        ):
            torch_ppo.train(envs, eval_env=eval_env, **SMALL)
    torch_ppo.train(envs, run_evals=False, **SMALL)


def test_the_time_limit_of_envs_that_there_are_is_their_own():
    with pytest.raises(ConfigError, match="episode_length is 5, but gym:test/Walk-v0 has 12 of its own; leave it out"):
        torch_ppo.train(makes_vector(4), eval_env=makes_vector(4), episode_length=5, **SMALL)


class Told(gymnasium.Env):
    """Ends after two steps, and gives one thing as an array, as older envs do."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, what):
        self.what = what

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        told = {"reward": 1.0, "termination": False, "truncation": False}
        told[self.what] = np.zeros((1, 2))
        return np.zeros(2, np.float32), *told.values(), {}


@pytest.mark.parametrize("what", ["reward", "termination", "truncation"])
def test_what_is_told_of_a_step_is_one_number(what):
    group = gymnasium_groups.Group(partial(Told, what), 2, 1, "gym:test/Told-v0")
    group.reset()
    with pytest.raises(ConfigError, match=rf"gym:test/Told-v0 gives as {what} ndarray \(1, 2\), but one number"):
        group.step(np.zeros((2, 1), np.float32))
