"""Who acts, and where: `make_env`, and what `evaluate`, `rollout` and `render` make of the policy they are given."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from torch_ppo.environments.contract import WHOLE, Environment, lacking
from torch_ppo.environments.finding import canonical, source_of
from torch_ppo.environments.sources import Source, Wanted, seen_and_done
from torch_ppo.errors import ConfigError
from torch_ppo.running.environment import locate_task
from torch_ppo.running.evaluate import Act
from torch_ppo.running.fit import actions_in_words, actions_of, task_misfit
from torch_ppo.running.generators import make_generators
from torch_ppo.running.resolved import resolve_config, resolve_device
from torch_ppo.running.saved_policy import PolicyError, SavedPolicy, load_policy
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Observation, Task

Engine = Literal["auto", "warp", "mujoco"]
# A run folder, a checkpoint or an exported file; a policy from `load_policy`; or any function from what `Env.step` returns
# as observation to actions `(num_envs, action_dim)`, as tensor or array, alone or as the first of a tuple.
RunOrPolicy = str | PathLike[str] | SavedPolicy | Callable[[Any], Any]


class EnvSettings(TypedDict, total=False):
    """The arguments of `make_env` beside what and how many; its own words say what each is."""

    device: str
    seed: int
    physics: Engine
    episode_length: int | None
    action_repeat: int
    auto_reset: Literal["cached", "random", "fresh"]
    randomize: bool
    history: int
    history_obs_keys: tuple[str, ...]
    action_delay: int | tuple[int, ...]
    vision: bool | None
    view_size: int | None


@dataclass(frozen=True)
class Acting:
    """A policy in an env.

    name:  of the task
    env:   where it acts
    act:   from the env's observations to actions    (num_envs, action_dim)
    """

    name: str
    env: Environment
    act: Act


def make_env(
    environment: Task | str,
    num_envs: int = 1,
    *,
    device: str = "cpu",
    seed: int = 0,
    physics: Engine = "auto",
    episode_length: int | None = None,
    action_repeat: int = 1,
    auto_reset: Literal["cached", "random", "fresh"] = "cached",
    randomize: bool = False,
    history: int = 1,
    history_obs_keys: tuple[str, ...] = (),
    action_delay: int | tuple[int, ...] = 0,
    vision: bool | None = None,
    view_size: int | None = None,
) -> Env:
    """`num_envs` episodes of a task, stepped together; see `Env` for how, and for its tensors.

    environment:     a task, or the name of one
    device:          cpu, cuda, or auto, which takes CUDA where there is one
    seed:            of start states and of all that a task draws
    physics:         mujoco (C MuJoCo, CPU only), warp (MuJoCo Warp), or auto: Warp on CUDA and to draw, else C MuJoCo
    episode_length:  time limit in env steps; by default the task's own
    action_repeat:   env steps per `Env.step`
    auto_reset:      a finished env restarts from its own first state (cached), from that of a random env (random), or
                     from one that is drawn anew (fresh)
    randomize:       give each env a model of its own, as the task's `randomize` says, and each episode one, as its
                     `randomize_episode` does
    history:         observations are the last so many of the task's, side by side, oldest first
    history_obs_keys: those that are, of several; by default all
    action_delay:    env steps by which actions arrive late, or the least and the greatest of an episode's
    vision:          whether the task's views are drawn, each an observation pixels/<name>; by default if it has some
    view_size:       height and width of those, in pixels; by default the task's own

    Raises UserError for a value that cannot work.
    """
    settings = {
        "num_envs": num_envs,
        "device": device,
        "seed": seed,
        "physics": physics,
        "episode_length": episode_length,
        "action_repeat": action_repeat,
        "auto_reset": auto_reset,
        "randomize": randomize,
        "history": history,
        "history_obs_keys": history_obs_keys,
        "action_delay": action_delay,
        "vision": vision,
        "view_size": view_size,
    }
    return env_and_generator(environment, "env", settings)[0]


def env_and_generator(
    environment: object, stream: str, settings: Mapping[str, Any], *, keep_final: bool = False
) -> tuple[Environment, torch.Generator]:
    """The env with the settings of a `Config`, whose checks and words are used, and whence its random numbers come.

    settings:    with num_envs; what is left out is as in `Config`
    stream:      of the generators, see `running.generators`
    keep_final:  as of `Env`
    """
    source = source_of(environment)
    if settings.get("vision") is None:
        settings = {**settings, "vision": bool(source.task and source.task.views)}
    batch = {"batch_size": settings["num_envs"], "num_minibatches": 1}  # any that goes with num_envs
    config = resolve_config(Config(num_timesteps=1, **settings, **batch), source)
    generator = make_generators(config.seed, torch.device(config.device))[stream]
    wanted = Wanted(
        config, config.num_envs, generator, auto_reset=config.auto_reset, randomize=True, keep_final=keep_final
    )
    return source.make(wanted), generator


def find_acting(
    run_or_policy: RunOrPolicy,
    env: object | None,
    *,
    num_envs: int | None,
    default_num_envs: int,
    seed: int,
    deterministic: bool,
    checkpoint: str,
    physics: Engine,
    device: str,
    episode_length: int | None,
    trust: bool,
) -> Acting:
    """The policy in the env that is meant; without `env`, in one as its run evaluated in.

    trust:  load a task of its own that only the run's folder names

    Raises UserError where something is missing or does not fit.
    """
    settings = {"num_envs": num_envs, "physics": physics, "device": device, "episode_length": episode_length}
    if env is not None and trust:
        raise ConfigError("trust is for the task that a run's folder names, and env names one; leave one of them out")
    if env is not None and not lacking(env, WHOLE):
        for name, value in settings.items():
            if value not in (None, "auto", "cpu"):
                raise ConfigError(
                    f"{name} is {value!r}, but env is an environment and has its own; leave one of them out"
                )
        policy = _policy_of(run_or_policy, deterministic, checkpoint, env.device)
        name = env.name
    else:
        policy = _policy_of(run_or_policy, deterministic, checkpoint, resolve_device(device))
        source, name, of_run = _source_and_settings(policy, env, trust)
        given = {name: value for name, value in settings.items() if value is not None}
        settings = {"num_envs": default_num_envs, "seed": seed, **of_run, **given}
        env, _ = env_and_generator(source, "eval_env", settings)
    return Acting(name, env, _act_of(policy, name, env, make_generators(seed, env.device)["eval"]))


def _policy_of(
    given: RunOrPolicy, deterministic: bool, checkpoint: str, device: torch.device
) -> SavedPolicy | Callable[[Any], Any]:
    if isinstance(given, (str, PathLike)):
        return load_policy(Path(given), checkpoint=checkpoint, deterministic=deterministic, device=device)
    if not callable(given):
        raise PolicyError(
            f"the policy is {type(given).__name__}, but must be a run folder, a file, a policy of load_policy, or a "
            "function from observations to actions"
        )
    if not deterministic:
        raise PolicyError(
            "deterministic = False is for a run folder or a checkpoint, for a policy is what it is; "
            "load_policy(path, deterministic=False) would give one that samples"
        )
    return given


def _source_and_settings(policy: object, env: object | None, trust: bool) -> tuple[Source, str, dict[str, Any]]:
    """The source of envs that is meant, what it is called, and the settings of the policy's run that hold for it."""
    config = policy.config if isinstance(policy, SavedPolicy) else None
    if env is not None:
        source = source_of(env, "env")
        name = canonical(env) if isinstance(env, str) else source.name
        if config is None:
            return source, name, {}
        if isinstance(env, str) and same_task(env, config.env):
            return source, name, _episodes_of(config)
        return source, name, {"action_repeat": config.action_repeat, **seen_and_done(config)}
    if config is None or not config.env:
        raise ConfigError('the task is not known; env="cartpole", say, or a task of your own, would name it')
    place, notes = locate_task(policy.run_folder, config.env, trusted=trust, remedy='env="{name}"')
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return source_of(place), canonical(place), _episodes_of(config)


def same_task(name: str, of_run: str) -> bool:
    """Whether a name means the task that a run was in; a file of one's own may have moved since."""
    place, _, task = name.rpartition(":")
    before, _, task_before = of_run.rpartition(":")
    if place.endswith(".py") and before.endswith(".py"):
        return (Path(place).name, task) == (Path(before).name, task_before)
    return canonical(name) == canonical(of_run)


def _episodes_of(config: Config) -> dict[str, Any]:
    """The settings of a run that its evaluations have."""
    return {
        "episode_length": config.episode_length,
        "action_repeat": config.action_repeat,
        "randomize": config.randomize and config.randomize_eval,
        "max_state": config.max_state,
        **seen_and_done(config),
    }


def _act_of(policy: SavedPolicy | Callable[[Any], Any], name: str, env: Environment, generator: torch.Generator) -> Act:
    """What gives the actions of `policy` in `env`, a task called `name`; PolicyError at the first that does not fit."""
    saved = isinstance(policy, SavedPolicy)
    who, shape = policy.path if saved else "the policy", (env.num_envs, env.action_dim)
    if saved and policy.observation_sizes is not None:
        keys, sizes = policy.keys_in(env.observation), env.observation_sizes
        its_own = ({here: policy.observation_sizes[own] for own, here in keys.items()}, policy.actions)
        misfit = task_misfit(its_own, ({here: sizes[here] for here in keys.values()}, actions_of(env)), Path(name).name)
        if misfit:
            raise PolicyError(f"{policy.path} does not fit: {'; '.join(misfit)}")

    def act(observation: Observation) -> torch.Tensor:
        action = _saved_action(policy, observation, generator) if saved else policy(env.seen)
        if isinstance(action, tuple):  # as from the policies of `make_policy`: actions and extras
            action = action[0]
        action = torch.as_tensor(action, device=env.device)
        if env.choices and not saved and action.shape == shape[:1] == (shape[0] * shape[1],):
            action = action[:, None]  # one choice, as Gymnasium's Discrete has it
        if action.shape != shape:
            raise PolicyError(f"{who} does not fit {name}: its actions are {tuple(action.shape)}, but must be {shape}")
        return action.to(torch.float32) if env.choices is None else _chosen(action, env.choices, str(who), name)

    return act


def _chosen(action: torch.Tensor, choices: tuple[int, ...], who: str, name: str) -> torch.Tensor:
    """Indices as an env of discrete actions takes them; PolicyError for what is none."""
    whole = action.to(torch.int64)
    fits = whole.eq(action) & (whole >= 0) & (whole < torch.tensor(choices, device=action.device))
    if not fits.all():
        found = action[~fits][0].item()
        raise PolicyError(
            f"{who} does not fit {name}: an action of its is {found:g}, but must be an index from 0 of {actions_in_words(choices)}"
        )
    return whole


def _saved_action(policy: SavedPolicy, observation: Observation, generator: torch.Generator) -> torch.Tensor:
    if policy.observation_sizes is not None:
        return policy(observation, generator)
    try:
        return policy(observation, generator)
    except (RuntimeError, torch.jit.Error):  # an exported policy without contract does not say what it sees; it shows
        sizes = ", ".join(f"{value.shape[1]}" for value in observation.values())
        raise PolicyError(f"{policy.path} does not fit the task, which has an observation of {sizes}") from None
