"""A policy that was exported here as safetensors: its layers and what its normalizer divides by; it has no value network."""

from pathlib import Path

import numpy as np
from torch import Tensor

from torch_ppo.exporting.contract import check_contract
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.importing.gaussian import Normalizer, statistics_of
from torch_ppo.importing.imported import PLAIN, Arrays, ForeignError, Imported, as_tensor


def is_one(path: Path) -> bool:
    """Whether a file looks like safetensors: a length, and JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read(path: Path) -> Imported:
    """The policy of a file. ForeignError where it is damaged, gives controls, or is of a kind without a counterpart."""
    try:
        policy = NumpyPolicy(path)
        check_contract(policy.contract, path)
    except ValueError as error:
        raise ForeignError(str(error)) from None
    network, contract = policy.network, policy.contract
    if network["kind"] not in ("tanh_normal", "normal"):
        raise ForeignError(f"{path} has a {network['kind']} policy; tanh_normal and normal ones can be brought in")
    if network["controls"]:
        raise ForeignError(f"{path} gives controls, not actions; an export without --controls would work")
    key, history = contract["observation"]["key"], contract["observation"]["history"]
    env_steps = contract["origin"].get("env_steps") or 0  # older files say only what is known
    size, action_dim = policy.sizes

    def original(observations: Arrays) -> tuple[np.ndarray, None]:
        observation = observations[key]
        noise = np.zeros((len(observation), action_dim)) if network["stochastic"] else None
        return policy(observation, noise).astype(np.float64), None

    weights = _weights(policy) | statistics_of(key, size // history, _normalizer(policy, history, max(1, env_steps)))
    notes = [
        "an exported policy has no value network: training on begins with a new one, and --no-restore-value-fn lets it have other layers"
    ]
    delay = contract["trained_with_action_delay"]
    settings = {
        **_settings(policy),
        "policy_obs_key": key,
        "value_obs_key": key,
        "history": history,
        "action_repeat": contract["action_repeat"],
        "action_delay": tuple(delay) if isinstance(delay, list) else delay,
    }
    return Imported(settings, {key: size}, action_dim, weights, original, env_steps, notes)


def _settings(policy: NumpyPolicy) -> dict[str, object]:
    network = policy.network
    kinds = [layer["kind"] for layer in network["trunk"]]
    sizes = [len(policy.arrays[layer["bias"]]) for layer in network["trunk"] if layer["kind"] == "dense"]
    settings: dict[str, object] = {
        **PLAIN,
        "distribution_type": network["kind"],
        "policy_hidden_layer_sizes": tuple(sizes if network["kind"] == "normal" else sizes[:-1]),
        "layer_norm": "layer_norm" in kinds,
        "normalize_observations": network["normalize"],
        "normalizer_clip": network["clip"],
    }
    if activations := set(kinds) - {"dense", "layer_norm"}:
        (settings["activation"],) = activations
    if network["kind"] == "normal":
        settings |= {
            "noise_std_type": "log" if network["log_std"] else "scalar",
            "state_dependent_std": bool(network["std_head"]),
            "mean_clip_scale": network["mean_clip_scale"],
        }
    return settings


def _weights(policy: NumpyPolicy) -> dict[str, Tensor]:
    """Of the policy network, by our names."""
    places = {"trunk": "trunk.layers", "mean_head.0": "mean_head", "std_head.0": "std_head", "std_parameter": "std"}
    found = {}
    for theirs, ours in places.items():
        for name, array in policy.arrays.items():
            if name == theirs or name.startswith(f"{theirs}."):
                found[f"policy.{ours}{name.removeprefix(theirs)}"] = as_tensor(array)
    return found


def _normalizer(policy: NumpyPolicy, history: int, count: int) -> Normalizer | None:
    """What it divides by, as if it had seen `count` observations; of a stack's frames, which share one, that of the first."""
    if not policy.network["normalize"]:
        return None
    mean, std = (policy.arrays[name].reshape(history, -1)[0] for name in ("mean", "std"))
    return Normalizer(mean, np.square(std.astype(np.float64)), std, count, eps=0.0, clip=policy.network["clip"])
