"""Collecting: one batch of unrolls from the envs, into tensors that are allocated once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_ppo import distribution
from torch_ppo.agent import Agent, Observation
from torch_ppo.config import Config
from torch_ppo.env import Env
from torch_ppo.losses import LossInputs
from torch_ppo.noise import Noise


@dataclass(frozen=True)
class Batch:
    """All unrolls of one training step, time first: T = unroll_length, S = batch_size * num_minibatches.

    Sequence `unroll * num_envs + env` is one unroll of one env, as in Brax.

    observation:            before the action                               (T, S, obs_dim) per key
    bootstrap_observation:  after the last step and its reset               (S, obs_dim), the value's
    raw_action, loc, scale: of the policy that acted                        (T, S, action_dim)
    log_prob:               of raw_action                                   (T, S)
    reward:                 summed over action repeats, unscaled            (T, S)
    truncation:             1 where the time limit ended the episode        (T, S)
    termination:            1 where the task ended the episode              (T, S)
    value:                  under the policy that acted                     (T, S) or None
    time_out:               1 where the task reports a time-out             (T, S) or None
    episode_done:           truncation or termination                       (T, S) or None
    episode_metrics:        running totals of the episode                   (T, S) per name; may be empty
    """

    observation: dict[str, Tensor]
    bootstrap_observation: Observation
    raw_action: Tensor
    loc: Tensor
    scale: Tensor
    log_prob: Tensor
    reward: Tensor
    truncation: Tensor
    termination: Tensor
    value: Tensor | None
    time_out: Tensor | None
    episode_done: Tensor | None
    episode_metrics: dict[str, Tensor]

    def minibatch(self, sequences: Tensor) -> tuple[Observation, Observation, LossInputs]:
        """observation, bootstrap_observation and loss inputs of the given sequences, int64 `(B,)`."""

        def take(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.index_select(1, sequences)  # (T, B, ...)

        return (
            {key: take(x) for key, x in self.observation.items()},
            {key: x.index_select(0, sequences) for key, x in self.bootstrap_observation.items()},
            LossInputs(*(take(getattr(self, field)) for field in LossInputs._fields)),
        )


def allocate_batch(config: Config, env: Env, agent: Agent) -> Batch:
    """An empty batch for this env and agent, on the env's device."""
    shape = (config.unroll_length, config.num_unrolls)

    def empty(*trailing: int) -> Tensor:
        return torch.empty(*shape, *trailing, device=env.device)

    sizes = env.observation_sizes
    return Batch(
        observation={key: empty(sizes[key]) for key in agent.normalizer},
        bootstrap_observation={
            agent.value_obs_key: torch.empty(config.num_unrolls, sizes[agent.value_obs_key], device=env.device)
        },
        raw_action=empty(env.action_dim),
        loc=empty(env.action_dim),
        scale=empty(env.action_dim),
        log_prob=empty(),
        reward=empty(),
        truncation=empty(),
        termination=empty(),
        value=empty() if config.stores_value else None,
        time_out=empty() if config.bootstrap_on_timeout else None,
        episode_done=empty() if config.log_training_metrics else None,
        episode_metrics={name: empty() for name in env.episode_metrics} if config.log_training_metrics else {},
    )


@torch.no_grad()
def collect(env: Env, agent: Agent, batch: Batch, noise: Noise) -> None:
    """Fills `batch` with consecutive unrolls of every env. Normalizer and networks stay as they are."""
    for first in range(0, batch.reward.shape[1], env.num_envs):
        collect_unroll(env, agent, batch, slice(first, first + env.num_envs), noise)


def collect_unroll(env: Env, agent: Agent, batch: Batch, rows: slice, noise: Noise) -> None:
    """One unroll of every env, into the sequences `rows` of the batch."""
    for t in range(batch.reward.shape[0]):
        for key, stored in batch.observation.items():
            stored[t, rows] = env.observation[key]
        loc, scale = agent.policy_params(env.observation)
        raw_action = distribution.sample_raw(loc, scale, noise.normal(*loc.shape))
        env.step(agent.bijector.forward(raw_action))
        batch.loc[t, rows] = loc
        batch.scale[t, rows] = scale
        batch.raw_action[t, rows] = raw_action
        batch.reward[t, rows] = env.reward
        batch.truncation[t, rows] = env.truncation
        batch.termination[t, rows] = env.termination
        if batch.time_out is not None:
            batch.time_out[t, rows] = env.time_out
        if batch.episode_done is not None:
            batch.episode_done[t, rows] = env.done
            for name, stored in batch.episode_metrics.items():
                stored[t, rows] = env.episode_metrics[name]
    for key, stored in batch.bootstrap_observation.items():
        stored[rows] = env.observation[key]
    # The agent has not changed meanwhile: once per unroll is the same as once per step, and cheaper.
    batch.log_prob[:, rows] = distribution.log_prob(
        batch.loc[:, rows], batch.scale[:, rows], batch.raw_action[:, rows], agent.bijector
    )
    if batch.value is not None:
        batch.value[:, rows] = agent.values({key: x[:, rows] for key, x in batch.observation.items()})
