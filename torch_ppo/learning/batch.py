"""A batch of unrolls: tensors that are allocated once and filled by collecting."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from torch_ppo.environments.contract import Environment
from torch_ppo.formulas.distribution import PolicyParams
from torch_ppo.formulas.losses import LossInputs
from torch_ppo.formulas.pixels import is_picture
from torch_ppo.learning.agent import Agent
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import Observation

Field = Tensor | dict[str, Tensor] | PolicyParams | None  # by name, as what is compiled does not make types

# A tensor of a batch whose sequences are (S / R, R) along an axis, what is copied to R of them, and the axis.
Places = tuple[Tensor, Tensor, int]


def map_tensors(function: Callable[..., Tensor], field: Field, *others: Field) -> Field:
    """`function` of each tensor of a field of a batch, and of those of others in its place; None where one is missing."""
    if field is None or any(other is None for other in others):
        return None
    if isinstance(field, dict):
        return {key: function(x, *(other[key] for other in others)) for key, x in field.items()}
    if isinstance(field, tuple):
        return tuple(function(*each) for each in zip(field, *others, strict=True))
    return function(field, *others)


def store(places: list[Places], place: Tensor) -> None:
    """Copies each tensor to the sequences from `place * R` on; `place` int64 `(1,)`."""
    for parts, source, axis in places:
        parts.index_copy_(axis, place, source.unsqueeze(axis))


def tensors_of(field: Field) -> list[Tensor]:
    """The tensors of a field of a batch."""
    found: list[Tensor] = []
    map_tensors(found.append, field)
    return found


@dataclass(frozen=True)
class Batch:
    """All unrolls of one training step, time first: T = unroll_length, S = num_unrolls.

    Sequence `unroll * num_envs + env` is one unroll of one env, as in Brax.

    observation:            before the action; pictures as they are, bytes  (T, S, obs_dim) per key
    bootstrap_observation:  after the last step and its reset               (S, obs_dim), the value's
    raw_action:             of the policy that acted; int64 if discrete     (T, S, action_dim)
    policy_params:          what it gave: loc, scale or logits              (T, S, size) each
    log_prob:               of raw_action                                   (T, S)
    reward:                 summed over action repeats, unscaled            (T, S)
    truncation:             1 where the time limit ended the episode        (T, S)
    termination:            1 where the task ended the episode              (T, S)
    value:                  under the policy that acted                     (T, S) or None
    time_out:               1 where the task reports a time-out             (T, S) or None
    episode_done:           1 where a whole episode ended                   (T, S) or None
    episode_metrics:        running totals of the episode                   (T, S) per name; may be empty
    discounted_return:      of the episode's rewards so far, this included  (T, S) or None
    final_value:            of final_observation, under the policy that
                            acted                                           (T, S) or None
    advantage, value_target: computed after collecting                      (T, S) or None
    broken:                 0, or why the world broke in this step (see
                            `simulation.broken`)                            (T, S)

    Of the unroll under way only, after the step and before any restart:
    final_observation:      without pictures, unless values are wanted      (T, S, obs_dim) per key; may be empty
    final_state:            qpos, qvel, act, ctrl                           (T, S, n) or None
    episode_totals:         see `Env`; its rows are episode_metrics         (T, n, S)
    """

    observation: dict[str, Tensor]
    bootstrap_observation: Observation
    raw_action: Tensor
    policy_params: PolicyParams
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
    broken: Tensor | None = None
    final_observation: Observation = dataclasses.field(default_factory=dict)
    final_state: Tensor | None = None
    episode_totals: Tensor | None = None

    @property
    def pixel_bytes(self) -> dict[str, int]:
        """Bytes of the pictures of one step of one env, by key."""
        pictures = {key: x for key, x in self.observation.items() if is_picture(key)}
        return {key: x[0, 0].nbytes for key, x in pictures.items()}

    def each_step(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `function` applied to every `(T, S, ...)` tensor; the bootstrap observation stays."""

        steps = (field.name for field in dataclasses.fields(self) if field.name != "bootstrap_observation")
        return dataclasses.replace(self, **{name: map_tensors(function, getattr(self, name)) for name in steps})

    def steps(self) -> list[Tensor]:
        """All `(T, S, ...)` tensors."""
        found: list[Tensor] = []
        self.each_step(lambda x: found.append(x) or x)
        return found

    def places_of(self, record: "Batch") -> list[Places]:
        """Where a batch of fewer sequences, R, goes; a view is made once, as compiled code copies all that it is of."""
        found: list[Places] = []

        def add(target: Tensor, source: Tensor, axis: int) -> None:
            count = source.shape[axis]
            found.append((target.unflatten(axis, (target.shape[axis] // count, count)), source, axis))

        for field in dataclasses.fields(self):
            axis = 0 if field.name == "bootstrap_observation" else 1
            map_tensors(partial(add, axis=axis), getattr(self, field.name), getattr(record, field.name))
        return found

    def minibatch(self, sequences: Tensor) -> tuple[Observation, Observation, LossInputs]:
        """observation, bootstrap_observation and loss inputs of the given sequences, int64 `(B,)`."""

        def take(x: Tensor) -> Tensor:
            return x.index_select(1, sequences)  # (T, B, ...)

        return (
            map_tensors(take, self.observation),
            map_tensors(lambda x: x.index_select(0, sequences), self.bootstrap_observation),
            self._loss_inputs(take),
        )

    def minibatch_of_transitions(self, transitions: Tensor) -> tuple[Observation, Observation, LossInputs]:
        """observation and loss inputs of single steps, int64 `(n,)`, each step * S + sequence; nothing to bootstrap."""

        def take(x: Tensor) -> Tensor:
            return x.flatten(0, 1).index_select(0, transitions)  # (n, ...)

        return map_tensors(take, self.observation), {}, self._loss_inputs(take)

    def _loss_inputs(self, take: Callable[[Tensor], Tensor]) -> LossInputs:
        return LossInputs(*(map_tensors(take, getattr(self, field)) for field in LossInputs._fields))


def allocate_batch(config: Config, env: Environment, agent: Agent, num_sequences: int | None = None) -> Batch:
    """An empty batch for this env and agent, on the env's device; by default that of a whole training step."""
    whole = num_sequences is None
    num_sequences = config.num_unrolls if whole else num_sequences
    shape = (config.unroll_length, num_sequences)

    def empty(*trailing: int) -> Tensor:
        return torch.empty(*shape, *trailing, device=env.device)

    def like(key: str, *leading: int) -> Tensor:
        each = env.observation[key]
        return torch.empty(*leading, *each.shape[1:], dtype=each.dtype, device=env.device)

    return Batch(
        observation={key: like(key, *shape) for key in agent.obs_keys},
        bootstrap_observation={key: like(key, num_sequences) for key in agent.value_obs_keys},
        raw_action=torch.zeros(*shape, env.action_dim, dtype=agent.distribution.raw_dtype, device=env.device),
        policy_params=tuple(map(empty, agent.distribution.param_sizes.values())),
        log_prob=empty(),
        reward=empty(),
        truncation=empty(),
        termination=empty(),
        value=empty() if config.stores_value else None,
        time_out=empty() if config.bootstrap_on_timeout else None,
        episode_done=empty() if config.log_training_metrics or not whole else None,
        episode_metrics={name: empty() for name in env.episode_metrics} if config.log_training_metrics else {},
        discounted_return=empty() if config.normalize_rewards else None,
        final_value=empty() if config.bootstrap_on_truncation else None,
        advantage=empty() if whole and config.gae_per == "batch" else None,
        value_target=empty() if whole and config.gae_per == "batch" else None,
        broken=torch.zeros(shape, device=env.device),
        final_observation={
            key: like(key, *shape)
            for key in agent.obs_keys
            if not whole and env.final_observation and (config.bootstrap_on_truncation or not is_picture(key))
        },
        final_state=empty(env.final_state.shape[1]) if not whole and env.final_state is not None else None,
        episode_totals=None
        if whole
        else torch.empty(config.unroll_length, len(env.episode_totals), num_sequences, device=env.device),
    )
