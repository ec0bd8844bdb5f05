"""Gymnasium's environments by their ids: `gym:Ant-v5`; tested with gymnasium 1.4.0."""

import importlib
import warnings
from dataclasses import dataclass
from functools import partial

import gymnasium
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.environments.gymnasium_groups import Groups
from torch_ppo.environments.gymnasium_pictures import Pictured
from torch_ppo.environments.gymnasium_vectors import VectorSource
from torch_ppo.environments.sources import AS_USUAL, Wanted, Wrapping, checked
from torch_ppo.errors import did_you_mean
from torch_ppo.settings.config import Config


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

    @property
    def discrete(self) -> bool:
        """Whether its actions are discrete; makes one env to see, and is false where that cannot be made here."""
        try:
            env = _make_one(self.id, self.episode_length, 1, self.wrapping)
        except (gymnasium.error.Error, ImportError):
            return False
        env.close()
        return isinstance(env.action_space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)

    def pictured(self, config: Config | None) -> Pictured:
        """One env that draws itself, with the time limit and the action_repeat of a run, if there is one."""
        length = (config.episode_length if config else None) or self.episode_length
        action_repeat = config.action_repeat if config else 1
        make_one = partial(_make_one, self.id, length, action_repeat, self.wrapping)
        return Pictured(make_one, action_repeat, self.name)

    @staticmethod
    def of_vector(env: VectorEnv, wrapping: Wrapping) -> "VectorSource":
        """Of envs that there are already."""
        return VectorSource(env, wrapping)


def _imported_spec(id: str) -> gymnasium.envs.registration.EnvSpec:
    """Of "module:Env-v0": the module registers it."""
    module, _, name = id.partition(":")
    importlib.import_module(module)
    return gymnasium.spec(name)


def _make_one(
    id: str, length: int | None, action_repeat: int, wrapping: Wrapping, render_mode: str | None = None
) -> gymnasium.Env:
    """One env with its time limit; `wrap_env_fn` is given it without one."""
    options = {"disable_env_checker": True, **({} if render_mode is None else {"render_mode": render_mode})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Gymnasium and MuJoCo about old versions and models of their own
        if not wrapping.wrap_env:
            return gymnasium.make(id, **options)
        if wrapping.wrap_env_fn is None:
            return gymnasium.make(id, max_episode_steps=length, **options)
        bare = gymnasium.make(id, max_episode_steps=-1, **options)
    made = wrapping.wrap_env_fn(bare, episode_length=length, action_repeat=action_repeat, randomization_fn=None)
    if not hasattr(made, "action_space"):
        raise EnvironmentMisfit(f"wrap_env_fn returns {made!r}, but must return a gymnasium.Env for gym:{id}")
    return made
