"""Evaluation: how good a policy is, by the library call `torch_ppo.evaluate(...)`, and the program.

python -m torch_ppo.evaluate runs/cartpole-...
"""

import math
import sys
import textwrap
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from torch_ppo.callable_module import make_callable
from torch_ppo.command import columns, reader_may_leave
from torch_ppo.environments.finding import simulated_task
from torch_ppo.envs import canonical_name
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.exporting.contract import Contract, Known, make_contract
from torch_ppo.exporting.deployed import deployed
from torch_ppo.exporting.reading import Act, check_acting, format_of, read
from torch_ppo.exporting.sim_to_sim import Perturbation, Player, perturbations
from torch_ppo.running.acting import Engine, RunOrPolicy, find_acting
from torch_ppo.running.checkpoint import agent_from_checkpoint, config_of, find_checkpoint, load_checkpoint
from torch_ppo.running.environment import UntrustedError, locate_task
from torch_ppo.running.evaluate import Evaluator
from torch_ppo.running.evaluation import Evaluation, error_in_words
from torch_ppo.running.pretrained import find_policy
from torch_ppo.running.terminal import is_terminal
from torch_ppo.settings.command_line import read_command_line, refuse_idle
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.physics import overflow_in_words
from torch_ppo.simulation.task import Task

__all__ = ["Evaluation", "evaluate"]

MAX_ENVS = 256  # stepped together where `num_envs` does not say
MAX_EPISODES = 1_000_000  # whose returns are kept
LEAST_NAME = 13  # characters of a perturbation in a narrow terminal: friction 0.75
NO_BREAK = "\u00a0"


@torch.no_grad()
def evaluate(
    run_or_policy: RunOrPolicy,
    env: Env | Task | str | None = None,
    *,
    episodes: int = 100,
    num_envs: int | None = None,
    seed: int = 0,
    deterministic: bool = True,
    checkpoint: Literal["best", "last"] = "best",
    physics: Engine = "auto",
    device: str = "cpu",
    episode_length: int | None = None,
    trust: bool = False,
) -> Evaluation:
    """Plays whole episodes and returns how they went.

    run_or_policy:   a run folder, a checkpoint, an exported file, a policy of `load_policy`, or any function from what
                     `Env.step` returns as observation to actions (num_envs, action_dim)
    env:             a task, the name of one, or an `Env`, which is reset; by default the task that the run was in. In
                     that, named or not, it has the run's episode length, action repeat and, unless `randomize_eval` is
                     false, domain randomisation
    episodes:        how many
    num_envs:        episodes at a time; by default all, up to 256
    seed:            of start states and sampled actions; those of a run's own first evaluation with that seed
    deterministic:   most likely actions; False samples them, as a run's own evaluations do by default
    checkpoint:      which one of a run folder
    physics:         warp, or auto: Warp on CUDA, else C MuJoCo; mujoco with a file and without num_envs is sim-to-sim,
                     one world of plain C MuJoCo by the policy's contract alone
    device:          cpu, cuda, or auto
    episode_length:  time limit in env steps
    trust:           run the code of a task of its own that only the run's folder names

    The first episode of each env counts and no other: those that end early would otherwise come up more often.
    Raises UserError for what cannot be played.
    """
    if isinstance(episodes, int) and episodes > MAX_EPISODES:
        raise ConfigError(f"episodes is {episodes}, but must be {MAX_EPISODES:,} at most; 100 would work")
    if not isinstance(episodes, int) or episodes < 1:
        raise ConfigError(f"episodes is {episodes!r}, but must be an int greater than 0; 100 would work")
    alone = physics == "mujoco" and num_envs is None and device == "cpu"
    if alone and isinstance(run_or_policy, str | PathLike) and not isinstance(env, Env):
        options = {"episodes": episodes, "seed": seed, "deterministic": deterministic, "checkpoint": checkpoint}
        return sim_to_sim(Path(run_or_policy), env, episode_length=episode_length, trust=trust, **options)
    acting = find_acting(
        run_or_policy,
        env,
        num_envs=num_envs,
        default_num_envs=min(episodes, MAX_ENVS),
        seed=seed,
        deterministic=deterministic,
        checkpoint=checkpoint,
        physics=physics,
        device=device,
        episode_length=episode_length,
        trust=trust,
    )
    if acting.env.random_episode_phase:
        raise ConfigError(
            "the Env has random_episode_phase, so its first episodes are not whole; one without would work"
        )
    evaluator = Evaluator(acting.env, acting.act)
    lengths, totals, successes = [], [], []
    for _ in range(math.ceil(episodes / acting.env.num_envs)):
        evaluator.start()
        while evaluator.active.any():
            evaluator.advance()
        lengths.append(evaluator.lengths.cpu().clone())  # the next round counts in the same tensor
        if evaluator.success is not None:
            successes.append(evaluator.success.cpu().bool())
        totals.append({name: total.cpu().clone() for name, total in evaluator.totals().items()})
    if overflowed := evaluator.overflowed_envs():
        warnings.warn(overflow_in_words(overflowed, "envs"), stacklevel=2)
    metrics = {name: torch.cat([total[name] for total in totals])[:episodes] for name in totals[0]}
    success = torch.cat(successes)[:episodes] if successes else None
    return Evaluation(acting.name, metrics.pop("reward"), torch.cat(lengths)[:episodes], metrics, success)


def sim_to_sim(
    path: Path,
    env: Task | str | None,
    *,
    episodes: int,
    seed: int,
    deterministic: bool,
    checkpoint: str,
    episode_length: int | None,
    perturbation: Perturbation | None = None,
    trust: bool = False,
) -> Evaluation:
    """`evaluate` in one world of plain C MuJoCo, by the policy's contract alone; see `exporting.sim_to_sim`."""
    if env is not None and trust:
        raise ConfigError("trust is for the task that a run's folder names, and env names one; leave one of them out")
    act, contract, task = _with_contract(path, checkpoint, deterministic, env, trust)
    if task is None:
        raise ConfigError("the task is not known; --env names it")
    name = canonical_name(task) if isinstance(task, str) else type(task).__name__
    task = simulated_task(task) if isinstance(task, str) else task
    player = Player(
        act, contract, task, seed=seed, episode_length=episode_length, perturbation=perturbation or Perturbation()
    )
    played = [player.episode() for _ in range(episodes)]
    metrics = {key: torch.tensor([episode.metrics[key] for episode in played]) for key in played[0].metrics}
    returns, lengths = (torch.tensor([episode[i] for episode in played]) for i in (0, 1))
    told = [episode.success for episode in played]
    success = None if None in told else torch.tensor(told)
    return Evaluation(name, returns, lengths.int(), metrics, success)


def _with_contract(
    path: Path, checkpoint: str, deterministic: bool, env: Task | str | None, trust: bool
) -> tuple[Act, Contract, Task | str | None]:
    """What acts, its contract, and the task: `env`, or what an exported file, a run folder or a checkpoint names."""
    path = find_policy(path)
    if format_of(path) is not None:
        act, contract = read(path)
        contract = check_acting(act, contract, path)
        if contract["action"]["deterministic"] != deterministic:
            raise ConfigError(
                f"{path} is {'' if deterministic else 'not '}stochastic; --stochastic says what is wanted"
            )
        name = contract["task"]["name"]
        return act, contract, env or (name if name and ":" not in name else None)
    source = find_checkpoint(path, checkpoint)
    saved = load_checkpoint(source)
    agent, config = agent_from_checkpoint(saved), config_of(saved)
    policy = deployed(agent, stochastic=not deterministic)
    contract = make_contract(agent, policy, Known(config, controls=saved.get("controls")))
    folder = source.parent.parent if source.parent.name == "checkpoints" else source.parent
    if env is None and config.env:
        env, _ = locate_task(folder, config.env, trusted=trust, remedy='env="{name}"')
    return policy, contract, env


@dataclass(frozen=True)
class EvaluateArguments:
    """Play whole episodes with a policy, and print how they went."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, checkpoint, exported policy, or a task that a policy comes along for, such as walker_walk."""
    env: str | None = None
    """Task; by default the run's."""
    trust: bool = False
    """Run the code of a task of its own that the run's folder names, without --env."""
    episodes: int = 100
    """How many whole episodes."""
    num_envs: int | None = None
    """Episodes at a time; by default all, up to 256."""
    seed: int = 0
    """Seed of start states and of sampled actions."""
    stochastic: bool = False
    """Sample actions, as in training, instead of taking the most likely ones."""
    checkpoint: Literal["best", "last"] | None = None
    """Which checkpoint of a run folder; by default best."""
    physics: Engine = "auto"
    """auto takes Warp on CUDA and C MuJoCo on the CPU; mujoco without num_envs is one world, by the contract alone."""
    device: str = "cpu"
    """cpu, cuda, or auto, which takes CUDA where there is one."""
    episode_length: int | None = None
    """Time limit in env steps; by default the run's."""
    perturb: str | None = None
    """How robust it is, as a table: friction=0.5..1.5,mass=0.8..1.2,delay=0..2,noise=0.05; in plain C MuJoCo."""


def _row(name: str, numbers: str, width: int) -> str:
    """A name in `width` characters and numbers beside it; a longer one goes on below, between two perturbations."""
    begun, *more = textwrap.wrap(", ".join(part.replace(" ", NO_BREAK) for part in name.split(", ")), width)
    return "\n".join([f"{begun:{width}}  {numbers}", *more]).replace(NO_BREAK, " ")


def print_robustness(arguments: EvaluateArguments, perturb: str) -> None:
    """A line on each perturbation as soon as it has been tried."""
    if arguments.num_envs is not None or arguments.physics == "warp" or arguments.device != "cpu":
        raise ConfigError("--perturb plays in one world of C MuJoCo; leave num_envs, physics and device out")
    tries = list(perturbations(perturb))
    heads = f"  {'return':>9}  {'± error':>8}  {'length':>7}  of the first"
    width = max(len(name) for name, _ in tries)
    if is_terminal(sys.stdout):  # there the names are folded, between two perturbations
        width = min(width, max(LEAST_NAME, columns(sys.stdout) - 1 - len(heads)))
    first = None
    for name, perturbation in tries:
        result = sim_to_sim(
            arguments.run,
            arguments.env,
            episodes=arguments.episodes,
            seed=arguments.seed,
            deterministic=not arguments.stochastic,
            checkpoint=arguments.checkpoint or "best",
            episode_length=arguments.episode_length,
            perturbation=perturbation,
            trust=arguments.trust,
        )
        if first is None:
            first = result.mean
            print(f"{'':{width}}{heads}")
        share = f"{result.mean / first:.0%}" if first > 0 else "-"
        length = result.lengths.float().mean().item()
        numbers = f"{result.mean:9.4g}  {error_in_words(result):>8}  {length:7.0f}  {share}"
        print(_row(name, numbers, width), flush=True)


def _print_warning(message: Warning | str, *_: object) -> None:
    """What the call warns of, as a line of the program."""
    text = str(message)
    print(text if text.startswith("note: ") else f"warning: {text}", file=sys.stderr)


def main() -> None:
    """The program `python -m torch_ppo.evaluate`."""
    with reader_may_leave(), user_errors(), warnings.catch_warnings():
        warnings.showwarning = _print_warning
        arguments = read_command_line(EvaluateArguments, "evaluate")
        if not arguments.run.is_dir():
            refuse_idle(arguments, "checkpoint", f"of {arguments.run}, which is no run folder but one policy")
        if arguments.env is not None:
            refuse_idle(arguments, "trust", "with --env, which names the task")
        options = {**vars(arguments), "checkpoint": arguments.checkpoint or "best"}
        perturb = options.pop("perturb")
        try:
            if perturb is not None:
                print_robustness(arguments, perturb)
                return
            result = evaluate(options.pop("run"), deterministic=not options.pop("stochastic"), **options)
        except UntrustedError as error:
            raise error.said_with("--trust") from None
        print(result)
        width = max(map(len, result.metrics), default=0)
        for name, values in result.metrics.items():
            print(f"  {name:<{width}}  {values.mean().item():.4g} ± {values.std(correction=0).item():.3g}")


make_callable(__name__)

if __name__ == "__main__":
    main()
