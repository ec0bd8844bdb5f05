"""Our finger against DM Control's."""

import numpy as np
import pytest
import torch

from tests.helpers.suite_comparison import compare_starts, compare_with_suite, make_env, put_state
from torch_ppo.envs.finger import EASY_TARGET, HARD_TARGET, HINGE, LINK_RANGE, TIP_RADIUS, Finger, touches

TASKS = {"spin": None, "turn_easy": EASY_TARGET, "turn_hard": HARD_TARGET}
# Two substeps with contacts from a cold start of the solver; Warp solves them in float32.
TOLERANCE = {"mujoco": 1e-5, "warp": 1e-4}
NUM_STEPS = {"mujoco": 50, "warp": 25}


@pytest.mark.parametrize("engine", TOLERANCE)
@pytest.mark.parametrize("name", TASKS)
def test_same_as_dm_control(suite, name, engine):
    rng = np.random.default_rng(0)

    def prepare(physics, env):
        """Spins the body and puts the target near its tip, since a random finger earns nothing."""
        physics.data.qvel[HINGE] = rng.normal(0.0, 20.0)
        if name != "spin":
            angle = rng.normal(-physics.data.qpos[HINGE], 0.5)
            hinge = physics.named.data.xpos["spinner", ["x", "z"]]
            target = hinge + TIP_RADIUS * np.array([np.sin(angle), np.cos(angle)])
            physics.named.model.site_pos["target", ["x", "z"]] = target
            env.memory["target"].fill_(angle)
        physics.forward()
        put_state(env, physics)

    rewards = compare_with_suite(
        suite,
        Finger(target_radius=TASKS[name]),
        "finger",
        name,
        engine=engine,
        num_steps=NUM_STEPS[engine],
        state_tolerance=TOLERANCE[engine],
        prepare=prepare,
    )
    assert 0.1 < rewards.mean() < 0.9


@pytest.mark.parametrize("name", ["spin", "turn_hard"])
def test_start_states_are_distributed_as_in_dm_control(suite, name):
    compare_starts(suite, Finger(target_radius=TASKS[name]), "finger", name)


def test_targets_are_everywhere():
    angle = make_env(Finger(target_radius=HARD_TARGET), num_envs=2000).memory["target"]
    assert angle.histc(4, -torch.pi, torch.pi).min() > 400


def test_touches_is_what_mujoco_detects(suite):
    """Also that the pins, which collide in the suite, never touch anything first."""
    physics = suite.load("finger", "turn_hard").physics
    qpos = np.random.default_rng(0).uniform(-1.0, 1.0, (3000, 3)) * [LINK_RANGE, LINK_RANGE, np.pi]
    depths = np.zeros(len(qpos))
    for i in range(len(qpos)):
        with physics.reset_context():
            physics.data.qpos[:] = qpos[i]
        depths[i] = -physics.data.contact.dist.min() if physics.data.ncon else -np.inf
    found = touches(torch.as_tensor(qpos)).numpy()
    assert (depths[found] > 0).all()
    assert (depths[~found] < 3e-4).all()
    assert 0.05 < found.mean() < 0.15


def test_starts_have_no_contacts():
    assert not touches(make_env(Finger(), num_envs=2000).physics.qpos).any()
