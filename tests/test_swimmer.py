"""Our swimmer against DM Control's, whose target is in the model."""

import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env
from torch_ppo.envs.swimmer import Swimmer


def copy_target(physics, env):
    """Takes over the suite's target."""
    env.memory["target"].copy_(torch.as_tensor(physics.named.model.geom_pos["target", :2])[None])


@pytest.mark.parametrize(("engine", "state_tolerance", "num_episodes"), [("mujoco", 2e-6, 150), ("warp", 1.5e-4, 40)])
def test_same_as_dm_control(suite, engine, state_tolerance, num_episodes):
    rewards = compare_with_suite(
        suite, Swimmer(), "swimmer", "swimmer6", engine=engine, num_episodes=num_episodes, num_steps=3,
        state_tolerance=state_tolerance, prepare=copy_target,
    )  # fmt: skip
    assert rewards.min() < 0.1 and rewards.max() > 0.9  # far from the target and near it


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Swimmer(), "swimmer", "swimmer6")


def test_targets_are_distributed_as_in_dm_control(suite):
    """Which fraction of them has either coordinate beyond some distances, among them the close ones'."""
    samples = 500
    reference = suite.load("swimmer", "swimmer6", task_kwargs={"random": 1})
    theirs = np.empty((samples, 2))
    for target in theirs:
        reference.reset()
        target[:] = reference.physics.named.model.geom_pos["target", :2]
    ours = make_env(Swimmer(), num_envs=samples).memory["target"].numpy()
    for distance in (-1.9, -0.3, 0.0, 0.3, 1.9):
        difference = (ours > distance).mean(0) - (theirs > distance).mean(0)
        np.testing.assert_allclose(difference, 0, atol=4 * np.sqrt(0.5 / samples))
    np.testing.assert_allclose((abs(ours) < 0.3).all(1).mean(), 0.2, atol=0.1)
