"""Our ball in cup against DM Control's."""

import mujoco
import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env
from torch_ppo.envs.ball_in_cup import BallInCup


def change_starts(suite, monkeypatch, change):
    """The suite goes on from its start state with `change(qpos, ball_x, ball_z)`; qpos is by name."""
    task = suite.ball_in_cup.BallInCup
    start = task.initialize_episode

    def changed(self, physics):
        start(self, physics)
        qpos = physics.named.data.qpos
        change(qpos, *qpos[["ball_x", "ball_z"]])

    monkeypatch.setattr(task, "initialize_episode", changed)


def in_cup(qpos, x, z):
    """The ball in the cup or its wall, where the reward changes."""
    qpos[["ball_x", "ball_z"]] = 0.2 * x, 0.35 + 0.2 * (z - 0.35)


def on_floor(qpos, x, z):
    """The ball on the floor, or a few millimetres above or below it, and the cup low enough for the string."""
    qpos[["cup_z", "ball_z"]] = -0.3, -0.17 + 0.05 * (z - 0.35)


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
def test_same_in_cup(suite, monkeypatch, engine, num_episodes, state_tolerance):
    change_starts(suite, monkeypatch, in_cup)
    rewards = compare_with_suite(
        suite, BallInCup(), "ball_in_cup", "catch", engine=engine, num_episodes=num_episodes, num_steps=8,
        state_tolerance=state_tolerance,
    )  # fmt: skip
    assert 0.1 < rewards.mean() < 0.9


@pytest.mark.parametrize(
    ("engine", "num_episodes", "state_tolerance"), [("mujoco", 10, 1e-5), ("warp", 4, 1e-3)]
)  # fmt: skip
def test_same_on_floor(suite, monkeypatch, engine, num_episodes, state_tolerance):
    change_starts(suite, monkeypatch, on_floor)
    compare_with_suite(
        suite, BallInCup(), "ball_in_cup", "catch", engine=engine, num_episodes=num_episodes, num_steps=8,
        state_tolerance=state_tolerance,
    )  # fmt: skip


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
