"""Our fish against DM Control's, whose target is in the model."""

import pytest
import torch

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env
from torch_ppo.envs.fish import Fish


def copy_target(physics, env):
    """Takes over the suite's target."""
    env.memory["target"].copy_(torch.as_tensor(physics.named.model.geom_pos["target"])[None])


@pytest.mark.parametrize(("engine", "state_tolerance", "num_episodes"), [("mujoco", 2e-6, 200), ("warp", 2e-5, 100)])
def test_same_as_dm_control(suite, engine, state_tolerance, num_episodes):
    rewards = compare_with_suite(
        suite, Fish(), "fish", "swim", engine=engine, num_episodes=num_episodes, num_steps=2,
        state_tolerance=state_tolerance, prepare=copy_target,
    )  # fmt: skip
    assert rewards.min() < 0.1 and rewards.max() > 0.3  # upright alone gives no more than 0.125


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Fish(), "fish", "swim")


def test_targets_are_in_the_box_of_dm_control():
    target = make_env(Fish(), num_envs=500).memory["target"]
    low, high = torch.tensor([-0.4, -0.4, 0.1]), torch.tensor([0.4, 0.4, 0.3])
    place = (target - low) / (high - low)
    assert place.min() >= 0 and place.max() <= 1
    torch.testing.assert_close(place.mean(0), torch.full((3,), 0.5), rtol=0, atol=4 * (1 / 12 / 500) ** 0.5)
