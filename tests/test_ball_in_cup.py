"""Our ball in cup against DM Control's."""

import mujoco
import pytest
from suite_comparison import compare_starts, compare_with_suite, make_env

from torch_ppo.envs.ball_in_cup import BallInCup


@pytest.fixture
def in_cup(suite, monkeypatch):
    """The suite starts with the ball in the cup or its wall, where the reward changes."""
    task = suite.ball_in_cup.BallInCup
    start = task.initialize_episode

    def nearer(self, physics):
        start(self, physics)
        ball = physics.named.data.qpos[["ball_x", "ball_z"]]
        physics.named.data.qpos[["ball_x", "ball_z"]] = 0.2 * ball[0], 0.35 + 0.2 * (ball[1] - 0.35)

    monkeypatch.setattr(task, "initialize_episode", nearer)


@pytest.mark.parametrize(
    ("engine", "num_episodes", "state_tolerance"), [("mujoco", 8, 1e-5), ("warp", 2, 1e-3)]
)  # fmt: skip
def test_same_as_dm_control(suite, engine, num_episodes, state_tolerance):
    """Episodes long enough for the ball to pull at the string."""
    compare_with_suite(
        suite, BallInCup(), "ball_in_cup", "catch", engine=engine, num_episodes=num_episodes, num_steps=50,
        state_tolerance=state_tolerance,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "num_episodes", "state_tolerance"), [("mujoco", 40, 1e-5), ("warp", 10, 1e-3)]
)  # fmt: skip
def test_same_in_cup(suite, in_cup, engine, num_episodes, state_tolerance):
    rewards = compare_with_suite(
        suite, BallInCup(), "ball_in_cup", "catch", engine=engine, num_episodes=num_episodes, num_steps=8,
        state_tolerance=state_tolerance,
    )  # fmt: skip
    assert 0.1 < rewards.mean() < 0.9


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, BallInCup(), "ball_in_cup", "catch")


def test_starts_touch_nothing():
    env = make_env(BallInCup(), num_envs=1000)
    model = env.physics.model
    data = mujoco.MjData(model)
    for qpos in env.physics.qpos.numpy():
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        assert data.ncon == 0
