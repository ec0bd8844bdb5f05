"""What only the cheetah is tested for; `tests/envs/test_suite.py` holds it against DM Control's."""

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs.cheetah import Cheetah


def test_starts_at_rest():
    """It has fallen to the floor by then; few are still moving."""
    physics = make_env(Cheetah(), num_envs=32).physics
    assert not physics.time.any() and physics.qvel.abs().median() < 0.05
