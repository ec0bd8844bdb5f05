"""The rules of an episode that no golden fixture has: restarts, broken simulations, seeds, and a task's mistakes."""

import mujoco
import pytest
import torch
from torch import Tensor

from tests.helpers.toy import ToyTask
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.physics import PhysicsError
from torch_ppo.simulation.task import TaskError

CPU = torch.device("cpu")


class FallingCartpole(Cartpole):
    """Ends when the pole leans, so that envs end at different times."""

    def terminated(self, physics, memory):
        return physics.qpos[:, 1].abs() > 0.1


TASKS = {"toy": ToyTask, "cartpole": FallingCartpole}
both_tasks = pytest.mark.parametrize("make_task", TASKS.values(), ids=TASKS)


def make_env(task, num_envs=8, *, seed=0, episode_length=40, **options):
    generator = torch.Generator().manual_seed(seed)
    return Env(
        task,
        num_envs,
        episode_length=episode_length,
        device=CPU,
        generator=generator,
        engine="mujoco",
        **options,
    )


def random_actions(env, num_steps, seed=1):
    """(num_steps, num_envs, action_dim), uniform in ±1, a little to one side."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_steps, env.num_envs, env.action_dim, generator=generator) * 2.0 - 0.8


def snapshot(env):
    """Copies of the state of every world and of what the env shows of it, by name."""
    parts = {"observation": env.observation, "physics": env.physics.state(), "memory": env.memory}
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    return {name: tensor.clone() for name, tensor in {**tensors, "reward": env.reward, "done": env.done}.items()}


def restored(env):
    """Names of a snapshot that a restart puts back."""
    kept = {f"memory/{name}" for name in env.task.memory_kept}
    return snapshot(env).keys() - {"reward", "done", "physics/sensordata", *kept}


def all_tensors(nest):
    """Every tensor of nested dicts."""
    for value in nest.values():
        yield from [value] if isinstance(value, Tensor) else all_tensors(value)


# Restarts


@both_tasks
def test_cached_restart_is_from_the_own_first_state(make_task):
    env = make_env(make_task())
    first = snapshot(env)
    restarts = torch.zeros(env.num_envs)
    for action in random_actions(env, 100):
        env.step(action)
        done = env.done.bool()
        now = snapshot(env)
        for name in restored(env):
            assert torch.equal(now[name][done], first[name][done]), name
        assert not torch.isclose(env.observation["state"][~done], first["observation/state"][~done]).all(1).any()
        restarts += env.done
    assert restarts.min() >= 2 and restarts.unique().numel() > 1


@both_tasks
def test_random_restart_is_from_the_pool(make_task):
    env = make_env(make_task(), auto_reset="random")
    first = snapshot(env)
    sources = []
    for action in random_actions(env, 200):
        env.step(action)
        for i in env.done.nonzero().flatten():
            (source,) = (first["observation/state"] == env.observation["state"][i]).all(1).nonzero().flatten().tolist()
            assert torch.equal(env.physics.qpos[i], env.starts.pool["qpos"][source])
            assert torch.equal(env.physics.qvel[i], env.starts.pool["qvel"][source])
            assert env.physics.time[i] == 0.0
            sources.append((i.item(), source))
    assert {source for _, source in sources} == set(range(env.num_envs))
    assert any(source != i for i, source in sources)


def test_restart_resets_memory_but_what_the_task_keeps():
    env = make_env(ToyTask(limit=None), episode_length=5)
    for action in random_actions(env, 7):
        env.step(action)
    assert env.memory["t"].tolist() == [2.0] * env.num_envs
    assert env.memory["tick"].tolist() == [7.0] * env.num_envs


@both_tasks
def test_reset_leaves_nothing_behind(make_task):
    """Everything is NaN before, as in a new env after; only the count of broken simulations stays."""
    env, fresh = make_env(make_task()), make_env(make_task())
    for action in random_actions(env, 10):
        env.step(action)
    for tensor in all_tensors(env.state()):
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)
    env.steps.fill_(30)
    env.generator.manual_seed(0)
    env.reset()
    for found, expected in zip(all_tensors(env.state()), all_tensors(fresh.state()), strict=True):
        assert torch.equal(found, expected)
    for action in random_actions(env, 30):
        env.step(action)
        fresh.step(action)
        for name, expected in snapshot(fresh).items():
            assert torch.equal(snapshot(env)[name], expected), name


def test_reset_draws_new_start_states():
    env = make_env(ToyTask())
    first = snapshot(env)
    env.reset()
    assert not torch.isclose(env.observation["state"], first["observation/state"]).all(1).any()
    assert torch.equal(env.starts.pool["qpos"], env.physics.qpos)


# Broken simulations


@both_tasks
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_broken_world_ends_alone(make_task, poison, tmp_path, monkeypatch):
    """One world's state becomes NaN or infinite: it ends with reward 0 and restarts, and no other world notices."""
    monkeypatch.chdir(tmp_path)  # C MuJoCo writes MUJOCO_LOG.TXT
    env, healthy = make_env(make_task()), make_env(make_task())
    first = snapshot(env)
    actions = random_actions(env, 30)
    for action in actions[:3]:
        env.step(action)
        healthy.step(action)
    broken, others = 2, [i for i in range(env.num_envs) if i != 2]
    for tensor in (env.physics.qpos, env.physics.qvel, env.physics.time, *env.memory.values()):
        tensor[broken] = poison
    env.step(actions[3])
    healthy.step(actions[3])

    assert env.broken.total == 1 and healthy.broken.total == 0
    assert env.done[broken] == env.termination[broken] == 1.0 and env.truncation[broken] == 0.0
    assert env.reward[broken] == 0.0
    assert env.episode_metrics["sum_reward"][broken].isfinite()
    assert all(metric[broken] == 0.0 for metric in env.metrics.values())
    for name in restored(env):
        assert torch.equal(snapshot(env)[name][broken], first[name][broken]), name

    # From here on the broken world is like that of a new env, and the others like those of the healthy env.
    fresh = make_env(make_task())
    for action in actions[4:]:
        for each in (env, healthy, fresh):
            each.step(action)
        for name, expected in snapshot(healthy).items():
            assert torch.equal(snapshot(env)[name][others], expected[others]), name
        for name in restored(env) | {"reward", "done"}:
            assert torch.equal(snapshot(env)[name][broken], snapshot(fresh)[name][broken]), name
    assert env.broken.total == 1


def test_no_world_breaks_of_itself():
    env = make_env(FallingCartpole())
    for action in random_actions(env, 50):
        env.step(100.0 * action)
    assert env.broken.total == 0


# Seeds


@both_tasks
@pytest.mark.parametrize("auto_reset", ["cached", "random"])
def test_same_seed_same_trajectory(make_task, auto_reset):
    env, same, other = (make_env(make_task(), seed=seed, auto_reset=auto_reset) for seed in (3, 3, 4))
    for action in random_actions(env, 60):
        for each in (env, same, other):
            each.step(action)
        for name, expected in snapshot(env).items():
            assert torch.equal(snapshot(same)[name], expected), name
    assert not torch.equal(env.observation["state"], other.observation["state"])


@both_tasks
def test_envs_differ(make_task):
    observation = make_env(make_task(), 16).observation["state"]
    assert len(observation.unique(dim=0)) == 16


# Mistakes in a task


@pytest.mark.parametrize(
    ("observe", "found"),
    [
        (lambda x: x[:-1], "(7, 3)"),
        (lambda x: x[None], "(1, 8, 3)"),
        (lambda x: x.long(), "int64"),
    ],
)
def test_wrong_observation_is_named(observe, found):
    class Careless(ToyTask):
        def observe(self, physics, memory):
            return {"state": physics.qpos, "camera": observe(physics.qpos)}

    with pytest.raises(TaskError) as error:
        make_env(Careless())
    for word in ("Careless", "'camera'", found, "(8, 3)"):
        assert word in str(error.value)


def test_wrong_reward_is_named():
    """A reward of shape (num_envs, 1) would otherwise broadcast to (num_envs, num_envs)."""

    class Careless(ToyTask):
        def reward(self, physics, memory, action):
            reward, metrics = super().reward(physics, memory, action)
            return reward[:, None], metrics

    with pytest.raises(
        TaskError, match=r"Careless.reward returns the reward as float32 \(8, 1\), but float \(8,\) is expected"
    ):
        make_env(Careless())


def test_wrong_metrics_are_named():
    class Forgetful(ToyTask):
        metric_names = ("speed",)

    with pytest.raises(TaskError, match=r"Forgetful\.reward returns no metric 'speed'"):
        make_env(Forgetful())

    class Careless(Forgetful):
        def reward(self, physics, memory, action):
            return super().reward(physics, memory, action)[0], {"speed": physics.qpos}

    with pytest.raises(
        TaskError, match=r"Careless.reward returns metric 'speed' as float32 \(8, 3\), but float \(8,\) is expected"
    ):
        make_env(Careless())


def test_unknown_sensor_names_those_there_are():
    xml = """<mujoco><worldbody><body name="ball"><freejoint/><geom size="0.1"/></body></worldbody>
    <sensor><framepos name="where" objtype="body" objname="ball"/><clock name="when"/></sensor></mujoco>"""
    physics = MujocoPhysics(mujoco.MjModel.from_xml_string(xml), 4, device=CPU)
    assert physics.sensor("where").shape == (4, 3) and physics.sensor("when").shape == (4, 1)
    with pytest.raises(PhysicsError, match=r"'whence'.*where, when"):
        physics.sensor("whence")
    with pytest.raises(PhysicsError, match="none"):
        make_env(Cartpole()).physics.sensor("touch")


@pytest.mark.parametrize(
    "xml",
    ["<mujoco><worldbody>", "not XML", '<mujoco><actuator><motor joint="elbow"/></actuator></mujoco>'],
)
def test_model_that_does_not_compile_is_named(tmp_path, xml):
    class Broken(Cartpole):
        mjcf = tmp_path / "broken.xml"

    with pytest.raises(PhysicsError, match=r"no model file .*broken\.xml"):
        make_env(Broken())
    Broken.mjcf.write_text(xml)
    with pytest.raises(PhysicsError, match=r"broken\.xml does not compile: .+"):
        make_env(Broken())


@pytest.mark.parametrize(
    ("mjcf", "complaint"),
    [("nowhere.xml", "there is no model file nowhere.xml"), (" <mujoco/>", "let make_model return the compiled model")],
)
def test_model_given_as_text(mjcf, complaint):
    """A path may be a text; the text of a model is not a path."""
    broken = type("Broken", (Cartpole,), {"mjcf": mjcf})
    with pytest.raises(PhysicsError, match=complaint):
        make_env(broken())
    make_env(type("Working", (Cartpole,), {"mjcf": str(Cartpole.mjcf)})())


@pytest.mark.parametrize("seconds", [0.015, 0.001, 0.0])
def test_control_step_must_be_a_multiple_of_the_timestep(seconds):
    class Offbeat(Cartpole):
        control_dt = seconds

    with pytest.raises(PhysicsError) as error:
        make_env(Offbeat())
    for word in ("control_dt", str(seconds), "timestep", "0.01"):
        assert word in str(error.value)


def test_control_step_of_several_timesteps():
    class Slow(Cartpole):
        control_dt = 0.03

    env = make_env(Slow())
    env.step(random_actions(env, 1)[0])
    torch.testing.assert_close(env.physics.time, torch.full((8,), 0.03))


def test_threads_do_not_change_results():
    """How many threads step the worlds is chosen by a stopwatch."""
    states = []
    for num_threads in (1, 3):
        env = make_env(FallingCartpole(), num_envs=50)
        env.physics._use_threads(num_threads)
        env.physics._threads_chosen = True
        for action in random_actions(env, 60):
            env.step(action)
        states.append(env.physics.state()["state"].clone())
    assert torch.equal(*states)


def test_small_batches_are_stepped_in_one_thread(monkeypatch):
    monkeypatch.setattr("torch_ppo.simulation.mujoco_engine.available_cores", lambda: 8)
    small, large = make_env(FallingCartpole(), num_envs=4).physics, make_env(FallingCartpole(), num_envs=4000).physics
    small.step(1)
    large.step(1)
    assert len(small._datas) == 1 < len(large._datas)


def test_warnings_of_mujoco_are_said_once(tmp_path, monkeypatch, caplog):
    """They would flood the terminal, and MUJOCO_LOG.TXT in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch_ppo.simulation.mujoco_engine._said", set())
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(None)  # dm_control has one of its own, which we would leave
    env = make_env(Cartpole(), num_envs=32)
    for _ in range(20):
        env.physics.qvel.fill_(1e30)
        env.step(torch.zeros(32, 1))
    mujoco.set_mju_user_warning(before)
    said = [record.message for record in caplog.records if "others of this kind are not shown" in record.message]
    assert 1 <= len(said) <= 3 and len({message.split(" at ")[0] for message in said}) == len(said)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("asymmetric", [False, True])
def test_step_and_reset_return_what_the_env_holds(asymmetric):
    """The very tensors, which the next step overwrites: the observation as the task returns it, reward and done."""
    env = make_env(ToyTask(asymmetric=asymmetric, limit=None), 3, episode_length=2)
    seen = env.observation if asymmetric else env.observation["state"]
    assert env.reset() is seen and env.seen is seen
    state, before = env.observation["state"], env.observation["state"].clone()
    observation, reward, done = env.step(torch.ones(3, 2))
    assert observation is seen and reward is env.reward and done is env.done
    assert not torch.equal(state, before) and not done.any()
    assert env.step(torch.ones(3, 2))[2] is done and done.all()
    assert torch.equal(state, before)  # of the next episode, which starts where the first did
