"""Our hopper against DM Control's."""

import numpy as np
import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, put_state
from torch_ppo.envs.hopper import Hopper

TASKS = {"stand": False, "hop": True}
# Four substeps with contacts from a cold start of the solver; Warp solves them in float32.
TOLERANCE = {"mujoco": 1e-5, "warp": 1e-4}
NUM_STEPS = {"mujoco": 50, "warp": 25}


@pytest.mark.parametrize("engine", TOLERANCE)
@pytest.mark.parametrize("name", TASKS)
def test_same_as_dm_control(suite, name, engine):
    rng = np.random.default_rng(0)

    def prepare(physics, env):
        """Moves both forward, since a random hopper earns nothing; also brings the suite's touch sensors up to date."""
        physics.data.qvel[0] = rng.uniform(0.0, 3.0)
        physics.forward()
        put_state(env, physics)

    rewards = compare_with_suite(
        suite,
        Hopper(hopping=TASKS[name]),
        "hopper",
        name,
        engine=engine,
        num_steps=NUM_STEPS[engine],
        state_tolerance=TOLERANCE[engine],
        prepare=prepare,
    )
    assert rewards.std() > 0.1


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Hopper(), "hopper", "hop")
