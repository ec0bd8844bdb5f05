"""Whatever `start` writes is the start state: in the first episode, after automatic restarts, on both engines."""

import mujoco
import pytest
import torch

from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.physics import PhysicsError
from torch_ppo.simulation.task import Task

CPU = torch.device("cpu")
both_engines = pytest.mark.parametrize("engine", ["mujoco", "warp"])

# An arm with a slow servo, a free body, and a mocap body that pulls a ball by an equality.
MODEL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body name="hand" mocap="true" pos="0.1 0 0"><geom size="0.01" contype="0" conaffinity="0"/></body>
    <body name="ball" pos="0.1 0 0"><freejoint/><geom size="0.05"/></body>
    <body pos="0 2 0">
      <joint name="arm" axis="0 1 0" damping="1"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0" density="500"/>
    </body>
  </worldbody>
  <equality><weld body1="hand" body2="ball"/></equality>
  <actuator><position name="servo" joint="arm" kp="20" timeconst="0.2"/></actuator>
  <keyframe>
    <key name="home" qpos="0.1 0 0 1 0 0 0 0.7" act="0.5" ctrl="0.6" mpos="0.3 0.2 0.1" mquat="0 1 0 0"/>
  </keyframe>
</mujoco>
"""


class Pull(Task):
    control_dt, episode_length = 0.01, 5
    njmax, nconmax = 10, 4

    def make_model(self):
        return mujoco.MjModel.from_xml_string(MODEL)

    def start(self, physics, memory, generator):
        home = physics.keyframe("home")
        for name in ("qpos", "act", "ctrl"):
            getattr(physics, name).copy_(home[name])
        physics.qpos[:, :3].uniform_(-0.2, 0.2, generator=generator)
        physics.qpos[:, 3:7] *= 3.0  # not of length 1
        physics.act.uniform_(0.5, 1.0, generator=generator)
        physics.mocap_pos[:, 0].uniform_(-0.3, 0.3, generator=generator)

    def apply(self, physics, memory, action):
        """Nothing is commanded: the servo goes on with its start's ctrl."""

    def after_step(self, physics, memory, action):
        physics.mocap_pos[:, 0, 2] += 0.01  # it moves, and must be back at the next start

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, physics.qvel, physics.act, physics.mocap_pos[:, 0]], dim=1)

    def reward(self, physics, memory, action):
        return physics.qpos[:, 0]


def make_env(engine, task=None, num_envs=4, **options):
    generator = torch.Generator().manual_seed(0)
    options = {"episode_length": 5, **options}
    return Env(task or Pull(), num_envs, device=CPU, generator=generator, engine=engine, **options)


def parts(env):
    return {name: x.clone() for name, x in env.physics.start_parts().items()}


@both_engines
def test_restarts_have_all_of_it(engine):
    """The second episode is the first one again: same start, same trajectory."""
    env = make_env(engine)
    first = parts(env)
    of_warp = {"cvel", "cdof_dot"} if engine == "warp" else set()
    assert first.keys() == {"qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat"} | of_warp
    torch.testing.assert_close(first["qpos"][:, 3:7].norm(dim=1), torch.ones(4))
    assert first["ctrl"].eq(0.6).all() and first["act"].min() >= 0.5
    trajectories = []
    for _ in range(2):
        states = []
        for step in range(5):
            env.step(torch.zeros(4, 1))
            states.append(env.observation["state"].clone())
            assert env.done.all() == (step == 4)
        for name, tensor in parts(env).items():
            assert torch.equal(tensor, first[name]), name
        trajectories.append(torch.stack(states))
    assert torch.equal(*trajectories)
    moved = (trajectories[0][3] - trajectories[0][4]).abs().amax(0)
    assert moved[:3].min() > 1e-4 and moved[-4] > 1e-4  # the ball, and the servo's filter


@both_engines
def test_a_random_restart_takes_all_of_one_start(engine):
    env = make_env(engine, auto_reset="random", num_envs=16)
    pool = {name: x.flatten(1) for name, x in parts(env).items()}
    whole = torch.cat(list(pool.values()), 1)
    for _ in range(5):
        env.step(torch.zeros(16, 1))
    now = torch.cat([x.flatten(1) for x in parts(env).values()], 1)
    assert all((row == whole).all(1).any() for row in now) and not torch.equal(now, whole)


def test_engines_agree():
    envs = [make_env(engine, episode_length=1000) for engine in ("mujoco", "warp")]
    for _ in range(100):
        for env in envs:
            env.step(torch.zeros(4, 1))
    mine, theirs = (env.observation["state"] for env in envs)
    torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=0)


@both_engines
def test_resumed_with_mocap(engine, differences):
    config = Config(
        num_timesteps=1, num_envs=4, batch_size=4, num_minibatches=2, unroll_length=3, episode_length=5, run_evals=False,
        physics=engine, device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    state, resumed = TrainingState(config, Pull()), TrainingState(config, Pull())
    state.collector()
    resumed.load_checkpoint(state.checkpoint())
    for each in (state, resumed):
        each.collector()
    assert differences(state.checkpoint()["env"], resumed.checkpoint()["env"]) == []


@both_engines
def test_keyframe(engine):
    physics = make_physics(Pull().make_model(), 3, device=CPU, engine=engine)
    home = physics.keyframe("home")
    assert {name: tuple(x.shape) for name, x in home.items()} == {
        "qpos": (8,), "qvel": (7,), "act": (1,), "ctrl": (1,), "mocap_pos": (1, 3), "mocap_quat": (1, 4),
    }  # fmt: skip
    torch.testing.assert_close(home["mocap_pos"][0], torch.tensor([0.3, 0.2, 0.1]))
    with pytest.raises(PhysicsError, match="no keyframe 'hom'; it has: home"):
        physics.keyframe("hom")


class Pushed(Task):
    """A free body that actions push, and that a torque turns: an MJCF without actuators."""

    control_dt = 0.02

    def make_model(self):
        return mujoco.MjModel.from_xml_string(
            "<mujoco><option timestep='0.01' gravity='0 0 0'/><worldbody><body name='b'><freejoint/>"
            "<geom size='.1 .2 .3' type='box' mass='1'/></body></worldbody></mujoco>"
        )

    def action_dim(self, physics):
        return 3

    def start(self, physics, memory, generator):
        pass

    def apply(self, physics, memory, action):
        physics.qfrc_applied[:, :3] = action
        physics.xfrc_applied[:, 1, 5] = 0.01

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, physics.qvel], dim=1)

    def reward(self, physics, memory, action):
        return physics.qpos[:, 0]


def test_applied_forces_without_actuators():
    """Against C MuJoCo by hand, and between the engines."""
    model = Pushed().make_model()
    data = mujoco.MjData(model)
    envs = [make_env(engine, Pushed(), episode_length=50) for engine in ("mujoco", "warp")]
    action = torch.tensor([0.3, -0.2, 0.1]).repeat(4, 1)
    for _ in range(30):
        for env in envs:
            env.step(action)
        data.qfrc_applied[:3], data.xfrc_applied[1, 5] = action[0], 0.01
        mujoco.mj_step(model, data, 2)
        for env in envs:
            expected = torch.as_tensor(data.qpos, dtype=torch.float32).repeat(4, 1)
            torch.testing.assert_close(env.physics.qpos, expected, atol=1e-4, rtol=0)
    for _ in range(20):
        for env in envs:
            env.step(action)
    assert all(env.done.all() and env.physics.qfrc_applied.eq(0).all() for env in envs)


@both_engines
def test_forces_are_first_used_before_the_first_step(engine):
    physics = make_physics(Pull().make_model(), 3, device=CPU, engine=engine)
    physics.step(1)
    with pytest.raises(PhysicsError, match="qfrc_applied must first be used before the first step"):
        physics.qfrc_applied  # noqa: B018


class Spinning(Task):
    """A rod that turns about a point that holds it."""

    control_dt, episode_length = 0.01, 5

    def make_model(self):
        return mujoco.MjModel.from_xml_string(
            "<mujoco><worldbody><body name='rod' pos='0 0 1'><freejoint/><geom type='capsule' size='.03' "
            "fromto='0 0 0 .3 0 0'/></body></worldbody><equality><connect body1='rod' body2='world' anchor='0 0 .1'/>"
            "</equality></mujoco>"
        )

    def start(self, physics, memory, generator):
        physics.qvel.uniform_(-3.0, 3.0, generator=generator)

    def action_dim(self, physics):
        return 1

    def apply(self, physics, memory, action):
        """Nothing acts on it."""

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, physics.qvel], dim=1)

    def reward(self, physics, memory, action):
        return physics.qvel.square().sum(1)


@both_engines
def test_nothing_of_an_ended_episode_acts_in_the_next(engine):
    """MuJoCo Warp makes rows of a connect or weld with body velocities of the step before."""
    env = make_env(engine, Spinning(), 3)
    episodes = [env.observation["state"].clone()]
    for _ in range(10):
        env.step(torch.zeros(3, 1))
        episodes.append(env.observation["state"].clone())
    first, second = torch.stack(episodes[:5]), torch.stack(episodes[5:10])
    assert torch.equal(first, second) and (first[1] - first[0]).abs().max() > 0.1
    saved = {name: x.clone() for name, x in env.physics.state().items()}
    after = []
    for _ in range(2):  # as from a checkpoint, whatever was simulated meanwhile
        for name, tensor in env.physics.state().items():
            tensor.copy_(saved[name])
        env.physics.step(1)
        after.append(env.physics.qvel.clone())
        env.physics.step(3)
    assert torch.equal(*after)
