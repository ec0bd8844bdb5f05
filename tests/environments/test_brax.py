"""Environments in JAX under this trainer: Brax's rules of episodes by Brax's wrappers, exact checkpoints, randomisation."""

import pytest
import torch

jax = pytest.importorskip("jax")
brax_envs = pytest.importorskip("brax.envs")

import torch_ppo
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.jax_steps import needed_leaves
from torch_ppo.environments.sources import Wanted
from torch_ppo.errors import ConfigError
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

pytestmark = pytest.mark.filterwarnings("ignore")  # of JAX and Brax about one another's versions

SMALL = {
    "num_timesteps": 160, "num_envs": 4, "num_eval_envs": 2, "batch_size": 4, "num_minibatches": 2, "unroll_length": 5,
    "policy_hidden_layer_sizes": (8,), "value_hidden_layer_sizes": (8,), "episode_length": 7, "device": "cpu",
}  # fmt: skip


class Noisy(brax_envs.Env):
    """x moves by the action and by noise of its own; ends beyond 2."""

    observation_size, action_size, backend = 1, 1, "none"

    def __init__(self, gain=1.0):
        self.gain = gain

    def reset(self, rng):
        rng, key = jax.random.split(rng)
        x = jax.random.uniform(key, (1,))
        zero = jax.numpy.zeros(())
        return brax_envs.State(x, x, zero, zero, {"moved": zero}, {"rng": rng})

    def step(self, state, action):
        rng, key = jax.random.split(state.info["rng"])
        step = self.gain * 0.5 * action + 0.1 * jax.random.normal(key, (1,))
        x = state.pipeline_state + step
        done = jax.numpy.where(jax.numpy.abs(x[0]) > 2.0, 1.0, 0.0)
        state.info.update(rng=rng)
        return state.replace(pipeline_state=x, obs=x, reward=x[0], done=done, metrics={"moved": step[0]})


def test_the_same_as_braxs_own_wrappers():
    config = Config(**{**SMALL, "action_repeat": 2})
    env = source_of(Noisy()).make(Wanted(config, 4, torch.Generator().manual_seed(3)))
    env.reset()
    seeds = torch.Generator().manual_seed(3)
    for _ in range(2):  # at the making and at the reset
        seed = int(torch.randint(2**31 - 1, (), generator=seeds))
    own = brax_envs.training.wrap(Noisy(), episode_length=7, action_repeat=2)
    state = own.reset(jax.random.split(jax.random.PRNGKey(seed), 4))
    generator, ends = torch.Generator().manual_seed(0), 0
    for _ in range(20):
        action = 2 * torch.rand(4, 1, generator=generator) - 0.5
        env.step(action)
        state = own.step(state, jax.numpy.asarray(action.numpy()))
        truncation = state.info["truncation"]
        for ours, theirs in (
            (env.observation["state"], state.obs),
            (env.reward, state.reward),
            (env.done, state.done),
            (env.truncation, truncation),
            (env.termination, state.done * (1 - truncation)),
            (env.steps, state.info["steps"]),
            (env.metrics["moved"], state.metrics["moved"]),
            (env.episode_metrics["sum_reward"], state.info["episode_metrics"]["sum_reward"]),
            (env.episode_metrics["length"], state.info["episode_metrics"]["length"]),
        ):
            torch.testing.assert_close(ours.double(), torch.from_numpy(jax.device_get(theirs).copy()).double())
        ends += env.done.sum()
    assert env.truncation.any() or ends > 4


def test_a_checkpoint_goes_on_exactly():
    config = Config(**{**SMALL, "run_evals": False})
    state = TrainingState(config, source_of(Noisy()))
    state.collector()
    saved, batches = state.checkpoint(), []
    for each in (state, TrainingState(state.config, source_of(Noisy()))):
        assert each is state or each.load_checkpoint(saved)
        each.collector()
        batches.append((each.batch.observation["state"].clone(), each.batch.reward.clone()))
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a, b)


def test_a_step_is_compiled_once_for_all_envs_of_a_source():
    traced = []

    class Counted(Noisy):
        def step(self, state, action):
            traced.append(action.shape)
            return super().step(state, action)

    wrapped = brax_envs.training.wrap(Counted(), episode_length=7)
    jax.eval_shape(wrapped.step, wrapped.reset(jax.random.split(jax.random.PRNGKey(0), 4)), jax.numpy.zeros((4, 1)))
    once, source, config = len(traced), source_of(Counted()), Config(**SMALL)
    traced.clear()
    for seed, num_envs in ((0, 4), (1, 4), (2, 3)):  # training, evaluation, another number of envs
        env = source.make(Wanted(config, num_envs, torch.Generator().manual_seed(seed)))
        for _ in range(2):
            env.reset()
            for _ in range(3):
                env.step(torch.zeros(num_envs, 1))
        env.load_state(env.state())
        env.step(torch.zeros(num_envs, 1))
    assert len(traced) == 2 * once


def test_only_what_later_steps_depend_on_is_carried():
    def step(leaves, action):
        told, constant, chained, source_of_it, _, counter = leaves
        new = [told + constant + action, constant, source_of_it, source_of_it * 2, told * 3, counter + 1]
        return new, new[0] + chained

    numbers = [jax.numpy.zeros(2)] * 6
    assert needed_leaves(jax.make_jaxpr(step)(numbers, jax.numpy.zeros(2)).jaxpr, 6) == [0, 1, 2, 3]


def test_wrap_env_fn_and_randomization_fn_as_in_brax():
    calls = []

    def wrap(env, episode_length, action_repeat, randomization_fn):
        calls.append((episode_length, action_repeat))
        gains, axes = randomization_fn(None)
        assert gains.shape == (4,) or gains.shape == (2,)
        assert axes == 0
        return brax_envs.training.wrap(Noisy(0.0), episode_length=episode_length, action_repeat=action_repeat)

    def randomize(model, rng):
        return jax.vmap(lambda key: jax.random.uniform(key))(rng), 0

    _, _, metrics = torch_ppo.train(Noisy(), wrap_env_fn=wrap, randomization_fn=randomize, **SMALL)
    assert calls == [(7, 1), (7, 1)]
    assert abs(metrics["eval/episode_moved"]) < 2.0 and metrics["eval/avg_episode_length"] == 7.0


def test_wrap_env_false_takes_it_as_it_is():
    wrapped = brax_envs.training.wrap(Noisy(), episode_length=7)
    _, _, metrics = torch_ppo.train(wrapped, wrap_env=False, **SMALL)
    assert metrics["eval/avg_episode_length"] <= 7.0
    with pytest.raises(ConfigError, match=r"state\.info lacks truncation, which Brax's EpisodeWrapper writes"):
        torch_ppo.train(brax_envs.wrappers.training.VmapWrapper(Noisy()), wrap_env=False, **SMALL)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("brax:ants", {}, "Brax has no such; did you mean 'ant'?"),
        (
            Noisy(),
            {"episode_length": None},
            "Noisy does not say how long an episode is; episode_length = 1000, say, would",
        ),
        (Noisy(), {"bootstrap_on_truncation": True}, "which Noisy does not keep"),
    ],
)
def test_what_cannot_be(given, options, words):
    with pytest.raises(ConfigError, match=words):
        torch_ppo.train(given, **{**SMALL, **options})


def test_playground_brings_its_settings():
    pytest.importorskip("mujoco_playground")
    settings = source_of("playground:CartpoleBalance").settings()
    Config(**settings)
    assert (settings["num_envs"], settings["batch_size"], settings["num_timesteps"]) == (2048, 1024, 60_000_000)
    assert source_of("playground:CartpoleBalance").episode_length == 1000
    assert source_of("playground:Go1JoystickFlatTerrain").settings()["value_obs_key"] == "privileged_state"
    with pytest.raises(ConfigError, match="Playground has no such; did you mean 'CartpoleBalance'"):
        source_of("playground:CartpoleBalanc")


@pytest.mark.slow
def test_learns_playgrounds_cartpole():
    pytest.importorskip("mujoco_playground")
    _, _, metrics = torch_ppo.train(
        "playground:CartpoleBalance", 60_000, num_envs=64, batch_size=64, num_minibatches=8, unroll_length=16,
        num_updates_per_batch=4, learning_rate=1e-3, discounting=0.97, normalize_observations=True, reward_scaling=0.1,
        num_evals=2, num_eval_envs=16, deterministic_eval=True, entropy_cost=1e-3, episode_length=100, device="cpu",
    )  # fmt: skip
    assert metrics["eval/episode_reward"] > 98.0


@pytest.mark.slow
def test_learns_braxs_inverted_pendulum():
    first = []
    _, _, metrics = torch_ppo.train(
        "brax:inverted_pendulum", 40_960, num_envs=64, batch_size=64, num_minibatches=8, unroll_length=10,
        num_updates_per_batch=8, learning_rate=1e-3, discounting=0.97, normalize_observations=True, reward_scaling=0.1,
        num_evals=2, num_eval_envs=64, deterministic_eval=True, entropy_cost=1e-3, episode_length=200, device="cpu",
        policy_hidden_layer_sizes=(32, 32), value_hidden_layer_sizes=(64, 64), torch_threads=1,
        progress_fn=lambda step, metrics: first.append(metrics["eval/episode_reward"]),
    )  # fmt: skip
    assert first[0] < 60.0 and metrics["eval/episode_reward"] > 180.0
