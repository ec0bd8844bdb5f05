"""Our cheetah against DM Control's."""

import numpy as np
import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env, put_state
from torch_ppo.envs.cheetah import Cheetah

# Warp solves contacts in float32.
TOLERANCE = {"mujoco": 1e-5, "warp": 1e-4}
NUM_STEPS = {"mujoco": 100, "warp": 50}


@pytest.mark.parametrize("engine", TOLERANCE)
def test_same_as_dm_control(suite, engine):
    rng = np.random.default_rng(0)

    def prepare(physics, env):
        """Moves both forward, for rewards from none to full."""
        physics.data.qvel[0] = rng.uniform(-2.0, 12.0)
        physics.forward()
        put_state(env, physics)

    rewards = compare_with_suite(
        suite,
        Cheetah(),
        "cheetah",
        "run",
        engine=engine,
        num_steps=NUM_STEPS[engine],
        state_tolerance=TOLERANCE[engine],
        prepare=prepare,
    )
    assert rewards.std() > 0.2


def test_starts_on_the_floor_as_in_dm_control(suite):
    """Positions only: few are still moving, so the spread of velocities is that of a few."""
    compare_starts(suite, Cheetah(), "cheetah", "run", samples=300, columns=slice(0, 9))
    physics = make_env(Cheetah(), num_envs=32).physics
    assert not physics.time.any() and physics.qvel.abs().median() < 0.05
