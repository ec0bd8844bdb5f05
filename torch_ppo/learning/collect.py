"""Collecting: one batch of unrolls from the envs, into tensors that are allocated once."""

import torch
from torch import Tensor

from torch_ppo.environments.contract import Environment
from torch_ppo.formulas.noise import Noise
from torch_ppo.learning.agent import Agent
from torch_ppo.learning.batch import Batch, allocate_batch, store
from torch_ppo.learning.diagnostics import Diagnostics
from torch_ppo.learning.evidence import Evidence
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Observation

Outcome = tuple[list[Tensor], list[Tensor]]  # what comes of a step: tensors of a row, and what is copied into them


def act(agent: Agent, observation: Observation, noise: Tensor, row: Batch) -> Tensor:
    """Action `(num_envs, action_dim)`; what led to it goes into `row`, one time step of a batch."""
    params = agent.policy_params(observation)
    raw_action = agent.distribution.sample_raw(params, noise)
    for key, stored in row.observation.items():
        stored.copy_(observation[key])
    for stored, param in zip(row.policy_params, params, strict=True):
        stored.copy_(param)
    row.raw_action.copy_(raw_action)
    return agent.distribution.action(raw_action)


class Collector:
    """Fills `batch`, one unroll of every env at a time.

    Everything in `unroll` happens to tensors that stay where they are, so that it can be recorded and replayed.

    record:             the unroll under way; its num_envs sequences are copied into the batch at the end
    place:              which unroll of the batch comes next, int64                    (1,)
    discounted_return:  of the episode's rewards so far, if rewards are normalised     (num_envs,) or None
    evidence:           of worlds that broke, if the env keeps final states                     or None
    diagnostics:        of all unrolls since the last report
    """

    def __init__(self, config: Config, env: Environment, agent: Agent, batch: Batch, noise: Noise) -> None:
        self.env, self.agent, self.batch, self.noise = env, agent, batch, noise
        self.num_unrolls_per_env, self.discounting = config.num_unrolls_per_env, config.discounting
        self.record = allocate_batch(config, env, agent, env.num_envs)
        self.rows = [self.record.each_step(lambda x, t=t: x[t]) for t in range(config.unroll_length)]
        self._places = batch.places_of(self.record)
        self._outcomes = [outcome_of_step(env, row) for row in self.rows]
        self.place = torch.zeros(1, dtype=torch.int64, device=env.device)
        self.discounted_return = torch.zeros_like(env.reward) if config.normalize_rewards else None
        self.evidence = None if self.record.final_state is None else Evidence(agent, self.record)
        self.diagnostics = Diagnostics(config, env, agent, self.record)
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
        self.policy_steps(self.agent.distribution.draw(self.noise, len(self.rows), self.env.num_envs))
        self.finish_unroll()

    def policy_steps(self, noise: Tensor) -> None:
        """The steps of an unroll, with noise `(unroll_length, num_envs, noise_dim)`."""
        for row, outcome, step_noise in zip(self.rows, self._outcomes, noise.unbind(0), strict=True):
            self.policy_step(step_noise, row, outcome)

    def policy_step(self, noise: Tensor, row: Batch, outcome: Outcome) -> None:
        """One step of every env, into `row`."""
        env = self.env
        if self.discounted_return is not None:
            # Episodes begin after the end of the one before, or after a reset of all envs.
            begun = env.done.bool() | env.episode_metrics["length"].eq(0)
            self.discounted_return.masked_fill_(begun, 0.0)
        env.step(self.act(self.agent, env.observation, noise, row))
        self._store_step(row, outcome)

    @torch.no_grad()
    def finish_unroll(self) -> None:
        """What is computed once per unroll, and the unroll's place in the batch. Can be compiled."""
        env, agent, record = self.env, self.agent, self.record
        for key, stored in record.bootstrap_observation.items():
            stored.copy_(env.observation[key])
        # The agent has not changed meanwhile: once per unroll is the same as once per step, and cheaper.
        record.log_prob.copy_(agent.distribution.log_prob(record.policy_params, record.raw_action))
        if record.value is not None:
            record.value.copy_(agent.values(record.observation))
        if record.final_value is not None:
            record.final_value.copy_(agent.values(record.final_observation))
        if self.evidence is not None:
            self.evidence.look()
        self.diagnostics.look()
        store(self._places, self.place)
        self.place.add_(1).remainder_(self.num_unrolls_per_env)  # what records a graph makes more unrolls than that

    def _store_step(self, row: Batch, outcome: Outcome) -> None:
        """What the env has after a step, into its `row`."""
        env = self.env
        torch._foreach_copy_(*outcome)
        if env.random_episode_phase:  # else all are whole
            row.episode_done.mul_(env.whole_episode)
        if row.discounted_return is not None:
            self.discounted_return.mul_(self.discounting).add_(env.reward)
            row.discounted_return.copy_(self.discounted_return)


def outcome_of_step(env: Environment, row: Batch) -> Outcome:
    """The tensors of `row` that hold what comes of a step, and those of `env` that it is copied from."""
    pairs = [
        (row.reward, env.reward),
        (row.truncation, env.truncation),
        (row.termination, env.termination),
        (row.broken, env.broken.cause),
        (row.episode_done, env.done),
        (row.episode_totals, env.episode_totals),
        *((stored, env.final_observation[key]) for key, stored in row.final_observation.items()),
        *((stored, env.episode_metrics[name]) for name, stored in row.episode_metrics.items()),
        *(
            (stored, kept)
            for stored, kept in ((row.final_state, env.final_state), (row.time_out, env.time_out))
            if stored is not None
        ),
    ]
    targets, sources = zip(*pairs, strict=True)
    return list(targets), list(sources)
