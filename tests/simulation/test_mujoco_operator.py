"""C MuJoCo's rollout as an operator: torch's own checks, and the same states as outside of a compiler."""

import gc
import shutil

import pytest
import torch

from torch_ppo.envs import make_task
from torch_ppo.running.accelerate import compiled
from torch_ppo.simulation import mujoco_operator
from torch_ppo.simulation.mujoco_engine import MujocoPhysics

SENSORS_AND_FORCES = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 .1"/>
    <body name="target" mocap="true" pos="0 0 1"><geom size=".1" contype="0" conaffinity="0"/></body>
    <body name="ball" pos="0 0 .3"><freejoint/><geom size=".2"/></body>
    <body pos="1 0 1"><joint name="hinge" axis="0 1 0"/><geom type="capsule" size=".05" fromto="0 0 0 .5 0 0"/></body>
  </worldbody>
  <actuator><general joint="hinge" dyntype="integrator" gainprm="1"/></actuator>
  <sensor><framepos objtype="body" objname="ball"/><jointvel joint="hinge"/></sensor>
</mujoco>
"""


def physics_of(model, num_envs=6):
    physics = MujocoPhysics(model, num_envs, device=torch.device("cpu"))
    numbers = torch.Generator().manual_seed(1)
    physics.ctrl.uniform_(-1, 1, generator=numbers)
    physics.qvel.normal_(generator=numbers)
    if physics.act.numel():
        physics.act.uniform_(generator=numbers)
        physics.xfrc_applied.normal_(generator=numbers)
        physics.mocap_pos.normal_(generator=numbers)
    return physics


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
@pytest.mark.parametrize("substeps", [1, 3])
@pytest.mark.parametrize("name", ["cartpole", "everything"])
def test_a_compiled_step_is_the_step(name, substeps, differences):
    """Bit for bit, with activations, held forces and mocap bodies, and `time` and sensors with it."""
    import mujoco

    if name == "cartpole":
        model = make_task(name).make_physics(1, device=torch.device("cpu"), engine="mujoco", capture=False).model
    else:
        model = mujoco.MjModel.from_xml_string(SENSORS_AND_FORCES)
    plain, inside = physics_of(model), physics_of(model)
    step = compiled(lambda: inside.step(substeps))
    for _ in range(4):
        plain.step(substeps)
        step()
    assert differences(plain.state(), inside.state()) == []
    assert torch.equal(plain.time, inside.time) and plain.time.max() > 0
    assert not torch.equal(plain.qpos[0], plain.qpos[1])


def test_the_operator_is_sound():
    """`torch.library.opcheck`: its schema, and that its fake has the shapes and types of the real one."""
    physics = physics_of(
        make_task("walker_walk").make_physics(1, device=torch.device("cpu"), engine="mujoco", capture=False).model
    )
    state, held = torch.zeros(6, physics._state.shape[1]).double(), torch.zeros(6, 2, physics.model.nu).double()
    arguments = (physics._number, physics.model.nsensordata, state, held)
    torch.library.opcheck(torch.ops.torch_ppo.rollout.default, arguments)
    states, sensors = mujoco_operator.rollout(*arguments)
    assert states.shape == (6, 2, state.shape[1]) and sensors.shape == (6, 2, physics.model.nsensordata)
    assert states[:, -1, 0].allclose(torch.tensor(2 * physics.model.opt.timestep).double())


def test_worlds_are_not_kept_alive():
    physics = physics_of(
        make_task("cartpole").make_physics(1, device=torch.device("cpu"), engine="mujoco", capture=False).model
    )
    number = physics._number
    assert number in mujoco_operator._worlds
    del physics
    gc.collect()
    assert number not in mujoco_operator._worlds
