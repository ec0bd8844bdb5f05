"""What happens when a policy acts, step by step, as tensors: the library call `torch_ppo.rollout(...)`."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from torch_ppo.errors import ConfigError
from torch_ppo.running.acting import Acting, Engine, RunOrPolicy, find_acting
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Task


@dataclass(frozen=True, repr=False, eq=False)
class Rollout:
    """`steps` policy steps of `num_envs` envs: time is the first axis, the env the second. Tensors are on the CPU.

    Row t has the state of the simulation and what the policy saw of it, what it then did, and what came of that; row
    t + 1 is the state that was reached, or, where `done`, the start of the next episode.

    name:              of the task
    task:              the task
    seconds_per_step:  of the simulation
    observations:      as the task returns them, a tensor or a dict       (steps, num_envs, obs_dim) (per key)
    actions:                                                              (steps, num_envs, action_dim)
    rewards:           summed over action repeats                         (steps, num_envs)
    done:              whether the step ended an episode                  (steps, num_envs) bool
    truncation:        whether only the time limit did                    (steps, num_envs) bool
    termination:       whether the task did                               (steps, num_envs) bool
    qpos, qvel:        before the step                                    (steps, num_envs, nq) and (..., nv)
    time:              before the step, in s                              (steps, num_envs)
    success:           whether the step ended an episode as a success, or
                       None where the task does not say                        (steps, num_envs) bool
    metrics:           the task's, of this step                           (steps, num_envs) per name
    mocap_pos:         before the step, of the model's mocap bodies       (steps, num_envs, nmocap, 3)
    mocap_quat:        likewise                                           (steps, num_envs, nmocap, 4)
    markers:           what `Task.markers` would have drawn, or None      (steps, num_envs, n, 4)
    """

    name: str
    task: Task
    seconds_per_step: float
    observations: Any
    actions: Tensor
    rewards: Tensor
    done: Tensor
    truncation: Tensor
    termination: Tensor
    qpos: Tensor
    qvel: Tensor
    time: Tensor
    success: Tensor | None
    metrics: dict[str, Tensor]
    mocap_pos: Tensor
    mocap_quat: Tensor
    markers: Tensor | None

    @property
    def first_episode(self) -> Tensor:
        """Which steps are of the first episode of their env, bool `(steps, num_envs)`."""
        return self.done.cumsum(0) - self.done.int() == 0

    @property
    def returns(self) -> Tensor:
        """Sum of the rewards of the first episode, or of what there is of it, `(num_envs,)`."""
        return (self.rewards * self.first_episode).sum(0)

    def __repr__(self) -> str:
        steps, num_envs = self.rewards.shape
        return (
            f"{self.name}: {steps} steps of {num_envs} env{'s' * (num_envs != 1)} "
            f"({steps * self.seconds_per_step:.1f} s), return {self.returns.mean():.1f}"
        )


@torch.no_grad()
def rollout(
    run_or_policy: RunOrPolicy,
    env: Env | Task | str | None = None,
    *,
    steps: int | None = None,
    num_envs: int | None = None,
    seed: int = 0,
    deterministic: bool = True,
    checkpoint: Literal["best", "last"] = "best",
    physics: Engine = "auto",
    device: str = "cpu",
    episode_length: int | None = None,
    trust: bool = False,
) -> Rollout:
    """Lets a policy act and returns all that happened.

    steps:     policy steps to take; by default until the first episode of every env has ended
    num_envs:  envs side by side; by default 1

    A finished env restarts as its `auto_reset` says, by default from its own first state. The other arguments are those
    of `evaluate`. Raises UserError for what cannot be played.
    """
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ConfigError(f"steps is {steps!r}, but must be an int greater than 0, or None for whole episodes")
    acting = find_acting(
        run_or_policy,
        env,
        num_envs=num_envs,
        default_num_envs=1,
        seed=seed,
        deterministic=deterministic,
        checkpoint=checkpoint,
        physics=physics,
        device=device,
        episode_length=episode_length,
        trust=trust,
    )
    env = acting.env
    if env.physics is None:
        raise ConfigError(
            f"a rollout has the states of our own simulation, which {acting.name} is not in; torch_ppo.evaluate plays it"
        )
    env.reset()
    ended, rows = env.done.bool().cpu(), []
    while len(rows) < steps if steps is not None else not ended.all():
        rows.append(_step(acting))
        ended |= rows[-1]["done"]
    seconds = env.task.control_dt * env.action_repeat
    return Rollout(acting.name, env.task, seconds, **_stacked(rows))


def _step(acting: Acting) -> dict[str, Any]:
    """One policy step: copies of what is there before it and after it, by the fields of `Rollout`."""
    env = acting.env
    state = {name: getattr(env.physics, name) for name in ("qpos", "qvel", "time", "mocap_pos", "mocap_quat")}
    before = _copied({"observations": env.seen, "markers": env.task.markers(env.physics, env.memory), **state})
    action = acting.act(env.observation)
    before["actions"] = _copied(action)  # it may be a piece of the observation, which the step overwrites
    env.step(action)
    ends = {name: getattr(env, name).bool() for name in ("done", "truncation", "termination")}
    ends["success"] = None if env.success is None else env.success.bool()
    return before | _copied({"rewards": env.reward, "metrics": env.metrics, **ends})


def _copied(tree: Any) -> Any:
    """A nest of dicts with copies of its tensors, on the CPU."""
    if isinstance(tree, dict):
        return {name: _copied(part) for name, part in tree.items()}
    return None if tree is None else tree.cpu().clone()


def _stacked(rows: list[Any]) -> Any:
    """Nests of the same structure as one, with a new first axis."""
    if isinstance(rows[0], dict):
        return {name: _stacked([row[name] for row in rows]) for name in rows[0]}
    return None if rows[0] is None else torch.stack(rows)
