"""Choosing the engine that simulates a model."""

import mujoco
import torch

from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.physics import Physics


def make_physics(
    model: mujoco.MjModel,
    num_envs: int,
    *,
    device: torch.device,
    engine: str = "auto",
    capture: bool = True,
    nconmax: int | None = None,
    njmax: int | None = None,
) -> Physics:
    """Physics of `num_envs` copies of a model. `engine` is "warp", "mujoco", or "auto": Warp on CUDA, else C MuJoCo."""
    if engine == "auto":
        engine = "warp" if device.type == "cuda" else "mujoco"
    if engine == "mujoco":
        return MujocoPhysics(model, num_envs, device=device)
    # Imported here because Warp takes more than a second to start and a CPU run does not need it.
    from torch_ppo.simulation.warp_engine import WarpPhysics

    return WarpPhysics(model, num_envs, device=device, capture=capture, nconmax=nconmax, njmax=njmax)
