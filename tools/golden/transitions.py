"""Brax's transitions `[B, T, ...]` as named arrays, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from brax.training.types import Transition

from tools.golden.networks import Settings
from tools.golden.trees import named, read_named


def transition(arrays: Mapping[str, Any], network: Settings) -> Transition:
    """The transition that has these arrays."""
    policy = {name: arrays[name] for name in ("log_prob", "raw_action", "value") if name in arrays}
    policy["distribution_params"] = (
        (arrays["dist_loc"], arrays["dist_scale"])
        if network["distribution_type"] == "normal"
        else arrays["dist_logits"]
    )
    return Transition(
        observation=read_named(arrays, "observation"),
        action=arrays["action"],
        reward=arrays["reward"],
        discount=arrays["discount"],
        next_observation=read_named(arrays, "next_observation"),
        extras={
            "policy_extras": policy,
            "state_extras": {name: arrays[name] for name in ("truncation", "time_out") if name in arrays},
        },
    )


def transition_arrays(data: Transition) -> dict[str, np.ndarray]:
    """The arrays of a transition by name; also `episode_done` and `episode_metrics/*` if it has them."""
    policy, state = data.extras["policy_extras"], data.extras["state_extras"]
    parameters = policy["distribution_params"]
    arrays = {"action": data.action, "reward": data.reward, "discount": data.discount}
    arrays |= named("observation", data.observation)
    arrays |= named("next_observation", data.next_observation)
    if isinstance(parameters, tuple):
        arrays |= {"dist_loc": parameters[0], "dist_scale": parameters[1]}
    else:
        arrays["dist_logits"] = parameters
    arrays |= {name: policy[name] for name in ("log_prob", "raw_action", "value") if name in policy}
    arrays |= {name: state[name] for name in ("truncation", "time_out", "episode_done") if name in state}
    arrays |= named("episode_metrics", state.get("episode_metrics", {}))
    return {name: np.asarray(array) for name, array in arrays.items()}


def bootstrap_timeouts(data: Transition, train: Settings) -> Transition:
    """Rewards with the value of states where the time was out, which `ppo.train` adds before SGD if it is told to."""
    if not train["bootstrap_on_timeout"]:
        return data
    time_out, value = data.extras["state_extras"]["time_out"], data.extras["policy_extras"]["value"]
    return data._replace(reward=data.reward + train["discounting"] * time_out * value)
