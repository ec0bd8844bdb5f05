"""Mistakes in a task show before training: one line with the task, the method, what was found, what is expected."""

import functools
import json
import math

import numpy as np
import pytest
import torch

import torch_ppo
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.mixing import mixing_methods
from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.task import Task, TaskError, observation_parts


def make_env(task, num_envs=6):
    generator = torch.Generator().manual_seed(0)
    return Env(task, num_envs, episode_length=20, device=torch.device("cpu"), generator=generator, engine="mujoco")


def mine(**methods):
    """A cart-pole of the name Mine with these methods or attributes."""
    return type("Mine", (Cartpole,), methods)()


def observing(function):
    return {"observe": lambda self, physics, memory: function(Cartpole.observe(self, physics, memory))}


def rewarding(function):
    return {"reward": lambda self, physics, memory, action: function(Cartpole.reward(self, physics, memory, action)[0])}


def replace_qpos(self, physics, memory, generator):
    physics.qpos = torch.zeros_like(physics.qpos)


def return_controls(self, physics, memory, action):
    return action


def global_random(self, physics, memory, generator):
    physics.qpos.copy_(torch.rand_like(physics.qpos))


def no_memory(self, physics, memory, generator):
    raise MemoryError


def clamp_action(self, physics, memory, action):
    physics.ctrl.copy_(action.clamp_(-0.5, 0.5))


def halve_speed(physics):
    speed = physics.qvel  # not a copy
    speed *= 0.5
    return speed


def with_memory(self, num_envs, device):
    return {"x": torch.zeros(num_envs, device=device)}


def rebind(self, physics, memory, action):
    memory["x"] = memory["x"] + 1


def rebind_new(self, physics, memory, action):
    memory["y"] = physics.qpos[:, 0].clone()


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (
            observing(lambda x: x.int()),
            r"Mine.observe returns observation 'state' as int32 \(6, 5\), but float \(6, 5\)",
        ),
        (observing(lambda x: x > 0), r"Mine.observe returns observation 'state' as bool \(6, 5\)"),
        (observing(lambda x: x.numpy()), r"Mine.observe returns observation 'state' as ndarray \(6, 5\)"),
        (observing(lambda x: x[:, :0]), "Mine.observe returns observation 'state' without numbers"),
        (observing(lambda x: {}), "Mine.observe returns no observation"),
        (observing(lambda x: {1: x}), "Mine.observe returns an observation named 1, but names are str"),
        (
            observing(lambda x: {"state": x, "far": x[:3]}),
            r"Mine.observe returns observation 'far' as float32 \(3, 5\)",
        ),
        (observing(lambda x: x / 0), "Mine.observe returns observation 'state' that is inf or NaN in a start state"),
        (observing(lambda x: None), "Mine.observe returns observation 'state' as NoneType"),
        (rewarding(lambda r: (r.numpy(), {})), r"Mine.reward returns the reward as ndarray \(6,\), but float \(6,\)"),
        (rewarding(lambda r: (1.0, {})), "Mine.reward returns the reward as float, but float"),
        (rewarding(lambda r: (r.long(), {})), r"Mine.reward returns the reward as int64 \(6,\)"),
        (rewarding(lambda r: (r[:, None], {})), r"Mine.reward returns the reward as float32 \(6, 1\)"),
        (rewarding(lambda r: (r, r)), "Mine.reward must return the reward, or the reward and a dict of metrics"),
        (rewarding(lambda r: (r, {"speed": r[:2]})), r"Mine.reward returns metric 'speed' as float32 \(2,\)"),
        (rewarding(lambda r: (r, {"speed": 0.0})), "Mine.reward returns metric 'speed' as float"),
        (
            {"apply": return_controls},
            r"Mine.apply returns something, but must write it: physics.ctrl.copy_\(controls\)",
        ),
        (
            {"start": replace_qpos},
            r"another tensor in the place of physics.qpos; physics.qpos.copy_\(x\) writes into it",
        ),
        ({"start": global_random}, "draws random numbers of torch's own; start has generator="),
        ({"terminated": lambda self, p, m: p.qpos > 0}, r"Mine.terminated returns bool \(6, 2\), but bool \(6,\)"),
        ({"terminated": lambda self, p, m: False}, r"Mine.terminated returns bool, but bool \(6,\)"),
        ({"action_dim": lambda self, p: 0}, "Mine.action_dim is 0: the model has no actuators; give the MJCF some, or"),
        (
            {"memory_kept": ("nothere",)},
            "Mine.memory_kept names 'nothere', which make_memory does not make; it has: none",
        ),
        (
            {"terminated": lambda self, p, m: p.qpos[:, 0] * 0 + 0.25},
            r"Mine.terminated returns float32 \(6,\), but bool \(6,\) is expected; of 0 and 1, x > 0.5 would work",
        ),
        ({"time_out": lambda self, p, m: p.qpos[:, 0] * 0}, r"Mine.time_out returns float32 \(6,\), but bool \(6,\)"),
        ({"success": lambda self, p, m: p.qpos[:, 0].int()}, r"Mine.success returns int32 \(6,\), but bool \(6,\)"),
        ({"num_random": -1}, "Mine.num_random is -1, but must be an int, 0 or greater"),
        ({"num_random": 1.5}, "Mine.num_random is 1.5, but must be an int, 0 or greater"),
        ({"metric_names": "speed"}, r"Mine.metric_names is 'speed', but must be a tuple of names"),
        ({"episode_length": None}, "Mine.episode_length is None, but must be an int of env steps, 1 or greater"),
        ({"episode_length": 0}, "Mine.episode_length is 0, but"),
        ({"episode_length": 50.5}, "Mine.episode_length is 50.5, but"),
        ({"episode_length": 2**31}, "Mine.episode_length is 2147483648, but"),
        ({"nconmax": -1}, "Mine.nconmax is -1, but must be an int, 0 or greater, or None"),
        ({"njmax": "many"}, "Mine.njmax is 'many', but must be an int"),
        (
            {"observation_names": (("x", 2, "m"),)},
            "Mine.observation_names has 2 numbers for 'state', but observe returns 5",
        ),
        ({"observation_names": "x"}, "Mine.observation_names is 'x', but must be a tuple of"),
        ({"observation_names": (("x", 5),)}, r"must be a tuple of \(name, size, unit\), or a dict of such, such as"),
        ({"observation_names": {"state": (("x", 5.0, "m"),)}}, r"must be a tuple of \(name, size, unit\)"),
        ({"make_memory": lambda self, n, device: None}, "Mine.make_memory returns NoneType, but a dict of tensors"),
        (
            {"make_memory": lambda self, n, device: {"x": torch.zeros(3)}},
            r"Mine.make_memory returns 'x' as float32 \(3,\), but a tensor \(6, ...\) is expected",
        ),
        (
            {"num_random": 1, "make_memory": lambda self, n, device: {"random": torch.zeros(n)}},
            "Mine.make_memory makes 'random', which num_random makes",
        ),
        (
            {"make_memory": with_memory, "after_step": rebind},
            r"puts another tensor in the place of memory\['x'\]; .* memory\['x'\].copy_\(x\) writes into it",
        ),
        ({"after_step": rebind_new}, r"adds memory\['y'\]; make_memory makes all of it"),
        (
            rewarding(lambda r: r if r > 0 else -r),
            r"Mine raises RuntimeError: Boolean .* torch.where\(condition, a, b\)",
        ),
        (observing(lambda x: x["angle"]), r"Mine raises IndexError: .* \(.*test_dry_step.py:[0-9]+, .*x\[.angle.\]"),
        ({"start": lambda self, physics, memory: None}, "Mine raises TypeError: .* takes 3 positional arguments but 4"),
        ({"make_memory": lambda self, num_envs: {}}, "Mine raises TypeError: .* takes 2 positional arguments but 3"),
        (
            {"make_spec": lambda self: self.mjcf.spec},
            "Mine raises AttributeError: .*no attribute 'spec' .*test_dry_step",
        ),
        (rewarding(lambda r: (r, {"length": r})), "Mine.reward returns a metric 'length', but that is what lengths of"),
        (
            rewarding(lambda r: (r, {"reward": r})),
            "Mine.reward returns a metric 'reward', but that is what rewards are",
        ),
        (rewarding(lambda r: (r, {"sum_reward": r})), "a metric 'sum_reward', but that is what the sum of rewards is"),
        (
            {"apply": clamp_action},
            r"Mine.apply writes into the action, which it may only read; .* x.clone\(\), is a copy",
        ),
        (
            {"reward": lambda self, physics, memory, action: action.mul_(2).sum(1)},
            "Mine.reward writes into the action, which it may only read",
        ),
        (
            {"observe": lambda self, physics, memory: halve_speed(physics)},
            "Mine.observe writes into the state or the sensors of physics, which it may only read",
        ),
        (
            {"reward": lambda self, physics, memory, action: halve_speed(physics).sum(1)},
            "Mine.reward writes into the state or the sensors of physics",
        ),
        (
            {"terminated": lambda self, physics, memory: halve_speed(physics).sum(1) > 1},
            "Mine.terminated writes into the state or the sensors of physics",
        ),
        ({"control_dt": math.nan}, "Mine.control_dt is nan, but must be seconds"),
        ({"control_dt": None}, "Mine.control_dt is None, but must be seconds"),
        ({"control_dt": -0.01}, "control_dt = -0.01 s is not a multiple"),
    ],
)
def test_one_line(methods, words):
    with pytest.raises(ValueError, match=words) as error:
        make_env(mine(**methods))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_the_state_is_only_read_on_both_engines(engine):
    task = mine(observe=lambda self, physics, memory: halve_speed(physics))
    with pytest.raises(TaskError, match=r"Mine\.observe writes into the state or the sensors of physics"):
        torch_ppo.make_env(task, 2, physics=engine)
    with torch.inference_mode():  # its tensors do not count what is written into them
        torch_ppo.make_env(mine(), 2, physics=engine)


def test_what_is_no_mistake_of_the_task_stays_as_it_is(monkeypatch):
    """An error inside of the engine keeps its traceback, and so does a full memory, which the programs tell of."""
    with monkeypatch.context() as patch, pytest.raises(json.JSONDecodeError):
        patch.setattr(MujocoPhysics, "forward", functools.partial(json.loads, "no JSON"))
        make_env(mine())
    with pytest.raises(MemoryError):
        make_env(mine(start=no_memory))


def test_names_of_another_observation_are_no_mistake():
    """A variant of a task that observes something else has none, rather than a run that ends without its policy."""
    task = mine(**observing(lambda x: x[:, :2]))
    env = make_env(task)
    assert env.observation_sizes == {"state": 2}
    assert observation_parts(task, "state", 2) is None
    same = observation_parts(mine(**observing(lambda x: x * 2)), "state", 5)
    assert same == observation_parts(Cartpole(), "state", 5) and same


@pytest.mark.parametrize("missing", ["start", "observe", "reward", "mjcf"])
def test_what_a_task_lacks(missing):
    has = {"control_dt": 0.01, "mjcf": Cartpole.mjcf}
    for name in ("start", "observe", "reward"):
        has[name] = getattr(Cartpole, name)
    has["__init__"] = lambda self: setattr(self, "sparse", False) or setattr(self, "swing_up", False)
    del has[missing]
    with pytest.raises(TaskError, match=f"^Bare has no {missing}, "):
        make_env(type("Bare", (Task,), has)())


def test_a_key_that_appears_later():
    class Late(Cartpole):
        def make_memory(self, num_envs, device):
            self.calls = 0
            return super().make_memory(num_envs, device)

        def observe(self, physics, memory):
            self.calls += 1
            observed = super().observe(physics, memory)
            return {"state": observed, "late": observed} if self.calls > 4 else {"state": observed}

    env = make_env(Late())
    with pytest.raises(TaskError, match=r"Late.observe returns state, late, but returned state at first"):
        for _ in range(5):
            env.step(torch.zeros(6, 1))


class MeanObserved(Cartpole):
    def observe(self, physics, memory):
        return super().observe(physics, memory) - physics.qpos.mean()


class SumRewarded(Cartpole):
    def reward(self, physics, memory, action):
        return super().reward(physics, memory, action)[0] * physics.qvel.abs().sum(), {}


class AllEnded(Cartpole):
    def terminated(self, physics, memory):
        return (physics.qpos.abs() > 1).any().expand(physics.num_envs)


@pytest.mark.parametrize(
    ("task", "found"),
    [(MeanObserved, ["observe"]), (SumRewarded, ["reward"]), (AllEnded, ["terminated"]), (Cartpole, [])],
)
def test_a_task_that_mixes_up_envs(task, found):
    env = make_env(task())
    before = env.physics.qpos.clone(), {key: x.clone() for key, x in env.memory.items()}
    assert mixing_methods(env) == found
    torch.testing.assert_close((env.physics.qpos, env.memory), before)


@pytest.mark.parametrize("name", ["walker_walk", "quadruped_joystick", "reacher_easy", "ant"])
def test_ours_do_not(name):
    assert mixing_methods(torch_ppo.make_env(name, 3)) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_types_are_cast_where_they_enter(dtype):
    class Other(Cartpole):
        def observe(self, physics, memory):
            return super().observe(physics, memory).to(dtype)

        def reward(self, physics, memory, action):
            reward, _ = super().reward(physics, memory, action)
            return reward.to(dtype), {"double": reward.to(dtype), "count": torch.ones_like(reward).int()}

    env = make_env(Other())
    for _ in range(3):
        env.step(torch.ones(6, 1))
    tensors = (*env.observation.values(), env.reward, *env.metrics.values(), env.termination)
    assert {x.dtype for x in tensors} == {torch.float32} and env.metrics["count"].eq(1).all()


def test_a_numpy_constant_of_the_model():
    """Of float64, as the home pose of a keyframe is: the observation would be, too."""

    class Double(Cartpole):
        def observe(self, physics, memory):
            home = torch.as_tensor(np.asarray(physics.model.qpos0))
            return torch.cat([super().observe(physics, memory), physics.qpos - home], dim=1)

    env = make_env(Double())
    assert env.observation["state"].dtype == torch.float32 and env.observation_sizes == {"state": 7}


def test_reward_alone_and_metrics_without_names():
    alone = make_env(mine(**rewarding(lambda reward: reward)))
    assert alone.metrics == {}
    env = make_env(mine(**rewarding(lambda reward: (reward, {"b": reward, "a": 2 * reward})), metric_names=("a",)))
    assert list(env.metrics) == ["a", "b"] and list(env.episode_metrics) == ["sum_reward", "length", "a", "b"]
    env.step(torch.zeros(6, 1))
    assert torch.equal(env.metrics["a"], 2 * env.reward) and torch.equal(env.episode_metrics["b"], env.reward)


def test_nothing_is_drawn_or_left_behind():
    """The dry step changes neither the start states nor the memory."""

    class Watched(Cartpole):
        def make_memory(self, num_envs, device):
            return {"t": torch.zeros(num_envs, device=device)}

        def after_step(self, physics, memory, action):
            memory["t"] += 1

    env, plain = make_env(Watched()), make_env(Cartpole())
    assert env.memory["t"].eq(0).all() and env.physics.ctrl.eq(0).all()
    assert torch.equal(env.physics.qpos, plain.physics.qpos)
    assert torch.equal(env.generator.get_state(), plain.generator.get_state())


@pytest.mark.parametrize(("ends", "said"), [(torch.ones, True), (torch.zeros, False)])
def test_who_ends_every_episode_at_its_start_is_asked(ends, said, caplog):
    terminated = {"terminated": lambda self, physics, memory: ends(physics.num_envs, dtype=torch.bool)}
    make_env(type("EndsAtOnce", (Cartpole,), terminated)())
    asked = "EndsAtOnce.terminated is true in every start state"
    assert any(asked in record.getMessage() for record in caplog.records) == said
