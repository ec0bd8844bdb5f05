"""MuJoCo times nothing while it steps our worlds, and everything of others before and after."""

import mujoco
import torch

from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.mujoco_profiler import unprofiled

XML = "<mujoco><worldbody><body><joint axis='0 1 0'/><geom size='.1' pos='.3 0 0'/></body></worldbody></mujoco>"
STEP = mujoco.mjtTimer.mjTIMER_STEP


def timed(model):
    """Whether a step of MuJoCo's own is."""
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    return data.timer[STEP].duration > 0


def test_our_steps_are_not_timed_but_those_of_others_are():
    model = mujoco.MjModel.from_xml_string(XML)
    assert timed(model)
    physics = MujocoPhysics(model, 3, device=torch.device("cpu"))
    physics.qvel.fill_(1.0)
    physics.step(2)
    assert physics.qpos.abs().min() > 0
    assert [data.timer[STEP].duration for data in physics._datas] == [0.0] * len(physics._datas)
    assert timed(model)


def test_two_inside_at_once():
    model = mujoco.MjModel.from_xml_string(XML)
    with unprofiled:
        assert not timed(model)
        with unprofiled:
            assert not timed(model)
    assert timed(model)


def test_a_clock_of_the_users_own_stays():
    model, asked = mujoco.MjModel.from_xml_string(XML), []
    mujoco.set_mjcb_time(lambda: float(asked.append(None) or len(asked)))
    try:
        with unprofiled:
            assert not timed(model)
        assert not asked
        assert timed(model) and asked
    finally:
        mujoco.set_mjcb_time(None)
