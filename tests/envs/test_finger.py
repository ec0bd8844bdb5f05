"""What only the finger is tested for; `tests/envs/test_suite.py` holds it against DM Control's."""

import numpy as np
import torch

from tests.helpers.suite_comparison import load
from torch_ppo.envs.finger import LINK_RANGE, touches


def test_touches_is_what_mujoco_detects(suite):
    """Also that the pins, which collide in the suite, never touch anything first."""
    physics = load(suite, "finger/turn_hard").physics
    qpos = np.random.default_rng(0).uniform(-1.0, 1.0, (3000, 3)) * [LINK_RANGE, LINK_RANGE, np.pi]
    depths = np.zeros(len(qpos))
    for i in range(len(qpos)):
        with physics.reset_context():
            physics.data.qpos[:] = qpos[i]
        depths[i] = -physics.data.contact.dist.min() if physics.data.ncon else -np.inf
    found = touches(torch.as_tensor(qpos)).numpy()
    assert (depths[found] > 0).all()
    assert (depths[~found] < 3e-4).all()
    assert 0.05 < found.mean() < 0.15
