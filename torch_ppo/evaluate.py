"""Evaluation: the first episode of each eval env, as in Brax's Evaluator."""

import time

import torch
from torch import Tensor

from torch_ppo.agent import Agent
from torch_ppo.env import Env
from torch_ppo.noise import Noise


class Evaluator:
    """Runs one episode per env of `env` with the agent's current policy.

    walltime:  seconds spent in evaluations so far
    """

    def __init__(self, env: Env, agent: Agent, noise: Noise, *, deterministic: bool) -> None:
        self.env, self.agent, self.noise, self.deterministic = env, agent, noise, deterministic
        self.walltime = 0.0

    @torch.no_grad()
    def run_episodes(self) -> tuple[dict[str, Tensor], Tensor]:
        """Sums over the episode of the reward and each metric, and its length in env steps; each `(num_envs,)`.

        Envs go on until the time limit, whether or not their first episode has ended: no host read inside.
        """
        env = self.env
        env.reset()
        active = torch.ones_like(env.reward)
        lengths = torch.zeros_like(env.steps)
        sums = {name: torch.zeros_like(env.reward) for name in ("reward", *env.metrics)}
        for _ in range(env.episode_length // env.action_repeat):
            if self.deterministic:
                action = self.agent.mode(env.observation)
            else:
                noise = self.noise.normal(env.num_envs, env.action_dim)
                action = self.agent.sample(env.observation, noise)
            env.step(action)
            for name, total in sums.items():
                total.addcmul_(env.reward if name == "reward" else env.metrics[name], active)
            lengths = torch.where(active.bool(), env.steps, lengths)
            active *= 1.0 - env.done
        return sums, lengths

    def __call__(self) -> dict[str, float]:
        """`eval/*` metrics: means and population standard deviations over the episodes."""
        started = time.perf_counter()
        sums, lengths = self.run_episodes()
        lengths = lengths.to(torch.float32)
        rows = {}
        for name, total in sums.items():
            rows[f"episode_{name}"] = total / lengths.clamp(min=1.0) if name.endswith("per_step") else total
        rows["episode_length"] = lengths
        std, mean = torch.std_mean(torch.stack(list(rows.values())), dim=1, correction=0)
        values = torch.stack([mean, std], dim=1).tolist()  # the one host read
        seconds = time.perf_counter() - started
        self.walltime += seconds
        metrics = {}
        for name, (mean, std) in zip(rows, values, strict=True):
            if name == "episode_length":
                metrics |= {"eval/avg_episode_length": mean, "eval/std_episode_length": std}
            else:
                metrics |= {f"eval/{name}": mean, f"eval/{name}_std": std}
        metrics["eval/epoch_eval_time"] = seconds
        metrics["eval/sps"] = self.env.episode_length * self.env.num_envs / seconds
        metrics["eval/walltime"] = self.walltime
        return metrics
