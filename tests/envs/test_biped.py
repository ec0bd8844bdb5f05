"""The biped: its model, its gait, and its reward against slow numpy."""

import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs import biped
from torch_ppo.envs.biped import Biped

NUM_ENVS = 6


def quiet(**options) -> Biped:
    """Without noise and pushes."""
    return Biped(noise_level=0.0, max_push=0.0, **options)


def put_standing(env):
    """Soles on the floor, in the default pose, at rest, facing forward, sensors up to date."""
    physics = env.physics
    physics.qpos.copy_(torch.as_tensor(physics.model.qpos0).expand_as(physics.qpos))
    physics.qpos[:, 7:] = torch.tensor(biped.DEFAULT_POSE)
    physics.qpos[:, 2] = biped.STAND_HEIGHT
    physics.qvel.zero_()
    physics.forward()


def play(env, num_steps, scale=1.0, seed=0):
    """Steps of random actions; yields after each."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        env.step(scale * (2 * torch.rand(env.num_envs, env.action_dim, generator=generator) - 1))
        yield


def test_masses_and_lengths():
    """Those of Berkeley Humanoid: 16 kg, thigh 0.22 m, shank 0.18 m; twelve actuators in the order of the joints."""
    model = Biped().make_model()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert model.body_subtreemass[1] == pytest.approx(16.06)
    for side in biped.SIDES:
        hip, knee, ankle = (data.body(f"{side}_{part}").xpos for part in ("thigh", "shank", "foot"))
        assert np.linalg.norm(hip - knee) == pytest.approx(0.22)
        assert np.linalg.norm(knee - ankle) == pytest.approx(0.18)
    assert (
        [model.joint(i + 1).name for i in range(12)] == [model.actuator(i).name for i in range(12)] == [*biped.JOINTS]
    )
    low, high = model.jnt_range[1:].T
    np.testing.assert_array_equal(model.actuator_ctrlrange.T, [low, high])
    assert np.all(low < np.array(biped.DEFAULT_POSE) - 0.05) and np.all(high > np.array(biped.DEFAULT_POSE) + 0.05)


def test_only_soles_touch_and_only_the_floor():
    model = Biped().make_model()
    model.geom_margin[:] = 10.0  # everything is near everything
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    pairs = {tuple(sorted(model.geom(int(geom)).name for geom in pair)) for pair in data.contact.geom}
    ends = ("heel_inside", "heel_outside", "toe_inside", "toe_outside")
    assert pairs == {("floor", f"{side}_{end}") for side in biped.SIDES for end in ends}
    assert data.ncon == Biped.nconmax  # and of rows, 4 for each contact, a limit and a friction loss for each joint
    assert Biped.njmax == 4 * data.ncon + 12 + np.count_nonzero(model.dof_frictionloss)


def test_stands_by_itself():
    """Held in the default pose by its actuators for ten seconds, without anyone balancing; soles just touch at first."""
    env = make_env(quiet())
    put_standing(env)
    assert abs(env.physics.sensor("left_foot_position")[0, 2].item()) < 5e-4
    for _ in range(500):
        env.step(torch.zeros(1, 12))
        assert env.memory["contact"].all()
    assert env.termination == 0 and env.physics.sensor("vertical")[0, 2] > 0.95
    assert env.physics.qpos[0, 2] > biped.STAND_HEIGHT - 0.03


def test_starts_touch_nothing_yet():
    env = make_env(Biped(), num_envs=200)
    model = env.physics.model
    data = mujoco.MjData(model)
    for qpos in env.physics.qpos:
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        assert not data.ncon
        assert data.qpos[2] < 0.6
    command = env.memory["command"]
    assert (command.abs() <= torch.tensor(biped.COMMAND_LIMITS)).all()
    standing = (command == 0).all(1).float().mean().item()
    assert 0.1 - 4 * (0.1 * 0.9 / 200) ** 0.5 < standing < 0.1 + 4 * (0.1 * 0.9 / 200) ** 0.5
    frequency = env.memory["phase_step"] / (2 * np.pi * 0.02)
    assert frequency.min() >= 1.25 and frequency.max() <= 1.5 and frequency.std() > 0.05


def test_phase_wraps():
    angles = torch.tensor([0.0, 3.0, 3.2, -3.2, 2 * np.pi + 0.5, np.pi])
    expected = torch.tensor([0.0, 3.0, 3.2 - 2 * np.pi, 2 * np.pi - 3.2, 0.5, -np.pi])
    torch.testing.assert_close(biped.wrapped(angles), expected)
    env = make_env(quiet(), num_envs=NUM_ENVS)
    for _ in play(env, 60):
        assert (env.memory["phase"] >= -torch.pi).all() and (env.memory["phase"] < torch.pi).all()
        left, right = biped.both_phases(env.memory["phase"]).unbind(1)
        torch.testing.assert_close((left - right).cos(), torch.full((NUM_ENVS,), -1.0))


def test_gait_takes_as_long_as_its_frequency_says():
    env = make_env(quiet(), num_envs=NUM_ENVS)
    first, step = env.memory["phase"].clone(), env.memory["phase_step"].clone()
    list(play(env, 10))
    expected = biped.wrapped(first + 10 * step)
    ended = env.steps < 10
    torch.testing.assert_close(env.memory["phase"][~ended], expected[~ended], rtol=0, atol=1e-4)
    assert not ended.all()


def test_swing_height():
    """Up to 6 cm in the middle of the swing, half of that at an eighth of the cycle before, on the floor otherwise."""
    phase = torch.tensor([-torch.pi, -0.75 * torch.pi, -torch.pi / 2, -torch.pi / 4, 0.0, 1.0, 2.0, 3.0])
    expected = torch.tensor([0.0, 0.03, 0.06, 0.03, 0.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(biped.swing_height(phase), expected, rtol=0, atol=1e-6)


def test_feet_phase_by_hand():
    """Errors of 1 and 3 cm are 0.0001 + 0.0009 = 0.001 m2, which is the variance: 1 / e."""
    height, wanted = torch.tensor([[0.01, 0.03], [0.06, 0.0]]), torch.tensor([[0.0, 0.06], [0.06, 0.0]])
    torch.testing.assert_close(biped.feet_phase(height, wanted), torch.tensor([np.exp(-1.0), 1.0], dtype=torch.float32))


def test_feet_distance_by_hand():
    """Feet 16, 4 and -2 cm apart, the same turned by 90 degrees, where the torso's left is -x."""
    distances = [0.16, 0.04, -0.02]
    forward = torch.tensor([[[0.3, d / 2, 0.0], [-0.2, -d / 2, 0.1]] for d in distances])
    turned = torch.tensor([[[-d / 2, 0.3, 0.0], [d / 2, -0.2, 0.1]] for d in distances])
    identity = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(3, 4)
    quarter = torch.tensor([[0.5**0.5, 0.0, 0.0, 0.5**0.5]]).expand(3, 4)
    expected = torch.tensor([0.0, 0.06, 0.12])
    torch.testing.assert_close(biped.feet_distance(forward, identity), expected)
    torch.testing.assert_close(biped.feet_distance(turned, quarter), expected)


def test_commands():
    """Uniform within the limits, and all zero in a tenth of the cases."""
    random = torch.tensor([[0.5, 0.75, 0.0, 0.5], [0.9, 0.9, 0.9, 0.05]])
    limits = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(biped.sampled_command(random, limits), torch.tensor([[0.0, 1.0, -3.0], [0.0] * 3]))


def test_command_changes_after_ten_seconds_and_memory_restarts():
    env = make_env(quiet(), num_envs=NUM_ENVS)
    env.memory["command_steps"].fill_(3)
    first = env.memory["command"].clone()
    env.step(torch.zeros(NUM_ENVS, 12))
    env.step(torch.zeros(NUM_ENVS, 12))
    assert torch.equal(env.memory["command"], first)
    env.step(torch.zeros(NUM_ENVS, 12))
    assert not torch.equal(env.memory["command"], first)
    assert (env.memory["command_steps"] == 500).all()


def test_pushes():
    """The torso gains the speed that the policy's privileged observation shows, when the wait is over."""
    env, calm = make_env(Biped(noise_level=0.0), num_envs=NUM_ENVS), make_env(quiet(), num_envs=NUM_ENVS)
    for one in (env, calm):
        put_standing(one)
    env.memory["push_steps"].copy_(torch.tensor([[1.0], [2.0], [1.0], [9.0], [1.0], [9.0]]))
    env.step(torch.zeros(NUM_ENVS, 12))
    calm.step(torch.zeros(NUM_ENVS, 12))
    push = env.observation["privileged_state"][:, -2:]
    pushed = torch.tensor([True, False, True, False, True, False])
    speed = torch.linalg.vector_norm(push, dim=1)
    assert torch.equal(speed > 0, pushed) and (speed <= 1.0).all()
    shift = env.physics.qpos[:, :2] - calm.physics.qpos[:, :2]  # 0.02 s at most of that speed; feet hold it back
    torch.testing.assert_close(shift[pushed], 0.02 * push[pushed], rtol=0.5, atol=2e-3)
    assert (shift[~pushed] == 0).all()
    wait = env.memory["push_steps"][pushed]
    assert (wait >= 250).all() and (wait <= 500).all()


def test_without_noise_the_state_is_exact():
    env = make_env(quiet(), num_envs=NUM_ENVS)
    list(play(env, 7))
    state, privileged = env.observation["state"], env.observation["privileged_state"]
    physics, memory = env.physics, env.memory
    gyro, vertical, angles, velocities, command, action, cos, sin = state.split([3, 3, 12, 12, 3, 12, 2, 2], dim=1)
    assert torch.equal(gyro, physics.sensor("gyro")) and torch.equal(vertical, physics.sensor("vertical"))
    assert torch.equal(angles, physics.qpos[:, 7:] - torch.tensor(biped.DEFAULT_POSE))
    assert torch.equal(velocities, physics.qvel[:, 6:])
    assert torch.equal(command, memory["command"]) and torch.equal(action, memory["action"])
    phases = torch.cat([memory["phase"], memory["phase"] + np.pi], dim=1)
    torch.testing.assert_close(torch.atan2(sin, cos).cos(), phases.cos())
    torch.testing.assert_close(sin, phases.sin(), rtol=0, atol=1e-6)
    assert torch.equal(privileged[:, :49], state) and torch.equal(privileged[:, 49:79], state[:, :30])


def test_noise():
    """Uniform, as wide as in Playground, and on what is measured only; the value network sees it without noise too."""
    env = make_env(Biped(max_push=0.0), num_envs=400)
    state, privileged = env.observation["state"], env.observation["privileged_state"]
    noise, scale = state[:, :30] - privileged[:, 49:79], torch.full((30,), 0.03)  # angles
    scale[:3], scale[3:6], scale[18:] = 0.2, 0.05, 1.5  # gyro, vertical, velocities
    assert (noise.abs() <= scale + 1e-6).all() and (noise.abs().amax(0) > 0.95 * scale).all()
    torch.testing.assert_close(noise.std(0), scale / 3**0.5, rtol=0.15, atol=0)
    assert torch.equal(privileged[:, :49], state) and torch.equal(state[:, 30:33], env.memory["command"])
    assert len(np.unique(env.memory["random"].numpy())) > 0.99 * env.memory["random"].numel()


@pytest.mark.parametrize(("lean", "height", "ended"), [(0.0, 0.53, 0), (1.0, 0.53, 0), (1.1, 0.53, 1), (0.0, 0.29, 1)])
def test_termination(lean, height, ended):
    """Where the torso leans by more than 60 degrees (1.047), or is lower than 0.3 m."""
    env = make_env(quiet())
    put_standing(env)
    env.physics.qpos[:, 2] = height
    env.physics.qpos[:, 3], env.physics.qpos[:, 5] = np.cos(lean / 2), np.sin(lean / 2)
    env.physics.forward()
    assert env.task.terminated(env.physics, env.memory).item() == ended
    assert env.task.reward_terms(env.physics, env.memory)["termination"].item() == ended


def reward_by_loops(physics, memory, env):
    """The reward of one env in float64, from C MuJoCo's own quantities where there are some, and its terms."""
    model = physics.model
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = (getattr(physics, name)[env] for name in ("qpos", "qvel", "ctrl"))
    mujoco.mj_forward(model, data)
    get = {name: memory[name][env].double().numpy() for name in memory}
    torso, default = data.body("torso"), np.array(biped.DEFAULT_POSE)
    rotation = torso.xmat.reshape(3, 3)
    velocity = rotation.T @ data.qvel[:3]
    command, moving = get["command"], np.linalg.norm(get["command"]) > 0.01
    feet = [data.site(f"{side}_foot").xpos for side in biped.SIDES]
    jacobian, slip, off, phase_error, air = np.zeros((3, model.nv)), 0.0, 0.0, 0.0, 0.0
    for foot, side in enumerate(biped.SIDES):
        mujoco.mj_jacSite(model, data, jacobian, None, model.site(f"{side}_foot").id)
        slip += get["contact"][foot] * np.sum((jacobian @ data.qvel)[:2] ** 2)
        phase = get["phase"][0] + foot * np.pi
        wanted = 0.06 * np.sin(phase) ** 2 if moving and np.sin(phase) < 0 else 0.0
        phase_error += (feet[foot][2] - wanted) ** 2
        if get["touchdown"][foot] and moving:
            air += min(get["air_time"][foot], 0.5) - 0.2
    for joint, (low, high) in enumerate(model.jnt_range[1:]):
        angle, slack = data.qpos[7 + joint], 0.025 * (high - low)
        off += max(low + slack - angle, 0.0) + max(angle - high + slack, 0.0)
    apart = data.qpos[7:] - default
    left = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1])
    lean = np.arccos(rotation[2, 2])
    terms = {
        "tracking_lin_vel": np.exp(-((command[0] - velocity[0]) ** 2 + (command[1] - velocity[1]) ** 2) / 0.5),
        "tracking_ang_vel": np.exp(-((command[2] - data.qvel[5]) ** 2) / 0.5),
        "feet_phase": np.exp(-phase_error / 0.001),
        "feet_air_time": air,
        "alive": 1.0,
        "lin_vel_z": data.qvel[2] ** 2,
        "ang_vel_xy": np.sum((rotation @ data.qvel[3:6])[:2] ** 2),
        "orientation": np.sin(lean) ** 2,
        "base_height": (data.qpos[2] - 0.538) ** 2,
        "torques": np.sqrt(np.sum(data.qfrc_actuator[6:] ** 2)) + np.sum(np.abs(data.qfrc_actuator[6:])),
        "action_rate": np.sum((get["action"] - get["last_action"]) ** 2),
        "feet_slip": slip,
        "feet_distance": max(0.1 - left @ (feet[0] - feet[1])[:2], 0.0),
        "stand_still": 0.0 if moving else np.sum(np.abs(apart)),
        "joint_deviation": np.sum(np.abs(apart[[0, 1, 6, 7]])),
        "dof_pos_limits": off,
        "termination": float(lean > np.pi / 3 or data.qpos[2] < 0.3),
    }
    return max(sum(biped.SCALES[name] * value for name, value in terms.items()) * 0.02, 0.0), terms


def test_reward_against_slow_numpy():
    """In states of random play, with commands to walk and to stand, feet in the air and on the floor, and after falls."""
    env = make_env(quiet(), num_envs=NUM_ENVS)
    physics, memory, seen = env.physics, env.memory, {name: [] for name in biped.SCALES}
    memory["command"][0] = 0.0
    for step, _ in enumerate(play(env, 24, scale=1.5)):
        if step % 4:
            continue
        if step == 20:  # whatever does not come by itself
            physics.qpos[0, 2], memory["touchdown"][1:3], memory["air_time"][1] = 0.28, 1.0, 0.7
            physics.qpos[3, 8], physics.qpos[3, 14] = -0.6, 0.6
        physics.forward()
        reward, metrics = env.task.reward(physics, memory, memory["action"])
        terms = env.task.reward_terms(physics, memory)
        for i in range(NUM_ENVS):
            expected, expected_terms = reward_by_loops(physics, memory, i)
            for name, value in expected_terms.items():
                assert terms[name][i].item() == pytest.approx(value, rel=2e-4, abs=2e-5), name
                seen[name].append(value)
            assert reward[i].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)
            error = np.linalg.norm(physics.sensor("velocity")[i, :2] - memory["command"][i, :2])
            assert metrics["velocity_error_per_step"][i].item() == pytest.approx(error, rel=1e-5)
    for name, values in seen.items():
        assert name == "alive" or np.ptp(values) > 1e-3, f"{name} was always {values[0]}"


def test_air_time_of_a_foot_that_is_lifted():
    """Held in the air by hand for 15 steps, then put down: the swing took 0.32 s and earns 0.12 s beyond the least."""
    env = make_env(quiet())
    put_standing(env)
    env.memory["command"].fill_(0.5)
    earned = []
    for step in range(20):
        physics = env.physics
        put_standing(env)
        physics.qpos[:, 2] += 0.05 if 2 <= step < 17 else -0.001
        env.task.apply(physics, env.memory, torch.zeros(1, 12))
        physics.forward()
        env.task.after_step(physics, env.memory, torch.zeros(1, 12))
        earned.append(env.task.reward_terms(physics, env.memory)["feet_air_time"].item())
    assert [step for step, value in enumerate(earned) if value] == [17]
    assert earned[17] == pytest.approx(2 * 0.12, abs=1e-5)  # both feet
    assert env.memory["peak"].amax() <= 0.05 + 1e-3


def test_randomise_changes_dynamics():
    """Every field differs between worlds, within its range, and so do the joints after a fifth of a second."""
    env, plain = (make_env(quiet(), num_envs=NUM_ENVS, randomize=randomize) for randomize in (True, False))
    fields = env.task.randomize(env.physics, torch.Generator().manual_seed(0))
    model = env.physics.model
    for name, value in fields.items():
        assert value.shape == (NUM_ENVS, *getattr(model, name).shape), name
        assert value.flatten(1).std(0).max() > 0, name
    masses = fields["body_mass"].sum(1)
    assert (masses - 16.06).abs().max() < 2.61 and masses.std() > 0.1  # 10 % and 1 kg
    ratio = fields["body_inertia"][:, 1:] / torch.as_tensor(model.body_inertia[1:], dtype=torch.float32)
    mass_ratio = fields["body_mass"][:, 1:] / torch.as_tensor(model.body_mass[1:], dtype=torch.float32)
    torch.testing.assert_close(ratio, mass_ratio[:, :, None].expand_as(ratio))
    for one in (env, plain):
        put_standing(one)
        for _ in range(10):
            one.step(torch.zeros(NUM_ENVS, 12))
    assert plain.physics.qpos[:, 7:].std(0).max() < 1e-5
    assert env.physics.qpos[:, 7:].std(0).min() > 1e-4


def test_engines_agree_while_it_walks():
    """Each step from the same state, feet on and off the floor, with all that memory says."""
    envs = [make_env(Biped(), num_envs=4, engine=engine) for engine in ("mujoco", "warp")]
    contacts = []
    for _ in range(25):
        for name in ("qpos", "qvel"):
            getattr(envs[1].physics, name).copy_(getattr(envs[0].physics, name))
        for name, value in envs[0].memory.items():
            envs[1].memory[name].copy_(value)
        action = 0.6 * torch.stack(
            [envs[0].memory["phase"][:, 0].sin() * weight for weight in torch.linspace(-1, 1, 12)], 1
        )
        for env in envs:
            env.step(action)
        for name in ("qpos", "qvel"):
            found, expected = (getattr(env.physics, name) for env in envs[::-1])
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(envs[1].reward, envs[0].reward, rtol=1e-3, atol=1e-5)
        contacts.append(envs[0].memory["contact"].clone())
    contacts = torch.stack(contacts)
    assert 0 < contacts.mean() < 1 and not envs[1].physics.overflow.any()
