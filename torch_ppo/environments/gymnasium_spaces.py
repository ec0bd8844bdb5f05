"""Gymnasium's spaces: from what a policy gives to their actions, and from their observations to rows of numbers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from torch_ppo.environments.contract import MOST_CHOICES, EnvironmentMisfit


class Rescaling:
    """From actions for [-1, 1] to a Box. Dimensions without both limits take the action as it is."""

    choices, given = None, np.float32

    def __init__(self, box: spaces.Box) -> None:
        low, high = box.low.astype(np.float64).ravel(), box.high.astype(np.float64).ravel()
        self.shape, self.dtype, self.size = box.shape, box.dtype, len(low)
        self.limited = np.isfinite(low) & np.isfinite(high)
        self.low, self.high = low, high
        self.scale = np.where(self.limited, (high - low) / 2, 1.0)
        self.offset = np.where(self.limited, low + self.scale, 0.0)

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Actions `(n, action_dim)` as the Box has them, `(n, *shape)`."""
        scaled = np.clip(self.offset + self.scale * action, self.low, self.high)
        return scaled.astype(self.dtype).reshape(len(action), *self.shape)

    def plain(self) -> dict[str, list]:
        """As checkpoints and exported files have it, see `simulation.scaling.to_plain`."""
        return _plain(self.offset, self.scale, self.low, self.high)


class Indices:
    """From the indices of what is chosen, from 0, to a Discrete, MultiDiscrete or MultiBinary, whose axes become one."""

    given = np.int64

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) -> None:
        self.shape, self.dtype = space.shape, space.dtype
        if isinstance(space, spaces.MultiBinary):
            choices, start = np.full(space.shape, 2), 0
        else:
            choices, start = space.n if isinstance(space, spaces.Discrete) else space.nvec, space.start
        self.choices = tuple(int(n) for n in np.ravel(choices))
        self.size = len(self.choices)
        self.start = np.broadcast_to(np.asarray(start, np.int64).ravel(), (self.size,))

    def __call__(self, action: np.ndarray) -> np.ndarray:
        """Actions `(n, action_dim)` as the space has them, `(n, *shape)`."""
        return (self.start + action).astype(self.dtype).reshape(len(action), *self.shape)

    def plain(self) -> dict[str, list]:
        """As checkpoints and exported files have it: the offset is the number of the first choice."""
        last = self.start + np.array(self.choices) - 1
        return _plain(*(x.astype(np.float64) for x in (self.start, np.ones(self.size), self.start, last)))


def _plain(offset: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, list]:
    limits = {"lower": low, "upper": high}
    return {
        "actuators": [f"action {i}" for i in range(len(scale))],
        "offset": offset.tolist(),
        "scale": scale.tolist(),
        **{name: [x if math.isfinite(x) else None for x in each.tolist()] for name, each in limits.items()},
    }


def _shown(space: spaces.Space) -> str:
    """A space in one line that is not too long."""
    words = " ".join(str(space).split())
    return words if len(words) <= 120 else f"{words[:117]}..."


def actions_of(space: spaces.Space, name: str) -> Rescaling | Indices:
    """What becomes of a policy's actions in the env of that name. EnvironmentMisfit for what no policy here gives."""
    if isinstance(space, spaces.Box):
        return Rescaling(space)
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise EnvironmentMisfit(
            f"{name} takes actions of {_shown(space)}, but policies here give one Box, Discrete, MultiDiscrete or "
            "MultiBinary; gymnasium.wrappers.TransformAction, in a wrap_env_fn, could make that of it"
        )
    actions = Indices(space)
    if not 1 <= sum(actions.choices) <= MOST_CHOICES:
        raise EnvironmentMisfit(
            f"{name} has {sum(actions.choices):,} choices, but from 1 to {MOST_CHOICES:,} can be had, as each is an output of "
            "the policy; a MultiDiscrete of several numbers has fewer"
        )
    return actions


def check_observations(space: spaces.Space, name: str) -> None:
    """EnvironmentMisfit for what no network here sees."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else (space,)
    if any(isinstance(part, spaces.Box) and len(part.shape) > 2 for part in parts) or not space.is_np_flattenable:
        raise EnvironmentMisfit(f"{name} has observations of {_shown(space)}, but only numbers in rows are supported")


def row_of(space: spaces.Space, name: str) -> Callable[[Any], np.ndarray]:
    """From an observation to a row of numbers, as cheaply as it can be had. EnvironmentMisfit for one of another shape."""
    if not isinstance(space, spaces.Box):
        return partial(spaces.flatten, space)
    shape = space.shape

    def row(observation: Any) -> np.ndarray:
        if np.shape(observation) != shape:
            raise EnvironmentMisfit(f"{name} gives an observation {np.shape(observation)}, but its space says {shape}")
        return observation if len(shape) == 1 else np.ravel(observation)

    return row
