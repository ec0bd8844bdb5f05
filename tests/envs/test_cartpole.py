"""What only the cart-pole is tested for; `tests/envs/test_suite.py` holds it against DM Control's."""

import mujoco
import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import CPU, load, make_env
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.simulation.warp_engine import WarpPhysics

NUM_ENVS = 16


def test_engines_agree_over_an_episode():
    """C MuJoCo and MuJoCo Warp from the same states with the same actions, for 300 steps without reset.

    From the hanging pole: about the upright one, differences grow by a factor of 1e5 in that time.
    """
    envs = [make_env(Cartpole(swing_up=True), engine=engine, num_envs=NUM_ENVS) for engine in ("mujoco", "warp")]
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
    model = Cartpole().make_model()
    physics = WarpPhysics(model, 8, device=CPU, capture=capture, nconmax=0, njmax=2)
    eager = WarpPhysics(model, 8, device=CPU, capture=False, nconmax=0, njmax=2)
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
    ours, theirs = Cartpole(integrator="rk4").make_model(), load(suite, "cartpole/balance").physics.model.ptr
    for field in ("body_mass", "body_inertia", "body_ipos", "dof_damping", "jnt_range", "actuator_gear",
                  "actuator_ctrlrange", "jnt_solref", "jnt_solimp", "jnt_axis"):  # fmt: skip
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), err_msg=field)
    assert ours.opt.timestep == theirs.opt.timestep
    assert ours.opt.integrator == theirs.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
