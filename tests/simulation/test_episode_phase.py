"""Training envs that begin at a random point of their time limit, and what must not notice."""

import pytest
import torch

from tests.helpers.toy import ToyTask
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env


def make_env(num_envs, *, episode_length=40, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return Env(
        ToyTask(), num_envs, episode_length=episode_length, device=torch.device("cpu"), generator=generator, **options
    )


@pytest.mark.parametrize(("action_repeat", "episode_length"), [(1, 40), (4, 40), (4, 41)])
def test_every_point_of_the_time_limit_is_as_likely(action_repeat, episode_length):
    env = make_env(40_000, episode_length=episode_length, action_repeat=action_repeat, random_episode_phase=True)
    points = torch.arange(0, episode_length, action_repeat)
    found = torch.bincount(env.steps, minlength=episode_length)
    assert found.sum() == found[points].sum()
    expected = env.num_envs / len(points)
    assert (found[points] - expected).abs().max() < 5 * expected**0.5
    before = env.steps.clone()
    env.reset()
    assert not torch.equal(before, env.steps)


def test_off_by_default_and_draws_nothing():
    plain, again = make_env(8), make_env(8, random_episode_phase=False)
    assert plain.steps.eq(0).all() and plain.whole_episode.all()
    assert torch.equal(plain.generator.get_state(), again.generator.get_state())
    assert not torch.equal(plain.generator.get_state(), make_env(8, random_episode_phase=True).generator.get_state())


def test_only_the_first_episode_is_short():
    """By a loop: an env ends when its count is full; its totals are of the steps that it made, and only once not whole."""
    env = make_env(64, episode_length=12, action_repeat=2, random_episode_phase=True)
    count, made = env.steps.clone(), torch.zeros(64)
    begun_late, ended = count > 0, torch.zeros(64, dtype=torch.int64)
    for _ in range(18):
        env.step(torch.zeros(64, env.action_dim))
        count, made = count + 2, made + 2
        done = env.done.bool()
        assert torch.equal(count, env.steps) and torch.equal(
            env.truncation.bool(), (count >= 12) & (env.termination == 0)
        )
        assert torch.equal(env.episode_metrics["length"], made)
        assert torch.equal(env.whole_episode, ~begun_late | ended.gt(0))
        ended += done
        count[done], made[done] = 0, 0.0
    assert ended.min() >= 2 and begun_late.any() and not begun_late.all()


def test_training_counts_whole_episodes_and_evaluation_has_no_phase():
    config = Config(
        num_timesteps=1,
        num_envs=16,
        batch_size=16,
        num_minibatches=2,
        unroll_length=5,
        episode_length=10,
        num_eval_envs=16,
        random_episode_phase=True,
        log_training_metrics=True,
        device="cpu",
        policy_hidden_layer_sizes=(4,),
        value_hidden_layer_sizes=(4,),
    )
    state = TrainingState(config, ToyTask())
    assert not state.env.whole_episode.all() and state.evaluator.env.whole_episode.all()
    late = ~state.env.whole_episode
    ends, counted = [], []
    for _ in range(3):
        state.collector()
        for stored, kept in (
            (state.batch.truncation + state.batch.termination, ends),
            (state.batch.episode_done, counted),
        ):
            # Sequence unroll * 16 + env, five steps each: in the order of time, (10, num_envs).
            kept.append(stored.unflatten(1, (2, 16)).transpose(0, 1).flatten(0, 1).clone())
    ends, counted = torch.cat(ends).bool(), torch.cat(counted).bool()
    first = ends & ends.cumsum(0).eq(1)
    assert torch.equal(counted, ends & ~(first & late)) and (first & late).any()
