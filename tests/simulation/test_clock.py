"""Simulation time goes on in episodes of days, on both engines."""

import mujoco
import pytest
import torch

from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.warp_engine import WarpPhysics

MJCF = """
<mujoco>
  <option timestep="0.002" gravity="0 0 0"/>
  <worldbody><body><joint name="x" type="slide"/><geom size="0.1" mass="1"/></body></worldbody>
  <actuator><motor joint="x"/></actuator>
  <sensor><clock name="clock"/></sensor>
</mujoco>
"""
HOURS = [0.0, 9.5, 10.0, 18.5, 100.0, 1000.0]  # one world each; a float32 sum of 2 ms stands still after 18.2
EVERYWHERE = torch.ones(len(HOURS), dtype=torch.bool)


@pytest.fixture(params=[MujocoPhysics, WarpPhysics])
def make(request):
    model = mujoco.MjModel.from_xml_string(MJCF)
    return lambda: request.param(model, len(HOURS), device=torch.device("cpu"))


def taken(hours):
    """Timesteps in so many hours, int64, which is exact."""
    return (torch.tensor(hours, dtype=torch.float64) * 3600 / 0.002).round().long()


def put(physics, timesteps):
    physics.state()["timesteps"].copy_(timesteps)
    physics.time.copy_(timesteps.double() * 0.002)


def test_time_is_the_float32_nearest_to_the_count(make):
    physics = make()
    put(physics, taken(HOURS))
    began = physics.time.double()
    for step in range(1, 501):  # 10 s, 10 timesteps each
        physics.step(10)
        exact = (taken(HOURS) + 10 * step).double() * 0.002
        assert torch.equal(physics.time, exact.float())
    # Of the last float32 of 1000 hours, 0.25 s, half at either end.
    assert ((physics.time.double() - began - 10.0).abs() <= 0.25).all()


def test_time_advances_by_single_timesteps(make):
    """As a task with `each_substep` takes them."""
    physics = make()
    put(physics, taken(HOURS))
    for _ in range(200):
        physics.step(1)
    assert torch.equal(physics.time, ((taken(HOURS) + 200).double() * 0.002).float())


def test_a_clock_sensor_is_right_within_a_control_step(make):
    """MuJoCo Warp adds up the timesteps of one in float32."""
    physics = make()
    put(physics, taken(HOURS))
    for _ in range(50):
        physics.step(10)
    ulp = torch.nextafter(physics.time, torch.tensor(torch.inf)) - physics.time
    behind = physics.time - physics.sensor("clock")[:, 0]
    assert (behind.abs() <= 0.02 + ulp).all()


def test_what_is_saved_goes_on(make):
    """A sum that goes on from a rounded time would not: the count is what is saved."""
    physics, resumed = make(), make()
    put(physics, taken(HOURS) + 3)
    physics.step(1)
    for name, tensor in resumed.state().items():
        tensor.copy_(physics.state()[name])
    for each in (physics, resumed):
        each.step(10)
    assert torch.equal(resumed.time, physics.time)
    assert torch.equal(physics.time, ((taken(HOURS) + 14).double() * 0.002).float())


def test_a_restart_begins_at_0(make):
    physics = make()
    start = {name: tensor.clone() for name, tensor in physics.start_parts().items()}
    put(physics, taken(HOURS))
    mask = EVERYWHERE.clone()
    mask[0] = mask[3] = False
    physics.reset(mask, start)
    assert torch.equal(physics.state()["timesteps"], taken(HOURS).where(~mask, 0))
    physics.step(5)
    exact = (taken(HOURS).where(~mask, 0) + 5).double() * 0.002
    assert torch.equal(physics.time, exact.float())
