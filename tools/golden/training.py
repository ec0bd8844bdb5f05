"""The pieces of `ppo.train`: what it makes of its settings, an SGD step, and the passes over a batch."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from brax.training import gradients
from brax.training.acme import running_statistics
from brax.training.acme.running_statistics import RunningStatisticsState
from brax.training.agents.ppo import losses
from brax.training.agents.ppo import optimizer as ppo_optimizer
from brax.training.agents.ppo.losses import PPONetworkParams
from brax.training.agents.ppo.networks import PPONetworks
from brax.training.types import Transition

from tools.golden.minibatch_loss import METRICS
from tools.golden.networks import NETWORK_DEFAULT, OBSERVATIONS, PRIVILEGED, Settings, build
from tools.golden.training_cases import TRAIN_CASES, TRAIN_DEFAULT
from tools.golden.trees import WORKING_PRECISION, flatten, named

SgdStep = Callable[..., tuple[optax.OptState, PPONetworkParams, dict[str, jax.Array], PPONetworkParams]]


def adapts_learning_rate(train: Settings) -> bool:
    """Whether the learning rate follows the KL; then, too, SGD sees the normalizer before its update."""
    return train["learning_rate_schedule"] == "ADAPTIVE_KL"


def make_optimizer(train: Settings) -> optax.GradientTransformation:
    """The optimizer that `ppo.train` assembles for these settings."""
    adam = optax.inject_hyperparams(optax.adam) if adapts_learning_rate(train) else optax.adam
    optimizer = adam(learning_rate=train["learning_rate"])
    if train["max_grad_norm"] is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(train["max_grad_norm"]), optimizer)


def make_sgd_step(train: Settings, nets: PPONetworks, optimizer: optax.GradientTransformation) -> SgdStep:
    """One compiled SGD step: (optimizer state, parameters, normalizer, minibatch, key or noise) to the new state and
    parameters, metrics, and the gradient before clipping.
    """
    loss = functools.partial(
        losses.compute_ppo_loss,
        ppo_network=nets,
        entropy_cost=train["entropy_cost"],
        discounting=train["discounting"],
        reward_scaling=train["reward_scaling"],
        gae_lambda=train["gae_lambda"],
        clipping_epsilon=train["clipping_epsilon"],
        normalize_advantage=train["normalize_advantage"],
        vf_coefficient=train["vf_loss_coefficient"],
        clipping_epsilon_value=train["clipping_epsilon_value"],
        use_distributional_critic=train["use_distributional_critic"],
    )
    loss_and_gradient = gradients.loss_and_pgrad(loss, pmap_axis_name=None, has_aux=True)

    @jax.jit
    def step(state, parameters, statistics, minibatch, noise):
        (_, metrics), gradient = loss_and_gradient(parameters, statistics, minibatch, noise)
        rate = jnp.asarray(train["learning_rate"], WORKING_PRECISION)
        if adapts_learning_rate(train):
            state, rate = ppo_optimizer.adaptive_kl_learning_rate(
                state,
                metrics["kl_mean"],
                train["desired_kl"],
                min_learning_rate=train["learning_rate_schedule_min_lr"],
                max_learning_rate=train["learning_rate_schedule_max_lr"],
            )
        metrics = dict(metrics, learning_rate=rate, grad_global_norm=optax.global_norm(gradient))
        update, state = optimizer.update(gradient, state)
        return state, optax.apply_updates(parameters, update), metrics, gradient

    return step


@dataclass(frozen=True)
class Trainer:
    """One case: its settings, and what is made of them."""

    env: Settings
    network: Settings
    train: Settings
    nets: PPONetworks
    optimizer: optax.GradientTransformation
    sgd_step: SgdStep

    @classmethod
    def of_case(cls, name: str) -> "Trainer":
        """The trainer of one of `TRAIN_CASES`."""
        env, network, train = TRAIN_CASES[name]
        network, train = NETWORK_DEFAULT | network, TRAIN_DEFAULT | train
        nets, optimizer = build(network), make_optimizer(train)
        return cls(env, network, train, nets, optimizer, make_sgd_step(train, nets, optimizer))

    def fresh_normalizer(self) -> RunningStatisticsState:
        """The normalizer before any observation."""
        template = jnp.zeros((OBSERVATIONS,))
        if self.network["asymmetric"]:
            template = {"state": template, "privileged_state": jnp.zeros((PRIVILEGED,))}
        return running_statistics.init_state(
            template,
            std_eps=self.train["normalize_observations_std_eps"],
            mode=self.train["normalize_observations_mode"],
        )

    def update_normalizer(self, statistics: RunningStatisticsState, data: Transition) -> RunningStatisticsState:
        """The normalizer after the observations of a batch."""
        until_count = self.train["normalize_until_count"]
        return running_statistics.update(statistics, data.observation, until_count=until_count)


class SgdPasses(NamedTuple):
    """What the SGD passes over one batch leave.

    metrics:         of every minibatch, `(E, M)` each
    after_pass:      parameters after each pass
    first_gradient:  of the first minibatch, before clipping
    after_first:     parameters after the first minibatch
    """

    optimizer_state: optax.OptState
    parameters: PPONetworkParams
    metrics: dict[str, np.ndarray]
    after_pass: list[PPONetworkParams]
    first_gradient: PPONetworkParams
    after_first: PPONetworkParams


def sgd_passes(
    trainer: Trainer,
    optimizer_state: optax.OptState,
    parameters: PPONetworkParams,
    statistics: tuple[RunningStatisticsState, RunningStatisticsState],
    data: Transition,
    permutations: Sequence[np.ndarray],
    noise: Sequence[Sequence[jax.Array]],
) -> SgdPasses:
    """All passes over a batch.

    statistics:    the normalizer before and after this batch
    permutations:  of the rows, one per pass
    noise:         a key or injected noise per pass and minibatch
    """
    before, after = statistics
    normalizer = before if adapts_learning_rate(trainer.train) else after
    minibatches = trainer.train["num_minibatches"]
    steps, after_pass = [], []
    for permutation, noise_of_pass in zip(permutations, noise, strict=True):
        shuffled = jax.tree_util.tree_map(
            lambda leaf, rows=permutation: jnp.reshape(
                jnp.take(leaf, rows, axis=0), (minibatches, -1, *leaf.shape[1:])
            ),
            data,
        )
        for k in range(minibatches):
            minibatch = jax.tree_util.tree_map(lambda leaf, k=k: leaf[k], shuffled)
            optimizer_state, parameters, metrics, gradient = trainer.sgd_step(
                optimizer_state, parameters, normalizer, minibatch, noise_of_pass[k]
            )
            steps.append((metrics, gradient, parameters))
        after_pass.append(parameters)
    metrics = {
        name: np.array([float(metrics[name]) for metrics, _, _ in steps]).reshape(-1, minibatches)
        for name in [*METRICS, "learning_rate", "grad_global_norm"]
    }
    _, first_gradient, after_first = steps[0]
    return SgdPasses(optimizer_state, parameters, metrics, after_pass, first_gradient, after_first)


def normalizer_arrays(statistics: RunningStatisticsState) -> dict[str, Any]:
    """A normalizer by name."""
    arrays = {"normalizer_count": np.int64(int(statistics.count))}
    for name in ("mean", "std", "summed_variance"):
        arrays |= named(f"normalizer_{name}", getattr(statistics, name))
    return arrays


def first_step_arrays(passes: SgdPasses) -> dict[str, np.ndarray]:
    """What is recorded of the parameters in the first training step: on the way, flat."""
    trees = {"first_grad": passes.first_gradient, "first": passes.after_first}
    trees |= {f"pass{i}": parameters for i, parameters in enumerate(passes.after_pass)}
    arrays = {}
    for name, tree in trees.items():
        arrays |= {f"{name}_policy": flatten(tree.policy), f"{name}_value": flatten(tree.value)}
    return arrays
