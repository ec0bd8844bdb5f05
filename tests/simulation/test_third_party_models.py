"""Models that others ship: none ends in a traceback. C MuJoCo steps them, MuJoCo Warp takes them or says why not.

pip install --no-deps --target models dm_control gymnasium gymnasium-robotics robosuite
TORCH_PPO_MODELS=models pytest -m slow tests/simulation/test_third_party_models.py
"""

import os
from pathlib import Path

import pytest
import torch

from torch_ppo.errors import UserError
from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.physics import PhysicsError, load_model

CPU = torch.device("cpu")
KNOWN = ("mjSOL_PGS is unsupported",)  # why MuJoCo Warp refuses some


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of models older than this MuJoCo
def test_models_of_other_packages():
    folder = os.environ.get("TORCH_PPO_MODELS")
    if folder is None:
        pytest.skip("TORCH_PPO_MODELS names no folder with packages of models; how to install them is said above")
    taken = {"mujoco": 0, "warp": 0}
    for path in sorted(Path(folder).rglob("*.xml")):
        try:
            model = load_model(path)
        except UserError:  # a part of a model, which others include
            continue
        if not model.nv:
            continue
        for engine in taken:
            try:
                physics = make_physics(model, 2, device=CPU, engine=engine)
            except PhysicsError as error:
                assert engine == "warp" and any(reason in str(error) for reason in KNOWN), (path, error)
                continue
            if engine == "mujoco":
                physics.step(5)
                assert physics.qpos.isfinite().all(), path
            taken[engine] += 1
    print(taken)
    assert min(taken.values()) >= 40
