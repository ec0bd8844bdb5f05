"""Our ant against Gymnasium's Ant-v5; the ant that stands up by what it has to mean.

C MuJoCo is ours with cold starts of the solver and float32 states between steps. On Warp the two are compared with
elliptic friction cones: for capsules that stand steeply its pyramidal cones have other directions than C MuJoCo's.
"""

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import make_env
from torch_ppo.envs.ant import DROP_HEIGHT, MJCF, STAND_HEIGHT, Ant, AntStand
from torch_ppo.simulation.physics import load_model

UPSIDE_DOWN = (0.0, 1.0, 0.0, 0.0)


class EllipticAnt(Ant):
    def make_model(self):
        model = super().make_model()
        model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        return model


@pytest.fixture(scope="module")
def ant_v5():
    env = gymnasium.make("Ant-v5")
    yield env.unwrapped
    env.close()


def put_state(env, reference):
    """Puts our only world and Gymnasium's into the same state, Gymnasium's rounded to float32."""
    for name in ("qpos", "qvel"):
        getattr(env.physics, name).copy_(torch.as_tensor(getattr(reference.data, name))[None])
    reference.set_state(env.physics.qpos[0].double().numpy(), env.physics.qvel[0].double().numpy())


# What does not matter to physics; a free joint has no limit and so no margin.
IGNORED = {"geom_rgba", "geom_matid", "jnt_margin"}


def test_model_is_ant_v5(ant_v5):
    """Every number that physics depends on, body for body and actuator for actuator."""
    ours, theirs = load_model(MJCF), ant_v5.model
    kinds = ("body_", "jnt_", "dof_", "geom_", "actuator_", "qpos")
    fields = [name for name in dir(theirs) if name.startswith(kinds) and name not in IGNORED]
    assert len(fields) > 60
    for name in fields:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for name in (name for name in dir(theirs.opt) if not name.startswith("_")):
        np.testing.assert_array_equal(getattr(ours.opt, name), getattr(theirs.opt, name), err_msg=name)


# Absolute and relative: next state; velocity in the reward, where Ant-v5 has that of the integrator's last stage;
# observation with contact forces and contact cost in the same state.
TOLERANCES = {"mujoco": (2e-6, 0.1, 1e-4), "warp": (3e-4, 0.1, 5e-3)}


@pytest.mark.parametrize(("engine", "task", "num_episodes"), [("mujoco", Ant, 8), ("warp", EllipticAnt, 2)])
def test_same_as_ant_v5(engine, task, num_episodes, ant_v5, monkeypatch):
    state_tolerance, velocity_tolerance, observation_tolerance = TOLERANCES[engine]
    reference, env = ant_v5, make_env(task(), engine=engine)
    monkeypatch.setattr(reference.model.opt, "cone", env.physics.model.opt.cone)
    rng = np.random.default_rng(0)
    contacts, velocity_errors = 0, []
    for episode in range(num_episodes):
        reference.reset(seed=episode)
        for _ in range(40):
            put_state(env, reference)
            action = rng.uniform(-1, 1, 8).astype(np.float32)
            _, _, terminated, _, info = reference.step(action)
            env.step(torch.as_tensor(action)[None])
            assert env.termination.item() == terminated
            for name in ("reward_ctrl", "reward_survive"):
                np.testing.assert_allclose(env.metrics[name].item(), info[name], rtol=1e-6)
            velocity_errors.append(env.metrics["reward_forward"].item() - info["reward_forward"])
            reward = sum(value.item() for value in env.metrics.values())
            np.testing.assert_allclose(env.reward.item(), reward, rtol=1e-5)
            if terminated:
                break
            for name in ("qpos", "qvel"):
                ours, theirs = getattr(env.physics, name)[0].numpy(), getattr(reference.data, name)
                np.testing.assert_allclose(ours, theirs, rtol=state_tolerance, atol=state_tolerance, err_msg=name)

            put_state(env, reference)
            env.physics.ctrl.copy_(torch.as_tensor(action)[None])
            env.physics.forward()
            mujoco.mj_rnePostConstraint(reference.model, reference.data)
            observation = env.task.observe(env.physics, env.memory)[0].numpy()
            tolerances = {"rtol": observation_tolerance, "atol": observation_tolerance}
            np.testing.assert_allclose(observation, reference._get_obs(), **tolerances)
            cost = env.task.reward(env.physics, env.memory, torch.zeros(1, 8))[1]["reward_contact"].item()
            np.testing.assert_allclose(cost, -reference.contact_cost, rtol=1e-3, atol=1e-6)
            contacts += np.abs(reference.contact_forces).max() == 1
    assert contacts > 20
    assert np.abs(velocity_errors).max() < velocity_tolerance and abs(np.mean(velocity_errors)) < 5e-3


def test_episode_ends_where_ant_v5_is_unhealthy(ant_v5):
    heights = torch.tensor([0.15, 0.199, 0.201, 0.6, 0.999, 1.001, 2.0])
    env = make_env(Ant(), num_envs=len(heights))
    env.physics.qpos[:, 2] = heights
    expected = []
    for height in heights:
        ant_v5.data.qpos[2] = height
        expected.append(not ant_v5.is_healthy)
    assert env.task.terminated(env.physics, env.memory).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_starts_are_distributed_as_in_ant_v5(ant_v5):
    samples = 1000
    theirs = []
    for seed in range(samples):
        ant_v5.reset(seed=seed)
        theirs.append(ant_v5.state_vector())
    theirs = np.array(theirs)
    theirs[:, 3:7] /= np.linalg.norm(theirs[:, 3:7], axis=1, keepdims=True)  # as ours: the same rotation, of length 1
    env = make_env(Ant(), num_envs=samples)
    ours = torch.cat([env.physics.qpos, env.physics.qvel], dim=1).numpy()
    error = np.sqrt((theirs.var(0) + ours.var(0)) / samples)
    np.testing.assert_array_less(np.abs(ours.mean(0) - theirs.mean(0)), 4 * error)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.1)
    np.testing.assert_allclose(ours.min(0)[:15], theirs.min(0)[:15], atol=0.01)  # uniform: the ends agree
    np.testing.assert_allclose(ours.max(0)[:15], theirs.max(0)[:15], atol=0.01)
    env.reset()
    assert env.observation["state"][:, 27:].abs().max() == 0  # in the air


@pytest.mark.parametrize(
    ("num_episodes", "num_steps", "num_errors"),
    [(100, 40, 4), pytest.param(1000, 100, 2, marks=pytest.mark.slow)],
)
def test_random_policy_earns_the_same(num_episodes, num_steps, num_errors):
    """Mean length, return and its terms of uniformly random actions, within so many standard errors."""
    reference = gymnasium.make("Ant-v5", max_episode_steps=num_steps)
    names = Ant.metric_names
    rng = np.random.default_rng(0)
    theirs = []
    for episode in range(num_episodes):
        reference.reset(seed=episode)
        over, totals = False, np.zeros(2 + len(names))
        while not over:
            _, reward, terminated, truncated, info = reference.step(rng.uniform(-1, 1, 8).astype(np.float32))
            totals += [1, reward, *(info[name] for name in names)]
            over = terminated or truncated
        theirs.append(totals)
    reference.close()

    env = make_env(Ant(), num_envs=num_episodes, episode_length=num_steps)
    actions = torch.Generator().manual_seed(1)
    ours = torch.zeros(num_episodes, 2 + len(names))
    over = torch.zeros(num_episodes, dtype=torch.bool)
    for _ in range(num_steps):
        env.step(2 * torch.rand(num_episodes, 8, generator=actions) - 1)
        totals = [env.episode_metrics[name] for name in ("length", "sum_reward", *names)]
        ours = torch.where((env.done.bool() & ~over)[:, None], torch.stack(totals, dim=1), ours)
        over |= env.done.bool()
    assert over.all()
    theirs, ours = np.array(theirs), ours.numpy()
    error = np.sqrt((theirs.var(0) + ours.var(0)) / num_episodes)
    difference = np.abs(ours.mean(0) - theirs.mean(0))
    np.testing.assert_array_less(difference, num_errors * error + 1e-9)


def test_velocity_is_of_this_episode():
    """The first step after a restart is not paid for the way back to the start."""
    env = make_env(Ant(), num_envs=2, episode_length=1)
    env.physics.qpos[:, 0] = 50.0
    for _ in range(2):
        env.step(torch.zeros(2, 8))
        assert env.done.all() and env.metrics["reward_forward"].abs().max() < 3


@pytest.mark.parametrize("task", [Ant, AntStand])
def test_contacts_fit_on_warp(task):
    """Ants that lie, stand and fall stay within `nconmax` and `njmax`."""
    env = make_env(task(), engine="warp", num_envs=16)
    env.physics.qpos[:, 2] = torch.linspace(0.1, 0.6, 16)
    actions = torch.Generator().manual_seed(0)
    for _ in range(6):
        env.physics.ctrl.copy_((2 * torch.rand(16, 8, generator=actions) - 1).sign())
        env.physics.step(5)
    assert env.physics.qpos.isfinite().all() and not env.physics.overflow.any()


def stand_env(quaternion, *, settle):
    """One ant with this orientation just above the floor, after so many steps without control."""
    env = make_env(AntStand())
    env.physics.qpos[0] = 0.0
    env.physics.qpos[0, 2] = 0.6
    env.physics.qpos[0, 3:7] = torch.tensor(quaternion)
    env.physics.qpos[0, 8::2] = torch.tensor([0.7, -0.7, -0.7, 0.7])  # within the limits
    env.physics.qvel.zero_()
    for _ in range(settle):
        env.step(torch.zeros(1, 8))
    return env


def test_standing_at_rest_earns_everything():
    """Feet 30 degrees down and 0.566 m long, 0.08 m thick: the torso rests at 0.36 m and a little more."""
    env = stand_env((1.0, 0.0, 0.0, 0.0), settle=300)
    height = env.physics.qpos[0, 2].item()
    assert STAND_HEIGHT < 0.4 * 2**0.5 * np.sin(np.pi / 6) + 0.08 < height < 0.4
    assert env.reward.item() == pytest.approx(1.0, abs=1e-6)
    env.step(torch.ones(1, 8))
    assert env.reward.item() == pytest.approx(0.8, abs=1e-6)  # a fifth of it is for little control


def test_lying_on_the_back_earns_nothing():
    env = stand_env(UPSIDE_DOWN, settle=0)
    assert env.task.reward(env.physics, env.memory, torch.zeros(1, 8))[0].item() == pytest.approx(0.0, abs=1e-6)
    env = stand_env(UPSIDE_DOWN, settle=150)
    assert env.physics.qpos[0, 2] < 0.3 and env.reward.item() < 0.06


def test_reward_grows_with_height_and_uprightness():
    env = make_env(AntStand(), num_envs=20)
    physics = env.physics
    physics.qpos[:, 3:7] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    physics.qpos[:, 2] = torch.linspace(0.1, STAND_HEIGHT, 20)
    assert (env.task.reward(physics, env.memory, torch.zeros(20, 8))[0].diff() > 0).all()
    tilt = torch.linspace(torch.pi, 0.46, 20) / 2  # to within the 26 degrees that count as upright
    physics.qpos[:, 2] = 0.5
    physics.qpos[:, 3:5] = torch.stack([tilt.cos(), tilt.sin()], dim=1)
    assert (env.task.reward(physics, env.memory, torch.zeros(20, 8))[0].diff() > 0).all()


def test_stand_starts_in_the_air_in_any_orientation():
    env = make_env(AntStand(), num_envs=1000)
    qpos = env.physics.qpos
    data = mujoco.MjData(env.physics.model)
    vertical = []
    for pose in qpos.double().numpy():
        data.qpos[:] = pose
        mujoco.mj_forward(env.physics.model, data)
        assert data.ncon == 0
        vertical.append(data.body("torso").xmat[6:].copy())
    vertical = np.array(vertical)
    # A direction that is uniform over the sphere has mean 0 and variance 1/3 along every axis, a quaternion 1/4.
    assert np.abs(vertical.mean(0)).max() < 4 * (1 / 3 / 1000) ** 0.5
    np.testing.assert_allclose(vertical.var(0), 1 / 3, rtol=0.15)
    np.testing.assert_allclose(qpos[:, 3:7].numpy().var(0), 1 / 4, rtol=0.15)
    np.testing.assert_allclose(env.observation["state"][:, 1:4].numpy(), vertical, atol=1e-5)
    low, high = torch.as_tensor(env.physics.model.jnt_range[1:], dtype=torch.float32).T
    angles = (qpos[:, 7:] - low) / (high - low)
    assert angles.min() >= 0 and angles.max() <= 1
    torch.testing.assert_close(angles.mean(0), torch.full((8,), 0.5), rtol=0, atol=4 * (1 / 12 / 1000) ** 0.5)
    assert (qpos[:, 2] == DROP_HEIGHT).all()
