"""Laws at physics rate: `Task.each_substep` comes before every timestep, on both engines; who has none pays nothing."""

import mujoco
import pytest
import torch

from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task, TaskError

CPU = torch.device("cpu")
both_engines = pytest.mark.parametrize("engine", ["mujoco", "warp"])
STIFFNESS, DAMPING = 20.0, 1.0  # Nm/rad and Nm s/rad
SUBSTEPS = 5

ARM = """
<mujoco>
  <option timestep="0.004"/>
  <worldbody>
    <body>
      <joint name="shoulder" axis="0 1 0"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0" density="1000"/>
      <body pos="0.3 0 0">
        <joint name="elbow" axis="0 1 0"/>
        <geom type="capsule" size="0.02" fromto="0 0 0 0.3 0 0" density="1000" contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <actuator>{}</actuator>
</mujoco>
"""
MOTORS = ARM.format("<motor joint='shoulder'/><motor joint='elbow'/>")
SERVOS = ARM.format(
    "".join(f"<position joint='{joint}' kp='{STIFFNESS}' kv='{DAMPING}'/>" for joint in ("shoulder", "elbow"))
)


def law(physics, wanted):
    """Torque of a spring and a damper, `(num_envs, 2)` in Nm."""
    return STIFFNESS * (wanted - physics.qpos) - DAMPING * physics.qvel


class Arm(Task):
    control_dt, episode_length = SUBSTEPS * 0.004, 50
    nconmax, njmax = 0, 2
    model = MOTORS

    def make_model(self):
        return mujoco.MjModel.from_xml_string(self.model)

    def start(self, physics, memory, generator):
        physics.qpos.uniform_(-0.3, 0.3, generator=generator)

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, physics.qvel], dim=1)

    def reward(self, physics, memory, action):
        return -physics.qpos.square().sum(1)


class Servos(Arm):
    model = SERVOS


class AtControlRate(Arm):
    def apply(self, physics, memory, action):
        physics.ctrl.copy_(law(physics, action))


class AtPhysicsRate(Arm):
    def each_substep(self, physics, memory, action):
        physics.ctrl.copy_(law(physics, action))


class Pushed(Arm):
    """The same torques as applied forces, first used here."""

    def apply(self, physics, memory, action):
        """There are no controls."""

    def each_substep(self, physics, memory, action):
        physics.qfrc_applied.copy_(law(physics, action))


class Counted(Arm):
    """Keeps the order of calls in memory, as numbers."""

    def make_memory(self, num_envs, device):
        return {"calls": torch.zeros(num_envs, 8, device=device), "n": torch.zeros(num_envs, device=device)}

    def note(self, physics, memory, kind):
        at = memory["n"].long()[:, None]
        timesteps = (physics.time / 0.004).round()[:, None]
        memory["calls"].scatter_(1, at, kind + timesteps)
        memory["n"] += 1

    def start(self, physics, memory, generator):
        super().start(physics, memory, generator)
        memory["n"].zero_()

    def apply(self, physics, memory, action):
        self.note(physics, memory, 100)

    def each_substep(self, physics, memory, action):
        self.note(physics, memory, 200)

    def after_step(self, physics, memory, action):
        self.note(physics, memory, 300)


def make_env(task, engine, **options):
    generator = torch.Generator().manual_seed(0)
    return Env(task, 4, device=CPU, generator=generator, engine=engine, **{"episode_length": 50, **options})


def trajectory(task, engine, steps=20):
    env = make_env(task, engine)
    wanted = torch.tensor([[0.5, -0.4]]).repeat(4, 1)
    return torch.stack([env.step(wanted)[0].clone() for _ in range(steps)])


@both_engines
@pytest.mark.parametrize("task", [AtPhysicsRate, Pushed])
def test_a_law_of_torque_is_mujocos_own_servo(engine, task):
    """Which MuJoCo evaluates in every timestep; at control rate the same law is another thing."""
    expected = trajectory(Servos(), "mujoco")
    found = trajectory(task(), engine)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    at_control_rate = trajectory(AtControlRate(), engine)
    assert (at_control_rate - expected).abs().max() > 0.1


@both_engines
def test_order(engine):
    env = make_env(Counted(), engine)
    env.step(torch.zeros(4, 2))
    expected = [100, *(200 + i for i in range(SUBSTEPS)), 300 + SUBSTEPS, 0]
    assert env.memory["calls"].tolist() == [expected] * 4


def test_every_repeat_of_an_action():
    once, repeated = make_env(AtPhysicsRate(), "mujoco"), make_env(AtPhysicsRate(), "mujoco", action_repeat=2)
    action = torch.full((4, 2), 0.3)
    for _ in range(2):
        once.step(action)
    repeated.step(action)
    assert torch.equal(once.physics.qpos, repeated.physics.qpos)


def test_without_it_the_physics_is_called_once():
    for task, expected in ((Arm(), [SUBSTEPS]), (AtPhysicsRate(), [1] * SUBSTEPS)):
        env, calls = make_env(task, "mujoco"), []
        step = env.physics.step
        env.physics.step = lambda n, calls=calls, step=step: calls.append(n) or step(n)
        env.step(torch.zeros(4, 2))
        assert calls == expected


def test_controls_that_are_returned_are_refused():
    class Returns(Arm):
        def each_substep(self, physics, memory, action):
            return action

    with pytest.raises(TaskError, match=r"^Returns.each_substep returns something, but must write it"):
        make_env(Returns(), "mujoco")


@both_engines
def test_resumed(engine, differences):
    config = Config(
        num_timesteps=1, num_envs=4, batch_size=4, num_minibatches=2, unroll_length=3, episode_length=5, run_evals=False,
        physics=engine, device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    state, resumed = TrainingState(config, AtPhysicsRate()), TrainingState(config, AtPhysicsRate())
    state.collector()
    resumed.load_checkpoint(state.checkpoint())
    for each in (state, resumed):
        each.collector()
    assert differences(state.checkpoint()["env"], resumed.checkpoint()["env"]) == []
