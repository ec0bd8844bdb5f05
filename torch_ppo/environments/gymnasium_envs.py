"""Gymnasium's environments: `gym:Ant-v5`, a `gymnasium.vector.VectorEnv`; tested with gymnasium 1.4.0.

Envs are stepped in groups, one group in each of some processes of `AsyncVectorEnv`. A process for each env, as Gymnasium has
it, would spend its time on messages: on two cores 64 envs of Pendulum-v1 are several times faster in two groups.
"""

import importlib
import math
import os
import signal
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from torch import Tensor

from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.environments.sources import AS_USUAL, Wanted, Wrapping, checked
from torch_ppo.errors import did_you_mean

LEAST_PER_PROCESS = 8  # fewer envs are stepped before a message has come and gone


@dataclass(frozen=True)
class GymnasiumSource:
    """Of a Gymnasium id: "Ant-v5", "namespace/Env-v0" or "module:Env-v0"."""

    id: str
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, task, code, packages, already = False, True, None, None, ("gymnasium",), None

    def __post_init__(self) -> None:
        if self.wrapping.randomization_fn is not None:
            raise EnvironmentMisfit(
                f"randomization_fn changes models of our own simulation and of Brax's, not {self.name}; leave it out"
            )
        self._spec()

    @property
    def name(self) -> str:
        """As it is asked for."""
        return f"gym:{self.id}"

    def _spec(self) -> gymnasium.envs.registration.EnvSpec:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there is a newer version
                return gymnasium.spec(self.id) if ":" not in self.id else _imported_spec(self.id)
        except ModuleNotFoundError as error:
            raise EnvironmentMisfit(f"env is {self.name!r}, but there is no module {error.name}") from None
        except gymnasium.error.Error:
            hint = did_you_mean(self.id, gymnasium.registry)
            hint = hint if hint.startswith("; did") else "; gymnasium.pprint_registry() lists what there is"
            raise EnvironmentMisfit(f"env is {self.name!r}, but Gymnasium has no {self.id!r}{hint}") from None

    @property
    def episode_length(self) -> int | None:
        """Of Gymnasium's own time limit."""
        return self._spec().max_episode_steps

    def make(self, wanted: Wanted) -> Environment:
        """Groups of envs, each in a process of its own where there are several."""
        length = wanted.config.episode_length
        if length is None:
            raise EnvironmentMisfit(f"{self.name} has no time limit; episode_length = 1000, say, would set one")
        own = self.episode_length
        if not self.wrapping.wrap_env and own not in (None, length):
            raise EnvironmentMisfit(
                f"wrap_env = False uses {self.name} with its own time limit of {own}, but episode_length is {length}; leave "
                "one of them out"
            )
        make_one = partial(_make_one, self.id, length, wanted.config.action_repeat, self.wrapping)
        try:
            steps = Groups(make_one, wanted.num_envs, wanted.config.action_repeat, length, self.name, wanted.new_seed)
        except gymnasium.error.DependencyNotInstalled as error:
            raise EnvironmentMisfit(f"{self.name} needs more than gymnasium: {error}") from None
        return checked(steps, wanted)

    @staticmethod
    def of_vector(env: VectorEnv, wrapping: Wrapping) -> "VectorSource":
        """Of envs that there are already."""
        return VectorSource(env, wrapping)


def _imported_spec(id: str) -> gymnasium.envs.registration.EnvSpec:
    """Of "module:Env-v0": the module registers it."""
    module, _, name = id.partition(":")
    importlib.import_module(module)
    return gymnasium.spec(name)


def _make_one(id: str, length: int, action_repeat: int, wrapping: Wrapping) -> gymnasium.Env:
    """One env with its time limit; `wrap_env_fn` is given it without one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Gymnasium and MuJoCo about old versions and models of their own
        if not wrapping.wrap_env:
            return gymnasium.make(id, disable_env_checker=True)
        if wrapping.wrap_env_fn is None:
            return gymnasium.make(id, max_episode_steps=length, disable_env_checker=True)
        bare = gymnasium.make(id, max_episode_steps=-1, disable_env_checker=True)
    made = wrapping.wrap_env_fn(bare, episode_length=length, action_repeat=action_repeat, randomization_fn=None)
    if not hasattr(made, "action_space"):
        raise EnvironmentMisfit(f"wrap_env_fn returns {made!r}, but must return a gymnasium.Env for gym:{id}")
    return made


def _check_spaces(observation: spaces.Space, action: spaces.Space, name: str) -> None:
    """EnvironmentMisfit for what no network here sees or gives."""
    if not isinstance(action, spaces.Box):
        raise EnvironmentMisfit(
            f"{name} takes actions of {action}, but policies here give real numbers: a Box would work, as of Pendulum-v1"
        )
    parts = observation.spaces.values() if isinstance(observation, spaces.Dict) else (observation,)
    if any(isinstance(part, spaces.Box) and len(part.shape) > 2 for part in parts) or not observation.is_np_flattenable:
        raise EnvironmentMisfit(f"{name} has observations of {observation}, but only numbers in rows are supported")


class Rescaling:
    """From actions for [-1, 1] to a Box. Dimensions without both limits take the action as it is."""

    def __init__(self, box: spaces.Box) -> None:
        low, high = box.low.astype(np.float64).ravel(), box.high.astype(np.float64).ravel()
        self.shape, self.dtype = box.shape, box.dtype
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
        limits = {"lower": self.low, "upper": self.high}
        return {
            "actuators": [f"action {i}" for i in range(len(self.scale))],
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            **{name: [x if math.isfinite(x) else None for x in each.tolist()] for name, each in limits.items()},
        }


def _row(space: spaces.Space) -> Callable[[Any], np.ndarray]:
    """From an observation to a row of numbers, as cheaply as it can be had."""
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return lambda observation: observation
    return partial(spaces.flatten, space)


class Group(gymnasium.Env):
    """`num_envs` envs one after the other, as one env whose observation has everything that came of a step."""

    def __init__(self, make_one: Callable[[], gymnasium.Env], num_envs: int, action_repeat: int) -> None:
        # The others come with the first reset: AsyncVectorEnv makes one group more, only to look at it.
        self.envs, self.num_envs, self.make_one, self.action_repeat = [make_one()], num_envs, make_one, action_repeat
        first = self.envs[0]
        self.row, self.rescaling = _row(first.observation_space), Rescaling(first.action_space)
        size, actions = spaces.flatdim(first.observation_space), len(self.rescaling.scale)

        def numbers(*shape: int) -> spaces.Box:
            return spaces.Box(-np.inf, np.inf, (num_envs, *shape), np.float32)

        parts = {"observation": numbers(size), "final_observation": numbers(size)}
        parts |= {name: numbers() for name in ("reward", "termination", "truncation")}
        self.observation_space, self.action_space = spaces.Dict(parts), numbers(actions)
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
        """One step of each, and a reset where an episode ended; `action` `(num_envs, action_dim)` for [-1, 1]."""
        now = self.now
        for i, (env, given) in enumerate(zip(self.envs, self.rescaling(action), strict=True)):
            observation, reward, terminated, truncated, _ = env.step(given)
            for _ in range(1, self.action_repeat):
                if terminated or truncated:
                    break
                observation, more, terminated, truncated, _ = env.step(given)
                reward += more
            now["reward"][i], now["termination"][i], now["truncation"][i] = reward, terminated, truncated
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
            _check_spaces(probe.observation_space, probe.action_space, name)
            self._rescaling = Rescaling(probe.action_space)
        finally:
            probe.close()
        self.action_dim = len(self._rescaling.scale)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        most = max(1, min(cores, num_envs // LEAST_PER_PROCESS))
        self.num_groups = max(n for n in range(1, most + 1) if num_envs % n == 0)
        make_group = partial(Group, make_one, num_envs // self.num_groups, action_repeat)
        self._env = make_group() if self.num_groups == 1 else _in_processes(make_group, self.num_groups)
        # Before the interpreter takes the pipes from under the processes.
        self._end = weakref.finalize(self, self._env.close)

    def controls(self) -> dict[str, list]:
        """What becomes of actions: the ranges of the Box."""
        return self._rescaling.plain()

    def reset(self) -> None:
        """Starts a new episode in every env."""
        seed, size = self._new_seed(), self.num_envs // self.num_groups
        seeds = seed if self.num_groups == 1 else [seed + size * i for i in range(self.num_groups)]
        self._read(self._env.reset(seed=seeds)[0])

    def step(self, action: Tensor) -> None:
        """One step with `action` `(num_envs, action_dim)`."""
        given = action.cpu().numpy()
        self._read(
            self._env.step(given if self.num_groups == 1 else given.reshape(self.num_groups, -1, self.action_dim))[0]
        )

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
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    return make_group()


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
    """A `VectorEnv`, see `contract.Steps`. It restarts ended episodes in the same step, or lets itself be told which."""

    action_repeat = 1

    def __init__(self, env: VectorEnv, name: str, own_length: int | None, wanted: Wanted) -> None:
        self.env, self.name, self.num_envs, self._new_seed = env, name, env.num_envs, wanted.new_seed
        _check_spaces(env.single_observation_space, env.single_action_space, name)
        self._mode = env.metadata.get("autoreset_mode")
        if self._mode not in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
            mode = getattr(self._mode, "name", self._mode)
            raise EnvironmentMisfit(
                f"{name} has autoreset_mode {mode}, in which the step after an end is none; "
                "autoreset_mode=AutoresetMode.SAME_STEP would work"
            )
        length = own_length or wanted.config.episode_length
        if length is None:
            raise EnvironmentMisfit(
                f"{name} does not say how long an episode can be; episode_length = 1000, say, would"
            )
        self.episode_length = length
        self._rescaling = Rescaling(env.single_action_space)
        self.action_dim = len(self._rescaling.scale)
        self._space = env.single_observation_space

    def controls(self) -> dict[str, list]:
        """What becomes of actions: the ranges of the Box."""
        return self._rescaling.plain()

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
        seen, self.reward, self.termination, self.truncation, infos = self.env.step(
            self._rescaling(action.cpu().numpy())
        )
        self.observation = self.final_observation = self._rows(seen)
        done = np.asarray(self.termination, bool) | np.asarray(self.truncation, bool)
        if not done.any():
            return
        if self._mode is AutoresetMode.DISABLED:
            self.observation = self._rows(self.env.reset(options={"reset_mask": done})[0])
            return
        self.final_observation, final = self.final_observation.clone(), infos["final_obs"]
        if getattr(final, "dtype", None) != object:  # of all envs, not one for each that ended
            self.final_observation[done] = self._rows(final)[done]
            return
        for i in done.nonzero()[0]:
            row = np.asarray(spaces.flatten(self._space, final[i]), np.float32)
            self.final_observation[i] = torch.from_numpy(row)
