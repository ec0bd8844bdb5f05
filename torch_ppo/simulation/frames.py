"""Frame stacks: observations that are the last n of a task's, side by side, oldest first.

A stack is `(..., n * frame_dim)`; that of pictures has its frames one after another in the channels. At the start of an episode all its frames are the first observation, so that nothing of
the episode before is seen. With n = 1 a stack is the observation itself, and nothing is computed.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from torch_ppo.errors import ConfigError, UserError, did_you_mean


def frames_by_key(history: int, history_obs_keys: tuple[str, ...], keys: Iterable[str]) -> dict[str, int]:
    """How many frames each of a task's observations has; ConfigError if `history_obs_keys` names one that is not there."""
    keys = tuple(keys)
    for key in history_obs_keys:
        if key not in keys:
            raise ConfigError(
                f"history_obs_keys names {key!r}, which the task does not observe{did_you_mean(key, keys)}"
            )
    return {key: history if key in (history_obs_keys or keys) else 1 for key in keys}


def full_of(frame: Tensor, frames: int) -> Tensor:
    """The stack of an episode that begins with `frame` `(num_envs, ..., frame_dim)`."""
    return frame if frames == 1 else frame.repeat(*[1] * (frame.dim() - 1), frames)


def pushed(stack: Tensor, frame: Tensor) -> Tensor:
    """`stack` `(num_envs, ..., n * frame_dim)` without its oldest frame and with a new one."""
    size = frame.shape[-1]
    return frame if stack.shape[-1] == size else torch.cat([stack[..., size:], frame], -1)


class FrameStack:
    """The stack that a policy with `history` frames sees, where no `Env` makes it: on a robot, in another simulator.

    stack = FrameStack(3)
    action = policy(stack(observation))    # observation (..., frame_dim), stack (..., 3 * frame_dim)
    stack.reset()                          # before another episode

    Raises UserError for a `history` below 1, and for an observation of another shape than the one before.
    """

    def __init__(self, history: int) -> None:
        if not isinstance(history, int) or history < 1:
            raise UserError(f"history is {history!r}, but must be an int greater than 0; 3 would work")
        self.history = history
        self._frames: Tensor | None = None  # (..., history, frame_dim)

    def reset(self) -> None:
        """The next observation is the first of an episode."""
        self._frames = None

    def __call__(self, observation: Tensor) -> Tensor:
        """The stack with `observation` as its newest frame."""
        newest = observation[..., None, :]
        if self._frames is None:
            self._frames = newest.expand(*newest.shape[:-2], self.history, newest.shape[-1])
        before = self._frames[..., :1, :].shape
        if newest.shape != before:
            raise UserError(
                f"the observation is {tuple(observation.shape)}, but those before it were {(*before[:-2], before[-1])}; "
                "reset() comes before another episode"
            )
        self._frames = torch.cat([self._frames[..., 1:, :], newest], -2)
        return self._frames.flatten(-2)
