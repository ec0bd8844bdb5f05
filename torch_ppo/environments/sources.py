"""Sources: what an environment is asked for by, before there is one: a task, a name, an object, a function.

`source_of` is the one place that tells them apart.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from torch_ppo.environments.completed import completed
from torch_ppo.environments.contract import Environment, EnvironmentMisfit
from torch_ppo.errors import ConfigError
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env, RandomizationFn
from torch_ppo.simulation.task import Task

WrapFn = Callable[..., Any]


@dataclass(frozen=True)
class Wanted:
    """The envs that are asked for.

    config:        with everything filled in
    num_envs:      how many
    generator:     of all their random numbers; it says on which device they are
    auto_reset, random_episode_phase, keep_final:  as of `Env`
    randomize:     give them models of their own
    """

    config: Config
    num_envs: int
    generator: torch.Generator
    auto_reset: str = "cached"
    random_episode_phase: bool = False
    randomize: bool = False
    keep_final: bool = False

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.generator.device

    def new_seed(self) -> int:
        """A seed for a library with random numbers of its own."""
        return int(torch.randint(2**31 - 1, (), generator=self.generator, device=self.device))


@dataclass(frozen=True)
class Wrapping:
    """Brax's arguments of that name: who gives episodes their rules, and what randomises models."""

    wrap_env: bool = True
    wrap_env_fn: WrapFn | None = None
    randomization_fn: RandomizationFn | None = None


AS_USUAL = Wrapping()


class Source(Protocol):
    """Makes environments.

    name:            what errors call it
    episode_length:  the time limit where the configuration sets none; None where it has to
    simulated:       whether the settings of our own simulation and of `Env` act in it
    repeats:         whether action_repeat acts in it, which else is the environment's own
    task:            that of our own kind, or None
    code:            whose module's files are kept with a run, or None
    packages:        whose versions are
    already:         the envs themselves where they are there already, and so for one use only; None where it makes them
    """

    name: str
    episode_length: int | None
    simulated: bool
    repeats: bool
    task: Task | None
    code: object | None
    packages: tuple[str, ...]
    already: object | None

    def make(self, wanted: Wanted) -> Environment:
        """New envs, in their first episodes."""


def seen_and_done(config: Config) -> dict[str, Any]:
    """The settings of an `Env` that decide what a policy sees at once, and when what it does arrives."""
    names = ("history", "history_obs_keys", "action_delay", "vision", "view_size")
    return {name: getattr(config, name) for name in names}


def randomization_of(task: Task, config: Config, given: RandomizationFn | None) -> RandomizationFn | None:
    """What an env of `task` is randomised by: what the library call was given, else the task's own if wanted.

    None where there is nothing of the kind, or only what `randomize_episode` does.
    """
    if given is not None or not config.randomize:
        return given
    if type(task).randomize is not Task.randomize:
        return task.randomize
    if type(task).randomize_episode is not Task.randomize_episode:
        return None
    raise ConfigError(f"randomize is true, but {type(task).__name__} has no randomize; false would work")


@dataclass(frozen=True)
class Unwrapped:
    """What `wrap_env_fn` is given for a task: envs without rules of episodes, which `wrap` gives them."""

    task: Task
    wanted: Wanted

    @property
    def num_envs(self) -> int:
        """How many."""
        return self.wanted.num_envs

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.wanted.device

    def wrap(
        self, *, episode_length: int, action_repeat: int = 1, randomization_fn: RandomizationFn | None = None
    ) -> Env:
        """The `Env` that it would be without `wrap_env_fn`, with these rules."""
        wanted, config = self.wanted, self.wanted.config
        return Env(
            self.task,
            wanted.num_envs,
            episode_length=episode_length,
            device=wanted.device,
            generator=wanted.generator,
            action_repeat=action_repeat,
            auto_reset=wanted.auto_reset,
            random_episode_phase=wanted.random_episode_phase,
            engine=config.physics,
            # Within a recorded unroll it is part of that; the recording of its own is for resets.
            capture=config.capture != "none",
            randomization_fn=randomization_fn,
            randomize_episode=wanted.randomize and config.randomize,
            keep_final=wanted.keep_final,
            **seen_and_done(config),
            max_state=config.max_state,
            deterministic=config.deterministic,
        )


@dataclass(frozen=True)
class TaskSource:
    """Of a task of our own kind."""

    task: Task
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, packages, already = True, True, (), None

    def __post_init__(self) -> None:
        if not self.wrapping.wrap_env:
            raise ConfigError(
                f"wrap_env = False uses an environment that restarts its own episodes, but {self.name} is a task, of which "
                "Env makes episodes; True would work"
            )

    @property
    def name(self) -> str:
        """The task's class."""
        return type(self.task).__name__

    @property
    def episode_length(self) -> int:
        """The task's own."""
        return self.task.episode_length

    @property
    def code(self) -> object:
        """The task."""
        return self.task

    def make(self, wanted: Wanted) -> Environment:
        """An `Env`, or what `wrap_env_fn` makes."""
        config, given = wanted.config, self.wrapping
        randomization_fn = randomization_of(self.task, config, given.randomization_fn) if wanted.randomize else None
        rules = {
            "episode_length": config.episode_length,
            "action_repeat": config.action_repeat,
            "randomization_fn": randomization_fn,
        }
        envs = Unwrapped(self.task, wanted)
        return envs.wrap(**rules) if given.wrap_env_fn is None else wrapped(envs, given.wrap_env_fn, wanted, rules)


def wrapped(env: object, wrap_env_fn: WrapFn, wanted: Wanted, rules: dict[str, Any]) -> Environment:
    """What a user's `wrap_env_fn` makes, with everything of the contract. EnvironmentMisfit if it is too little."""
    try:
        inspect.signature(wrap_env_fn).bind(env, **rules)
    except TypeError as error:
        raise EnvironmentMisfit(
            f"wrap_env_fn is called as wrap_env_fn(env, {', '.join(f'{name}=...' for name in rules)}), but {error}"
        ) from None
    except ValueError:  # of a function that does not tell
        pass
    made = wrap_env_fn(env, **rules)
    if made is None:
        raise EnvironmentMisfit("wrap_env_fn returns None, but must return the environment that it has wrapped")
    return checked(made, wanted)


def checked(env: object, wanted: Wanted) -> Environment:
    """An environment with everything of the contract, and as many envs as are wanted. EnvironmentMisfit if not."""
    env = completed(env, device=wanted.device, keep_final=wanted.keep_final)
    if env.num_envs != wanted.num_envs:
        raise EnvironmentMisfit(
            f"{env.name} has {env.num_envs} envs, but {wanted.num_envs} are asked for; num_envs (of an eval_env "
            f"num_eval_envs) = {env.num_envs} would work"
        )
    if torch.device(env.device).type != wanted.device.type:
        raise EnvironmentMisfit(f"{env.name} is on {env.device}, but device is {wanted.device}")
    return env


@dataclass(frozen=True)
class FunctionSource:
    """Of a user's function that makes envs: `make_env(num_envs)`; also `device`, `seed`, `episode_length`, if it takes them.

    understood:  the source of an object that it returns, `finding.source_of`
    earlier:     the envs that it has returned so far
    """

    function: Callable[..., object]
    wrapping: Wrapping
    understood: Callable[..., Source]
    earlier: list[object] = field(default_factory=list)
    simulated, repeats, packages, task, episode_length, already = False, False, (), None, None, None

    @property
    def name(self) -> str:
        """The function's."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def code(self) -> object:
        """The function."""
        return self.function

    def make(self, wanted: Wanted) -> Environment:
        """What the function returns."""
        known = {
            "num_envs": wanted.num_envs,
            "device": wanted.device,
            "seed": wanted.new_seed(),
            "episode_length": wanted.config.episode_length,
        }
        parameters = inspect.signature(self.function).parameters
        if "num_envs" not in parameters:
            raise EnvironmentMisfit(
                f"{self.name}({', '.join(parameters)}) does not take num_envs; def {self.name}(num_envs, device, seed) "
                "would work"
            )
        needed = [
            name
            for name, each in parameters.items()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        unknown = [name for name in needed if name not in known]
        if unknown:
            raise EnvironmentMisfit(
                f"{self.name}({', '.join(parameters)}) needs {', '.join(unknown)}, but is called with {', '.join(known)} only; "
                "a default would work"
            )
        made = self.function(**{name: value for name, value in known.items() if name in parameters})
        if made is None:
            raise EnvironmentMisfit(f"{self.name} returns None, but must return the envs that it has made")
        source = self.understood(made, f"what {self.name} returns", self.wrapping)
        if source.simulated:
            raise EnvironmentMisfit(
                f"{self.name} returns {made!r}, a task of which Env makes envs; give the task itself"
            )
        if source.already is not None and any(source.already is other for other in self.earlier):
            raise EnvironmentMisfit(
                f"{self.name} returns the same {type(made).__name__} again, for training and for evaluation; "
                "it must make new envs at each call"
            )
        self.earlier.append(source.already)
        return source.make(wanted)


def _as_given(env: object, wrapping: Wrapping, wanted: Wanted) -> Environment:
    """An env of the contract, which `wrap_env_fn` may wrap."""
    env = completed(env, device=wanted.device, keep_final=wanted.keep_final)
    if wrapping.wrap_env_fn is None:
        return checked(env, wanted)
    rules = {"episode_length": env.episode_length, "action_repeat": env.action_repeat, "randomization_fn": None}
    return wrapped(env, wrapping.wrap_env_fn, wanted, rules)


@dataclass(frozen=True)
class ObjectSource:
    """Of envs that there are already."""

    env: Environment
    wrapping: Wrapping = AS_USUAL
    simulated, repeats, packages, code = False, False, (), None

    @property
    def name(self) -> str:
        """The env's own name, or its class."""
        return getattr(self.env, "name", type(self.env).__name__)

    @property
    def already(self) -> Environment:
        """The envs."""
        return self.env

    @property
    def episode_length(self) -> int:
        """The env's own."""
        return self.env.episode_length

    @property
    def task(self) -> Task | None:
        """The env's."""
        return getattr(self.env, "task", None)

    def make(self, wanted: Wanted) -> Environment:
        """The envs."""
        return _as_given(self.env, self.wrapping, wanted)
