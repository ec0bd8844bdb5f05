"""Our humanoid against DM Control's.

Our C MuJoCo starts the solver cold at every control step, the suite's warm; Warp solves in float32.
"""

import pytest
import torch

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env
from torch_ppo.envs.humanoid import RUN_SPEED, WALK_SPEED, Humanoid

SPEEDS = {"stand": 0.0, "walk": WALK_SPEED, "run": RUN_SPEED}


@pytest.mark.parametrize("name", SPEEDS)
def test_same_as_dm_control(suite, name):
    contacts = []
    rewards = compare_with_suite(
        suite, Humanoid(move_speed=SPEEDS[name]), "humanoid", name, state_tolerance=5e-5,
        prepare=lambda physics, env: contacts.append(physics.data.ncon),
    )  # fmt: skip
    assert max(contacts) >= 6  # it does fall
    assert rewards.min() < 0.1 * rewards.max()


def test_same_as_dm_control_in_the_air_on_warp(suite):
    """Until the floor is reached: a capsule that stands on it steeply gets other friction directions in Warp."""
    compare_with_suite(
        suite, Humanoid(), "humanoid", "stand", engine="warp", num_episodes=2, num_steps=10, state_tolerance=1e-4
    )


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


def test_orientations_are_distributed_as_in_dm_control(suite):
    compare_starts(suite, Humanoid(), "humanoid", "stand", columns=slice(0, 7))


def test_starts_are_within_the_joints_ranges():
    env = make_env(Humanoid(), num_envs=500)
    low, high = torch.as_tensor(env.physics.model.jnt_range[1:], dtype=torch.float32).T
    angles = (env.physics.qpos[:, 7:] - low) / (high - low)
    assert angles.min() >= 0 and angles.max() <= 1
    torch.testing.assert_close(angles.mean(0), torch.full((21,), 0.5), rtol=0, atol=4 * (1 / 12 / 500) ** 0.5)


def test_contacts_fit_on_warp():
    """Humanoids dropped onto the floor in random poses, some into it, stay within `nconmax` and `njmax`."""
    env = make_env(Humanoid(), engine="warp", num_envs=16)
    env.physics.qpos[:, 2] = torch.linspace(0.2, 1.0, 16)
    actions = torch.Generator().manual_seed(0)
    for _ in range(8):
        env.step(torch.rand(16, env.action_dim, generator=actions) * 2 - 1)
    assert not env.physics.overflow.any()
