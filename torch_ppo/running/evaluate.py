"""Evaluation: the first episode of each eval env, as in Brax's Evaluator."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from torch_ppo.environments.contract import Environment
from torch_ppo.formulas.noise import Noise
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.simulation.task import Observation

# Policy steps that are recorded as one graph, at most.
MAX_STEPS_PER_CALL = 25


Act = Callable[[Observation], Tensor]


def act_of(agent: Agent, env: Environment, noise: Noise, *, deterministic: bool) -> Act:
    """The agent's most likely actions in `env`, or samples with `noise`."""
    if deterministic:
        return agent.mode
    return lambda observation: agent.sample(observation, agent.distribution.draw(noise, env.num_envs))


class EvaluationStopped(Exception):
    """The evaluation was given up, because `Evaluator.should_stop` said so."""


class Evaluator:
    """Runs one episode per env of `env` with the actions `(num_envs, action_dim)` that `act` gives for its observations.

    walltime:  seconds spent in evaluations so far
    sums:      of the reward and each metric over the first episode    (num_envs,) per name
    lengths:   env steps of the first episode                          (num_envs,) int32
    success:   whether the first episode was one, 1 or 0         (num_envs,) or None
    active:    1 until the first episode has ended                     (num_envs,)
    broken_before: worlds that broke in evaluations before this one
    """

    def __init__(self, env: Environment, act: Act, devices: Devices = ALONE) -> None:
        self.env, self.act, self.devices = env, act, devices
        self.walltime = 0.0
        self.sums = {name: torch.zeros_like(env.reward) for name in ("reward", *env.metrics)}
        self.lengths = torch.zeros_like(env.steps)
        self.success = None if env.success is None else torch.zeros_like(env.success)
        self.active = torch.ones_like(env.reward)
        self.num_policy_steps = env.episode_length // env.action_repeat
        fits = range(1, min(MAX_STEPS_PER_CALL, self.num_policy_steps) + 1)
        self.steps_per_call = max(n for n in fits if self.num_policy_steps % n == 0)
        self.broken_before = 0
        self.should_stop: Callable[[], bool] = lambda: False

    @torch.no_grad()
    def advance(self) -> None:
        """`steps_per_call` policy steps, on tensors that stay where they are."""
        env = self.env
        for _ in range(self.steps_per_call):
            env.step(self.act(env.observation))
            for name, total in self.sums.items():
                total.addcmul_(env.reward if name == "reward" else env.metrics[name], self.active)
            torch.where(self.active.bool(), env.steps, self.lengths, out=self.lengths)
            if self.success is not None:
                torch.where(self.active.bool(), env.success, self.success, out=self.success)
            self.active *= 1.0 - env.done

    def start(self) -> None:
        """A new episode in every env, of which nothing has been counted yet."""
        self.env.reset()
        self.active.fill_(1.0)
        self.lengths.zero_()
        if self.success is not None:
            self.success.zero_()
        for total in self.sums.values():
            total.zero_()

    def totals(self) -> dict[str, Tensor]:
        """Of each first episode the reward and the metrics, `(num_envs,)` per name: means of a "...per_step", else sums."""
        lengths = self.lengths.to(torch.float32).clamp(min=1.0)
        return {name: total / lengths if name.endswith("per_step") else total for name, total in self.sums.items()}

    def overflowed_envs(self) -> int:
        """How many envs have exceeded a buffer of MuJoCo Warp so far. Reads from the device."""
        return int(self.env.overflowed)

    def run_episodes(self) -> tuple[dict[str, Tensor], Tensor]:
        """Sums over the episode of the reward and each metric, and its length in env steps; each `(num_envs,)`.

        Raises EvaluationStopped if `should_stop`, asked after every `steps_per_call` steps, says so.
        Envs go on until the time limit, whether or not their first episode has ended: no host read inside.
        """
        self.start()
        for _ in range(self.num_policy_steps // self.steps_per_call):
            self.advance()
            if self.devices.any(self.should_stop()):
                raise EvaluationStopped
        if self.success is not None:  # of episodes that action repeats have kept from their time limit, too
            now = self.env.success_now()
            torch.where(self.active.bool(), now.float(), self.success, out=self.success)
        return self.sums, self.lengths

    def __call__(self) -> dict[str, float]:
        """`eval/*` metrics: means and population standard deviations over the episodes."""
        started = time.perf_counter()
        _, lengths = self.run_episodes()
        rows = {f"episode_{name}": total for name, total in self.totals().items()}
        rows["episode_length"] = lengths.to(torch.float32)
        if self.success is not None:
            rows["success_rate"] = self.success
        episodes = self.devices.gathered(torch.stack(list(rows.values()), dim=1))  # (num_envs of all, rows)
        std, mean = torch.std_mean(episodes, dim=0, correction=0)
        values = torch.stack([mean, std], dim=1).tolist()  # the one host read
        seconds = time.perf_counter() - started
        self.walltime += seconds
        metrics = {}
        for name, (mean, std) in zip(rows, values, strict=True):
            if name == "episode_length":
                metrics |= {"eval/avg_episode_length": mean, "eval/std_episode_length": std}
            elif name == "success_rate":
                metrics["eval/success_rate"] = mean
            else:
                metrics |= {f"eval/{name}": mean, f"eval/{name}_std": std}
        broken = self.devices.total(int(self.env.broken.total))
        if broken > self.broken_before:
            metrics["eval/broken_envs"] = float(broken - self.broken_before)
        self.broken_before = broken
        overflowed = self.devices.total(self.overflowed_envs())
        if overflowed:
            metrics["eval/overflowed_envs"] = float(overflowed)
        metrics["eval/epoch_eval_time"] = seconds
        metrics["eval/sps"] = self.env.episode_length * len(episodes) / seconds
        metrics["eval/walltime"] = self.walltime
        return metrics
