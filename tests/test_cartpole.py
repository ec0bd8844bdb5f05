"""Our cart-pole against DM Control's: same state and action, same next state, observation and reward.

Both of our engines, both integrators. DM Control's own dynamics are RK4; for our Euler default its model is set to
Euler, so that everything else is still compared.
"""

import mujoco
import numpy as np
import pytest
import torch

from torch_ppo.envs.cartpole import INTEGRATORS, Cartpole
from torch_ppo.simulation.env import Env

DOMAIN_TASKS = {
    "balance": {},
    "balance_sparse": {"sparse": True},
    "swingup": {"swing_up": True},
    "swingup_sparse": {"swing_up": True, "sparse": True},
}
NUM_ENVS = 16
# State is float32 between steps; Warp also solves the rail limits in float32.
TOLERANCE = {"mujoco": 2e-6, "warp": 1e-4}


def make_env(task, engine, seed=0):
    return Env(
        task,
        NUM_ENVS,
        episode_length=1000,
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(seed),
        engine=engine,
    )


def suite_step(environment, state, action):
    """One step of DM Control from `state` (qpos, qvel): next state, observation, reward."""
    physics = environment.physics
    with physics.reset_context():
        physics.set_state(state)
    environment._reset_next_step = False  # the suite has no way to step from a given state
    timestep = environment.step(action)
    observation = np.concatenate([timestep.observation["position"], timestep.observation["velocity"]])
    return physics.get_state(), observation, timestep.reward


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
@pytest.mark.parametrize("integrator", ["rk4", "euler"])
@pytest.mark.parametrize("name", DOMAIN_TASKS)
def test_same_as_dm_control(suite, name, integrator, engine):
    rng = np.random.default_rng(0)
    reference = suite.load("cartpole", name, task_kwargs={"random": 0})
    reference.reset()
    reference.physics.model.opt.integrator = INTEGRATORS[integrator]
    env = make_env(Cartpole(**DOMAIN_TASKS[name], integrator=integrator), engine)
    # Random states, some beyond the rail's ends and many near upright, where the sparse reward changes.
    qpos = np.stack([rng.uniform(-2.0, 2.0, NUM_ENVS), rng.normal(0.0, 1.0, NUM_ENVS) ** 3], axis=1)
    qpos[::3] *= 0.05
    env.physics.qpos.copy_(torch.as_tensor(qpos))
    env.physics.qvel.copy_(torch.as_tensor(rng.normal(0.0, 1.0, (NUM_ENVS, 2))))
    num_steps = 300 // (4 if integrator == "euler" else 1)
    rewards = []
    for _ in range(num_steps):
        states = torch.cat([env.physics.qpos, env.physics.qvel], dim=1).double().numpy()
        actions = rng.uniform(-1.0, 1.0, (NUM_ENVS, 1)).astype(np.float32)
        env.step(torch.as_tensor(actions))
        for i in range(NUM_ENVS):
            state, observation, reward = suite_step(reference, states[i], actions[i].astype(float))
            ours = torch.cat([env.physics.qpos[i], env.physics.qvel[i]]).double().numpy()
            np.testing.assert_allclose(ours, state, rtol=TOLERANCE[engine], atol=TOLERANCE[engine])
            found = env.observation["state"][i].double().numpy()
            np.testing.assert_allclose(found, observation, rtol=TOLERANCE[engine], atol=TOLERANCE[engine])
            on_edge = name.endswith("sparse") and np.abs(np.abs(state[0]) - 0.25) < 1e-5
            on_edge |= name.endswith("sparse") and np.abs(np.cos(state[1]) - 0.995) < 1e-5
            if not on_edge:
                assert env.reward[i].item() == pytest.approx(reward, abs=10 * TOLERANCE[engine])
            rewards.append(reward)
    assert np.std(rewards) > 0  # the states did visit different rewards


@pytest.mark.parametrize("name", ["balance", "swingup"])
def test_start_states_are_distributed_as_in_dm_control(suite, name):
    """Mean and standard deviation of every state variable over 2000 starts, within 4 standard errors."""
    task = Cartpole(**DOMAIN_TASKS[name])
    reference = suite.load("cartpole", name, task_kwargs={"random": 1})
    samples = 2000
    theirs = np.empty((samples, 4))
    for i in range(samples):
        reference.reset()
        theirs[i] = reference.physics.get_state()
    env = Env(
        task,
        samples,
        episode_length=1000,
        device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
        engine="mujoco",
    )
    ours = torch.cat([env.physics.qpos, env.physics.qvel], dim=1).double().numpy()
    error = theirs.std(0) / np.sqrt(samples)
    np.testing.assert_array_less(np.abs(ours.mean(0) - theirs.mean(0)), 4 * np.sqrt(2) * error)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.1)


def test_engines_agree_over_an_episode():
    """C MuJoCo and MuJoCo Warp from the same states with the same actions, for 300 steps without reset.

    From the hanging pole: about the upright one, differences grow by a factor of 1e5 in that time.
    """
    envs = [make_env(Cartpole(swing_up=True), engine) for engine in ("mujoco", "warp")]
    for name in ("qpos", "qvel"):  # drawn in another order where the memory layout differs
        getattr(envs[1].physics, name).copy_(getattr(envs[0].physics, name))
    actions = torch.Generator().manual_seed(1)
    for _ in range(300):
        action = torch.rand(NUM_ENVS, 1, generator=actions) * 0.4 - 0.2
        for env in envs:
            env.step(action)
        torch.testing.assert_close(envs[0].physics.qpos, envs[1].physics.qpos, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(envs[0].reward, envs[1].reward, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("capture", [True, False])
def test_captured_physics_equals_eager(capture):
    """Warp's recorded step gives bit for bit what eager launches give, also for several substeps."""
    from torch_ppo.simulation.warp_engine import WarpPhysics

    model = Cartpole().make_model()
    physics = WarpPhysics(model, 8, device=torch.device("cpu"), capture=capture, nconmax=0, njmax=2)
    eager = WarpPhysics(model, 8, device=torch.device("cpu"), capture=False, nconmax=0, njmax=2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ctrl = torch.rand(8, 1, generator=generator) * 2 - 1
        for p in (physics, eager):
            p.ctrl.copy_(ctrl)
            p.step(1)
            p.step(3)
    assert physics.qpos.abs().sum() > 0
    for name, tensor in physics.state().items():
        assert torch.equal(tensor, eager.state()[name]), name


def test_mjcf_agrees_with_dm_control(suite):
    """Masses, inertias, gears and limits of the compiled models."""
    ours, theirs = Cartpole(integrator="rk4").make_model(), suite.load("cartpole", "balance").physics.model.ptr
    for field in ("body_mass", "body_inertia", "body_ipos", "dof_damping", "jnt_range", "actuator_gear",
                  "actuator_ctrlrange", "jnt_solref", "jnt_solimp", "jnt_axis"):  # fmt: skip
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), err_msg=field)
    assert ours.opt.timestep == theirs.opt.timestep
    assert ours.opt.integrator == theirs.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
