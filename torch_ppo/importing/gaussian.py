"""What RSL-RL, SB3 and CleanRL have in common: two stacks of torch's linear layers, and a standard deviation beside them."""

import io
import itertools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torch_ppo.formulas.networks import ACTIVATIONS
from torch_ppo.importing.imported import PLAIN, Arrays, ForeignError, Imported, Layer, as_tensor, mlp
from torch_ppo.running.checkpoint import DAMAGED

Weights = Mapping[str, Tensor]
# torch's GELU is exact, and ours is JAX's, which is not.
KNOWN = [name for name in ACTIVATIONS if name != "gelu"]


@dataclass(frozen=True)
class Normalizer:
    """Statistics of an observation, and how its trainer divides: (x - mean) / divisor, within ±clip.

    mean, variance, divisor:  (dim,)
    eps:                      what its trainer keeps the divisor from zero by, as ours would: added to the variance
    """

    mean: np.ndarray
    variance: np.ndarray
    divisor: np.ndarray
    count: int
    eps: float
    clip: float | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        normal = (x - self.mean) / self.divisor
        return normal if self.clip is None else normal.clip(-self.clip, self.clip)


@dataclass(frozen=True)
class Gaussian:
    """Two stacks of linear layers with one activation between them, and a standard deviation for all states.

    std:  as it is stored, its logarithm if `log_std`     (action_dim,)
    """

    actor: list[Layer]
    critic: list[Layer]
    std: np.ndarray
    log_std: bool
    activation: str
    actor_normalizer: Normalizer | None = None
    critic_normalizer: Normalizer | None = None


def read_torch(content: bytes, where: Path) -> object:
    """What torch.load makes of a file, tensors and plain values only; ForeignError if it holds anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about files of another kind
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except DAMAGED as error:
        text = str(error)
        if "weights_only" in text or "Unsupported" in text:
            found = re.search(r"GLOBAL ([\w.]+)", text)
            what = f", such as {found[1]}" if found else ""
            raise ForeignError(
                f"{where} holds more than tensors and plain values{what}, so it is not read: torch.save of a state dict "
                "would work"
            ) from None
        raise ForeignError(
            f"{where} is not a whole file of torch.save (cut off, damaged, or of something else)"
        ) from None


def layers_of(weights: Weights, prefix: str, where: str) -> list[Layer]:
    """The linear layers PREFIX.0, PREFIX.2, ... in their order; ForeignError for layers of another kind."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in weights.items():
        match = re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.(weight|bias)", name)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = tensor.detach().to(torch.float32).numpy()
        elif name.startswith(f"{prefix}."):
            raise ForeignError(f"{where} has {name}, which is no layer of an MLP")
    layers = []
    for number in sorted(found):
        part = found[number]
        if part.keys() != {"weight", "bias"} or part["weight"].ndim != 2:
            raise ForeignError(f"{where} has {prefix}.{number}, which is no linear layer with a bias")
        layers.append((part["weight"], part["bias"]))
    if len(layers) < 2:
        raise ForeignError(f"{where} has no MLP {prefix}.0, {prefix}.2, ... with a hidden layer")
    for (_, bias), (weight, _) in itertools.pairwise(layers):
        if len(bias) != weight.shape[1]:
            raise ForeignError(f"{where} has layers {prefix} that do not fit one another")
    return layers


def to_imported(gaussian: Gaussian, *, env_steps: int = 0, notes: list[str] | None = None) -> Imported:
    """In our terms: a trunk with its last activation, a head for the mean, and the value network as it is."""
    if gaussian.activation not in KNOWN:
        raise ForeignError(
            f"the activation {gaussian.activation!r} has no exact counterpart; known: {', '.join(KNOWN)}"
        )
    actor, critic = gaussian.actor, gaussian.critic
    sizes = {"state": actor[0][0].shape[1]}
    value_key = "state"
    if critic[0][0].shape[1] != sizes["state"] or not _same(gaussian.actor_normalizer, gaussian.critic_normalizer):
        value_key = "privileged_state"
        sizes[value_key] = critic[0][0].shape[1]
    settings: dict[str, object] = {
        **PLAIN,
        "distribution_type": "normal",
        "noise_std_type": "log" if gaussian.log_std else "scalar",
        "state_dependent_std": False,
        "activation": gaussian.activation,
        "layer_norm": False,
        "use_distributional_critic": False,
        "mean_clip_scale": None,
        "policy_hidden_layer_sizes": tuple(len(bias) for _, bias in actor[:-1]),
        "value_hidden_layer_sizes": tuple(len(bias) for _, bias in critic[:-1]),
        "normalize_observations": gaussian.actor_normalizer is not None,
    }
    if value_key != "state":
        settings |= {"policy_obs_key": "state", "value_obs_key": value_key}
    weights = {"policy.std": as_tensor(gaussian.std)}
    for name, layers in (("policy", actor[:-1]), ("value", critic)):
        for i, (weight, bias) in enumerate(layers):
            weights[f"{name}.trunk.layers.{2 * i}.weight"] = as_tensor(weight)
            weights[f"{name}.trunk.layers.{2 * i}.bias"] = as_tensor(bias)
    weights["policy.mean_head.weight"], weights["policy.mean_head.bias"] = map(as_tensor, actor[-1])
    normalizers = {value_key: gaussian.critic_normalizer, "state": gaussian.actor_normalizer}
    used = [normalizer for normalizer in normalizers.values() if normalizer is not None]
    if used:
        settings |= {"normalize_observations_std_eps": used[0].eps, "normalizer_clip": used[0].clip}
    if len(used) == 1 and len(normalizers) == 2:
        raise ForeignError(
            "only one of actor and critic normalises its observations; here normalize_observations is for both"
        )
    for key, normalizer in normalizers.items():
        weights |= statistics_of(key, sizes[key], normalizer)

    def original(observations: Arrays) -> tuple[np.ndarray, np.ndarray]:
        outputs = []
        for key, layers in (("state", actor), (value_key, critic)):
            x, normalizer = observations[key], normalizers[key]
            outputs.append(mlp(x if normalizer is None else normalizer(x), layers, gaussian.activation))
        return outputs[0], outputs[1][:, 0]

    return Imported(settings, sizes, len(actor[-1][1]), weights, original, env_steps, notes or [])


def _same(one: Normalizer | None, other: Normalizer | None) -> bool:
    """Whether two networks that see as many numbers see the same."""
    if one is None or other is None:
        return one is other
    return np.allclose(one.mean, other.mean, atol=1e-6) and np.allclose(one.divisor, other.divisor, atol=1e-6)


def statistics_of(key: str, size: int, normalizer: Normalizer | None) -> dict[str, Tensor]:
    """Ours of theirs: networks see exactly what they saw, as the divisor is taken over with whatever was added to it."""
    if normalizer is None:
        found = {"mean": np.zeros(size), "std": np.ones(size), "summed_variance": np.zeros(size)}
        count = 0
    else:
        if normalizer.mean.shape != (size,):
            raise ForeignError(f"its normalizer is of {len(normalizer.mean)} numbers, and its network sees {size}")
        count = normalizer.count
        found = {"mean": normalizer.mean, "std": normalizer.divisor, "summed_variance": normalizer.variance * count}
    named = {f"normalizer.{key}.{name}": as_tensor(array) for name, array in found.items()}
    return {**named, f"normalizer.{key}.count": torch.tensor(count, dtype=torch.int64)}


def vector(value: object, what: str) -> np.ndarray:
    """A vector of finite numbers from `(n,)` or `(1, n)`; ForeignError otherwise."""
    array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or (array.ndim == 2 and len(array) != 1):
        raise ForeignError(f"{what} is no vector of numbers")
    return array.reshape(-1).astype(np.float64)
