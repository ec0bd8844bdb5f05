"""Choosing the engine that simulates a model."""

import mujoco
import torch

from torch_ppo.simulation.mujoco_engine import MujocoPhysics
from torch_ppo.simulation.physics import Physics, PhysicsError

# Parts of MuJoCo's state that a restart would have to put back and does not: what brings them, and what to do instead.
UNKEPT_STATE = {
    "npluginstate": ("a plugin with state", "without its state, or as memory of the task, it would work"),
    "nhistory": (
        "actuators or sensors with a delay or interval",
        "action_delay and history of the configuration do that",
    ),
    "nplastic": ("springs that yield", 'springyield="0" would work'),
}


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
    """Physics of `num_envs` copies of a model. `engine` is "warp", "mujoco", or "auto": Warp on CUDA, else C MuJoCo.

    PhysicsError says what an engine cannot do with the model, and what would work.
    """
    if engine == "auto":
        engine = "warp" if device.type == "cuda" else "mujoco"
    for size, (what, instead) in UNKEPT_STATE.items():
        if getattr(model, size, 0):
            raise PhysicsError(f"the model has {what}, which would not restart with an episode; {instead}")
    if engine == "mujoco":
        return MujocoPhysics(model, num_envs, device=device)
    # Imported here because Warp takes more than a second to start and a CPU run does not need it.
    from torch_ppo.simulation.warp_engine import WarpPhysics

    return WarpPhysics(model, num_envs, device=device, capture=capture, nconmax=nconmax, njmax=njmax)
