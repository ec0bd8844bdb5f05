"""Our walker against DM Control's."""

import pytest
from suite_comparison import compare_starts, compare_with_suite

from torch_ppo.envs.walker import RUN_SPEED, WALK_SPEED, Walker

TASKS = {"stand": 0.0, "walk": WALK_SPEED, "run": RUN_SPEED}
# Ten substeps with contacts from a cold start of the solver; Warp solves them in float32.
TOLERANCE = {"mujoco": 3e-5, "warp": 1e-4}
NUM_STEPS = {"mujoco": 50, "warp": 25}


@pytest.mark.parametrize("engine", TOLERANCE)
@pytest.mark.parametrize("name", TASKS)
def test_same_as_dm_control(suite, name, engine):
    rewards = compare_with_suite(
        suite,
        Walker(move_speed=TASKS[name]),
        "walker",
        name,
        engine=engine,
        num_steps=NUM_STEPS[engine],
        state_tolerance=TOLERANCE[engine],
    )
    assert rewards.std() > 0.02


def test_start_states_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Walker(), "walker", "walk")
