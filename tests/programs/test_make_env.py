"""The call `make_env`: an Env by the name of its task, with every argument in its place."""

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.warp_engine import WarpPhysics


def test_by_default_the_tasks_own():
    env = torch_ppo.make_env("walker/walk")
    assert (env.num_envs, env.episode_length, env.action_repeat) == (1, 1000, 1)
    assert env.device.type == "cpu" and isinstance(env.physics, MujocoPhysics)


def test_settings():
    env = torch_ppo.make_env(
        "cartpole", 3, device="cpu", physics="warp", episode_length=8, action_repeat=4, auto_reset="random"
    )
    assert isinstance(env.physics, WarpPhysics) and env.auto_reset == "random"
    env.step(torch.zeros(3, 1))
    assert env.steps.tolist() == [4, 4, 4]
    _, _, done = env.step(torch.zeros(3, 1))
    assert done.all() and env.truncation.all()


def test_seed():
    first, same, other = (torch_ppo.make_env("cartpole", 4, seed=seed).reset() for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_randomize():
    """The same actions from the same start lead elsewhere, where each env has a model of its own."""

    def states(randomize):
        env = torch_ppo.make_env("quadruped_joystick", 2, randomize=randomize)
        env.physics.qpos.copy_(env.physics.qpos[:1].clone())
        env.physics.qvel.zero_()
        env.physics.ctrl.copy_(env.physics.ctrl[:1].clone())
        env.physics.step(50)
        return env.physics.qpos

    nominal, own = states(False), states(True)
    torch.testing.assert_close(nominal[0], nominal[1])
    assert (own[0] - own[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ("cartpol", {}, "did you mean 'cartpole'"),
        (ToyTask, {}, r"is the class ToyTask, but must be a task: ToyTask\(\) would work"),
        (ToyTask(), {"num_envs": 0}, "num_envs is 0"),
        (ToyTask(), {"num_envs": 2.5}, "num_envs is 2.5, but must be an int"),
        (ToyTask(), {"episode_length": 2, "action_repeat": 3}, "shorter than one policy step"),
        (ToyTask(), {"auto_reset": "never"}, "auto_reset is 'never'"),
        (ToyTask(), {"device": "tpu"}, "device is 'tpu'"),
        (ToyTask(), {"randomize": True}, "has no randomize"),
    ],
)
def test_what_cannot_be(environment, options, message):
    with pytest.raises(torch_ppo.UserError, match=message):
        torch_ppo.make_env(environment, **options)
