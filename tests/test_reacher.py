"""Our reacher against DM Control's, whose target is in the model."""

import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env
from torch_ppo.envs.reacher import Reacher


def copy_target(physics, env):
    """Takes over the suite's target."""
    env.memory["target"].copy_(torch.as_tensor(physics.named.model.geom_pos["target", :2])[None])


@pytest.fixture
def near_target(suite, monkeypatch):
    """The suite starts with the arm almost straight and the target at its tip, where the reward changes."""
    task = suite.reacher.Reacher
    start = task.initialize_episode

    def nearer(self, physics):
        start(self, physics)
        physics.data.qpos[:] *= 0.1
        physics.named.model.geom_pos["target", :2] = 0.23, 0.01

    monkeypatch.setattr(task, "initialize_episode", nearer)


@pytest.fixture
def beyond_limits(suite, monkeypatch):
    """The suite starts with the wrist up to a fifth beyond its limits."""
    task = suite.reacher.Reacher
    start = task.initialize_episode

    def farther(self, physics):
        start(self, physics)
        physics.data.qpos[:] *= 1.2

    monkeypatch.setattr(task, "initialize_episode", farther)


@pytest.mark.parametrize(("engine", "state_tolerance"), [("mujoco", 2e-6), ("warp", 1e-4)])
def test_same_as_dm_control(suite, beyond_limits, engine, state_tolerance):
    compare_with_suite(
        suite, Reacher(), "reacher", "easy", engine=engine, num_episodes=20, num_steps=10,
        state_tolerance=state_tolerance, prepare=copy_target,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["easy", "hard"])
def test_same_near_target(suite, near_target, name):
    rewards = compare_with_suite(
        suite, Reacher(hard=name == "hard"), "reacher", name, num_episodes=50, num_steps=4, prepare=copy_target
    )  # fmt: skip
    assert 0.1 < rewards.mean() < 0.9


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Reacher(), "reacher", "easy")
    wrist = make_env(Reacher(), num_envs=500).physics.qpos[:, 1].abs().max().item()
    assert 155 < np.rad2deg(wrist) < 160.001


def test_targets_are_distributed_as_in_dm_control(suite):
    """Mean and spread of their coordinates and of their distance from the shoulder."""
    samples = 500
    reference = suite.load("reacher", "easy", task_kwargs={"random": 1})
    theirs = np.empty((samples, 3))
    for target in theirs:
        reference.reset()
        target[:2] = reference.physics.named.model.geom_pos["target", :2]
    ours = np.empty_like(theirs)
    ours[:, :2] = make_env(Reacher(), num_envs=samples).memory["target"]
    for targets in (ours, theirs):
        targets[:, 2] = np.hypot(targets[:, 0], targets[:, 1])
    np.testing.assert_array_less(np.abs(ours.mean(0) - theirs.mean(0)), 4 * np.sqrt(2 / samples) * theirs.std(0))
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.15)
