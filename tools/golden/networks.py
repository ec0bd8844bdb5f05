"""Brax's networks for small observations and actions, and their parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from brax.training import networks, types
from brax.training.acme import running_statistics
from brax.training.agents.ppo import losses
from brax.training.agents.ppo import networks as ppo_networks

from tools.golden.noise import normal
from tools.golden.trees import Tree

OBSERVATIONS, PRIVILEGED, ACTIONS = 5, 8, 2
Settings = dict[str, Any]
NETWORK_DEFAULT: Settings = {
    "hidden": [32, 32],
    "activation": "swish",
    "distribution_type": "tanh_normal",
    "noise_std_type": "scalar",
    "init_noise_std": 1.0,
    "state_dependent_std": False,
    "mean_clip_scale": None,
    "use_distributional_critic": False,
    "num_quantiles": 8,
    "asymmetric": False,
    "normalize_observations": True,
}


def build(settings: Settings) -> ppo_networks.PPONetworks:
    """Policy and value network as `settings`, and else `NETWORK_DEFAULT`, describe them."""
    network = NETWORK_DEFAULT | settings
    normalize, asymmetric = network["normalize_observations"], network["asymmetric"]
    return ppo_networks.make_ppo_networks(
        {"state": (OBSERVATIONS,), "privileged_state": (PRIVILEGED,)} if asymmetric else OBSERVATIONS,
        ACTIONS,
        preprocess_observations_fn=(
            running_statistics.normalize if normalize else types.identity_observation_preprocessor
        ),
        policy_hidden_layer_sizes=tuple(network["hidden"]),
        value_hidden_layer_sizes=tuple(network["hidden"]),
        activation=networks.ACTIVATION[network["activation"]],
        value_obs_key="privileged_state" if asymmetric else "state",
        distribution_type=network["distribution_type"],
        noise_std_type=network["noise_std_type"],
        init_noise_std=network["init_noise_std"],
        state_dependent_std=network["state_dependent_std"],
        mean_clip_scale=network["mean_clip_scale"],
        use_distributional_critic=network["use_distributional_critic"],
        num_quantiles=network["num_quantiles"],
    )


def factory(settings: Settings) -> Callable[..., ppo_networks.PPONetworks]:
    """The `network_factory` argument of `ppo.train` for these settings; the sizes that it is given are the same."""

    def make(*_: Any, **__: Any) -> ppo_networks.PPONetworks:
        return build(settings)

    return make


def init_from_key(nets: ppo_networks.PPONetworks, key: jax.Array) -> losses.PPONetworkParams:
    """Fresh parameters of both networks, as `ppo.train` makes them from its global key."""
    policy_key, value_key = jax.random.split(key)
    return losses.PPONetworkParams(
        policy=nets.policy_network.init(policy_key), value=nets.value_network.init(value_key)
    )


def init(nets: ppo_networks.PPONetworks, seed: int) -> losses.PPONetworkParams:
    """Fresh parameters of both networks."""
    return init_from_key(nets, jax.random.PRNGKey(seed))


def jitter(parameters: Tree, random: np.random.RandomState, scale: float) -> Tree:
    """Moves every leaf a little, so that no bias stays at zero."""
    return jax.tree_util.tree_map(lambda leaf: leaf + scale * normal(random, *leaf.shape), parameters)


def normalizer(mean: Tree, std: Tree) -> running_statistics.RunningStatisticsState:
    """A normalizer with these statistics."""
    return running_statistics.RunningStatisticsState(
        mean=mean,
        std=std,
        count=types.UInt64(hi=0, lo=1),
        summed_variance=jax.tree_util.tree_map(jnp.zeros_like, mean),
    )


def values_of(output: jax.Array | tuple[jax.Array, jax.Array]) -> jax.Array:
    """Values from a value network's output; a distributional critic adds the quantiles to them."""
    return output[0] if isinstance(output, tuple) else output
