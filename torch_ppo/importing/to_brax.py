"""An agent as a checkpoint of Brax's PPO: the other direction of `brax`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from torch_ppo.importing.brax_names import INITIAL, SAME, places
from torch_ppo.importing.imported import ForeignError
from torch_ppo.learning.agent import Agent
from torch_ppo.settings.config import Config


def write(agent: Agent, config: Config, observation_sizes: Mapping[str, int], action_dim: int) -> tuple[tuple, dict]:
    """An agent as Brax's params (normalizer, policy, value) and as the content of its ppo_network_config.json.

    ForeignError for what Brax lacks.
    """
    if config.layer_norm:
        raise ForeignError("layer_norm = true has no counterpart in Brax's make_ppo_networks")
    if config.vision:
        raise ForeignError("policies that see pixels (vision = true) are not written; those of make_ppo_networks are")
    if config.normalizer_clip is not None:
        raise ForeignError(f"normalizer_clip = {config.normalizer_clip:g} has no counterpart in Brax")
    trees: tuple[dict, dict] = ({}, {})
    live = agent.state_dict()
    for ours, number, path, transposed in places(agent):
        place = trees[number - 1]
        for name in path[:-1]:
            place = place.setdefault(name, {})
        array = live[ours].numpy(force=True).copy()
        place[path[-1]] = np.ascontiguousarray(array.T) if transposed else array
    statistics = {key: _statistics_of(agent, key, size) for key, size in observation_sizes.items()}
    count = max(statistic.pop("count") for statistic in statistics.values())
    alone = next(iter(statistics)) if len(statistics) == 1 else None
    normalizer = {
        name: statistics[alone][name] if alone else {key: each[name] for key, each in statistics.items()}
        for name in ("mean", "std", "summed_variance")
    }
    normalizer["count"] = {"hi": np.uint32(count >> 32), "lo": np.uint32(count & 0xFFFFFFFF)}
    normalizer["std_eps"] = config.normalize_observations_std_eps
    sizes: object = [observation_sizes[alone]] if alone else {key: [n] for key, n in observation_sizes.items()}
    network = {
        "network_factory_kwargs": _factory_kwargs(config),
        "normalize_observations": config.normalize_observations,
        "observation_size": sizes,
        "action_size": action_dim,
    }
    return (normalizer, *trees), network


def _statistics_of(agent: Agent, key: str, size: int) -> dict[str, Any]:
    """Those of an observation that no network sees are as they are at first; of a stack, each frame has the same."""
    if key not in agent.normalizer:
        return {"mean": np.zeros(size, np.float32), "std": np.ones(size, np.float32),
                "summed_variance": np.zeros(size, np.float32), "count": 0}  # fmt: skip
    statistics = agent.normalizer[key]
    found = {
        name: np.tile(getattr(statistics, name).numpy(force=True), statistics.frames)
        for name in ("mean", "std", "summed_variance")
    }
    if statistics.mode == "ema":  # Brax's checkpoint does not say the mode, and goes on with the other one
        found["summed_variance"] = found["summed_variance"] * np.float32(statistics.count.item())
    return {**found, "count": int(statistics.count)}


def _factory_kwargs(config: Config) -> dict[str, object]:
    names = [*SAME, "policy_hidden_layer_sizes", "value_hidden_layer_sizes", "distribution_type", "state_dependent_std",
             "use_distributional_critic", *INITIAL]  # fmt: skip
    found = {name: getattr(config, name) for name in names}
    for name in INITIAL:
        if found[name] is None:  # Brax 0.14.2 does not read its own None
            del found[name]
        elif found[name] == "zeros":  # which Brax would call without arguments
            found[name] = "lecun_uniform"
    for name in INITIAL:
        scale = getattr(config, name.replace("_fn", "_scale"))
        if name in found and scale is not None:
            found[name.replace("_fn", "_kwargs")] = {"scale": scale}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
