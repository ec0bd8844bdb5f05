"""Models that others ship: none ends in a traceback. Both engines step them alike, or it is known why not.

pip install --no-deps --target models dm_control gymnasium gymnasium-robotics robosuite
TORCH_PPO_MODELS=models pytest -s -m slow tests/simulation/test_third_party_models.py

Twenty minutes at the first time, when MuJoCo Warp compiles for each kind of model, and four after that.
"""

import collections
import os
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from torch_ppo.errors import UserError
from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.physics import PhysicsError, load_model

CPU = torch.device("cpu")
REFUSED = "mjSOL_PGS is unsupported"  # why MuJoCo Warp refuses some
SETTLING, STEPS = 100, 5
TOLERANCE = 1e-3  # of velocities after a step, relative to 1 + the largest velocity and its largest change
# Capacity of buffers in a single world, whose average over worlds a task would give.
ROOM = {"nconmax": 400, "njmax": 1200}

# Models that the engines step differently: the end of their paths, and why.
MESHES = "two meshes touch, and the engines find another number of contacts between them"
UNSTABLE = "it explodes, also in C MuJoCo"
KNOWN = {
    "walkers/assets/build_fruitfly/assets/drosophila_fused.xml": MESHES,
    "grippers/fourier_left_hand.xml": MESHES,
    "grippers/fourier_right_hand.xml": MESHES,
    "grippers/jaco_three_finger_gripper.xml": MESHES,
    "grippers/robotiq_gripper_140.xml": MESHES,
    "grippers/robotiq_gripper_s.xml": MESHES,
    "robots/jaco/robot.xml": MESHES,
    "robots/gr1/robot.xml": UNSTABLE,
}


def middle_and_drawn_controls(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """The middle of each range ([-1, 1] where there is none), and a random point in the middle half of it."""
    limited = model.actuator_ctrllimited[:, None].astype(bool)
    low, high = np.where(limited, model.actuator_ctrlrange, [[-1.0, 1.0]]).reshape(-1, 2).T
    middle = (low + high) / 2
    return middle, middle + np.random.default_rng(0).uniform(-0.5, 0.5, model.nu) * (high - low) / 2


def other_contacts_of_meshes(model: mujoco.MjModel, mine: object, theirs: object) -> bool:
    """Whether two meshes have another number of contacts in C MuJoCo, in the state of `mine`, than those of `theirs`."""
    data = mujoco.MjData(model)
    data.qpos[:] = mine.qpos[0]
    mujoco.mj_forward(model, data)
    found = theirs._data.contact.geom.numpy()[: int(theirs._data.nacon.numpy()[0])]
    counts = [
        collections.Counter(tuple(sorted(pair)) for pair in pairs.tolist()) for pairs in (data.contact.geom, found)
    ]
    differing = [pair for pair in counts[0] | counts[1] if counts[0][pair] != counts[1][pair]]
    return any(all(model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH for geom in pair) for pair in differing)


def compare(model: mujoco.MjModel, theirs: object) -> tuple[float, str | None]:
    """Velocities after single steps of both engines from C MuJoCo's states: largest difference, and what is known of it.

    The difference is relative as `TOLERANCE` is.

    The model settles in the first keyframe, or where it starts, then gets other controls. Whatever both engines make of
    one step grows in the next ones where there are contacts, so each step begins at the same state.
    """
    mine = make_physics(model, 1, device=CPU, engine="mujoco")
    if model.nkey:
        mine.qpos[0] = torch.as_tensor(model.key_qpos[0])
        mine.qvel[0] = torch.as_tensor(model.key_qvel[0])
        mine.act[0] = torch.as_tensor(model.key_act[0])
    middle, drawn = (torch.as_tensor(x, dtype=torch.float32) for x in middle_and_drawn_controls(model))
    mine.ctrl[0] = middle
    mine.step(SETTLING)
    mine.ctrl[0] = drawn
    differences, reason = [], None
    for _ in range(STEPS):
        before = mine.qvel.clone()
        for name, tensor in theirs.start_parts().items():
            tensor.copy_(mine.start_parts()[name])
        theirs.step(1)
        if other_contacts_of_meshes(model, mine, theirs):
            reason = MESHES
        mine.step(1)
        scale = 1.0 + before.abs().max() + (mine.qvel - before).abs().max()
        if not scale < 1e5:
            return float("inf"), UNSTABLE
        differences.append(((mine.qvel - theirs.qvel).abs().max() / scale).nan_to_num(float("inf")).item())
    assert not theirs.overflow.any()
    return max(differences), reason


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of models older than this MuJoCo
def test_models_of_other_packages():
    folder = os.environ.get("TORCH_PPO_MODELS")
    if folder is None:
        pytest.skip("TORCH_PPO_MODELS names no folder with packages of models; how to install them is said above")
    found, refused = {}, []
    for path in sorted(Path(folder).rglob("*.xml")):
        try:
            model = load_model(path)
        except UserError:  # a part of a model, which others include
            continue
        if not model.nv:
            continue
        name = str(path.relative_to(folder))
        try:
            theirs = make_physics(model, 1, device=CPU, engine="warp", capture=False, **ROOM)
        except PhysicsError as error:
            assert REFUSED in str(error), (path, error)
            refused.append(name)
            continue
        found[name] = compare(model, theirs)
        print(f"{found[name][0]:.1e} {name} {found[name][1] or ''}", flush=True)
    print(f"{len(found)} stepped on both engines, {len(refused)} refused")
    assert len(found) >= 40
    differing = {name: reason for name, (difference, reason) in found.items() if difference > TOLERANCE}
    known = {name: reason for name in found for end, reason in KNOWN.items() if name.endswith(end)}
    assert differing == known
