"""The tasks, by name."""

from collections.abc import Callable
from functools import partial

from torch_ppo.config import ConfigError, did_you_mean
from torch_ppo.task import Task

from .cartpole import Cartpole

ENVS: dict[str, Callable[[], Task]] = {
    "cartpole": Cartpole,
    "cartpole_sparse": partial(Cartpole, sparse=True),
    "cartpole_swingup": partial(Cartpole, swing_up=True),
    "cartpole_swingup_sparse": partial(Cartpole, swing_up=True, sparse=True),
}


def make_task(name: str) -> Task:
    """A task by name; ConfigError suggests the nearest one."""
    if not name:
        raise ConfigError(f"env is not set; known: {', '.join(ENVS)}")
    if name not in ENVS:
        raise ConfigError(f"there is no env {name!r}{did_you_mean(name, ENVS)}")
    return ENVS[name]()
