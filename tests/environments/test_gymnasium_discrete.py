"""Gymnasium's discrete spaces: what its envs get for an action, what is refused, and that CartPole is learned."""

from functools import partial

import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.making import make
from torch_ppo.environments.contract import EnvironmentMisfit
from torch_ppo.errors import ConfigError
from torch_ppo.export import ExportArguments, export_from
from torch_ppo.exporting.reading import read
from torch_ppo.settings.files import read_config

gymnasium = pytest.importorskip("gymnasium")
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from torch_ppo.environments import gymnasium_groups
from torch_ppo.environments.gymnasium_spaces import Indices, actions_of

SMALL = {
    "num_timesteps": 512, "num_envs": 4, "num_eval_envs": 4, "batch_size": 4, "num_minibatches": 2, "unroll_length": 8,
    "policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,),
}  # fmt: skip

SPACES = {
    "two": spaces.Discrete(2),
    "one": spaces.Discrete(1),
    "below-zero": spaces.Discrete(4, start=-1),
    "several": spaces.MultiDiscrete([3, 2, 5]),
    "started": spaces.MultiDiscrete([3, 2], start=[-1, 7]),
    "table": spaces.MultiDiscrete([[2, 3], [4, 1]]),
    "bits": spaces.MultiBinary([2, 2]),
    "short": spaces.MultiDiscrete([3, 3], dtype=np.int8),
}


class Told(gymnasium.Env):
    """Its observation is the action that it got, flat; the reward says whether that is in its space."""

    def __init__(self, action_space, observation_space=None):
        self.action_space = action_space
        size = int(np.prod(action_space.shape)) if action_space.shape else 1
        self.observation_space = observation_space or spaces.Box(-9, 9, (size,))
        self.shape = self.observation_space.shape

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.shape, np.float32), {}

    def step(self, action):
        # Another dtype in each step, as some envs have it.
        self.kind = {np.float64: np.int16, np.int16: np.float32}.get(getattr(self, "kind", None), np.float64)
        return np.ravel(action).astype(self.kind), float(self.action_space.contains(action)), False, False, {}


@pytest.fixture(autouse=True)
def registered():
    before = set(gymnasium.registry)
    for name, space in SPACES.items():
        gymnasium.register(f"test/{name}-v0", entry_point=partial(Told, space), max_episode_steps=6)
    others = {
        "dict": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1, 1)}),
        "tuple": spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]),
        "endless": spaces.Discrete(10**9),
    }
    for name, space in others.items():
        gymnasium.register(
            f"test/{name}-v0", entry_point=partial(Told, space, spaces.Box(-9, 9, (2,))), max_episode_steps=6
        )
    gymnasium.register(
        "test/misshapen-v0", entry_point=partial(Told, spaces.Discrete(2), spaces.Box(-9, 9, (3,))), max_episode_steps=6
    )
    yield
    for name in set(gymnasium.registry) - before:
        del gymnasium.registry[name]


def random_actions(env, generator):
    return torch.stack([torch.randint(n, (env.num_envs,), generator=generator) for n in env.choices], 1)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("least", [8, 2], ids=["one process", "two"])
def test_envs_get_what_is_in_their_space(monkeypatch, name, least):
    """From the index, by the start, in the space's own shape and dtype; by id, in processes, and as a VectorEnv."""
    monkeypatch.setattr(gymnasium_groups, "LEAST_PER_PROCESS", least)
    monkeypatch.setattr(gymnasium_groups.os, "sched_getaffinity", lambda pid: {0, 1})
    space = SPACES[name]
    envs = [make(f"gym:test/{name}-v0", 4)]
    if least == 8:
        maker = partial(gymnasium.make, f"test/{name}-v0", disable_env_checker=True)
        envs.append(make(SyncVectorEnv([maker] * 4, autoreset_mode=AutoresetMode.SAME_STEP), 4, episode_length=6))
    start = np.broadcast_to(np.ravel(getattr(space, "start", 0)), (envs[0].action_dim,))
    for env in envs:
        env.reset()
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            action = random_actions(env, generator)
            env.step(action)
            np.testing.assert_array_equal(env.final_observation["state"], action.numpy() + start)
            if env is envs[0]:  # a VectorEnv hands its envs rows of a wider dtype
                assert env.reward.eq(1.0).all()
    assert sum(envs[0].choices) == spaces.flatdim(space) or name == "bits"


def test_what_checkpoints_are_told():
    assert Indices(SPACES["started"]).plain() == {
        "actuators": ["action 0", "action 1"], "offset": [-1.0, 7.0], "scale": [1.0, 1.0], "lower": [-1.0, 7.0],
        "upper": [1.0, 8.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        (
            "test/dict-v0",
            {},
            r"takes actions of Dict\('a': Discrete\(2\), .*\), but policies here give one Box, Discrete",
        ),
        (
            "test/tuple-v0",
            {},
            r"takes actions of Tuple\(Discrete\(2\), Discrete\(3\)\), but .*TransformAction, in a wrap_env_fn",
        ),
        ("test/endless-v0", {}, "has 1,000,000,000 choices, but from 1 to 100,000 can be had"),
        ("test/misshapen-v0", {}, r"gives an observation \(1,\), but its space says \(3,\)"),
        ("Blackjack-v1", {"episode_length": None}, "has no time limit; episode_length = 1000, say, would set one"),
        (
            "CartPole-v1",
            {"distribution_type": "normal"},
            "'normal' is of real numbers, but gym:CartPole-v1 takes discrete",
        ),
        ("CartPole-v1", {"mean_clip_scale": 2.0}, "mean_clip_scale = 2.0 has no effect"),
    ],
)
def test_what_cannot_be_is_one_line(given, settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train(f"gym:{given}", **{**SMALL, **settings})
    assert "\n" not in str(error.value)


def test_long_spaces_are_told_in_a_short_line():
    space = spaces.Dict({f"part {i}": spaces.MultiDiscrete([2] * 40) for i in range(40)})
    with pytest.raises(EnvironmentMisfit) as error:
        actions_of(space, "gym:X")
    assert len(str(error.value)) < 320 and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Taxi-v4", "test/one-v0", "test/below-zero-v0", "test/table-v0"])
def test_trains_in_each(name):
    """Discrete observations are one-hot; one choice alone is a policy, too."""
    _, _, metrics = torch_ppo.train(f"gym:{name}", num_evals=2, **SMALL)
    assert np.isfinite(metrics["eval/episode_reward"]) and np.isfinite(metrics["training/entropy"])
    if name == "test/one-v0":
        assert metrics["training/entropy"] == 0.0
    if name.startswith("test/"):
        assert metrics["eval/episode_reward"] == 6.0  # each action was in its space


@pytest.mark.parametrize("as_controls", [False, True])
@pytest.mark.parametrize("stochastic", [False, True])
def test_exported(tmp_path, as_controls, stochastic):
    """The contract says choices and start; with controls the file counts from the start."""
    torch_ppo.train("gym:test/started-v0", save_checkpoint_path=str(tmp_path / "saved"), **SMALL)
    newest = max((tmp_path / "saved").rglob("*.pt"))
    path = tmp_path / "policy.safetensors"
    export_from(ExportArguments(newest, output=path, controls=as_controls, stochastic=stochastic))
    act, contract = read(path)
    assert contract["action"]["discrete"] == {"choices": [3, 2], "start": [-1, 7]}
    assert contract["output"]["name"] == ("controls" if as_controls else "action")
    noise = (torch.rand(500, 5),) if stochastic else ()
    found = act(torch.randn(500, 2), *noise)
    assert found.dtype == torch.int64 and found.shape == (500, 2)
    first = torch.tensor([-1, 7] if as_controls else [0, 0])
    assert (found >= first).all() and (found < first + torch.tensor([3, 2])).all()
    if stochastic:
        assert [len(x.unique()) for x in found.unbind(1)] == [3, 2]


@pytest.mark.slow
def test_learns_cartpole():
    """To 475 of 500, which Gymnasium calls solved, with the shipped settings."""
    settings = read_config("presets/gym_discrete") | {"num_evals": 4, "num_timesteps": 60_000}
    _, _, metrics = torch_ppo.train("gym:CartPole-v1", **settings)
    assert metrics["eval/episode_reward"] > 475.0
