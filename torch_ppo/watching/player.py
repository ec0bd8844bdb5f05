"""A policy in its task, step by step."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from torch_ppo.command import called
from torch_ppo.environments.finding import library_of, runs_own_code, source_of
from torch_ppo.environments.sources import seen_and_done
from torch_ppo.envs import ENVS, canonical_name, make_task
from torch_ppo.errors import ConfigError, UserError
from torch_ppo.exporting.reading import format_of
from torch_ppo.running.acting import same_task
from torch_ppo.running.environment import locate_task, what_changed
from torch_ppo.running.fit import actions_in_words, task_misfit
from torch_ppo.running.pretrained import find_policy
from torch_ppo.running.saved_policy import SavedPolicy, load_policy
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Observation
from torch_ppo.watching.arguments import PlayArguments

MOST_WORLDS = 36

Act = Callable[[Observation], Tensor]


class PlayError(UserError):
    """A policy that cannot be played."""


@dataclasses.dataclass
class Played:
    """What is played.

    name:    of the task
    act:     what acts in it
    env:     the task with the settings of a run that matter here
    policy:  the policy that `act` is of, if it is a saved one
    load:    loads another policy of the same run, or the task's own kind, to be `taken`
    """

    name: str
    act: Act
    env: Env
    policy: SavedPolicy | None = None
    load: Callable[[Path], SavedPolicy] = load_policy
    generator: torch.Generator | None = None

    def take(self, policy: SavedPolicy) -> None:
        """Lets another policy act from now on; PlayError if it does not fit."""
        check_fit(policy, self.name, self.env)
        self.policy, self.act = policy, lambda observation: policy(observation, self.generator)


def find_played(run: Path) -> Path:
    """What is to be played: for a task the policy that comes along for it. PlayError where there is none."""
    try:
        return find_policy(run)
    except UserError as error:
        is_task = canonical_name(str(run)) in ENVS or runs_own_code(str(run))
        without = f"; --env {run} --policy random plays without one" if is_task else ""
        raise PlayError(f"{error}{without}") from None


def make_player(arguments: PlayArguments) -> Played:
    """The task and policy that the arguments name; UserError where they do not fit."""
    if not 0 <= arguments.seed < 2**63:
        raise PlayError(f"--seed is {arguments.seed}, but must be 0 or greater, and less than 2**63")
    generator = torch.Generator().manual_seed(arguments.seed)
    if arguments.run is not None and not arguments.follow:
        arguments = dataclasses.replace(arguments, run=find_played(arguments.run))
    _check_what_is_played(arguments)
    policy = config = None
    load = functools.partial(load_policy, deterministic=not arguments.stochastic)
    if arguments.run is not None:
        policy = load(arguments.run, checkpoint=arguments.checkpoint or ("last" if arguments.follow else "best"))
        config = policy.config
    name = canonical_name(arguments.env or (config.env if config else ""))
    if not name:
        raise PlayError("the task is not known; --env cartpole, say, would name it")
    place, notes = name, []
    if config is not None and not same_task(name, config.env):  # another task has its own episodes
        config = dataclasses.replace(config, episode_length=None, randomize=False)
    if arguments.env is None:
        place, notes = locate_task(policy.run_folder, name, trusted=arguments.trust)
    env = make_env(place, config, generator, arguments.physics, arguments.worlds)
    if arguments.env is None:
        notes += what_changed(policy.run_folder, source_of(env.task))
    for note in notes:
        print(note)
    if policy is None:
        return Played(name, simple_policy(arguments.policy, env.action_dim, generator), env)
    played = Played(name, simple_policy("zero", env.action_dim, generator), env, load=load, generator=generator)
    played.take(policy)
    return played


def _check_what_is_played(arguments: PlayArguments) -> None:
    if (arguments.run is None) == (arguments.policy is None):
        raise PlayError("say what to play: a run folder, checkpoint or policy.pt, or --env cartpole --policy random")
    if arguments.stochastic and (arguments.run is None or format_of(arguments.run) is not None):
        raise PlayError(
            "--stochastic needs a run folder or a checkpoint; an exported policy has the most likely actions"
        )
    if arguments.follow and (arguments.run is None or not arguments.run.is_dir()):
        there = "" if arguments.run is None or arguments.run.exists() else f", and there is no {arguments.run} yet"
        raise PlayError(f"--follow needs the folder of a run, whose new checkpoints it plays{there}")


def check_fit(policy: SavedPolicy, name: str, env: Env) -> None:
    """PlayError if the policy was not made for observations and actions as in `env`."""
    if policy.observation_sizes is not None:
        saved, sizes = (policy.observation_sizes, policy.actions), env.observation_sizes
        if policy.contract is not None:  # a file knows nothing of what the value network saw
            sizes = {own: sizes[key] for own, key in policy.keys_in(env.observation).items()}
        misfit = task_misfit(saved, (sizes, env.action_dim), Path(name).name)
        if misfit:
            raise PlayError(f"{policy.path} does not fit: {'; '.join(misfit)}")
        return
    try:  # an exported policy does not say; it shows
        shape = tuple(policy(env.observation).shape)
    except RuntimeError:
        shape = None
    if shape != (env.num_envs, env.action_dim):
        raise PlayError(
            f"{policy.path} does not fit: {Path(name).name} has an observation of "
            f"{env.observation_sizes[policy.key_in(env.observation)]} and takes {actions_in_words(env.action_dim)}"
        )


def make_env(name: str, config: Config | None, generator: torch.Generator, engine: str, worlds: int = 1) -> Env:
    """Envs of a task, with the episodes of a run's configuration if there is one."""
    if not 1 <= worlds <= MOST_WORLDS:
        raise ConfigError(f"--worlds is {worlds}, but must be from 1 to {MOST_WORLDS}")
    if library_of(name) is not None:
        raise PlayError(f"{name} has no model here to make pictures of; {called('evaluate')} plays its episodes")
    task = make_task(name)
    return Env(
        task,
        worlds,
        episode_length=(config.episode_length if config else None) or task.episode_length,
        device=torch.device("cpu"),
        generator=generator,
        action_repeat=config.action_repeat if config else 1,
        auto_reset="random" if worlds > 1 else "cached",
        engine=engine,
        randomize_episode=config is not None and config.randomize and config.randomize_eval,
        **(seen_and_done(config) if config else {}),
    )


def simple_policy(kind: str, action_dim: int, generator: torch.Generator) -> Act:
    """Actions `(worlds, action_dim)` that are uniform in [-1, 1] ("random") or 0 ("zero")."""

    def act(observation: Observation) -> Tensor:
        worlds = len(next(iter(observation.values())))
        if kind == "zero":
            return torch.zeros(worlds, action_dim)
        return 2 * torch.rand(worlds, action_dim, generator=generator) - 1

    return act


def _print(text: str) -> None:
    print(text, flush=True)


@torch.no_grad()
def play(played: Played, steps: int | None, say: Callable[[str], None] = _print) -> Iterator[list[bool]]:
    """Plays, and says the return and length of each episode that ends; yields once per step, where one ended.

    `steps` None is without end.
    """
    env, taken = played.env, 0
    while steps is None or taken < steps:
        env.step(played.act(env.observation))
        taken += 1
        ended = env.done.bool().tolist()
        for world in itertools.compress(range(env.num_envs), ended):
            say(episode_in_words(env, world, why_ended(env, world)))
        if all(ended):
            env.reset()  # to other starts; by itself it would go back to those that there were
        yield ended
    for world in range(env.num_envs):
        if not ended[world]:
            say(episode_in_words(env, world, "not ended"))


def why_ended(env: Env, world: int) -> str:
    """Of an episode that has just ended."""
    cause = int(env.broken.cause[world])
    if cause:
        return f"ended because its {env.broken.causes[cause - 1]} went bad"
    return "ended by the task" if env.termination[world] else "ended by the time limit"


def episode_in_words(env: Env, world: int, how: str) -> str:
    """One line about the episode under way or just ended."""
    total, length = env.episode_metrics["sum_reward"][world].item(), env.episode_metrics["length"][world].item()
    which = f"world {world}: " if env.num_envs > 1 else ""
    if env.success is not None and env.done[world]:
        how += ", success" if env.success[world] else ", no success"
    return f"{which}return {total:.2f} in {length:.0f} env steps ({how})"
