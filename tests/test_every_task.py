"""What holds for every task: it runs in both engines as it is declared, and has a configuration."""

import mujoco
import numpy as np
import pytest
import torch

from tests.suite_comparison import make_env
from torch_ppo.config import config_names, load_config
from torch_ppo.envs import ENVS, OTHER_NAMES, make_task

NUM_ENVS = 8
pytestmark = pytest.mark.filterwarnings("error")


def play(env, num_steps, seed=0):
    """Observations, rewards of random actions: `(num_steps, num_envs, ...)`."""
    generator = torch.Generator().manual_seed(seed)
    observations, rewards = [], []
    for _ in range(num_steps):
        env.step(2 * torch.rand(env.num_envs, env.action_dim, generator=generator) - 1)
        observations.append(torch.cat(list(env.observation.values()), dim=1).clone())
        rewards.append(env.reward.clone())
    return torch.stack(observations), torch.stack(rewards)


@pytest.mark.parametrize("name", ENVS)
def test_random_play(name):
    """Finite, in range, the same for the same seed; different envs differ; episodes end at the time limit only."""
    env = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=150)
    observations, rewards = play(env, 200)
    assert observations.isfinite().all() and rewards.isfinite().all()
    assert rewards.min() >= 0 and rewards.max() <= 1 + 1e-5
    assert env.broken == 0 and not env.termination.any() and (env.steps == 50).all()
    assert not torch.equal(observations[:, 0], observations[:, 1])
    again = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=150)
    assert torch.equal(play(again, 200)[0], observations)
    other = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=150, seed=1)
    assert not torch.equal(next(iter(other.observation.values())), observations[0])


@pytest.mark.parametrize("name", ENVS)
def test_restart_is_complete(name):
    """After the time limit an env is exactly where it began, whatever happened in between."""
    env = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=20)
    first = {key: x.clone() for key, x in env.observation.items()}
    memory = {key: x.clone() for key, x in env.memory.items()}
    play(env, 20)
    assert env.done.all()
    for key, x in env.observation.items():
        assert torch.equal(x, first[key])
    for key, x in env.memory.items():
        assert torch.equal(x, memory[key])


@pytest.mark.parametrize("name", ENVS)
def test_model(name):
    """Compiles without warnings; every sensor is used, and buffers are declared."""
    task = make_task(name)
    model = task.make_model()
    env = make_env(task)
    asked, sensor = set(), env.physics.sensor
    env.physics.sensor = lambda name: asked.add(name) or sensor(name)
    task.observe(env.physics, env.memory)
    task.reward(env.physics, env.memory, torch.zeros(1, env.action_dim))
    declared = {model.sensor(i).name for i in range(model.nsensor)}
    # A domain's tasks share a model, so a sensor may be another task's.
    siblings = [make_task(other) for other in ENVS if type(make_task(other)) is type(task)]
    for sibling in siblings:
        other = make_env(sibling)
        look = other.physics.sensor
        other.physics.sensor = lambda name, look=look: asked.add(name) or look(name)
        sibling.observe(other.physics, other.memory)
        sibling.reward(other.physics, other.memory, torch.zeros(1, other.action_dim))
    assert declared == asked
    assert task.nconmax is not None and task.njmax is not None
    assert np.all(model.actuator_ctrllimited) and model.opt.timestep > 0
    assert model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON


def test_every_task_has_a_configuration_and_other_names():
    assert set(ENVS) == {name.removesuffix("_cpu") for name in config_names()} == set(OTHER_NAMES)
    for name in config_names():
        assert load_config(name).env == name.removesuffix("_cpu")


@pytest.mark.parametrize("name", ENVS)
def test_engines_agree(name):
    """From the same states, over a few control steps, before differences in the last digit grow."""
    envs = [make_env(make_task(name), num_envs=NUM_ENVS, engine=engine) for engine in ("mujoco", "warp")]
    for field in ("qpos", "qvel", "act"):
        getattr(envs[1].physics, field).copy_(getattr(envs[0].physics, field))
    for key, x in envs[1].memory.items():
        x.copy_(envs[0].memory[key])
    rewards = [play(env, 3)[1] for env in envs]
    torch.testing.assert_close(envs[1].physics.qpos, envs[0].physics.qpos, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(rewards[1], rewards[0], rtol=1e-2, atol=1e-2)
    assert not envs[1].physics.overflow.any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it traces
@pytest.mark.parametrize("name", ENVS)
def test_can_be_compiled(name):
    """One graph without breaks; what the compiler makes of it is another test's."""
    torch._dynamo.reset()
    env, plain = (make_env(make_task(name), num_envs=2) for _ in range(2))
    env.after_physics = torch.compile(env.after_physics, fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(play(env, 3), play(plain, 3))
