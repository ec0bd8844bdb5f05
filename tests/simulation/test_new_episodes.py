"""Episodes that differ: memory of their own in tasks that have some, and start states that are drawn anew."""

import math

import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.toy import ToyTask
from torch_ppo.envs import make_task
from torch_ppo.running.training_state import clone, copy_into
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.host import as_on_cuda
from torch_ppo.simulation.task import Task

CPU = torch.device("cpu")
both_engines = pytest.mark.parametrize("engine", ["mujoco", "warp"])
JOYSTICK = ("quadruped_joystick", "quadruped_joystick_rough", "biped_joystick")
COMMAND_COLUMNS = {"quadruped_joystick": slice(45, 48), "biped_joystick": slice(30, 33)}


def make_env(task, num_envs=8, *, seed=0, episode_length=4, engine="mujoco", **options):
    generator = torch.Generator().manual_seed(seed)
    task = make_task(task) if isinstance(task, str) else task
    return Env(task, num_envs, episode_length=episode_length, device=CPU, generator=generator, engine=engine, **options)


def step(env, count=1):
    for _ in range(count):
        env.step(torch.zeros(env.num_envs, env.action_dim))


def same_distribution(a, b, error=1e-4):
    """Whether the test of Kolmogorov and Smirnov finds no difference of two samples, which it finds with `error` in vain."""
    both = torch.cat([a, b]).unique()
    below = [torch.searchsorted(x.sort().values, both, right=True) / len(x) for x in (a, b)]
    limit = math.sqrt(-math.log(error / 2) / 2 * (1 / len(a) + 1 / len(b)))
    return (below[0] - below[1]).abs().max() < limit


def test_the_test_of_distributions_finds_differences():
    x = torch.rand(500, generator=torch.Generator().manual_seed(0))
    assert not same_distribution(x, x**1.5) and not same_distribution(x, x * 0.8) and same_distribution(x, 1 - x)


# Memory that is new in every episode


@both_engines
@pytest.mark.parametrize("auto_reset", ["cached", "random", "fresh"])
@pytest.mark.parametrize("name", COMMAND_COLUMNS)
def test_every_episode_has_a_command_of_its_own(name, auto_reset, engine):
    """The observation shows it from the first one on, and noise is new too."""
    env = make_env(name, engine=engine, auto_reset=auto_reset)
    commands, pushes, seen = [], [], []
    for episode in range(5):
        if episode:
            step(env, 4)
            assert env.done.all()
        commands.append(env.memory["command"].clone())
        pushes.append(env.memory["push_steps"].clone())
        seen.append(env.observation["state"].clone())
        torch.testing.assert_close(seen[-1][:, COMMAND_COLUMNS[name]], commands[-1], rtol=0, atol=0)
    commands, pushes, seen = torch.stack(commands), torch.stack(pushes), torch.stack(seen)
    standing = (commands == 0).all(2)
    for i in range(env.num_envs):
        assert len(commands[~standing[:, i], i].unique(dim=0)) == (~standing[:, i]).sum()
        assert len(pushes[:, i].unique()) > 2
        assert len(seen[:, i, :3].unique(dim=0)) == 5


@pytest.mark.parametrize("name", JOYSTICK)
def test_commands_of_later_episodes_are_distributed_as_of_the_first(name):
    env = make_env(name, 400, episode_length=1)
    first = {key: env.memory[key].clone() for key in ("command", "command_steps", "push_steps")}
    for _ in range(2):
        step(env)
        for key, expected in first.items():
            for found, column in zip(env.memory[key].T, expected.T, strict=True):
                assert same_distribution(found, column), key


def test_the_start_state_is_still_the_own_one():
    env = make_env("quadruped_joystick")
    qpos, sensors = env.physics.qpos.clone(), env.physics.sensordata.clone()
    step(env, 4)
    assert env.done.all()
    assert torch.equal(env.physics.qpos, qpos) and torch.equal(env.physics.sensordata, sensors)


class Kept(ToyTask):
    """`goal` is new in every episode, and seen; `kept` is written by each_episode but survives."""

    memory_kept = ("kept",)

    def make_memory(self, num_envs, device):
        return {name: torch.zeros(num_envs, device=device) for name in ("t", "tick", "goal", "kept")}

    def each_episode(self, memory, generator):
        memory["goal"].uniform_(generator=generator)
        memory["kept"].uniform_(generator=generator)

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, memory["goal"][:, None]], 1)


def test_only_the_ended_get_new_memory_and_what_is_kept_stays():
    env = make_env(Kept(limit=0.3), 32, episode_length=20)
    kept, ended = env.memory["kept"].clone(), 0
    for _ in range(15):
        before = env.memory["goal"].clone()
        env.step(torch.rand(32, 2) * 2 - 1)
        done = env.done.bool()
        ended += int(done.sum())
        assert torch.equal(env.memory["goal"] == before, ~done)
        assert torch.equal(env.observation["state"][:, 3], env.memory["goal"])
    assert ended > 10 and torch.equal(env.memory["kept"], kept)


# Start states drawn anew


@both_engines
@pytest.mark.parametrize("name", ["reacher_easy", "quadruped_joystick"])
def test_fresh_starts_are_new_and_seen_as_a_reset_would(name, engine):
    """Every restart elsewhere; what is seen is what a forward pass at that state gives."""
    env = make_env(name, engine=engine, auto_reset="fresh")
    starts = [env.physics.qpos.clone()]
    for _ in range(3):
        step(env, 4)
        assert env.done.all()
        starts.append(env.physics.qpos.clone())
        assert (env.physics.time == 0).all()
        seen = {key: x.clone() for key, x in env.observation.items()}
        env.physics.forward()
        for key, x in env._observations.newest(env.memory).items():
            torch.testing.assert_close(seen[key], x, rtol=0, atol=0)
    starts = torch.stack(starts, 1)
    assert all(len(of_one.unique(dim=0)) == 4 for of_one in starts)


@pytest.mark.parametrize("name", ["acrobot_swingup", "reacher_easy", "biped_joystick"])
def test_fresh_starts_are_distributed_as_those_of_the_task(name):
    """Each part of state and memory, in the second and third episode, against the starts of a full reset."""
    env = make_env(name, 500, episode_length=2, auto_reset="fresh")

    def parts():
        named = {**env.physics.start_parts(), **env.memory, **env.observation}
        return {key: x.flatten(1).clone() for key, x in named.items()}

    expected = parts()
    compared = 0
    for _ in range(2):
        step(env, 2)
        for key, x in parts().items():
            for found, column in zip(x.T, expected[key].T, strict=True):
                if len(column.unique()) > 1:
                    assert same_distribution(found, column), key
                    compared += 1
                else:
                    torch.testing.assert_close(found, column)
    assert compared > 4


@both_engines
def test_fresh_starts_do_not_disturb_what_goes_on(engine):
    """Until its first restart every env goes as with cached starts; others' ends are not noticed."""
    fresh, cached = (make_env("quadruped_joystick", engine=engine, auto_reset=kind) for kind in ("fresh", "cached"))
    for env in (fresh, cached):
        env.steps[:4] += 2  # half of them end earlier
    for key, x in cached.memory.items():
        assert torch.equal(fresh.memory[key], x), key
    generator = torch.Generator().manual_seed(1)
    for count in range(3):
        action = torch.rand(8, 12, generator=generator) - 0.5
        for env in (fresh, cached):
            env.step(action)
        going = slice(4, 8) if count else slice(0, 8)
        # Random numbers of a step differ, and with them the noise.
        assert torch.equal(fresh.physics.qpos[going], cached.physics.qpos[going])
        assert torch.equal(fresh.physics.sensordata[going], cached.physics.sensordata[going])
    assert not torch.equal(fresh.physics.qpos[:4], cached.physics.qpos[:4])


@pytest.mark.parametrize("name", ["quadruped_joystick", "acrobot_swingup"])
def test_fresh_goes_on_bit_for_bit(name):
    """From a copy of state and generator, taken amid episodes and right after ends."""
    for before in (3, 4):
        env, other = make_env(name, auto_reset="fresh"), make_env(name, auto_reset="fresh", seed=9)
        step(env, before)
        saved, number = clone(env.state()), env.generator.get_state()
        copy_into(other.state(), saved)
        other.generator.set_state(number)
        for _ in range(9):
            step(env)
            step(other)
            for key, x in env.observation.items():
                assert torch.equal(x, other.observation[key])
            assert torch.equal(env.physics.qpos, other.physics.qpos)


def test_fresh_is_the_same_where_the_host_cannot_ask():
    env, other = (make_env("quadruped_joystick", auto_reset="fresh", episode_length=3) for _ in range(2))
    for _ in range(10):
        step(env)
        with as_on_cuda():
            step(other)
        assert torch.equal(env.physics.qpos, other.physics.qpos)
        assert torch.equal(env.observation["privileged_state"], other.observation["privileged_state"])


def test_fresh_starts_see_the_model_of_their_own_world():
    """Domain randomisation: a sensor at the start says what this world's model has."""

    class Heavy(Task):
        control_dt = 0.01
        mjcf = "none"

        def make_model(self):
            return mujoco.MjModel.from_xml_string(
                """<mujoco><option timestep="0.01"/><worldbody><body><joint name="j" type="slide"/>
                <geom size="0.1" mass="1"/></body></worldbody><actuator><motor joint="j"/></actuator>
                <sensor><subtreecom name="com" body="world"/><jointpos name="q" joint="j"/></sensor></mujoco>"""
            )

        def start(self, physics, memory, generator):
            physics.qpos.uniform_(generator=generator)

        def observe(self, physics, memory):
            return physics.sensor("com")

        def reward(self, physics, memory, action):
            return physics.time

    offset = torch.arange(8.0)

    def randomization(physics, generator):
        moved = torch.as_tensor(physics.model.body_pos).float().expand(8, -1, -1).clone()
        moved[:, 1, 0] = offset
        return {"body_pos": moved}

    env = make_env(Heavy(), auto_reset="fresh", randomization_fn=randomization)
    for _ in range(3):
        step(env, 4)
        np.testing.assert_allclose(env.observation["state"][:, 0], offset, atol=1e-6)
        np.testing.assert_allclose(env.observation["state"][:, 2], env.physics.qpos[:, 0], atol=1e-6)
