"""Outputs of the networks for given parameters and observations: `net`, `net_ln`."""

from typing import Any

import jax
import numpy as np
from brax.training import networks
from flax import linen

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
from tools.golden.noise import normal
from tools.golden.store import Cases, Store
from tools.golden.trees import flatten, read_named, unflatten

ROWS = 6
NETWORK_CASES: dict[str, Settings] = {
    "swish": {"activation": "swish"},
    "relu": {"activation": "relu"},
    "elu": {"activation": "elu"},
    "tanh": {"activation": "tanh"},
    "gelu": {"activation": "gelu"},
    "leaky_relu": {"activation": "leaky_relu"},
    "selu": {"activation": "selu"},
    "mish": {"activation": "mish"},
    "normal_scalar": {"distribution_type": "normal", "noise_std_type": "scalar", "init_noise_std": 0.6},
    "normal_log": {"distribution_type": "normal", "noise_std_type": "log", "init_noise_std": 0.6},
    "normal_statedep_scalar": {"distribution_type": "normal", "noise_std_type": "scalar", "state_dependent_std": True},
    "normal_statedep_log": {"distribution_type": "normal", "noise_std_type": "log", "state_dependent_std": True},
    "normal_mean_clip": {"distribution_type": "normal", "noise_std_type": "log", "mean_clip_scale": 0.5},
    "distributional": {"use_distributional_critic": True},
    "asymmetric": {"asymmetric": True},
    "no_normalization": {"normalize_observations": False},
}


def network_inputs() -> Cases:
    """Parameters, observations and statistics of the normalizer for each case."""
    cases = {}
    for i, (name, settings) in enumerate(NETWORK_CASES.items()):
        random = np.random.RandomState(100 + i)
        network = NETWORK_DEFAULT | {"hidden": [12, 7]} | settings
        parameters = jitter(init(build(network), i), random, 0.05)
        case = {"cfg": network, "policy": flatten(parameters.policy), "value": flatten(parameters.value)}
        observation = normal(random, ROWS, OBSERVATIONS) * 2 + 1
        mean, std = normal(random, OBSERVATIONS), np.exp(0.3 * normal(random, OBSERVATIONS))
        if network["asymmetric"]:
            case |= {"obs/state": observation, "mean/state": mean, "std/state": std}
            case["obs/privileged_state"] = normal(random, ROWS, PRIVILEGED)
            case["mean/privileged_state"] = normal(random, PRIVILEGED)
            case["std/privileged_state"] = np.exp(0.3 * normal(random, PRIVILEGED))
        else:
            case |= {"obs": observation, "mean": mean, "std": std}
        cases[name] = case
    return cases


def network_outputs(case: dict[str, Any]) -> dict[str, Any]:
    """What both networks make of the observations of a case."""
    network = case["cfg"]
    nets = build(network)
    template = init(nets, 0)
    policy, value = unflatten(case["policy"], template.policy), unflatten(case["value"], template.value)
    statistics = normalizer(read_named(case, "mean"), read_named(case, "std"))
    observation = read_named(case, "obs")
    logits = nets.policy_network.apply(statistics, policy, observation)
    actions = nets.parametric_action_distribution.create_dist(logits)
    critic = nets.value_network.apply(statistics, value, observation)
    outputs = {"loc": actions.loc, "scale": actions.scale, "value": values_of(critic)}
    if network["distribution_type"] == "tanh_normal":
        outputs["logits"] = logits
    if network["use_distributional_critic"]:
        outputs["quantiles"] = critic[1]
    return outputs


def record_networks(store: Store) -> None:
    """Networks that `make_ppo_networks` makes: the group `net`."""
    for name, case in store.group("net", network_inputs).items():
        template = init(build(case["cfg"]), 0)
        store.put_spec(f"net/{name}", policy=template.policy, value=template.value)
        store.put_outputs(f"net/{name}", network_outputs(case))


def layer_norm_policy() -> networks.FeedForwardNetwork:
    """A policy network with layer normalization, which `make_ppo_networks` cannot make."""
    return networks.make_policy_network(
        2 * ACTIONS, OBSERVATIONS, hidden_layer_sizes=(12, 7), activation=linen.swish, layer_norm=True
    )


def layer_norm_inputs() -> Cases:
    """Parameters and observations."""
    random = np.random.RandomState(130)
    policy = jitter(layer_norm_policy().init(jax.random.PRNGKey(5)), random, 0.05)
    return {"layer_norm": {"policy": flatten(policy), "obs": normal(random, ROWS, OBSERVATIONS)}}


def record_layer_norm(store: Store) -> None:
    """A policy network with layer normalization: the group `net_ln`."""
    for name, case in store.group("net_ln", layer_norm_inputs).items():
        network = layer_norm_policy()
        template = network.init(jax.random.PRNGKey(5))
        store.put_spec(f"net_ln/{name}", policy=template)
        logits = network.apply(None, unflatten(case["policy"], template), case["obs"])
        store.put_outputs(f"net_ln/{name}", {"logits": logits})
