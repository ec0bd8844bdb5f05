"""Our point mass against DM Control's."""

import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite
from torch_ppo.envs.point_mass import PointMass


@pytest.fixture
def near_target(suite, monkeypatch):
    """The suite starts ten times closer to the target, where the reward changes."""
    task = suite.point_mass.PointMass
    start = task.initialize_episode

    def nearer(self, physics):
        start(self, physics)
        physics.data.qpos[:] *= 0.1

    monkeypatch.setattr(task, "initialize_episode", nearer)


@pytest.fixture
def beyond_limits(suite, monkeypatch):
    """The suite starts with either coordinate up to a fifth beyond its limits."""
    task = suite.point_mass.PointMass
    start = task.initialize_episode

    def farther(self, physics):
        start(self, physics)
        physics.data.qpos[:] *= 1.2

    monkeypatch.setattr(task, "initialize_episode", farther)


@pytest.mark.parametrize(("engine", "state_tolerance"), [("mujoco", 2e-6), ("warp", 1e-4)])
def test_same_as_dm_control(suite, beyond_limits, engine, state_tolerance):
    compare_with_suite(
        suite, PointMass(), "point_mass", "easy", engine=engine, num_episodes=20, num_steps=10,
        state_tolerance=state_tolerance,
    )  # fmt: skip


def test_same_near_target(suite, near_target):
    rewards = compare_with_suite(suite, PointMass(), "point_mass", "easy", num_episodes=50, num_steps=4)
    assert rewards.max() > 0.8 and rewards.std() > 0.2


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, PointMass(), "point_mass", "easy")
