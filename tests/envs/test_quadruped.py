"""Quadruped: the model against published numbers, the reward against MuJoCo's own quantities, draws, rough ground."""

import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs import quadruped, terrain
from torch_ppo.envs.quadruped import LEGS, SCALES, Quadruped

JOINTS, JOINT_VELOCITIES = slice(7, None), slice(6, None)


def play(env, num_steps, scale=0.3, seed=0):
    """Random actions of a scale, one number or `(num_envs, 1)`."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        env.step(scale * torch.randn(env.num_envs, env.action_dim, generator=generator))


def data_of(model, physics, world):
    """MuJoCo's quantities in the state of a world."""
    data = mujoco.MjData(model)
    for name in ("qpos", "qvel", "ctrl"):
        getattr(data, name)[:] = getattr(physics, name)[world].numpy()
    mujoco.mj_forward(model, data)
    return data


def object_velocity(model, data, site, local):
    """Angular and linear velocity of a site, in its own frame or the world's."""
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, model.site(site).id, velocity, local)
    return velocity[:3], velocity[3:]


def test_published_robot():
    """Unitree's Go1: 12.743 kg, 0.213 m of thigh and of calf, hips 0.376 m and 0.0935 m apart."""
    model = Quadruped().make_model()
    assert model.body_mass.sum() == pytest.approx(5.204 + 4 * (0.68 + 1.009 + 0.195862), abs=1e-9)
    assert (model.nq, model.nv, model.nu) == (19, 18, 12)
    assert [model.joint(i).name for i in range(1, 13)] == list(quadruped.JOINTS)
    assert [model.actuator(i).name for i in range(12)] == list(quadruped.JOINTS)
    np.testing.assert_allclose(model.jnt_range[1:], quadruped.JOINT_LIMITS)
    np.testing.assert_allclose(model.actuator_ctrlrange, quadruped.JOINT_LIMITS)
    np.testing.assert_allclose(model.actuator_forcerange[:, 1], [23.7, 23.7, 35.55] * 4)
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], 35.0)
    np.testing.assert_allclose(model.dof_damping[6:], 0.5)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    front_right, front_left, back_right = (data.body(f"{leg}_hip").xpos for leg in LEGS[:3])
    assert np.linalg.norm(front_right - back_right) == pytest.approx(0.3762)
    assert np.linalg.norm(front_right - front_left) == pytest.approx(0.0935)
    for leg in LEGS:
        thigh, calf, foot = data.body(f"{leg}_thigh").xpos, data.body(f"{leg}_calf").xpos, data.site(f"{leg}_foot").xpos
        assert np.linalg.norm(thigh - calf) == pytest.approx(0.213)
        assert np.linalg.norm(calf - foot) == pytest.approx(0.213)
    # A mirror image: the leg's share of the centre of mass is as far left as right.
    hips = model.body_ipos[[model.body(f"{leg}_hip").id for leg in LEGS]]
    np.testing.assert_allclose(hips.sum(0), [0, 0, 4 * -8.865e-5], atol=1e-12)
    # mj_fullM of a free body starts with its mass: every inertia is that of a real body.
    assert (np.sort(model.body_inertia[1:], 1)[:, 2] <= np.sort(model.body_inertia[1:], 1)[:, :2].sum(1)).all()


def test_start():
    env = make_env(Quadruped(), num_envs=512)
    physics, model = env.physics, env.physics.model
    assert torch.equal(physics.qpos[:, JOINTS], torch.tensor(quadruped.DEFAULT_POSE).expand(512, 12))
    yaw = 2 * torch.atan2(physics.qpos[:, 6], physics.qpos[:, 3])
    assert yaw.min() < -3.0 and yaw.max() > 3.0 and (physics.qpos[:, 4:6] == 0).all()
    assert 0.45 < physics.qpos[:, :2].abs().max() <= 0.5
    assert 0.45 < physics.qvel[:, :6].abs().max() <= 0.5 and (physics.qvel[:, 6:] == 0).all()
    assert env.memory["command"].abs().amax(0).sub(torch.tensor(quadruped.COMMAND_LIMITS)).abs().max() < 0.02
    data = data_of(model, physics, 0)
    for leg, place in zip(LEGS, quadruped.FEET, strict=True):
        foot = data.site(f"{leg}_foot").xpos
        assert foot[2] - model.geom(f"{leg}_foot").size[0] == pytest.approx(0.0, abs=1e-4)
        np.testing.assert_allclose(
            (foot - data.qpos[:3]) @ data.body("trunk").xmat.reshape(3, 3)[:, :2], place, atol=1e-4
        )


def test_stands():
    """In the default pose, left alone, for two seconds."""
    env = make_env(Quadruped(), num_envs=4)
    env.physics.qvel.zero_()
    for _ in range(100):
        env.step(torch.zeros(4, 12))
        assert not env.done.any()
    assert (env.physics.sensor("vertical")[:, 2] > 0.99).all()
    assert (env.memory["contact"] == 1).all() and (env.physics.qpos[:, 2] > 0.24).all()


def test_ends_on_its_side():
    env = make_env(Quadruped(), num_envs=3)
    physics, halves = env.physics, torch.tensor([80.0, 100.0, 180.0]).deg2rad() / 2  # rolled
    physics.qpos[:, 3:7] = torch.stack([halves.cos(), halves.sin(), 0 * halves, 0 * halves], dim=1)
    physics.qpos[:, 2] = 1.0
    physics.qvel.zero_()
    physics.forward()
    assert env.task.terminated(physics, env.memory).tolist() == [False, True, True]
    env.step(torch.zeros(3, 12))
    assert env.termination.tolist() == [0, 1, 1] and not env.truncation.any()


def test_observation():
    """Without noise, every part is what MuJoCo computes for the state."""
    env = make_env(Quadruped(noise_level=0.0, max_push=1.0), num_envs=3)
    play(env, 30)
    env.physics.forward()
    observation = env.task.observe(env.physics, env.memory)
    state, privileged = observation["state"], observation["privileged_state"]
    assert state.shape == (3, 48) and privileged.shape == (3, 121)
    assert torch.equal(privileged[:, :48], state) and torch.equal(privileged[:, 48:81], state[:, :33])
    model = env.physics.model
    for world in range(3):
        data = data_of(model, env.physics, world)
        angular, linear = object_velocity(model, data, "imu", local=1)
        expected = [
            linear,
            angular,
            -data.body("trunk").xmat.reshape(3, 3)[2],
            data.qpos[JOINTS] - quadruped.DEFAULT_POSE,
            data.qvel[JOINT_VELOCITIES],
            env.memory["action"][world],
            env.memory["command"][world],
        ]
        np.testing.assert_allclose(state[world], np.concatenate(expected), atol=2e-5)
        world_angular, _ = object_velocity(model, data, "imu", local=0)
        feet = np.concatenate([object_velocity(model, data, f"{leg}_foot", local=0)[1] for leg in LEGS])
        expected = [
            world_angular,
            data.actuator_force,
            env.memory["contact"][world],
            feet,
            env.memory["air_time"][world],
            env.memory["push"][world],
        ]
        np.testing.assert_allclose(privileged[world, 84:], np.concatenate(expected), rtol=1e-5, atol=2e-5)


def test_actions():
    """They shift the default pose by half a radian each, the last two are remembered, and torques have their limits."""
    env = make_env(Quadruped(), num_envs=2)
    actions = torch.rand(3, 2, 12, generator=torch.Generator().manual_seed(0)) - 0.5
    for action in actions:
        env.step(action)
    assert torch.equal(env.memory["action"], actions[2]) and torch.equal(env.memory["last_action"], actions[1])
    assert torch.equal(env.observation["state"][:, 33:45], actions[2])
    torch.testing.assert_close(env.physics.ctrl, torch.tensor(quadruped.DEFAULT_POSE) + 0.5 * actions[2])
    limits, greatest = torch.tensor([23.7, 23.7, 35.55] * 4), torch.zeros(12)
    for step in range(20):
        env.step(torch.full((2, 12), 10.0 * (-1) ** step))
        torques = torch.cat([env.physics.sensor(f"{joint}_torque") for joint in quadruped.JOINTS], dim=1)
        greatest = torch.maximum(greatest, torques.abs().amax(0))
    assert (greatest <= limits).all() and (greatest[1::3] == 23.7).all()


def test_noise():
    """Uniform, of the declared scale, on the policy's observation only, and new in every step."""
    env, clean = (make_env(Quadruped(noise_level=level), num_envs=256) for level in (1.0, 0.0))
    error = env.observation["state"] - clean.observation["state"]
    scales = torch.tensor([0.1] * 3 + [0.2] * 3 + [0.05] * 3 + [0.03] * 12 + [1.5] * 12 + [0.0] * 15)
    assert (error.abs() <= scales + 1e-6).all() and (error.abs().amax(0) >= 0.95 * scales).all()
    torch.testing.assert_close(error.std(0), scales / 3**0.5, rtol=0.15, atol=1e-6)
    assert torch.equal(env.observation["privileged_state"][:, 48:], clean.observation["privileged_state"][:, 48:])
    for each in (env, clean):
        each.step(torch.zeros(256, 12))
    assert torch.equal(env.physics.qpos, clean.physics.qpos)
    again = env.observation["state"] - clean.observation["state"]
    assert (again - error)[:, :33].abs().min(0).values.max() < 1.0 and (again != error)[:, :33].all(0).all()


def test_reward_terms():
    """Every term from MuJoCo's own quantities, by loops."""
    env = make_env(Quadruped(), num_envs=8)
    play(env, 40, scale=torch.linspace(0.0, 0.5, 8)[:, None])
    physics, memory, model = env.physics, env.memory, env.physics.model
    memory["command"][1] = 0.0
    physics.qpos[2, 3:7] = torch.tensor([0.5, 0.8, 0.3, 0.1]) / 0.99**0.5  # on its back
    physics.qpos[3, JOINTS] = torch.tensor([0.85, 0.9, -2.8] * 4)
    memory["touchdown"][:] = torch.tensor([1.0, 0.0, 1.0, 1.0])
    physics.forward()
    got = env.task.reward_terms(physics, memory)
    reward, metrics = env.task.reward(physics, memory, memory["action"])
    for world in range(8):
        data = data_of(model, physics, world)
        kept = {name: value[world].double().numpy() for name, value in memory.items()}
        command, moving = kept["command"], np.linalg.norm(kept["command"]) > 0.01
        (_, _, yaw_rate), velocity = object_velocity(model, data, "imu", local=1)
        world_angular, world_velocity = object_velocity(model, data, "imu", local=0)
        up = data.body("trunk").xmat.reshape(3, 3)[:, 2]
        joints, torque = data.qpos[JOINTS], data.actuator_force
        off = joints - quadruped.DEFAULT_POSE
        feet = [data.site(f"{leg}_foot").xpos[2] for leg in LEGS]
        speeds = [np.hypot(*object_velocity(model, data, f"{leg}_foot", local=0)[1][:2]) for leg in LEGS]
        beyond = 0.0
        for joint, (low, high) in zip(joints, quadruped.JOINT_LIMITS, strict=True):
            slack = 0.025 * (high - low)
            beyond += max(0.0, low + slack - joint) + max(0.0, joint - high + slack)
        peak, down, air = kept["peak"], kept["touchdown"], kept["air_time"]
        expected = {
            "tracking_lin_vel": np.exp(-np.sum((command - velocity)[:2] ** 2) / 0.25),
            "tracking_ang_vel": np.exp(-((command[2] - yaw_rate) ** 2) / 0.25),
            "lin_vel_z": world_velocity[2] ** 2,
            "ang_vel_xy": world_angular[0] ** 2 + world_angular[1] ** 2,
            "orientation": up[0] ** 2 + up[1] ** 2,
            "dof_pos_limits": beyond,
            "pose": np.exp(-sum(w * x * x for w, x in zip([1, 1, 0.1] * 4, off, strict=True))),
            "termination": float(up[2] < 0),
            "stand_still": 0.0 if moving else np.abs(off).sum(),
            "torques": np.linalg.norm(torque) + np.abs(torque).sum(),
            "action_rate": np.sum((kept["action"] - kept["last_action"]) ** 2),
            "energy": np.sum(np.abs(torque * data.qvel[JOINT_VELOCITIES])),
            "feet_clearance": sum(abs(z - 0.1) * np.sqrt(v) for z, v in zip(feet, speeds, strict=True)),
            "feet_height": moving * sum((peak[f] / 0.1 - 1) ** 2 for f in range(4) if down[f]),
            "feet_slip": moving * sum(speeds[f] ** 2 for f in range(4) if kept["contact"][f]),
            "feet_air_time": moving * sum(air[f] - 0.1 for f in range(4) if down[f]),
        }
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            assert got[name][world].item() == pytest.approx(value, rel=1e-3, abs=2e-5), name
        total = max(0.0, 0.02 * sum(SCALES[name] * value for name, value in expected.items()))
        assert reward[world].item() == pytest.approx(total, rel=1e-3, abs=1e-5)
        error = np.linalg.norm((command - velocity)[:2])
        assert metrics["velocity_error_per_step"][world].item() == pytest.approx(error, rel=1e-4)
    assert got["termination"].sum() == 1 and (got["dof_pos_limits"] > 0)[3] and (reward > 0).any()


def test_contacts_and_swings():
    """A fall from 0.1 m takes 0.143 s: touchdown is in the eighth step, with all feet."""
    env = make_env(Quadruped(), num_envs=1)
    env.physics.qvel.zero_()
    env.physics.qpos[:, 2] += 0.1
    touchdowns = []
    for step in range(1, 81):
        env.step(torch.zeros(1, 12))
        swing = {name: env.memory[name] for name in ("contact", "touchdown", "air_time", "peak")}
        touchdowns.append(swing["touchdown"].tolist()[0])
        if step <= 8:
            assert (swing["contact"] == (step == 8)).all()
            assert swing["air_time"].allclose(torch.tensor(0.02 * step))
            assert (swing["peak"] - 0.123).abs().max() < 0.002
    assert sum(map(sum, touchdowns[:7])) == 0 and touchdowns[7] == [1.0] * 4 and sum(map(sum, touchdowns[-30:])) == 0
    assert (env.memory["contact"] == 1).all() and env.memory["air_time"].allclose(torch.tensor(0.02))
    assert (env.memory["peak"] < 0.024).all()


def test_commands_change():
    """At intervals of 5 s in the mean, each env for itself."""
    env = make_env(Quadruped(), num_envs=1024)
    task, physics, memory = env.task, env.physics, env.memory
    assert memory["command_steps"].mean().item() == pytest.approx(250, rel=0.1)
    generator, changes = torch.Generator().manual_seed(1), torch.zeros(1024)
    for _ in range(500):
        memory["random"].uniform_(generator=generator)
        before = memory["command"].clone()
        task.after_step(physics, memory, memory["action"])
        changes += (memory["command"] != before).any(1)
    # In 10 s there are two occasions; a component changes in half of them, unless it was and stays 0.
    at_most = 2 * (1 - 0.5**3)
    assert 0.75 * at_most < changes.mean() < 1.02 * at_most


def test_pushes():
    """A jump of the trunk's horizontal velocity every one to three seconds, and none by default."""
    env = make_env(Quadruped(max_push=2.0), num_envs=512)
    task, physics, memory = env.task, env.physics, env.memory
    generator, times, sizes = torch.Generator().manual_seed(1), [], []
    for _ in range(400):
        memory["random"].uniform_(generator=generator)
        before = physics.qvel.clone()
        task.apply(physics, memory, memory["action"])
        change = physics.qvel - before
        torch.testing.assert_close(change[:, :2], memory["push"], atol=1e-5, rtol=1e-5)
        assert (change[:, 2:] == 0).all()
        times.append((memory["push"] != 0).any(1))
        sizes.append(torch.linalg.vector_norm(memory["push"], dim=1))
    times, sizes = torch.stack(times), torch.stack(sizes)  # (400, num_envs)
    waits = torch.cat([world.nonzero().flatten().diff() for world in times.T])
    assert (waits.min(), waits.max()) == (50, 150) and waits.double().mean().item() == pytest.approx(100, rel=0.05)
    assert 1.9 < sizes.max() <= 2.0 and sizes[times].mean().item() == pytest.approx(1.0, rel=0.05)
    calm = make_env(Quadruped(), num_envs=2)
    velocity = calm.physics.qvel.clone()
    for _ in range(200):
        calm.task.apply(calm.physics, calm.memory, calm.memory["action"])
    assert torch.equal(calm.physics.qvel, velocity)


def test_randomize():
    """In the declared ranges, nothing else, and each world moves differently."""
    env = make_env(Quadruped(), num_envs=64, randomize=True)
    model = env.physics.model
    fields = env.task.randomize(env.physics, torch.Generator().manual_seed(3))
    trunk, floor = model.body("trunk").id, model.geom("floor").id
    change = {name: value.numpy() - getattr(model, name) for name, value in fields.items()}
    friction = fields["geom_friction"][:, floor, 0]
    assert 0.4 <= friction.min() < 0.45 and 0.95 < friction.max() <= 1.0
    change["geom_friction"][:, floor, 0] = 0
    assert np.abs(change["geom_friction"]).max() < 1e-8
    assert 0.045 < np.abs(change["body_ipos"][:, trunk]).max() <= 0.05 + 1e-6
    assert 0.045 < np.abs(change["qpos0"][:, JOINTS]).max() <= 0.05 + 1e-6
    assert np.abs(change["qpos0"][:, :7]).max() < 1e-7
    legs = fields["body_mass"][:, trunk + 1 :].numpy() / model.body_mass[trunk + 1 :]
    assert 0.9 - 1e-6 <= legs.min() < 0.91 and 1.09 < legs.max() <= 1.1 + 1e-6
    assert 1.0 < np.abs(change["body_mass"][:, trunk]).max() <= 1.0 + 0.5204 + 1e-5
    for name, low, high in (("dof_frictionloss", 0.9, 1.1), ("dof_armature", 1.0, 1.05)):
        ratio = fields[name][:, 6:].numpy() / getattr(model, name)[6:]
        assert low - 1e-5 <= ratio.min() and ratio.max() <= high + 1e-5 and ratio.std() > 0.25 * (high - low)
    gain, bias = fields["actuator_gainprm"][:, :, 0], fields["actuator_biasprm"][:, :, 1]
    assert torch.equal(gain, -bias) and 0.9 * 35 - 1e-3 <= gain.min() < 32 and 38 < gain.max() <= 1.1 * 35 + 1e-3
    env.physics.qpos.copy_(env.physics.qpos[:1].expand(64, -1))
    env.physics.qvel.zero_()
    for _ in range(5):
        env.step(torch.zeros(64, 12))
    assert env.physics.qvel[:, JOINT_VELOCITIES].std(0).min() > 1e-3


def test_randomised_zero_turns_a_joint():
    """A joint whose zero is 0.05 rad further bends its leg that much less for the same angle."""
    task = Quadruped()
    env = make_env(task, num_envs=2)
    offset = torch.zeros(2, 19)
    offset[:, 3] = 1.0
    offset[1, 9] = 0.05  # front right knee
    env = make_env(task, num_envs=2)
    env.physics.set_model_fields({"qpos0": offset})
    env.physics.qpos.copy_(env.physics.qpos[:1].expand(2, -1).clone())
    env.physics.forward()
    feet = env.physics.sensor("front_right_foot_position")
    # The calf turns by 0.05 about the knee: the foot moves by the chord of 0.213 m.
    assert torch.linalg.vector_norm(feet[1] - feet[0]).item() == pytest.approx(2 * 0.213 * np.sin(0.025), rel=1e-3)
    assert torch.equal(*env.physics.sensor("front_left_foot_position"))


def test_engines_agree():
    """On the flat floor, for ten steps and to five digits."""
    envs = [make_env(Quadruped(max_push=1.0), num_envs=8, engine=engine) for engine in ("mujoco", "warp")]
    for name in ("qpos", "qvel"):
        torch.testing.assert_close(getattr(envs[0].physics, name), getattr(envs[1].physics, name), rtol=0, atol=0)
    for env in envs:
        play(env, 10)
    torch.testing.assert_close(envs[1].physics.qpos, envs[0].physics.qpos, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(envs[1].physics.sensordata, envs[0].physics.sensordata, rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(envs[1].reward, envs[0].reward, rtol=1e-5, atol=1e-6)
    assert not envs[1].physics.overflow.any()


@pytest.fixture(scope="module")
def rough_model():
    return Quadruped(rough=True).make_model()


@pytest.fixture(scope="module")
def heights():
    return torch.tensor(terrain.tile_heights(), dtype=torch.float32)


def test_ground(heights):
    assert heights.shape == (200, 200) and heights.min() == 0 and heights.max() == pytest.approx(terrain.HIGHEST)
    np.testing.assert_array_equal(terrain.tile_heights(), terrain.tile_heights())
    # It repeats without an edge: steps across it are like those inside.
    for axis in (0, 1):
        inside, across = heights.diff(dim=axis).abs().max(), (heights.roll(1, axis) - heights).abs().max()
        assert across == pytest.approx(inside.item(), rel=0.2)


def test_height_is_the_simulators(rough_model, heights):
    """Where a vertical ray hits the height field, border included."""
    data = mujoco.MjData(rough_model)
    mujoco.mj_forward(rough_model, data)
    reach = terrain.TILE / 2 + terrain.BORDER
    places = np.random.default_rng(0).uniform(-reach, reach, size=(500, 2))
    geom, group = np.zeros(1, dtype=np.int32), None
    hits = []
    for x, y in places:
        down = np.array([0.0, 0.0, -1.0])
        distance = mujoco.mj_ray(rough_model, data, np.array([x, y, 1.0]), down, group, 1, 1, geom, None)
        assert geom[0] == rough_model.geom("floor").id
        hits.append(1.0 - distance)
    got = terrain.height_at(heights, torch.tensor(places, dtype=torch.float32))
    np.testing.assert_allclose(got, hits, atol=2e-6)
    # And where a foot touches it.
    env = make_env(Quadruped(rough=True), num_envs=8)
    play(env, 20, scale=0.1)
    contacts = 0
    for world in range(8):
        data = data_of(env.physics.model, env.physics, world)
        for contact in data.contact[: data.ncon]:
            ground = terrain.height_at(heights, torch.tensor(contact.pos[:2], dtype=torch.float32)).item()
            assert contact.pos[2] - contact.dist / 2 * contact.frame[2] == pytest.approx(ground, abs=1e-3)
            contacts += 1
    assert contacts > 8


def test_rough_start():
    """Anywhere on the ground, no foot in it, none far above it."""
    env = make_env(Quadruped(rough=True), num_envs=256)
    assert env.physics.qpos[:, :2].abs().max() > 0.95 * terrain.TILE / 2
    clearance = []
    for world in range(256):
        data = data_of(env.physics.model, env.physics, world)
        assert data.ncon == 0
        feet = [data.site(f"{leg}_foot").xpos for leg in LEGS]
        ground = terrain.height_at(
            env.task.constants["ground"], torch.tensor(np.array(feet)[:, :2], dtype=torch.float32)
        )
        clearance.append(np.min(np.array(feet)[:, 2] - 0.023 - ground.numpy()))
    assert np.max(clearance) == pytest.approx(quadruped.START_CLEARANCE, abs=1e-3) and np.min(clearance) > 0.005


def test_feet_are_as_high_as_above_the_ground():
    """A foot that stands has its centre its radius of 23 mm above the ground, wherever that is."""
    env = make_env(Quadruped(rough=True), num_envs=32)
    env.physics.qvel.zero_()
    for _ in range(50):
        env.step(torch.zeros(32, 12))
    stands = (env.memory["contact"] == 1) & (env.memory["air_time"] < 0.03)
    peak = env.memory["peak"][stands]
    assert stands.sum() > 100 and peak.min() > 0.018 and peak.max() < 0.027
    places = torch.cat([env.physics.sensor(f"{leg}_foot_position")[:, 2:] for leg in LEGS], dim=1)
    assert places.max() > 0.055 and places.min() < 0.035


def test_ground_goes_on():
    """A robot that walks off the tile is put back to the like place, and nothing that it sees changes."""
    place = torch.tensor([[10.3, -4.0], [-9.99, 31.0], [0.0, 0.0]])
    torch.testing.assert_close(terrain.into_tile(place), torch.tensor([[-9.7, -4.0], [-9.99, -9.0], [0.0, 0.0]]))
    env = make_env(Quadruped(rough=True, noise_level=0.0), num_envs=2)
    physics, memory = env.physics, env.memory
    for tensor in (physics.qpos, physics.qvel, *memory.values()):
        tensor.copy_(tensor[:1].expand_as(tensor).clone())
    physics.qpos[:, :2] = torch.tensor([[10.4, 3.0], [-9.6, 3.0]])  # on the border, and on the tile
    physics.qvel[:, 0] = 1.0
    for _ in range(10):
        memory["random"].copy_(memory["random"][:1].expand(2, -1).clone())
        env.task.apply(physics, memory, torch.zeros(2, 12))
        physics.step(env.num_substeps)
        env.after_physics(torch.zeros(2, 12), True, True)
    assert torch.allclose(physics.qpos[0], physics.qpos[1], atol=1e-4) and physics.qpos[0, 0] < 0
    torch.testing.assert_close(*env.observation["privileged_state"], atol=1e-2, rtol=1e-3)


def test_rough_engines_agree():
    """Not as closely as on the floor: of the contacts that meet at an edge, MuJoCo Warp keeps four at most."""
    envs = [make_env(Quadruped(rough=True), num_envs=16, engine=engine) for engine in ("mujoco", "warp")]
    for env in envs:
        play(env, 3)
    difference = (envs[0].physics.qpos - envs[1].physics.qpos).abs().amax(1)
    assert difference.median() < 1e-3 and difference.max() < 0.1
    assert not envs[1].physics.overflow.any()
