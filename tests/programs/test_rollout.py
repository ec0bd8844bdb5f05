"""The call `rollout`: rows of states and what came of them."""

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask


def push(observation):
    """Actions that follow from what is seen, and differ between envs."""
    state = observation["state"] if isinstance(observation, dict) else observation
    return 0.5 * state[:, :2].clone()


def test_rows_are_those_of_an_env_stepped_by_hand():
    env = torch_ppo.make_env("cartpole", 3, seed=4, episode_length=5)
    steps = torch_ppo.rollout(lambda observation: observation[:, 1:2], env, steps=12)
    again = torch_ppo.make_env("cartpole", 3, seed=4, episode_length=5)
    observation = again.reset()
    for t in range(12):
        for name in ("qpos", "qvel", "time"):
            assert torch.equal(getattr(steps, name)[t], getattr(again.physics, name)), name
        assert torch.equal(steps.observations[t], observation)
        assert torch.equal(steps.actions[t], observation[:, 1:2])
        _, reward, done = again.step(observation[:, 1:2].clone())
        assert torch.equal(steps.rewards[t], reward) and torch.equal(steps.done[t], done.bool())
        assert torch.equal(steps.truncation[t], again.truncation.bool())
        assert torch.equal(steps.termination[t], again.termination.bool())
    assert steps.done.sum() == 6 and steps.done.dtype == torch.bool and not steps.termination.any()
    assert torch.equal(steps.first_episode, (torch.arange(12) < 5)[:, None].expand(12, 3))
    torch.testing.assert_close(steps.returns, steps.rewards[:5].sum(0))
    assert str(steps) == f"Cartpole: 12 steps of 3 envs (0.1 s), return {steps.returns.mean():.1f}"


def test_by_default_until_every_first_episode_has_ended():
    steps = torch_ppo.rollout(push, ToyTask(limit=0.35, asymmetric=True), num_envs=5, episode_length=20)
    ends = [steps.done[:, i].nonzero()[0].item() for i in range(5)]
    assert len(set(ends)) > 1 and len(steps.done) == max(ends) + 1 <= 20
    assert steps.first_episode.sum(0).tolist() == [end + 1 for end in ends]
    assert steps.observations["state"].shape == (max(ends) + 1, 5, 5)
    assert steps.observations["privileged_state"].shape == (max(ends) + 1, 5, 8)
    assert steps.metrics.keys() == {"cost", "effort_per_step"}
    assert steps.metrics["cost"].shape == steps.rewards.shape and steps.markers is None


def test_it_agrees_with_evaluate():
    """One env, the same seed: the same episode."""
    for seed in (0, 7):
        steps = torch_ppo.rollout(push, ToyTask(limit=None), seed=seed, episode_length=9)
        result = torch_ppo.evaluate(push, ToyTask(limit=None), seed=seed, episode_length=9, episodes=1)
        torch.testing.assert_close(steps.returns, result.returns)


def test_markers():
    """Where the balls were that are in no state: the target of the reacher."""
    env = torch_ppo.make_env("reacher_easy", 2, episode_length=10)
    steps = torch_ppo.rollout(lambda observation: torch.zeros(2, 2), env, steps=3)
    expected = env.task.markers(env.physics, env.memory)
    assert torch.equal(steps.markers[2], expected) and not torch.equal(expected[0], expected[1])


def test_what_cannot_be():
    with pytest.raises(torch_ppo.UserError, match="steps is 0, but must be an int greater than 0"):
        torch_ppo.rollout(push, ToyTask(), steps=0)
    with pytest.raises(torch_ppo.UserError, match="the task is not known"):
        torch_ppo.rollout(push)
