"""An unroll in blocks of policy steps is the unroll."""

import pytest

from torch_ppo.envs import make_task
from torch_ppo.learning.blocks import Blocks, steps_of_block
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SETTINGS = {
    "num_timesteps": 10**6,
    "num_envs": 8,
    "batch_size": 8,
    "num_minibatches": 2,
    "unroll_length": 12,
    "episode_length": 14,  # episodes end within blocks
    "num_evals": 0,
    "normalize_observations": True,
    "device": "cpu",
    "compile": False,
    "physics": "mujoco",
}


@pytest.mark.parametrize("num_steps", [1, 4, 12])
@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("cartpole", {"action_repeat": 2, "random_episode_phase": True}),
        ("walker_walk", {"normalize_rewards": True, "log_training_metrics": True}),
        ("quadruped_joystick", {"auto_reset": "random"}),
    ],
)
def test_an_unroll_in_blocks_is_the_unroll(task, settings, num_steps, differences):
    """Two unrolls, bit for bit: batch, what is summed for reports, and where the envs stand."""
    plain, blocks = (TrainingState(Config(**SETTINGS, **settings), make_task(task)) for _ in range(2))
    blocks.collector.policy_steps = Blocks(blocks.collector, num_steps)
    for state in (plain, blocks):
        state.collector()
    assert not plain.env.done.isnan().any() and plain.batch.reward.abs().sum() > 0
    assert differences(vars(plain.batch), vars(blocks.batch)) == []
    assert differences(plain.checkpoint(), blocks.checkpoint()) == []


@pytest.mark.parametrize(
    ("unroll_length", "action_repeat", "expected"),
    [(20, 1, 5), (20, 2, 2), (7, 1, 1), (6, 1, 3), (20, 8, 1), (3, 1, 3)],
)
def test_a_block_divides_the_unroll_and_has_at_most_five_steps_of_physics(unroll_length, action_repeat, expected):
    assert steps_of_block(unroll_length, action_repeat) == expected
