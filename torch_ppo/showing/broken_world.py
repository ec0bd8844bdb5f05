"""The last steps of a world that broke: in numbers, and drawn as far as they can be."""

from collections.abc import Callable, Iterator

import mujoco
import numpy as np
from torch import Tensor

from torch_ppo.showing.render import show_state
from torch_ppo.simulation.env import Env

FARTHEST_DRAWN = 1e3  # m or rad


def largest(values: Tensor) -> float:
    """The largest size in `values`, inf or NaN if there is one; 0 of none."""
    return values.abs().max().item() if values.numel() else 0.0


def numbers(case: dict[str, object]) -> Iterator[str]:
    """A line for each step of a case of `learning.evidence`: the largest of its positions, velocities and actions."""
    sizes = list(case["state_sizes"].values())
    for ago, (state, action) in enumerate(zip(case["state"], case["action"], strict=True), 1 - len(case["state"])):
        qpos, qvel, _, ctrl = state.split(sizes)
        yield (
            f"step {ago:>3}  largest |qpos| {largest(qpos):.3g}  |qvel| {largest(qvel):.3g}  |action| "
            f"{largest(action):.3g}  |ctrl| {largest(ctrl):.3g}"
        )


def pictures(
    case: dict[str, object], env: Env, model: mujoco.MjModel, draw: Callable[[mujoco.MjData], np.ndarray]
) -> Iterator[np.ndarray]:
    """A picture of each step whose positions can be drawn; `env` is of the same task, its first world is written."""
    data = mujoco.MjData(model)
    for state in case["state"]:
        qpos = state[: case["state_sizes"]["qpos"]]
        if largest(qpos) < FARTHEST_DRAWN:
            env.physics.qpos[0], env.physics.qvel[0] = qpos, 0.0
            show_state(env, model, data)
            yield draw(data)
