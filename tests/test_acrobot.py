"""Our acrobot against DM Control's."""

import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite
from torch_ppo.envs.acrobot import Acrobot


@pytest.fixture
def near_target(suite, monkeypatch):
    """The suite starts ten times closer to upright, where the reward changes."""
    task = suite.acrobot.Balance
    start = task.initialize_episode

    def nearer(self, physics):
        start(self, physics)
        physics.data.qpos[:] *= 0.1

    monkeypatch.setattr(task, "initialize_episode", nearer)


@pytest.mark.parametrize(("engine", "state_tolerance"), [("mujoco", 2e-6), ("warp", 1e-5)])
def test_same_as_dm_control(suite, engine, state_tolerance):
    compare_with_suite(suite, Acrobot(), "acrobot", "swingup", engine=engine, state_tolerance=state_tolerance)


@pytest.mark.parametrize("name", ["swingup", "swingup_sparse"])
def test_same_near_target(suite, near_target, name):
    task = Acrobot(sparse=name == "swingup_sparse")
    rewards = compare_with_suite(suite, task, "acrobot", name, num_episodes=50, num_steps=4)
    assert rewards.max() == 1 and rewards.std() > 0.1


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Acrobot(), "acrobot", "swingup")
