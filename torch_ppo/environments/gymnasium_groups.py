"""Gymnasium's envs in groups, one after the other in each.

Groups beside the first are in processes of their own, of `AsyncVectorEnv`. A process for each env, as Gymnasium has it, would
spend its time on messages: on two cores 64 envs of Pendulum-v1 are several times faster in two groups.
"""

import os
import signal
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from torch import Tensor

from torch_ppo.environments.contract import EnvironmentMisfit
from torch_ppo.environments.gymnasium_spaces import actions_of, check_observations, row_of
from torch_ppo.simulation.cores import available_cores

LEAST_PER_PROCESS = 8  # fewer envs are stepped before a message has come and gone


class Group(gymnasium.Env):
    """`num_envs` envs one after the other, as one env whose observation has everything that came of a step."""

    def __init__(self, make_one: Callable[[], gymnasium.Env], num_envs: int, action_repeat: int, name: str) -> None:
        # The others come with the first reset: AsyncVectorEnv makes one group more, only to look at it.
        self.envs, self.num_envs, self.make_one, self.action_repeat = [make_one()], num_envs, make_one, action_repeat
        self.name = name
        first = self.envs[0]
        self.row, self.actions = row_of(first.observation_space, name), actions_of(first.action_space, name)
        size = spaces.flatdim(first.observation_space)

        def numbers(*shape: int) -> spaces.Box:
            return spaces.Box(-np.inf, np.inf, (num_envs, *shape), np.float32)

        parts = {"observation": numbers(size), "final_observation": numbers(size)}
        parts |= {name: numbers() for name in ("reward", "termination", "truncation")}
        self.observation_space, shape = spaces.Dict(parts), (num_envs, self.actions.size)
        most = np.inf if self.actions.choices is None else max(self.actions.choices)
        self.action_space = spaces.Box(-most, most, shape, self.actions.given)
        self.now = {name: np.zeros(space.shape, np.float32) for name, space in parts.items()}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """All envs, with seeds from `seed` on."""
        while len(self.envs) < self.num_envs:
            self.envs.append(self.make_one())
        for i, env in enumerate(self.envs):
            observation, _ = env.reset(seed=None if seed is None else seed + i)
            self.now["observation"][i] = self.row(observation)
        return self.now, {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """One step of each, and a reset where an episode ended; `action` `(num_envs, action_dim)`, for [-1, 1] or indices."""
        now = self.now
        for i, (env, given) in enumerate(zip(self.envs, self.actions(action), strict=True)):
            observation, reward, terminated, truncated, _ = env.step(given)
            for _ in range(1, self.action_repeat):
                if terminated or truncated:
                    break
                observation, more, terminated, truncated, _ = env.step(given)
                reward += more
            told = {"reward": reward, "termination": terminated, "truncation": truncated}
            try:
                for name, value in told.items():
                    now[name][i] = value
            except (TypeError, ValueError):
                kind = f"{type(value).__name__} {np.shape(value)}"
                raise EnvironmentMisfit(f"{self.name} gives as {name} {kind}, but one number is expected") from None
            row = self.row(observation)
            now["final_observation"][i] = row
            if terminated or truncated:
                row = self.row(env.reset()[0])
            now["observation"][i] = row
        broken = ~np.isfinite(now["final_observation"].sum(1) + now["reward"])
        for i in broken.nonzero()[0]:
            now["observation"][i] = self.row(self.envs[i].reset()[0])
        return now, 0.0, False, False, {}

    def close(self) -> None:
        """Closes all of them."""
        for env in self.envs:
            env.close()


class Groups:
    """Envs in groups, see `contract.Steps`. Groups beside the first are in processes of their own, as is then the first."""

    def __init__(
        self,
        make_one: Callable[[], gymnasium.Env],
        num_envs: int,
        action_repeat: int,
        episode_length: int,
        name: str,
        new_seed: Callable[[], int],
    ) -> None:
        self.num_envs, self.action_repeat, self.episode_length, self.name = (
            num_envs,
            action_repeat,
            episode_length,
            name,
        )
        self._new_seed = new_seed
        probe = make_one()
        try:
            check_observations(probe.observation_space, name)
            self._actions = actions_of(probe.action_space, name)
        finally:
            probe.close()
        self.action_dim, self.choices = self._actions.size, self._actions.choices
        most = max(1, min(available_cores(), num_envs // LEAST_PER_PROCESS))
        self.num_groups = max(n for n in range(1, most + 1) if num_envs % n == 0)
        make_group = partial(Group, make_one, num_envs // self.num_groups, action_repeat, name)
        self._env = make_group() if self.num_groups == 1 else _in_processes(make_group, self.num_groups)
        # Before the interpreter takes the pipes from under the processes.
        self._end = weakref.finalize(self, self._env.close)

    def controls(self) -> dict[str, list]:
        """What becomes of actions: the ranges of the Box, or the first of the choices."""
        return self._actions.plain()

    def reset(self) -> None:
        """Starts a new episode in every env."""
        seed, size = self._new_seed(), self.num_envs // self.num_groups
        seeds = seed if self.num_groups == 1 else [seed + size * i for i in range(self.num_groups)]
        self._read(self._told(self._env.reset, seed=seeds))

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        given = action.cpu().numpy()
        self._read(
            self._told(
                self._env.step, given if self.num_groups == 1 else given.reshape(self.num_groups, -1, self.action_dim)
            )
        )

    def _told(self, call: Callable[..., tuple], *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        """What the groups have after a call; EnvironmentMisfit if one of their processes is no more."""
        try:
            return call(*args, **kwargs)[0]
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise EnvironmentMisfit(
                f"a process of {self.name} has ended, killed perhaps for want of memory; --resume goes on from the last "
                "checkpoint, and fewer num_envs need less"
            ) from None

    def _read(self, now: dict[str, np.ndarray]) -> None:
        for name, x in now.items():
            x = torch.from_numpy(x)
            setattr(self, name, x if self.num_groups == 1 else x.flatten(0, 1))

    def close(self) -> None:
        """Ends the processes."""
        self._end()


def _in_processes(make_group: Callable[[], Group], number: int) -> AsyncVectorEnv:
    with warnings.catch_warnings():
        # Python's, that forking beside threads is risky: the processes do nothing but step, and use no library of ours.
        warnings.simplefilter("ignore", DeprecationWarning)
        makers = [partial(_in_process, make_group, os.getpid())] * number
        return AsyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.DISABLED)


def _in_process(make_group: Callable[[], Group], parent: int) -> Group:
    """A group in a process that leaves signals to its parent, which finishes what is under way, and ends with it."""
    if os.getpid() != parent:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    return make_group()
