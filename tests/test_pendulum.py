"""Our pendulum against DM Control's."""

import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite
from torch_ppo.envs.pendulum import Pendulum


@pytest.fixture
def near_target(suite, monkeypatch):
    """The suite starts ten times closer to upright, where the reward changes."""
    task = suite.pendulum.SwingUp
    start = task.initialize_episode

    def nearer(self, physics):
        start(self, physics)
        physics.data.qpos[:] *= 0.1

    monkeypatch.setattr(task, "initialize_episode", nearer)


@pytest.mark.parametrize(("engine", "state_tolerance"), [("mujoco", 2e-6), ("warp", 1e-5)])
def test_same_as_dm_control(suite, engine, state_tolerance):
    compare_with_suite(suite, Pendulum(), "pendulum", "swingup", engine=engine, state_tolerance=state_tolerance)


def test_same_near_target(suite, near_target):
    rewards = compare_with_suite(suite, Pendulum(), "pendulum", "swingup", num_episodes=50, num_steps=4)
    assert 0.2 < rewards.mean() < 0.8


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Pendulum(), "pendulum", "swingup")
