"""Actions and controls: ranges that [-1, 1] does not reach are noted, scales and offsets do what they say, files know."""

import logging
import math

import mujoco
import numpy as np
import pytest
import torch

import torch_ppo
from torch_ppo.envs import make_task
from torch_ppo.errors import UserError
from torch_ppo.export import export_policy
from torch_ppo.exporting.contract import Known
from torch_ppo.formulas.controls import Scaling, controls_of, within_range
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.saved_policy import PolicyError, load_policy
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation import scaling as module
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.scaling import from_plain, to_plain
from torch_ppo.simulation.task import Task

CPU = torch.device("cpu")

# A servo of a hinge with a gear, one of a slide with a filter, a motor of whatever range, and a servo of speed.
MODEL = """
<mujoco>
  <option timestep="0.01" gravity="0 0 0"/>
  <worldbody>
    <body><joint name="a" axis="0 1 0"/><geom size="0.1"/>
      <body pos="1 0 0"><joint name="b" type="slide" axis="0 0 1"/><geom size="0.1"/>
        <body pos="1 0 0"><joint name="c" axis="0 1 0"/><geom size="0.1"/></body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="shoulder" joint="a" kp="10" gear="2" ctrlrange="-3 2"/>
    <position name="lift" joint="b" kp="50" timeconst="0.1" ctrlrange="0 0.4"/>
    <motor joint="c" ctrlrange="0 255"/>
    <intvelocity name="wheel" joint="c" kp="5" ctrlrange="-1 1" actrange="-3 3"/>
  </actuator>
  <keyframe><key name="home" qpos="0.5 0.3 -0.2" ctrl="9 9 20 0.25"/></keyframe>
</mujoco>
"""


class Arm(Task):
    control_dt, episode_length = 0.01, 50
    model = MODEL

    def __init__(self, scale=None, offset=None, model=MODEL):
        self.action_scale, self.action_offset, self.model = scale, offset, model

    def make_model(self):
        return mujoco.MjModel.from_xml_string(self.model)

    def start(self, physics, memory, generator):
        physics.qpos.uniform_(-0.1, 0.1, generator=generator)

    def observe(self, physics, memory):
        return torch.cat([physics.qpos, physics.qvel], dim=1)

    def reward(self, physics, memory, action):
        return -physics.qpos.square().sum(1)


class Bounded(Arm):
    """An apply of its own: a scale, an offset and a bound."""

    def apply(self, physics, memory, action):
        physics.ctrl.copy_(0.3 + torch.tensor([0.5, 0.1, 20.0, 1.0]) * action.clamp(-1.0, 1.0))


class Feedback(Arm):
    def apply(self, physics, memory, action):
        physics.ctrl.copy_(action - physics.qpos[:, :1])


class Coupled(Arm):
    def apply(self, physics, memory, action):
        physics.ctrl.copy_(action.cumsum(1))


class Substeps(Arm):
    def each_substep(self, physics, memory, action):
        physics.ctrl.zero_()


def make_env(task, engine="mujoco", num_envs=3):
    generator = torch.Generator().manual_seed(0)
    return Env(task, num_envs, episode_length=50, device=CPU, generator=generator, engine=engine)


@pytest.fixture
def notes(caplog, monkeypatch):
    monkeypatch.setattr(module, "_said", set())
    caplog.set_level(logging.WARNING, "torch_ppo")
    return lambda: [record.getMessage() for record in caplog.records]


def test_actuators_out_of_reach_are_named_once(notes):
    make_env(Arm())
    make_env(Arm())
    (note,) = notes()
    assert "\n" not in note
    assert note.startswith("Arm passes actions, which are in [-1, 1], on as controls, but the ctrlrange of ")
    assert "shoulder (-3 to 2), lift (0 to 0.4), actuator 2 (0 to 255) is another" in note and "wheel" not in note
    assert 'action_scale = "ctrlrange" in the task would map [-1, 1] to it' in note and 'action_offset = "home"' in note


def test_many_actuators_make_no_long_note(notes):
    motors = "".join(f"<motor name='m{i}' joint='a' ctrlrange='-2 2'/>" for i in range(12))
    make_env(Arm(model=MODEL.partition("<actuator>")[0] + f"<actuator>{motors}</actuator></mujoco>"))
    (note,) = notes()
    assert "m5 (-2 to 2), 6 more is another" in note and "servo" not in note


@pytest.mark.parametrize("task", [Arm("ctrlrange"), Arm(0.5), Arm(None, "home"), Bounded(), Substeps()])
def test_who_takes_care_of_it_is_told_nothing(task, notes):
    make_env(task)
    assert notes() == []


def test_ranges_that_are_reached_are_no_news(notes):
    plain = MODEL.partition("<actuator>")[0] + "<actuator>{}</actuator></mujoco>"
    make_env(Arm(model=plain.format("<motor joint='a' ctrlrange='-1 1'/><motor joint='b'/>")))
    clamped = MODEL.replace('gravity="0 0 0"/>', 'gravity="0 0 0"><flag clampctrl="disable"/></option>')
    make_env(Arm(model=clamped))
    assert notes() == []


def test_no_shipped_task_is_noted(notes):
    for name in ("cartpole", "humanoid_walk", "quadruped_joystick", "ant", "finger_spin", "fish_swim"):
        make_env(make_task(name), num_envs=1)
    assert notes() == []


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
@pytest.mark.parametrize(
    ("task", "offset", "scale"),
    [
        (Arm("ctrlrange"), [-0.5, 0.2, 127.5, 0.0], [2.5, 0.2, 127.5, 1.0]),
        (Arm(0.5), [0.0] * 4, [0.5] * 4),
        (Arm(np.array([1.0, 2.0, 3.0, 4.0]), 0.25), [0.25] * 4, [1.0, 2.0, 3.0, 4.0]),
        # Servos at their joints' places (one of them geared), the rest at the keyframe's controls.
        (Arm(0.5, "home"), [1.0, 0.3, 20.0, 0.25], [0.5] * 4),
        (Arm(None, (1, 2, 3, 4)), [1.0, 2.0, 3.0, 4.0], [1.0] * 4),
    ],
)
def test_scales_and_offsets(task, offset, scale, engine):
    """Controls by hand; also what the env says of them, and files."""
    env = make_env(task, engine)
    action = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
    env.step(action)
    expected = np.array(offset) + np.array(scale) * action.double().numpy()
    np.testing.assert_allclose(env.physics.ctrl.numpy(), expected, rtol=1e-6, atol=1e-6)
    found = env.scaling()
    np.testing.assert_allclose(found.offset, offset, rtol=1e-6)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-6)
    plain = to_plain(found, env.physics.model)
    assert plain["actuators"] == ["shoulder", "lift", "actuator 2", "wheel"]
    assert all(map(torch.equal, from_plain(plain), found))
    low, high = env.physics.model.actuator_ctrlrange.T
    limited = within_range(controls_of(action, found), found).numpy()
    np.testing.assert_allclose(limited, expected.clip(low, high), rtol=1e-6, atol=1e-6)


def test_the_whole_range_and_no_more():
    env = make_env(Arm("ctrlrange"))
    for value, column in ((-1.0, 0), (1.0, 1)):
        env.step(torch.full((3, 4), value))
        expected = torch.as_tensor(env.physics.model.actuator_ctrlrange[:, column], dtype=torch.float32)
        torch.testing.assert_close(env.physics.ctrl, expected.expand(3, 4))


def test_a_pose_is_held():
    """At an action of 0, servos pull their joints to where the keyframe has them."""
    servos = MODEL.replace('<motor joint="c" ctrlrange="0 255"/>', "").replace('kp="10"', 'kp="10" kv="5"')
    servos = servos.replace('<intvelocity name="wheel" joint="c" kp="5" ctrlrange="-1 1" actrange="-3 3"/>', "")
    servos = servos.replace('timeconst="0.1"', 'kv="20"').replace('ctrl="9 9 20 0.25"', "")
    env = make_env(Arm(0.5, "home", servos))
    for _ in range(1000):
        env.task.apply(env.physics, env.memory, torch.zeros(3, 2))
        env.physics.step(1)
    torch.testing.assert_close(env.physics.qpos[:, :2], torch.tensor([[0.5, 0.3]]).expand(3, 2), atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Arm("range"), "Arm.action_scale is 'range', but must be numbers or \"ctrlrange\""),
        (Arm("ctrlrange", 0.5), 'Arm.action_offset is 0.5, but with action_scale = "ctrlrange"'),
        (Arm([1.0, 2.0]), "Arm.action_scale is [1.0, 2.0], but must be a number, or one for each of the 4 actuators"),
        (Arm(math.nan), "Arm.action_scale is nan, but must be a number"),
        (Arm({"a": 1}), "Arm.action_scale is {'a': 1}, but must be a number"),
        (Arm(0.5, "hom"), "the model has no keyframe 'hom'; it has: home"),
        (
            Arm("ctrlrange", model=MODEL.replace(' ctrlrange="0 255"', "")),
            'Arm.action_scale is "ctrlrange", but actuator 2 has no ctrlrange in the MJCF; numbers would work',
        ),
    ],
)
def test_what_cannot_be(task, words):
    with pytest.raises(UserError) as error:
        make_env(task)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_apply_of_its_own_is_measured():
    """And nothing is changed by it."""
    env = make_env(Bounded())
    before = {name: x.clone() for name, x in env.physics.state().items()}
    found = env.scaling()
    torch.testing.assert_close(found.offset, torch.full((4,), 0.3))
    torch.testing.assert_close(found.scale, torch.tensor([0.5, 0.1, 20.0, 1.0]))
    assert all(torch.equal(x, before[name]) for name, x in env.physics.state().items())
    assert [make_env(task).scaling() for task in (Feedback(), Coupled(), Substeps())] == [None] * 3
    assert make_env(Bounded(), num_envs=1).scaling() is None
    assert make_env(Arm(), num_envs=1).scaling().scale.eq(1.0).all()


@pytest.mark.parametrize("name", ["quadruped_joystick", "biped_joystick", "ant"])
def test_shipped_tasks_with_an_apply_of_their_own(name):
    env = make_env(make_task(name))
    memory = {key: x.clone() for key, x in env.memory.items()}
    found = env.scaling()
    assert all(torch.equal(x, memory[key]) for key, x in env.memory.items())
    action = torch.rand(3, env.action_dim, generator=torch.Generator().manual_seed(2)) * 2 - 1
    env.step(action)
    torch.testing.assert_close(env.physics.ctrl, controls_of(action, found), atol=1e-6, rtol=1e-6)


def test_tasks_as_they_were():
    """Without a scale, controls are actions to the bit, NaN and infinities included."""
    env = make_env(make_task("cartpole"))
    action = torch.tensor([[math.nan], [math.inf], [0.1]])
    env.task.apply(env.physics, env.memory, action)
    assert torch.equal(env.physics.ctrl.nan_to_num(7.0), action.nan_to_num(7.0))


def make_state(task):
    config = Config(
        num_timesteps=1, num_envs=4, batch_size=4, num_minibatches=2, unroll_length=3, episode_length=5, run_evals=False,
        device="cpu", policy_hidden_layer_sizes=(4,), value_hidden_layer_sizes=(4,),
    )  # fmt: skip
    return TrainingState(config, task)


def test_checkpoints_and_exports_know(tmp_path):
    state = make_state(Arm(0.5, "home"))
    checkpoint = state.checkpoint()
    save_checkpoint(checkpoint, tmp_path / "best.pt")
    export_policy(state.agent, tmp_path / "policy.pt", Known(controls=checkpoint["controls"]))
    action = torch.tensor([[1.0, -1.0, 0.0, 5.0], [-1.0, 0.5, 1.0, 0.0]])
    # 0.8 beyond the range of neither; the lift's lower end is 0, the wheel's upper end 1.
    expected = torch.tensor([[1.5, 0.0, 20.0, 1.0], [0.5, 0.4, 20.5, 0.25]])
    for name in ("best.pt", "policy.pt"):
        policy = torch_ppo.load_policy(tmp_path / name)
        assert policy.actuators == ("shoulder", "lift", "actuator 2", "wheel")
        torch.testing.assert_close(policy.controls(action), expected)
        assert policy.controls(policy(torch.zeros(2, 6))).shape == (2, 4)


def test_files_that_do_not_say(tmp_path):
    state = make_state(Feedback())
    assert state.checkpoint()["controls"] is None
    checkpoint = state.checkpoint()
    del checkpoint["controls"]  # as they were
    save_checkpoint(checkpoint, tmp_path / "best.pt")
    export_policy(state.agent, tmp_path / "policy.pt")
    for name in ("best.pt", "policy.pt"):
        with pytest.raises(PolicyError, match="does not say what becomes of its actions"):
            load_policy(tmp_path / name).controls(torch.zeros(1, 4))
    make_state(Feedback()).load_checkpoint(checkpoint)


def test_controls_by_hand():
    scaling = Scaling(*(torch.tensor(x) for x in ([1.0, 0.0], [2.0, -1.0], [-1.0, -math.inf], [2.0, math.inf])))
    found = controls_of(torch.tensor([[1.0, 3.0], [-2.0, -9.0]]), scaling)
    assert found.tolist() == [[3.0, -3.0], [-3.0, 9.0]]
    assert within_range(found, scaling).tolist() == [[2.0, -3.0], [-1.0, 9.0]]
