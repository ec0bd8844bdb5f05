"""Our walker against DM Control's."""

import numpy as np
import pytest

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, put_state
from torch_ppo.envs.walker import RUN_SPEED, WALK_SPEED, Walker

TASKS = {"stand": 0.0, "walk": WALK_SPEED, "run": RUN_SPEED}
# Ten substeps with contacts from a cold start of the solver; Warp solves them in float32.
TOLERANCE = {"mujoco": 3e-5, "warp": 1e-3}
NUM_STEPS = {"mujoco": 50, "warp": 15}


@pytest.mark.parametrize("engine", TOLERANCE)
@pytest.mark.parametrize("name", TASKS)
def test_same_as_dm_control(suite, name, engine):
    rng = np.random.default_rng(0)

    def prepare(physics, env):
        """Moves both forward, for rewards from little to full."""
        physics.data.qvel[1] = rng.uniform(-1.0, 10.0)
        physics.forward()
        put_state(env, physics)

    rewards = compare_with_suite(
        suite,
        Walker(move_speed=TASKS[name]),
        "walker",
        name,
        engine=engine,
        num_steps=NUM_STEPS[engine],
        state_tolerance=TOLERANCE[engine],
        prepare=prepare,
    )
    assert rewards.std() > 0.1


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Walker(), "walker", "walk")
