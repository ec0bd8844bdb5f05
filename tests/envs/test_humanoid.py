"""What only the humanoid is tested for; `tests/envs/test_suite.py` holds it against DM Control's."""

import torch

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs.humanoid import Humanoid


def test_engines_agree_on_the_feet():
    """From a standing start, each step from the same state."""
    envs = [make_env(Humanoid(), engine=engine) for engine in ("mujoco", "warp")]
    envs[0].physics.qpos.copy_(torch.as_tensor(envs[0].physics.model.qpos0)[None])
    envs[0].physics.qpos[:, 2] = 1.283  # soles 2 mm in the floor
    envs[0].physics.qvel.zero_()
    actions = torch.Generator().manual_seed(0)
    for _ in range(10):
        for name in ("qpos", "qvel"):
            getattr(envs[1].physics, name).copy_(getattr(envs[0].physics, name))
        action = torch.rand(1, 21, generator=actions) - 0.5
        for env in envs:
            env.step(action)
        for name in ("qpos", "qvel"):
            found, expected = (getattr(env.physics, name) for env in envs[::-1])
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert envs[0].reward.item() > 0.5  # it still stands


def test_contacts_fit_on_warp():
    """Humanoids dropped onto the floor in random poses, some into it, stay within `nconmax` and `njmax`."""
    env = make_env(Humanoid(), engine="warp", num_envs=16)
    env.physics.qpos[:, 2] = torch.linspace(0.2, 1.0, 16)
    actions = torch.Generator().manual_seed(0)
    for _ in range(8):
        env.step(torch.rand(16, env.action_dim, generator=actions) * 2 - 1)
    assert not env.physics.overflow.any()
