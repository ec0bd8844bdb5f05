"""Collecting: one batch of unrolls from the envs, into tensors that are allocated once."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_ppo.formulas import distribution
from torch_ppo.formulas.losses import LossInputs
from torch_ppo.formulas.noise import Noise
from torch_ppo.learning.agent import Agent
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env
from torch_ppo.simulation.task import Observation


@dataclass(frozen=True)
class Batch:
    """All unrolls of one training step, time first: T = unroll_length, S = num_unrolls.

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
    episode_done:           1 where a whole episode ended                   (T, S) or None
    episode_metrics:        running totals of the episode                   (T, S) per name; may be empty
    discounted_return:      of the episode's rewards so far, this included  (T, S) or None
    final_value:            of the observation before any restart, under
                            the policy that acted                           (T, S) or None
    advantage, value_target: computed after collecting                      (T, S) or None
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
    discounted_return: Tensor | None = None
    final_value: Tensor | None = None
    advantage: Tensor | None = None
    value_target: Tensor | None = None

    def each_step(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `function` applied to every `(T, S, ...)` tensor; the bootstrap observation stays."""

        def apply(value: object) -> object:
            if isinstance(value, dict):
                return {name: function(x) for name, x in value.items()}
            return None if value is None else function(value)

        steps = (field.name for field in dataclasses.fields(self) if field.name != "bootstrap_observation")
        return dataclasses.replace(self, **{name: apply(getattr(self, name)) for name in steps})

    def store(self, record: "Batch", place: Tensor) -> None:
        """Copies a batch of fewer sequences, R, to the sequences from `place * R` on; `place` int64 `(1,)`."""

        def copy(target: Tensor, source: Tensor, axis: int) -> None:
            count = source.shape[axis]
            parts = target.unflatten(axis, (target.shape[axis] // count, count))
            parts.index_copy_(axis, place, source.unsqueeze(axis))

        for field in dataclasses.fields(self):
            axis = 0 if field.name == "bootstrap_observation" else 1
            target, source = getattr(self, field.name), getattr(record, field.name)
            if isinstance(target, dict):
                for name, x in target.items():
                    copy(x, source[name], axis)
            elif source is not None:
                copy(target, source, axis)

    def minibatch(self, sequences: Tensor) -> tuple[Observation, Observation, LossInputs]:
        """observation, bootstrap_observation and loss inputs of the given sequences, int64 `(B,)`."""

        def take(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.index_select(1, sequences)  # (T, B, ...)

        return (
            {key: take(x) for key, x in self.observation.items()},
            {key: x.index_select(0, sequences) for key, x in self.bootstrap_observation.items()},
            LossInputs(*(take(getattr(self, field)) for field in LossInputs._fields)),
        )

    def minibatch_of_transitions(self, transitions: Tensor) -> tuple[Observation, Observation, LossInputs]:
        """observation and loss inputs of single steps, int64 `(n,)`, each step * S + sequence; nothing to bootstrap."""

        def take(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.flatten(0, 1).index_select(0, transitions)  # (n, ...)

        return (
            {key: take(x) for key, x in self.observation.items()},
            {},
            LossInputs(*(take(getattr(self, field)) for field in LossInputs._fields)),
        )


def allocate_batch(config: Config, env: Env, agent: Agent, num_sequences: int | None = None) -> Batch:
    """An empty batch for this env and agent, on the env's device; by default that of a whole training step."""
    whole = num_sequences is None
    num_sequences = config.num_unrolls if whole else num_sequences
    shape = (config.unroll_length, num_sequences)

    def empty(*trailing: int) -> Tensor:
        return torch.empty(*shape, *trailing, device=env.device)

    sizes = env.observation_sizes
    return Batch(
        observation={key: empty(sizes[key]) for key in agent.normalizer},
        bootstrap_observation={
            agent.value_obs_key: torch.empty(num_sequences, sizes[agent.value_obs_key], device=env.device)
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
        discounted_return=empty() if config.normalize_rewards else None,
        final_value=empty() if config.bootstrap_on_truncation else None,
        advantage=empty() if whole and config.gae_per == "batch" else None,
        value_target=empty() if whole and config.gae_per == "batch" else None,
    )


def act(agent: Agent, observation: Observation, noise: Tensor, row: Batch) -> Tensor:
    """Action `(num_envs, action_dim)`; what led to it goes into `row`, one time step of a batch."""
    loc, scale = agent.policy_params(observation)
    raw_action = distribution.sample_raw(loc, scale, noise)
    for key, stored in row.observation.items():
        stored.copy_(observation[key])
    row.loc.copy_(loc)
    row.scale.copy_(scale)
    row.raw_action.copy_(raw_action)
    return agent.bijector.forward(raw_action)


class Collector:
    """Fills `batch`, one unroll of every env at a time.

    Everything in `unroll` happens to tensors that stay where they are, so that it can be recorded and replayed.

    record:             the unroll under way; its num_envs sequences are copied into the batch at the end
    place:              which unroll of the batch comes next, int64                    (1,)
    discounted_return:  of the episode's rewards so far, if rewards are normalised     (num_envs,) or None
    final_observation:  before any restart, what the value network sees of it,
                        if truncations bootstrap          (unroll_length, num_envs, obs_dim) or None
    """

    def __init__(self, config: Config, env: Env, agent: Agent, batch: Batch, noise: Noise) -> None:
        self.env, self.agent, self.batch, self.noise = env, agent, batch, noise
        self.num_unrolls_per_env, self.discounting = config.num_unrolls_per_env, config.discounting
        self.record = allocate_batch(config, env, agent, env.num_envs)
        self.rows = [self.record.each_step(lambda x, t=t: x[t]) for t in range(config.unroll_length)]
        self.place = torch.zeros(1, dtype=torch.int64, device=env.device)
        self.discounted_return = torch.zeros_like(env.reward) if config.normalize_rewards else None
        self.final_observation = None
        if config.bootstrap_on_truncation:
            size = env.observation_sizes[agent.value_obs_key]
            self.final_observation = torch.zeros(config.unroll_length, env.num_envs, size, device=env.device)
        self.act = act

    def __call__(self) -> None:
        """Fills the whole batch. Normalizer and networks stay as they are."""
        self.place.zero_()
        for _ in range(self.num_unrolls_per_env):
            self.unroll()

    def state(self) -> dict[str, Tensor]:
        """The live tensors that, copied back, continue collecting exactly (with those of env and agent)."""
        return {} if self.discounted_return is None else {"discounted_return": self.discounted_return}

    @torch.no_grad()
    def unroll(self) -> None:
        """One unroll of every env, into the batch at `place`, which moves on."""
        env, agent, record = self.env, self.agent, self.record
        noise = self.noise.normal(len(self.rows), env.num_envs, env.action_dim)
        for t, (row, step_noise) in enumerate(zip(self.rows, noise.unbind(0), strict=True)):
            if self.discounted_return is not None:
                # Episodes begin after the end of the one before, or after a reset of all envs.
                begun = env.done.bool() | env.episode_metrics["length"].eq(0)
                self.discounted_return.masked_fill_(begun, 0.0)
            env.step(self.act(agent, env.observation, step_noise, row))
            self._store_step(t, row)
        for key, stored in record.bootstrap_observation.items():
            stored.copy_(env.observation[key])
        # The agent has not changed meanwhile: once per unroll is the same as once per step, and cheaper.
        record.log_prob.copy_(distribution.log_prob(record.loc, record.scale, record.raw_action, agent.bijector))
        if record.value is not None:
            record.value.copy_(agent.values(record.observation))
        if record.final_value is not None:
            record.final_value.copy_(agent.values({agent.value_obs_key: self.final_observation}))
        self.batch.store(record, self.place)
        self.place.add_(1).remainder_(self.num_unrolls_per_env)  # what records a graph makes more unrolls than that

    def _store_step(self, t: int, row: Batch) -> None:
        """What the env has after step `t` of the unroll, into its `row`."""
        env = self.env
        row.reward.copy_(env.reward)
        row.truncation.copy_(env.truncation)
        row.termination.copy_(env.termination)
        if row.time_out is not None:
            row.time_out.copy_(env.time_out)
        if row.episode_done is not None:
            row.episode_done.copy_(env.done * env.whole_episode)
            for name, stored in row.episode_metrics.items():
                stored.copy_(env.episode_metrics[name])
        if row.discounted_return is not None:
            self.discounted_return.mul_(self.discounting).add_(env.reward)
            row.discounted_return.copy_(self.discounted_return)
        if self.final_observation is not None:
            self.final_observation[t].copy_(env.final_observation[self.agent.value_obs_key])
