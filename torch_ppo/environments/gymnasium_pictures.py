"""One env of Gymnasium's that draws itself."""

from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from torch import Tensor

from torch_ppo.environments.contract import EnvironmentMisfit
from torch_ppo.environments.gymnasium_spaces import actions_of, check_observations, row_of

USUAL_FPS = 30


class Pictured:
    """As an env of a batch of one, see `gymnasium_groups`, and `picture`. EnvironmentMisfit where it draws nothing.

    observation:  now                               (1, obs_dim)
    choices:      as of `contract.Steps`
    seconds:      that a step takes, as its pictures are meant to be shown
    """

    def __init__(self, make_one: Callable[..., gymnasium.Env], action_repeat: int, name: str) -> None:
        self.name, self.action_repeat = name, action_repeat
        try:
            self.env = make_one(render_mode="rgb_array")
        except (gymnasium.error.Error, TypeError) as error:  # TypeError of one whose maker has no render_mode
            raise EnvironmentMisfit(f"{name} cannot be drawn: {' '.join(str(error).split())}") from None
        if "rgb_array" not in self.env.metadata.get("render_modes", ()):
            raise EnvironmentMisfit(f"{name} has no render_mode rgb_array, so it cannot be drawn")
        check_observations(self.env.observation_space, name)
        self._row, self._actions = row_of(self.env.observation_space, name), actions_of(self.env.action_space, name)
        self.choices, self.action_dim = self._actions.choices, self._actions.size
        self.seconds = action_repeat / (self.env.metadata.get("render_fps") or USUAL_FPS)

    def _see(self, observation: object) -> None:
        self.observation = torch.as_tensor(np.asarray(self._row(observation), np.float32))[None]

    def reset(self, seed: int | None = None) -> None:
        """Starts a new episode."""
        self._see(self.env.reset(seed=seed)[0])

    def step(self, action: Tensor) -> tuple[float, bool]:
        """The reward of a step with `action` `(1, action_dim)`, and whether the episode has ended."""
        (given,), total = self._actions(action.numpy()), 0.0
        for _ in range(self.action_repeat):
            observation, reward, terminated, truncated, _ = self.env.step(given)
            total += float(reward)
            if terminated or truncated:
                break
        self._see(observation)
        return total, bool(terminated or truncated)

    def picture(self) -> np.ndarray:
        """Of the present state, uint8 `(height, width, 3)`."""
        try:
            picture = self.env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise EnvironmentMisfit(f"{self.name} cannot be drawn: {' '.join(str(error).split())}") from None
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            raise EnvironmentMisfit(f"{self.name} draws no picture (height, width, 3) of bytes, so it cannot be shown")
        return picture

    def close(self) -> None:
        """Closes it."""
        self.env.close()
