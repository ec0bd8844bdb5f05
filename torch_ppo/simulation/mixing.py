"""Whether a task takes envs for each other: what a method gives for one must not depend on the state of another."""

import torch
from torch import Tensor

from torch_ppo.simulation.dry_step import as_observation, as_reward
from torch_ppo.simulation.env import Env

FAR = 3.0  # by which one env's state is changed, m and rad and their rates


@torch.no_grad()
def mixing_methods(env: Env) -> list[str]:
    """The methods of the task that give other envs other numbers when the state of env 0 alone is changed.

    `env` has several envs, and is left as it was but for its sensors.
    """
    physics, before = env.physics, _given(env)
    state = physics.qpos.clone(), physics.qvel.clone()
    physics.qpos[0] += FAR
    physics.qvel[0] += FAR
    physics.forward()
    after = _given(env)
    for place, saved in zip((physics.qpos, physics.qvel), state, strict=True):
        place.copy_(saved)
    physics.forward()
    same = {method: all(map(_alike, parts, after[method])) for method, parts in before.items()}
    return [method for method, alike in same.items() if not alike]


def _given(env: Env) -> dict[str, list[Tensor]]:
    """What each method gives for all envs but the first; the task's memory is a copy each time."""
    task, physics = env.task, env.physics
    memory = {key: x.clone() for key, x in env.memory.items()}
    action = torch.zeros(env.num_envs, env.action_dim, device=physics.device)
    reward, metrics = as_reward(task.reward(physics, memory, action))
    found = {
        "observe": list(as_observation(task.observe(physics, memory)).values()),
        "reward": [reward, *metrics.values()],
    }
    for method in ("terminated", "time_out", "success"):
        told = getattr(task, method)(physics, memory)
        found[method] = [] if told is None else [told]
    return {method: [x[1:].clone() for x in parts] for method, parts in found.items()}


def _alike(a: Tensor, b: Tensor) -> bool:
    return bool(torch.isclose(a.double(), b.double(), rtol=1e-4, atol=1e-5, equal_nan=True).all())
