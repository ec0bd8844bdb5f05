"""Envs of Gymnasium that there are already: a `gymnasium.vector.VectorEnv`."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from torch import Tensor

from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.environments.gymnasium_spaces import actions_of, check_observations
from torch_ppo.environments.sources import AS_USUAL, Wanted, Wrapping, checked


@dataclass(frozen=True)
class VectorSource:
    """Of a `gymnasium.vector.VectorEnv` that there is already."""

    env: VectorEnv
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, task, code, packages = False, False, None, None, ("gymnasium",)

    @property
    def name(self) -> str:
        """The id that it was made by, or its class."""
        spec = getattr(self.env, "spec", None)
        return f"gym:{spec.id}" if spec is not None else type(self.env).__name__

    @property
    def already(self) -> VectorEnv:
        """The envs."""
        return self.env

    @property
    def episode_length(self) -> int | None:
        """Of the time limit that they were made with, where they say so: their spec, or an attribute of that name."""
        own = getattr(getattr(self.env, "spec", None), "max_episode_steps", None)
        return own or getattr(self.env.unwrapped, "episode_length", None)

    def make(self, wanted: Wanted) -> Environment:
        """The envs."""
        if self.wrapping.wrap_env_fn is not None or self.wrapping.randomization_fn is not None:
            raise EnvironmentMisfit(f"{self.name} is there already: leave out wrap_env_fn and randomization_fn")
        return checked(Vector(self.env, self.name, self.episode_length, wanted), wanted)


class Vector:
    """A `VectorEnv`, see `contract.Steps`. It restarts ended episodes in the same step, or lets itself be told which.

    Gymnasium's own that would restart them in the next step, in which actions are ignored, are told before.
    """

    action_repeat = 1

    def __init__(self, env: VectorEnv, name: str, own_length: int | None, wanted: Wanted) -> None:
        self.env, self.name, self.num_envs, self._new_seed = env, name, env.num_envs, wanted.new_seed
        check_observations(env.single_observation_space, name)
        self._actions = actions_of(env.single_action_space, name)
        mode = env.metadata.get("autoreset_mode")
        own = isinstance(env.unwrapped, SyncVectorEnv | AsyncVectorEnv)
        self._is_told = mode is AutoresetMode.DISABLED or (mode is AutoresetMode.NEXT_STEP and own)
        if not self._is_told and mode is not AutoresetMode.SAME_STEP:
            raise EnvironmentMisfit(
                f"{name} has autoreset_mode {getattr(mode, 'name', mode)}, in which the step after an end is none; "
                "autoreset_mode=AutoresetMode.SAME_STEP would work, or gymnasium.make_vec with vectorization_mode='sync'"
            )
        length = own_length or wanted.config.episode_length
        if length is None:
            raise EnvironmentMisfit(
                f"{name} does not say how long an episode can be; episode_length = 1000, say, would"
            )
        self.episode_length = length
        self.action_dim, self.choices = self._actions.size, self._actions.choices
        self._space = env.single_observation_space

    def controls(self) -> dict[str, list]:
        """What becomes of actions: the ranges of the Box, or the first of the choices."""
        return self._actions.plain()

    def _rows(self, observations: Any) -> Tensor:
        """Batched observations as rows."""
        if isinstance(self._space, spaces.Box):
            return torch.as_tensor(np.asarray(observations, np.float32).reshape(self.num_envs, -1))
        rows = [
            spaces.flatten(self._space, each)
            for each in gymnasium.vector.utils.iterate(self.env.observation_space, observations)
        ]
        return torch.as_tensor(np.asarray(rows, np.float32))

    def reset(self) -> None:
        """Starts a new episode in every env."""
        self.observation = self._rows(self.env.reset(seed=self._new_seed())[0])
        self.final_observation = self.observation

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        seen, self.reward, self.termination, self.truncation, infos = self.env.step(self._actions(action.cpu().numpy()))
        self.observation = self.final_observation = self._rows(seen)
        done = np.asarray(self.termination, bool) | np.asarray(self.truncation, bool)
        if not done.any():
            return
        if self._is_told:
            self.observation = self._rows(self.env.reset(options={"reset_mask": done})[0])
            return
        self.final_observation, final = self.final_observation.clone(), infos["final_obs"]
        if getattr(final, "dtype", None) != object:  # of all envs, not one for each that ended
            self.final_observation[done] = self._rows(final)[done]
            return
        for i in done.nonzero()[0]:
            row = np.asarray(spaces.flatten(self._space, final[i]), np.float32)
            self.final_observation[i] = torch.from_numpy(row)
