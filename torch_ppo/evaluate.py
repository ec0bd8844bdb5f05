"""Evaluation: how good a policy is, by the library call `torch_ppo.evaluate(...)`, and the program.

python -m torch_ppo.evaluate runs/cartpole-...
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from torch_ppo.callable_module import make_callable
from torch_ppo.command import called, reader_may_leave
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.running.acting import Engine, RunOrPolicy, find_acting
from torch_ppo.running.evaluate import Evaluator
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.physics import overflow_in_words
from torch_ppo.simulation.task import Task

__all__ = ["Evaluation", "evaluate"]

MAX_ENVS = 256  # stepped together where `num_envs` does not say


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What a number of whole episodes came to; prints as one line. Tensors are on the CPU.

    env:      name of the task
    returns:  sum of the rewards                                             (episodes,)
    lengths:  in env steps                                                   (episodes,) int32
    metrics:  the task's, by name: means of a "...per_step", else sums       (episodes,) per name
    success:  whether the task was achieved at the end; None where the task
              does not say                                                   (episodes,) bool
    """

    env: str
    returns: Tensor
    lengths: Tensor
    metrics: dict[str, Tensor]
    success: Tensor | None = None

    @property
    def mean(self) -> float:
        """Mean return; `eval/episode_reward` of a run."""
        return self.returns.mean().item()

    @property
    def std(self) -> float:
        """Standard deviation of the returns (population); `eval/episode_reward_std` of a run."""
        return self.returns.std(correction=0).item()

    @property
    def standard_error(self) -> float:
        """How far off the mean may be: sample standard deviation over the root of the number; NaN for one episode."""
        n = len(self.returns)
        return self.std / math.sqrt(n - 1) if n > 1 else math.nan

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes that were a success; `eval/success_rate` of a run. None where the task does not say."""
        return None if self.success is None else self.success.float().mean().item()

    def __repr__(self) -> str:
        n, length = len(self.returns), self.lengths.to(torch.float32).mean().item()
        success = "" if self.success is None else f", success {self.success_rate:.0%}"
        error = f"{self.standard_error:.2g}" if n > 1 else "-"
        digits = 1 if abs(self.mean) >= 10 else 3
        return (
            f"{self.env}: return {self.mean:.{digits}f} ± {self.std:.{digits}f} "
            f"(standard error {error}), "
            f"length {length:.0f}{success}, {n} episode{'s' * (n != 1)}"
        )


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
) -> Evaluation:
    """Plays whole episodes and returns how they went.

    run_or_policy:   a run folder, a checkpoint, an exported file, a policy of `load_policy`, or any function from what
                     `Env.step` returns as observation to actions (num_envs, action_dim)
    env:             a task, the name of one, or an `Env`, which is reset; by default the task that the run was in, with
                     its episode length, action repeat and, unless `randomize_eval` is false, domain randomisation
    episodes:        how many
    num_envs:        episodes at a time; by default all, up to 256
    seed:            of start states and sampled actions; those of a run's own first evaluation with that seed
    deterministic:   most likely actions; False samples them, as a run's own evaluations do by default
    checkpoint:      which one of a run folder
    physics:         mujoco, warp, or auto: Warp on CUDA, else C MuJoCo
    device:          cpu, cuda, or auto
    episode_length:  time limit in env steps

    The first episode of each env counts and no other: those that end early would otherwise come up more often.
    Raises UserError for what cannot be played.
    """
    if not isinstance(episodes, int) or episodes < 1:
        raise ConfigError(f"episodes is {episodes!r}, but must be an int greater than 0; 100 would work")
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


@dataclass(frozen=True)
class EvaluateArguments:
    """Play whole episodes with a policy, and print how they went."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint, or exported policy."""
    env: str | None = None
    """Task; by default the run's."""
    episodes: int = 100
    """How many whole episodes."""
    num_envs: int | None = None
    """Episodes at a time; by default all, up to 256."""
    seed: int = 0
    """Seed of start states and of sampled actions."""
    stochastic: bool = False
    """Sample actions, as in training, instead of taking the most likely ones."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of a run folder."""
    physics: Engine = "auto"
    """MuJoCo Warp or C MuJoCo; auto takes Warp on CUDA and C MuJoCo on the CPU."""
    device: str = "cpu"
    """cpu, cuda, or auto, which takes CUDA where there is one."""
    episode_length: int | None = None
    """Time limit in env steps; by default the run's."""


def main() -> None:
    """The program `python -m torch_ppo.evaluate`."""
    with reader_may_leave(), user_errors():
        arguments = tyro.cli(EvaluateArguments, prog=called("evaluate"))
        options = dict(vars(arguments))
        result = evaluate(options.pop("run"), deterministic=not options.pop("stochastic"), **options)
        print(result)
        width = max(map(len, result.metrics), default=0)
        for name, values in result.metrics.items():
            print(f"  {name:<{width}}  {values.mean().item():.4g} ± {values.std(correction=0).item():.3g}")


make_callable(__name__)

if __name__ == "__main__":
    main()
