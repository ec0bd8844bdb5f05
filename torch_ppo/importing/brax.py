"""Brax's PPO parameters, (normalizer, policy, value) as nested arrays, as an agent of ours.

Source: brax/training/agents/ppo/networks.py, brax/training/networks.py and brax/training/checkpoint.py, 0.14.2.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_ppo.formulas.networks import INITIALIZERS
from torch_ppo.formulas.running_statistics import mode_of
from torch_ppo.importing.brax_names import INITIAL, INITIAL_OPTIONS, SAME, Path, places
from torch_ppo.importing.imported import PLAIN, Arrays, ForeignError, Imported, as_tensor, mlp
from torch_ppo.importing.pickles import Inert
from torch_ppo.learning.agent import Agent, make_agent
from torch_ppo.settings.config import Config

Tree = Mapping[str, Any]
Params = tuple[Tree, Tree, Tree | None]  # no value network in what older versions of Brax give

KNOWN_ANYWAY = (  # seen in the arrays themselves
    "policy_hidden_layer_sizes value_hidden_layer_sizes distribution_type state_dependent_std use_distributional_critic "
    "layer_norm preprocess_observations_fn"
).split()
GIVEN = ("activation", "policy_obs_key", "value_obs_key", "normalize_observations", "clipping_epsilon_value")
OF_NORMAL = ("mean_clip_scale", "init_noise_std", "noise_std_type", "mean_kernel_init_fn")
SAME_INITIAL = {
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
}
NO_MLP = "only policies of make_ppo_networks have a counterpart: layers hidden_0, hidden_1, ..."


def read(params: object, network: Tree | None, given: Mapping[str, object], *, env_steps: int = 0) -> Imported:
    """A policy of Brax in our terms.

    params:   (normalizer, policy, value), as Brax saves and pickles them; older versions without the value network
    network:  what stands in ppo_network_config.json; None where there is no such file
    given:    settings that the user has given, which count where Brax's files do not say
    """
    normalizer, policy, value = _three(params)
    notes: list[str] = []
    settings = _of_arrays(policy, value)
    settings |= _of_network(network, settings, notes)
    mean = _statistics(normalizer, "mean")
    if not isinstance(normalizer["mean"], Mapping):
        for key in ("policy_obs_key", "value_obs_key"):  # without effect on the one observation
            settings.pop(key, None)
    sizes = {key: len(x) for key, x in mean.items()}
    _refuse_pixels(network, sizes)
    if network is None and "normalize_observations" not in given:
        settings["normalize_observations"] = True
        notes.append("observations are taken to be normalised, as the file does not say; --config could say otherwise")
    both = {name: given[name] for name in GIVEN if name in given} | settings
    if both.get("normalize_observations", Config.normalize_observations):
        settings |= _of_normalizer(normalizer)
    activation = str(both.get("activation", Config.activation))
    if "activation" not in both:
        notes.append(f"the activation is taken to be {activation}, as the file does not say; --activation could")
    if settings.get("use_distributional_critic") and both.get("clipping_epsilon_value") is None:
        settings["clipping_epsilon_value"] = 1.0
        notes.append("clipping_epsilon_value, the Huber threshold of the quantiles, is 1: only training uses it")
    if value is None:
        notes.append("there is no value network in it; --no-restore-value-fn leaves it out when training goes on")
    config = Config(**{"num_timesteps": 1, **both, **settings})
    _, action_dim = _outputs(policy)
    agent = make_agent(config, sizes, action_dim)
    weights = _weights(agent, (normalizer, policy, value))
    return Imported(
        settings, sizes, action_dim, weights, _original(normalizer, policy, value, config, sizes), env_steps, notes
    )


def _three(params: object) -> Params:
    """The three trees, as dictionaries."""
    parts = params if isinstance(params, (list, tuple)) else None
    if parts is None or len(parts) not in (2, 3):
        what = f"{len(parts)} parts" if parts is not None else f"a {type(params).__name__}"
        raise ForeignError(f"it has {what}, but PPO's parameters are three: normalizer, policy and value network")
    normalizer, policy, value = (_plain(part) for part in (*parts, None)[:3])
    if not isinstance(normalizer, dict) or not {"mean", "std", "count", "summed_variance"} <= normalizer.keys():
        raise ForeignError("its first part is no running statistics: mean, std, count and summed_variance")
    for name, network in (("policy", policy), ("value network", value))[: len(parts) - 1]:
        if not isinstance(network, dict) or not isinstance(network.get("params"), dict):
            raise ForeignError(f"its {name} is no parameters of flax; {NO_MLP}")
    return normalizer, policy, value


def _plain(part: object) -> object:
    """Dictionaries for flax's frozen ones and for the dataclasses that a pickle names."""
    if isinstance(part, Inert):
        if part.name.endswith(".FrozenDict") and part.args:
            (part,) = part.args[:1]
        else:
            part = part.state["_dict"] if isinstance(part.state, dict) and "_dict" in part.state else part.state
    if isinstance(part, Mapping):
        return {str(key): _plain(value) for key, value in part.items()}
    return part


def _statistics(normalizer: Tree, name: str) -> Arrays:
    """One of the statistics by observation; of a task with one, that is `state`."""
    found = normalizer[name]
    found = found if isinstance(found, dict) else {"state": found}
    for key, array in found.items():
        if not isinstance(array, (np.ndarray, np.generic)) or np.ndim(array) != 1:
            raise ForeignError(
                f"its statistics of {key} are no vector; observations of other shapes have no counterpart"
            )
    return found


def _count(count: object) -> int:
    if isinstance(count, dict):  # UInt64
        return (int(count["hi"]) << 32) + int(count["lo"])
    return int(np.asarray(count))


def _outputs(policy: Tree) -> tuple[Tree, int]:
    """The layers of a policy's trunk, and the number of actions."""
    params = policy["params"]
    if "MLP_0" in params:
        return params["MLP_0"], _layer(params, "Dense_0")[1].shape[0]
    layers = _hidden(params)
    if not layers:
        raise ForeignError(f"its policy has {_names(params)}; {NO_MLP}")
    return params, layers[-1][1].shape[0] // 2


def _names(params: Tree) -> str:
    return ", ".join(sorted(map(str, params))[:6]) or "no layers"


def _layer(params: Tree, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Weight (out, in) and bias of a Dense layer, or scale and bias of a LayerNorm."""
    layer = params.get(name)
    first = "scale" if name.startswith("LayerNorm") else "kernel"
    if not isinstance(layer, dict) or layer.keys() != {first, "bias"}:
        raise ForeignError(f"its layer {name} is missing or no plain one with {first} and bias; {NO_MLP}")
    return np.asarray(layer[first]).T, np.asarray(layer["bias"])


def _hidden(params: Tree) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers hidden_0, hidden_1, ... of an MLP."""
    count = sum(str(name).startswith("hidden_") for name in params)
    return [_layer(params, f"hidden_{i}") for i in range(count)]


def _norms(params: Tree) -> list[tuple[np.ndarray, np.ndarray]]:
    count = sum(str(name).startswith("LayerNorm_") for name in params)
    return [_layer(params, f"LayerNorm_{i}") for i in range(count)]


def _sizes(layers: list[tuple[np.ndarray, np.ndarray]]) -> tuple[int, ...]:
    return tuple(len(bias) for _, bias in layers)


def _of_arrays(policy: Tree, value: Tree | None) -> dict[str, object]:
    """What the shapes and names of the networks' arrays say."""
    trunk, _ = _outputs(policy)
    layers, normal = _hidden(trunk), "MLP_0" in policy["params"]
    found: dict[str, object] = {
        **PLAIN,
        "distribution_type": "normal" if normal else "tanh_normal",
        "policy_hidden_layer_sizes": _sizes(layers)[: None if normal else -1],
        "layer_norm": bool(_norms(trunk)),
    }
    if value is not None:
        found |= _of_value(value["params"], layer_norm=found["layer_norm"])
    if normal:
        found["state_dependent_std"] = "Dense_1" in policy["params"]
        if not found["state_dependent_std"]:
            found["noise_std_type"] = "log" if "std_logparam" in policy["params"] else "scalar"
    return found


def _of_value(params: Tree, *, layer_norm: bool) -> dict[str, object]:
    critic = params.get("MLP_0", params)
    sizes = _sizes(_hidden(critic))
    if not sizes:
        raise ForeignError(f"its value network has {_names(critic)}; {NO_MLP}")
    if bool(_norms(critic)) != layer_norm:
        raise ForeignError("one of its networks has layer norms and the other none; here layer_norm is for both")
    quantiles = {"num_quantiles": sizes[-1]} if "MLP_0" in params else {}
    return {"value_hidden_layer_sizes": sizes[:-1], "use_distributional_critic": bool(quantiles), **quantiles}


def _of_network(network: Tree | None, seen: dict[str, object], notes: list[str]) -> dict[str, object]:
    """What the network's configuration says beyond that. Initialisers matter to a new training only."""
    if network is None:
        return {}
    options = network.get("network_factory_kwargs")
    if not isinstance(options, dict):
        raise ForeignError("its network configuration has no network_factory_kwargs, so it is not one of Brax's PPO")
    options = {name: value for name, value in options.items() if value is not None}
    if unknown := options.keys() - {*SAME, *KNOWN_ANYWAY, *INITIAL, *INITIAL_OPTIONS}:
        raise ForeignError(f"its networks were made with {', '.join(sorted(unknown))}, which has no counterpart here")
    for name in ("distribution_type", "use_distributional_critic", "state_dependent_std"):
        if name in options and name in seen and options[name] != seen[name]:
            raise ForeignError(f"its network configuration has {name} = {options[name]}, its arrays {seen[name]}")
    found: dict[str, object] = {"normalize_observations": bool(network.get("normalize_observations", False))}
    for name in (*SAME, *INITIAL):
        if name not in options or name in seen or (name in OF_NORMAL and seen["distribution_type"] != "normal"):
            continue
        if name == "num_quantiles":  # without a critic of quantiles
            continue
        value = "swish" if options[name] == "silu" else options[name]
        if name in INITIAL:
            value = SAME_INITIAL.get(value, value)
            kwargs = options.get(name.replace("_fn", "_kwargs")) or {}
            if value == "orthogonal" and kwargs.keys() == {"scale"}:
                found[name.replace("_fn", "_scale")] = float(kwargs["scale"])
            elif value not in INITIALIZERS or kwargs:
                notes.append(f"{name} = {value} has no counterpart; it matters to new networks only")
                continue
        found[name] = value
    if seen["distribution_type"] == "normal":
        found.setdefault("mean_clip_scale", None)
    return found


def _refuse_pixels(network: Tree | None, sizes: Mapping[str, int]) -> None:
    observed = network.get("observation_size") if network else None
    if isinstance(observed, dict) and (more := sorted(observed.keys() - sizes.keys())):
        raise ForeignError(
            f"it observes {', '.join(more)}, of which there are no statistics: policies of pixels are not imported"
        )


def _of_normalizer(normalizer: Tree) -> dict[str, object]:
    """How the statistics go on: Brax's checkpoint does not say the mode, but what the standard deviation is made of does."""
    eps = float(f"{float(np.asarray(normalizer.get('std_eps', 0.0))):.7g}")
    count = _count(normalizer["count"])
    stds = _statistics(normalizer, "std")
    std = as_tensor(np.concatenate([stds[key] for key in stds]))
    summed = as_tensor(np.concatenate([normalizer_part(normalizer, "summed_variance", key) for key in stds]))
    return {
        "normalize_observations_std_eps": eps,
        "normalize_observations_mode": mode_of(std, summed, count, eps) if count else "welford",
    }


def normalizer_part(normalizer: Tree, name: str, key: str) -> np.ndarray:
    """One statistic of one observation."""
    found = _statistics(normalizer, name)
    if key not in found:
        raise ForeignError(f"its statistics have no {name} of {key}")
    return found[key]


def _weights(agent: Agent, params: Params) -> dict[str, Tensor]:
    """Brax's numbers by our names; those that we have no name for are refused."""
    weights, left = {}, [dict(_leaves(network or {})) for network in params]
    for ours, number, path, transposed in places(agent):
        if params[number] is None:
            continue
        if path not in left[number]:
            raise ForeignError(f"it has no {'/'.join(path)}")
        array = np.asarray(left[number].pop(path))
        weights[ours] = as_tensor(array.T if transposed else array)
    if more := [*left[1], *left[2]]:
        raise ForeignError(f"it has {'/'.join(more[0])}, which has no counterpart; {NO_MLP}")
    for key in agent.normalizer:
        for name in ("mean", "std", "summed_variance"):
            weights[f"normalizer.{key}.{name}"] = as_tensor(normalizer_part(params[0], name, key))
        weights[f"normalizer.{key}.count"] = torch.tensor(_count(params[0]["count"]), dtype=torch.int64)
    return weights


def _leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(name)))
        else:
            yield (*path, str(name)), value


def _original(normalizer: Tree, policy: Tree, value: Tree | None, config: Config, sizes: Mapping[str, int]) -> Any:
    """What Brax's layers compute of observations, from its own arrays."""
    keys = [next(iter(sizes)) if len(sizes) == 1 else key for key in (config.policy_obs_key, config.value_obs_key)]
    trunk, action_dim = _outputs(policy)
    critic = None if value is None else value["params"].get("MLP_0", value["params"])

    def seen(observations: Arrays, key: str) -> np.ndarray:
        if not config.normalize_observations:
            return observations[key]
        return (observations[key] - normalizer_part(normalizer, "mean", key)) / normalizer_part(normalizer, "std", key)

    def compute(observations: Arrays) -> tuple[np.ndarray, np.ndarray | None]:
        x = seen(observations, keys[0])
        normal = config.distribution_type == "normal"
        out = mlp(x, _hidden(trunk), config.activation, norms=_norms(trunk), activate_final=normal)
        if normal:
            weight, bias = _layer(policy["params"], "Dense_0")
            action = out @ weight.T.astype(np.float64) + bias
            if config.mean_clip_scale is not None:
                action = config.mean_clip_scale * action / (1 + np.abs(action))
        else:
            action = np.tanh(out[:, :action_dim])
        if critic is None:
            return action, None
        quantiles = mlp(seen(observations, keys[1]), _hidden(critic), config.activation, norms=_norms(critic))
        return action, quantiles.mean(-1)

    return compute
