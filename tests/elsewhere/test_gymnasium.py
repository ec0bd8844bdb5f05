"""Tasks as Gymnasium's environments: its own checks, and what its contract says of ends, seeds, spaces and pictures."""

import inspect
import itertools
import pickle
import typing

import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Wanted
from torch_ppo.running.acting import EnvSettings
from torch_ppo.settings.config import Config

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import vector as wrappers

import torch_ppo.gymnasium
from torch_ppo.envs import ENVS

# Gymnasium says of its own robots, too, that numbers without limits are much.
UNLIMITED = pytest.mark.filterwarnings("ignore:.*A Box observation space m:UserWarning")


class TwoParts(ToyTask):
    """Two observations, and an end by itself."""

    def observe(self, physics, memory):
        return {"state": physics.qpos.clone(), "privileged_state": torch.cat([physics.qpos, physics.qvel], 1)}


def test_registered_ids():
    ids = {name for name in gymnasium.registry if name.startswith("torch_ppo/")}
    assert ids == {f"torch_ppo/{name}" for name in ENVS}
    for name, make in ENVS.items():
        assert gymnasium.spec(f"torch_ppo/{name}").max_episode_steps == make().episode_length
    before = dict(gymnasium.registry)
    torch_ppo.gymnasium.register_envs()
    assert gymnasium.registry == before
    assert gymnasium.make("torch_ppo.gymnasium:torch_ppo/cartpole").spec.id == "torch_ppo/cartpole"
    pickle.loads(pickle.dumps(gymnasium.spec("torch_ppo/cartpole")))
    assert "environment" in gymnasium.spec("torch_ppo/cartpole").to_json()


@UNLIMITED
@pytest.mark.parametrize("name", ["cartpole", "walker_walk", "reacher_easy"])
def test_gymnasiums_checks_of_a_single_env(name):
    check_env(gymnasium.make(f"torch_ppo/{name}").unwrapped, skip_render_check=True)


@UNLIMITED
def test_gymnasiums_checks_of_pictures():
    check_env(gymnasium.make("torch_ppo/cartpole", render_mode="rgb_array", width=32, height=24).unwrapped)


@UNLIMITED
def test_gymnasiums_checks_of_several_observations():
    from torch_ppo.elsewhere.gymnasium_envs import TaskEnv

    env = TaskEnv(TwoParts())
    assert isinstance(env.observation_space, gymnasium.spaces.Dict)
    check_env(env, skip_render_check=True)


def test_time_limit_of_a_single_env():
    """Gymnasium's, shorter or longer than the task's own."""
    for limit in (3, 1200):
        env = gymnasium.make("torch_ppo/cartpole", max_episode_steps=limit)
        env.reset(seed=0)
        ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(limit)]
        assert not any(map(any, ends[:-1])) and ends[-1] == (False, True)


def test_a_single_env_is_what_make_env_gives():
    env, ours = gymnasium.make("torch_ppo/cartpole"), torch_ppo.make_env("cartpole")
    first, _ = env.reset(seed=3)
    inner = env.unwrapped._env
    ours.physics.qpos.copy_(inner.physics.qpos)
    ours.physics.qvel.copy_(inner.physics.qvel)
    for action in (0.5, -1.0, 0.25):
        seen, reward, *_ = env.step(np.array([action], np.float32))
        expected, its_reward, _ = ours.step(torch.tensor([[action]]))
        assert np.array_equal(seen, expected[0].numpy()) and reward == its_reward.item()
    assert not np.array_equal(first, seen)


@pytest.fixture
def three_step_episodes():
    return torch_ppo.make_vec("cartpole", 4, episode_length=3)


@pytest.mark.parametrize("tensors", [False, True])
def test_trained_in(tensors):
    """With its own time limit; what was observed at the ends of several episodes at once is that of each."""
    env = torch_ppo.make_vec("cartpole", 4, episode_length=5, action_repeat=2, tensors=tensors)
    assert env.episode_length == source_of(env).episode_length == 3
    settings = {"num_timesteps": 48, "unroll_length": 4, "batch_size": 4, "num_minibatches": 1, "run_evals": False}
    torch_ppo.train(env, num_envs=4, **settings)
    own, generator = Config(num_timesteps=1, num_envs=4), torch.Generator().manual_seed(0)
    envs = source_of(env).make(Wanted(own, 4, generator, keep_final=True))
    for _ in range(3):
        envs.step(torch.zeros(4, 1))
    assert envs.truncation.all() and len(envs.final_observation["state"].unique(dim=0)) == 4
    torch.testing.assert_close(envs.final_observation["state"], env._env.final_observation["state"])


def test_spaces(three_step_episodes):
    env = three_step_episodes
    assert isinstance(env, VectorEnv) and env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.single_observation_space.shape == (5,) and env.observation_space.shape == (4, 5)
    assert env.single_action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32) and env.action_space.shape == (4, 1)
    observation, infos = env.reset(seed=1)
    assert observation in env.observation_space and infos == {}
    env.action_space.seed(0)
    observation, reward, termination, truncation, _ = env.step(env.action_space.sample())
    assert observation in env.observation_space
    assert (reward.dtype, termination.dtype, truncation.dtype) == (np.float32, np.bool_, np.bool_)
    assert reward.shape == termination.shape == truncation.shape == (4,)


def test_ends_by_the_time_limit(three_step_episodes):
    env, zero = three_step_episodes, np.zeros((4, 1), np.float32)
    env.reset(seed=1)
    for _ in range(2):
        *_, termination, truncation, infos = env.step(zero)
        assert not termination.any() and not truncation.any() and "final_obs" not in infos
    assert infos.keys() == {x for name in env._env.metrics for x in (name, f"_{name}")}
    before = env._env.physics.qpos.clone()
    observation, _, termination, truncation, infos = env.step(zero)
    assert truncation.all() and not termination.any()
    assert infos["_final_obs"].all() and infos["_final_info"].all() and infos["final_obs"].dtype == object
    for seen, final in zip(observation, infos["final_obs"], strict=True):
        assert final in env.single_observation_space and not np.array_equal(seen, final)
    # cart-pole shows its position first; after one more step it is hardly elsewhere
    shown = np.stack(infos["final_obs"])[:, 0]
    np.testing.assert_allclose(shown, before[:, 0], atol=0.02)
    *_, infos = env.step(zero)
    assert "final_obs" not in infos


class EndsWhereItIsFar(ToyTask):
    """The envs whose action is positive end."""

    def terminated(self, physics, memory):
        return physics.ctrl[:, 0] > 0.5

    def success(self, physics, memory):
        return physics.ctrl[:, 0] > 0.75


def test_ends_by_themselves_are_terminations_of_these_envs():
    env = torch_ppo.make_vec(EndsWhereItIsFar(), 3)
    env.reset(seed=0)
    width = env.action_space.shape[1]
    actions = np.zeros((3, width), np.float32)
    actions[:, 0] = [0.0, 0.6, 1.0]
    _, _, termination, truncation, infos = env.step(actions)
    assert termination.tolist() == [False, True, True] and not truncation.any()
    assert infos["_final_obs"].tolist() == [False, True, True] and infos["final_obs"][0] is None
    assert infos["final_info"]["is_success"].tolist() == [False, False, True]
    assert infos["final_info"]["_is_success"].tolist() == [False, True, True]


def test_several_observations():
    env = torch_ppo.make_vec(TwoParts(), 2, episode_length=1)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space and set(observation) == {"state", "privileged_state"}
    *_, infos = env.step(np.zeros(env.action_space.shape, np.float32))
    assert all(final in env.single_observation_space for final in infos["final_obs"])


def played(env, seed):
    """What five steps give after a reset with `seed`."""
    actions = np.random.default_rng(0).uniform(-1, 1, (5, *env.action_space.shape)).astype(np.float32)
    return [env.reset(seed=seed), *(env.step(action) for action in actions)]


def test_seeds(three_step_episodes):
    env = three_step_episodes
    first = played(env, 1)
    other, again = played(env, 2), played(env, 1)
    assert data_equivalence(first, again, exact=True) and not data_equivalence(first, other)
    assert data_equivalence(first, played(torch_ppo.make_vec("cartpole", 4, episode_length=3), 1), exact=True)
    unlike, _ = env.reset()
    assert not np.array_equal(unlike, first[0][0])
    assert len({row.tobytes() for row in unlike}) == 4  # each env its own


def test_what_is_given_stays(three_step_episodes):
    """The next step does not write into it."""
    given = played(three_step_episodes, 1)
    kept = [reset_or_step[0].copy() for reset_or_step in given]
    played(three_step_episodes, 2)
    assert all(np.array_equal(a, b[0]) for a, b in zip(kept, given, strict=True))


def test_tensors_are_what_the_arrays_are(three_step_episodes):
    env = torch_ppo.make_vec("cartpole", 4, episode_length=3, tensors=True)
    for ours, theirs in zip(played(env, 1), played(three_step_episodes, 1), strict=True):
        for x, expected in zip(ours[:-1], theirs[:-1], strict=True):
            assert isinstance(x, torch.Tensor) and x.device == env._env.device
            assert np.array_equal(x.numpy(), expected)
        if len(ours) == 5:
            ended = ours[-1]["_final_obs"].numpy()
            assert np.array_equal(ended, theirs[2] | theirs[3])
            for i in ended.nonzero()[0]:
                assert np.array_equal(ours[-1]["final_obs"][i].numpy(), theirs[-1]["final_obs"][i])
    action = torch.zeros(4, 1, requires_grad=True)
    assert not env.step(action)[1].requires_grad


def test_gymnasiums_wrappers():
    """Those that other trainers put around it count episodes as we do."""
    env = wrappers.RecordEpisodeStatistics(torch_ppo.make_vec("cartpole", 3, episode_length=5))
    env = wrappers.NormalizeReward(wrappers.ClipAction(env))
    env.reset(seed=0)
    inner = env.unwrapped._env
    for _ in range(5):
        *_, infos = env.step(np.zeros((3, 1), np.float32))
    assert infos["episode"]["l"].tolist() == [5, 5, 5]
    np.testing.assert_allclose(infos["episode"]["r"], inner.episode_metrics["sum_reward"], rtol=1e-5)
    env.close()


def test_made_by_gymnasium():
    env = gymnasium.make_vec("torch_ppo/cartpole", num_envs=3, max_episode_steps=2, action_repeat=3, history=2)
    assert env.num_envs == 3 and env.spec.id == "torch_ppo/cartpole" and env.single_observation_space.shape == (10,)
    env.reset(seed=0)
    ends = [env.step(np.zeros((3, 1), np.float32))[3].all() for _ in range(2)]
    assert ends == [False, True]  # after two steps of Gymnasium's, which are six env steps
    assert gymnasium.make_vec("torch_ppo/cartpole", 1).unwrapped._env.episode_length == 1000


def test_pictures():
    env = torch_ppo.make_vec("cartpole", 2, episode_length=2, render_mode="rgb_array", width=40, height=30)
    env.reset(seed=0)
    first = env.render()
    assert len(first) == 2 and first[0].shape == (30, 40, 3) and first[0].dtype == np.uint8 and first[0].std() > 5
    assert env.metadata["render_fps"] == 100
    env.close()
    env.close()
    assert torch_ppo.make_vec("cartpole").render() is None


def test_the_last_picture_of_an_episode_is_of_its_end():
    from torch_ppo.elsewhere.gymnasium_envs import TaskEnv

    env = TaskEnv("cartpole", episode_length=40, render_mode="rgb_array", width=64, height=48)
    env.reset(seed=0)
    pictures = []
    for _ in range(40):
        env.step(np.ones(1, np.float32))
        pictures.append(env.render().astype(int))
    jumps = [np.abs(a - b).mean() for a, b in itertools.pairwise(pictures[30:])]
    assert jumps[-1] < 3 * max(jumps[:-1])
    env.close()


def test_settings_are_those_of_make_env():
    keywords = {
        name for name, x in inspect.signature(torch_ppo.make_env).parameters.items() if x.kind is x.KEYWORD_ONLY
    }
    assert keywords == set(typing.get_type_hints(EnvSettings))


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ("cartpol", {}, "did you mean 'cartpole'"),
        ("cartpole", {"num_envs": 0}, "num_envs is 0"),
        ("cartpole", {"render_mode": "human"}, "render_mode is 'human', but must be rgb_array or None"),
        ("cartpole", {"render_mode": "rgb_array", "camera": "nowhere"}, "camera is 'nowhere'"),
        ("cartpole", {"render_mode": "rgb_array", "renderer": "ray"}, "renderer is 'ray', but must be rays or gl"),
        ("cartpole", {"render_mode": "rgb_array", "width": 4}, "width is 4, but must be from 16"),
        ("cartpole", {"width": 64}, "width = 64 has no effect without render_mode"),
        ("cartpole", {"render_mod": "rgb_array"}, "unknown argument 'render_mod'; did you mean 'render_mode'"),
        ("cartpole", {"episode_lenght": 3}, "unknown argument 'episode_lenght'; did you mean 'episode_length'"),
        ("cartpole_balance_vision", {"vision": False}, "observes nothing with vision = False; True would work"),
    ],
)
def test_mistakes(environment, options, message):
    with pytest.raises(torch_ppo.UserError, match=message):
        torch_ppo.make_vec(environment, **options)


def test_mistakes_of_envs_that_are_made():
    with pytest.raises(torch_ppo.UserError, match="made already and cannot be seeded; a task or its name would work"):
        torch_ppo.make_vec(torch_ppo.make_env("cartpole"))


def test_mistakes_in_steps(three_step_episodes):
    with pytest.raises(torch_ppo.UserError, match=r"actions are \(4, 2\), but Cartpole takes \(4, 1\)"):
        three_step_episodes.step(np.zeros((4, 2)))
    for given, kind in ((None, "NoneType"), ("left", "str"), (np.full((4, 1), None), "ndarray")):
        with pytest.raises(torch_ppo.UserError, match=rf"actions are {kind}, but Cartpole takes numbers \(4, 1\)"):
            three_step_episodes.step(given)
    with pytest.raises(torch_ppo.UserError, match="options has reset_mask"):
        three_step_episodes.reset(options={"reset_mask": np.ones(4, bool)})
