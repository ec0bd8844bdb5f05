"""RSL-RL's model_*.pt, of versions 1 to 5.

Version 5 saves actor_state_dict and critic_state_dict; before, model_state_dict had both, with the normalizers in it
(3, 4) or beside it (obs_norm_state_dict, 1 and 2). The activation stands in the runner's configuration alone.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from torch_ppo.importing.gaussian import Gaussian, Normalizer, Weights, layers_of, to_imported, vector
from torch_ppo.importing.imported import ForeignError, Imported

DEFAULT_ACTIVATION = "elu"
EPS = 1e-2  # of EmpiricalNormalization, added to the standard deviation
OUR_EPS = 1e-4  # as the dialect has it: sqrt(variance + 1e-4) is near 1e-2 where it matters


def is_one(content: object) -> bool:
    """Whether a file's content looks like a checkpoint of RSL-RL."""
    return isinstance(content, dict) and bool({"actor_state_dict", "model_state_dict"} & content.keys())


def read(content: Mapping[str, object], activation: str, where: str) -> Imported:
    """A policy of RSL-RL in our terms."""
    if "actor_state_dict" in content:
        gaussian = _version_5(content, activation, where)
    else:
        gaussian = _before(content, activation, where)
    notes = ["the iteration is not in env steps, so env_steps is 0", *_of_normalizer(gaussian)]
    return to_imported(gaussian, notes=notes)


def _of_normalizer(gaussian: Gaussian) -> list[str]:
    if gaussian.actor_normalizer is None:
        return []
    there = "0.01 is added to the standard deviation there"
    return [f"{there}; it is in the imported one, and from the next update on 1e-4 is added to the variance"]


def _state(content: Mapping[str, object], name: str, where: str) -> Weights:
    state = content.get(name)
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ForeignError(f"{where} has no {name} of tensors")
    return state


def _refuse_others(weights: Weights, where: str) -> None:
    for name in weights:
        if "memory" in name or "rnn" in name or "cnn" in name:
            raise ForeignError(f"{where} has {name}: recurrent networks and those of images have no counterpart")


def _std(weights: Weights, plain: str, log: str, where: str) -> tuple[np.ndarray, bool]:
    for name, is_log in ((plain, False), (log, True)):
        if name in weights:
            return vector(weights[name], f"{where}: {name}"), is_log
    raise ForeignError(
        f"{where} has neither {plain} nor {log}: only a standard deviation for all states has a counterpart"
    )


def _version_5(content: Mapping[str, object], activation: str, where: str) -> Gaussian:
    actor, critic = (_state(content, f"{name}_state_dict", where) for name in ("actor", "critic"))
    for weights in (actor, critic):
        _refuse_others(weights, where)
    std, is_log = _std(actor, "distribution.std_param", "distribution.log_std_param", where)
    return Gaussian(
        layers_of(actor, "mlp", f"{where}: the actor"),
        layers_of(critic, "mlp", f"{where}: the critic"),
        std,
        is_log,
        activation,
        _normalizer(actor, "obs_normalizer.", where),
        _normalizer(critic, "obs_normalizer.", where),
    )


def _before(content: Mapping[str, object], activation: str, where: str) -> Gaussian:
    weights = _state(content, "model_state_dict", where)
    _refuse_others(weights, where)
    std, is_log = _std(weights, "std", "log_std", where)
    names = {
        "actor": ("obs_norm_state_dict",),
        "critic": ("privileged_obs_norm_state_dict", "critic_obs_norm_state_dict"),
    }
    found = {}
    for network, beside in names.items():
        found[network] = _normalizer(weights, f"{network}_obs_normalizer.", where)
        for name in beside:
            if content.get(name):
                found[network] = _normalizer(_state(content, name, where), "", where)
    return Gaussian(
        layers_of(weights, "actor", where), layers_of(weights, "critic", where), std, is_log, activation,
        found["actor"], found["critic"],
    )  # fmt: skip


def _normalizer(weights: Weights, prefix: str, where: str) -> Normalizer | None:
    if f"{prefix}_mean" not in weights:
        return None
    mean, variance, std = (vector(weights[f"{prefix}{name}"], f"{where}: {prefix}{name}")
                           for name in ("_mean", "_var", "_std"))  # fmt: skip
    count = weights.get(f"{prefix}count")
    return Normalizer(mean, variance, std + EPS, 0 if count is None else int(count), OUR_EPS)
