"""The loss of one minibatch, its metrics and its gradient: `loss`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.training.acme.running_statistics import RunningStatisticsState
from brax.training.agents.ppo import losses
from brax.training.agents.ppo.networks import PPONetworks
from brax.training.types import Transition

from tools.golden.networks import (
    ACTIONS,
    NETWORK_DEFAULT,
    OBSERVATIONS,
    PRIVILEGED,
    Settings,
    build,
    init,
    jitter,
    normalizer,
    values_of,
)
from tools.golden.noise import injected_noise, normal
from tools.golden.store import Cases, Store
from tools.golden.transitions import transition, transition_arrays
from tools.golden.trees import Tree, flatten, named, read_named, unflatten

SEQUENCES, STEPS = 8, 5
LOSS_DEFAULT: Settings = {
    "entropy_cost": 1e-2,
    "discounting": 0.97,
    "reward_scaling": 1.0,
    "gae_lambda": 0.95,
    "clipping_epsilon": 0.2,
    "normalize_advantage": True,
    "vf_coefficient": 0.5,
    "clipping_epsilon_value": None,
    "use_distributional_critic": False,
}
LOSS_CASES: dict[str, tuple[Settings, Settings]] = {  # what differs of the network and of the loss
    "base": ({}, {}),
    "no_adv_norm": ({}, {"normalize_advantage": False}),
    "value_clip": ({}, {"clipping_epsilon_value": 0.2}),
    "no_obs_norm": ({"normalize_observations": False}, {}),
    "scaled": (
        {},
        {
            "vf_coefficient": 1.0,
            "entropy_cost": 0.0,
            "reward_scaling": 10.0,
            "clipping_epsilon": 0.1,
            "gae_lambda": 1.0,
        },
    ),
    "reward_scale_small": ({}, {"reward_scaling": 0.1, "discounting": 0.995, "clipping_epsilon": 0.3}),
    "lambda0": ({}, {"gae_lambda": 0.0, "discounting": 1.0}),
    "normal_log": (
        {"distribution_type": "normal", "noise_std_type": "log", "activation": "elu", "init_noise_std": 0.8},
        {"vf_coefficient": 1.0},
    ),
    "normal_scalar_value_clip": (
        {"distribution_type": "normal", "noise_std_type": "scalar", "init_noise_std": 0.8},
        {"clipping_epsilon_value": 0.1, "normalize_advantage": False},
    ),
    "distributional": (
        {"use_distributional_critic": True},
        {"use_distributional_critic": True, "clipping_epsilon_value": 1.0},
    ),
    "asymmetric": ({"asymmetric": True}, {"clipping_epsilon_value": 0.2}),
}
METRICS = (
    "total_loss policy_loss v_loss entropy_loss kl_mean policy_dist_mean_std policy_dist_max_std policy_dist_min_std "
    "policy_dist_mean_loc policy_dist_max_loc policy_dist_min_loc"
).split()


def random_observations(random: np.random.RandomState, network: Settings) -> tuple[Tree, Tree, Tree, Tree]:
    """Observations and next observations, and mean and standard deviation that they have."""
    shape = (SEQUENCES, STEPS)
    mean, std = normal(random, OBSERVATIONS), np.exp(0.3 * normal(random, OBSERVATIONS))
    observation = mean + std * normal(random, *shape, OBSERVATIONS)
    following = mean + std * normal(random, *shape, OBSERVATIONS)
    if not network["asymmetric"]:
        return observation, following, mean, std
    return (
        {"state": observation, "privileged_state": normal(random, *shape, PRIVILEGED)},
        {"state": following, "privileged_state": normal(random, *shape, PRIVILEGED)},
        {"state": mean, "privileged_state": normal(random, PRIVILEGED)},
        {"state": std, "privileged_state": np.exp(0.3 * normal(random, PRIVILEGED))},
    )


def random_ends(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Flags of truncation, and of the end of an episode for whatever reason."""
    truncation, termination = ((random.rand(SEQUENCES, STEPS) < 0.12).astype(np.float32) for _ in range(2))
    return truncation, np.maximum(truncation, termination)


def loss_input(index: int, network: Settings, loss: Settings) -> dict[str, Any]:
    """Parameters, a minibatch that slightly older ones have collected, and noise for the entropy."""
    random = np.random.RandomState(200 + index)
    nets = build(network)
    parameters = jitter(init(nets, index), random, 0.05)
    old = jitter(parameters, random, 0.02)
    observation, following, mean, std = random_observations(random, network)
    statistics = normalizer(mean, std)
    old_logits = nets.policy_network.apply(statistics, old.policy, observation)
    distribution = nets.parametric_action_distribution
    actions = distribution.create_dist(old_logits)
    raw_action = actions.loc + actions.scale * normal(random, SEQUENCES, STEPS, ACTIONS)
    truncation, done = random_ends(random)
    policy_extras = {
        "log_prob": distribution.log_prob(old_logits, raw_action),
        "raw_action": raw_action,
        "distribution_params": old_logits,
        "value": values_of(nets.value_network.apply(statistics, old.value, observation)),
    }
    minibatch = Transition(
        observation=observation,
        action=distribution.postprocess(raw_action),
        reward=normal(random, SEQUENCES, STEPS),
        discount=1 - done,
        next_observation=following,
        extras={"policy_extras": policy_extras, "state_extras": {"truncation": truncation}},
    )
    noise_key = jax.random.PRNGKey(900 + index)
    return dict(
        cfg={"net": network, "loss": loss},
        policy=flatten(parameters.policy),
        value_params=flatten(parameters.value),
        noise=jax.random.normal(noise_key, (STEPS, SEQUENCES, ACTIONS)),
        noise_key=noise_key,
        **transition_arrays(minibatch),
        **named("mean", mean),
        **named("std", std),
    )


def loss_inputs() -> Cases:
    """Inputs of every case."""
    return {
        name: loss_input(i, NETWORK_DEFAULT | network, LOSS_DEFAULT | loss)
        for i, (name, (network, loss)) in enumerate(LOSS_CASES.items())
    }


def loss_and_gradient(
    nets: PPONetworks,
    loss: Settings,
    parameters: losses.PPONetworkParams,
    statistics: RunningStatisticsState,
    minibatch: Transition,
    noise: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array], losses.PPONetworkParams]:
    """Brax's loss, its metrics and its gradient; `noise` is a key, or inside `injected_noise` the noise itself."""
    function = functools.partial(losses.compute_ppo_loss, ppo_network=nets, **loss)
    (total, metrics), gradient = jax.value_and_grad(function, has_aux=True)(parameters, statistics, minibatch, noise)
    return total, metrics, gradient


def intermediates(
    nets: PPONetworks,
    loss: Settings,
    parameters: losses.PPONetworkParams,
    statistics: RunningStatisticsState,
    minibatch: Transition,
    noise: jax.Array,
) -> dict[str, jax.Array]:
    """What the loss computes on its way, time first, for debugging a port; advantages before their normalization."""
    data = jax.tree_util.tree_map(lambda leaf: jnp.swapaxes(leaf, 0, 1), minibatch)
    last = jax.tree_util.tree_map(lambda leaf: leaf[-1], data.next_observation)
    logits = nets.policy_network.apply(statistics, parameters.policy, data.observation)
    values = values_of(nets.value_network.apply(statistics, parameters.value, data.observation))
    bootstrap_value = values_of(nets.value_network.apply(statistics, parameters.value, last))
    truncation = data.extras["state_extras"]["truncation"]
    targets, advantages = losses.compute_gae(
        truncation=truncation,
        termination=(1 - data.discount) * (1 - truncation),
        rewards=data.reward * loss["reward_scaling"],
        values=values,
        bootstrap_value=bootstrap_value,
        lambda_=loss["gae_lambda"],
        discount=loss["discounting"],
    )
    distribution, collected = nets.parametric_action_distribution, data.extras["policy_extras"]
    log_prob = distribution.log_prob(logits, collected["raw_action"])
    with injected_noise():
        entropy = distribution.entropy(logits, noise)
    return {
        "mid_values": values,
        "mid_bootstrap_value": bootstrap_value,
        "mid_vs": targets,
        "mid_advantages": advantages,
        "mid_log_prob": log_prob,
        "mid_ratio": jnp.exp(log_prob - collected["log_prob"]),
        "mid_entropy": entropy,
    }


def record_loss(store: Store) -> None:
    """The PPO loss: the group `loss`. Brax's own sampling from the key must give what the injected noise gives."""
    for name, case in store.group("loss", loss_inputs).items():
        network, loss = case["cfg"]["net"], case["cfg"]["loss"]
        nets = build(network)
        template = init(nets, 0)
        store.put_spec(f"loss/{name}", policy=template.policy, value=template.value)
        parameters = losses.PPONetworkParams(
            policy=unflatten(case["policy"], template.policy), value=unflatten(case["value_params"], template.value)
        )
        statistics = normalizer(read_named(case, "mean"), read_named(case, "std"))
        given = (nets, loss, parameters, statistics, transition(case, network))
        with injected_noise():
            total, metrics, gradient = loss_and_gradient(*given, case["noise"])
        if not store.in_child:
            own_total, _, own_gradient = loss_and_gradient(*given, case["noise_key"])
            np.testing.assert_allclose(total, own_total, rtol=1e-6)
            np.testing.assert_allclose(flatten(gradient.policy), flatten(own_gradient.policy), rtol=1e-4, atol=1e-6)
        gradients = {"grad_policy": flatten(gradient.policy), "grad_value": flatten(gradient.value)}
        outputs = {metric: metrics[metric] for metric in METRICS}
        store.put_outputs(f"loss/{name}", outputs | gradients | intermediates(*given, case["noise"]))
