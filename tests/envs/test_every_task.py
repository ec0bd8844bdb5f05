"""What holds for every task: it runs in both engines as it is declared, and has a configuration."""

import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs import ENVS, OTHER_NAMES, make_task
from torch_ppo.settings.files import config_names, load_config
from torch_ppo.simulation.task import Task

NUM_ENVS = 8
pytestmark = pytest.mark.filterwarnings("error")


def play(env, num_steps, seed=0):
    """Observations, rewards of random actions: `(num_steps, num_envs, ...)`."""
    generator = torch.Generator().manual_seed(seed)
    observations, rewards = [], []
    for _ in range(num_steps):
        env.step(2 * torch.rand(env.num_envs, env.action_dim, generator=generator) - 1)
        observations.append(torch.cat([x.flatten(1).float() for x in env.observation.values()], dim=1))
        rewards.append(env.reward.clone())
    return torch.stack(observations), torch.stack(rewards)


def can_terminate(task):
    return type(task).terminated is not Task.terminated


def sensors_read(task):
    """Names of the sensors that any of the task's methods asks for."""
    env, asked = make_env(task), set()
    sensor = env.physics.sensor
    env.physics.sensor = lambda name: asked.add(name) or sensor(name)
    env.reset()
    env.step(torch.zeros(1, env.action_dim))
    return asked


@pytest.mark.parametrize("name", ENVS)
def test_random_play(name):
    """Finite, in range, the same for the same seed; different envs differ; episodes end as the task declares."""
    env = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=150)
    observations, rewards = play(env, 200)
    assert observations.isfinite().all() and rewards.isfinite().all()
    low, high = env.task.reward_range
    assert rewards.min() >= low - 1e-5 and rewards.max() <= high + 1e-5
    assert env.broken.total == 0
    if not can_terminate(env.task):
        assert not env.termination.any() and (env.steps == 50).all()
    assert not torch.equal(observations[:, 0], observations[:, 1])
    again = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=150)
    assert torch.equal(play(again, 200)[0], observations)
    other = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=150, seed=1)
    assert not torch.equal(next(iter(other.observation.values())), observations[0])


@pytest.mark.parametrize("name", ENVS)
def test_restart_is_complete(name):
    """After an episode an env is exactly where it began, whatever happened in between, but for what is new in each."""
    env = make_env(make_task(name), num_envs=NUM_ENVS, episode_length=20)
    new = written_by_each_episode(env)
    first = {key: x.clone() for key, x in env.observation.items() if not new}
    state = {key: x.clone() for key, x in env.physics.start_parts().items()}
    memory = {key: x.clone() for key, x in env.memory.items()}
    play(env, 20)
    done = env.done.bool()
    assert done.any() and (can_terminate(env.task) or done.all())
    for found, expected in ((env.observation, first), (env.physics.start_parts(), state)):
        for key, x in expected.items():
            assert torch.equal(found[key][done], x[done]), key
    for key in memory.keys() - {"random", *env.task.memory_kept, *new}:
        assert torch.equal(env.memory[key][done], memory[key][done]), key


def written_by_each_episode(env):
    """Names of the memory that is new in every episode."""
    nothing = {key: torch.full_like(x, torch.nan) for key, x in env.memory.items()}
    env.task.each_episode(nothing, torch.Generator().manual_seed(0))
    return {key for key, x in nothing.items() if not x.isnan().all()}


@pytest.mark.parametrize("name", ENVS)
def test_model(name):
    """Compiles without warnings; every sensor is used, and buffers are declared."""
    task = make_task(name)
    model = task.make_model()
    declared = {model.sensor(i).name for i in range(model.nsensor)}
    # A domain's tasks share a model, so a sensor may be another task's.
    siblings = [make_task(other) for other in ENVS if make_task(other).mjcf == task.mjcf]
    asked = set().union(*map(sensors_read, siblings))
    assert declared == asked
    assert task.nconmax is not None and task.njmax is not None
    assert type(task).apply is not Task.apply or np.all(model.actuator_ctrllimited)
    assert model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON


def test_every_task_has_a_configuration():
    assert set(ENVS) == {name.removesuffix("_cpu") for name in config_names()}
    assert set(OTHER_NAMES) <= set(ENVS)
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
    rewards = [play(env, 2)[1] for env in envs]
    # Where triangles of a height field meet, C MuJoCo keeps more of the contacts than MuJoCo Warp.
    tolerance = 2e-2 if envs[0].physics.model.nhfield else 2e-3
    torch.testing.assert_close(envs[1].physics.qpos, envs[0].physics.qpos, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(rewards[1], rewards[0], rtol=1e-2, atol=1e-2)
    assert not envs[1].physics.overflow.any()


@pytest.mark.parametrize("name", [name for name in ENVS if type(make_task(name)).randomize is not Task.randomize])
def test_randomised_engines_agree(name):
    """With the same models drawn for both, which differ from world to world."""
    task = make_task(name)
    envs = [
        make_env(make_task(name), num_envs=NUM_ENVS, engine=engine, randomize=True) for engine in ("mujoco", "warp")
    ]
    for field in ("qpos", "qvel", "act"):
        getattr(envs[1].physics, field).copy_(getattr(envs[0].physics, field))
    for key, x in envs[1].memory.items():
        x.copy_(envs[0].memory[key])
    for env in envs:
        play(env, 3)
    tolerance = 2e-2 if envs[0].physics.model.nhfield else 2e-3
    torch.testing.assert_close(envs[1].physics.qpos, envs[0].physics.qpos, rtol=tolerance, atol=tolerance)
    fields = task.randomize(envs[0].physics, torch.Generator().manual_seed(0))
    assert all(value.shape[0] == NUM_ENVS and (value[0] != value[1]).any() for value in fields.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it traces
@pytest.mark.parametrize("name", ENVS)
def test_can_be_compiled(name):
    """One graph without breaks; what the compiler makes of it is another test's."""
    torch._dynamo.reset()
    env, plain = (make_env(make_task(name), num_envs=2) for _ in range(2))
    env.after_physics = torch.compile(env.after_physics, fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(play(env, 3), play(plain, 3))


@pytest.mark.parametrize("name", ENVS)
def test_apply_keeps_no_action(name):
    """With action_delay it gets what arrives. What a task remembers is what was sent, which `after_step` gets."""
    env, kept = make_env(make_task(name), num_envs=2), []
    for value in (0.0, 1.0):
        memory = {key: x.clone() for key, x in env.memory.items()}
        env.task.apply(env.physics, memory, torch.full((2, env.action_dim), value))
        kept.append(memory)
    torch.testing.assert_close(*kept, rtol=0, atol=0)
