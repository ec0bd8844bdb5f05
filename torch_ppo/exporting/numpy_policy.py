"""A policy from a .safetensors file, with NumPy alone: this file may be copied to a robot as it is.

    policy = NumpyPolicy("policy.safetensors")
    action = policy(observation)             # float32 (..., obs_dim) -> (..., action_dim); int64 if discrete
    policy.contract["observation"]["size"]

The file's header has the contract and under "network" what is computed, layer by layer; policy.json beside it has the
same. Raises ValueError for a file that is cut off or of something else, and for an observation of another size.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np


def _sigmoid(x):
    # exp of what is not positive only, so that nothing overflows
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _below_zero(x):
    return np.expm1(np.minimum(x, 0))


ACTIVATIONS = {
    "swish": lambda x: x * _sigmoid(x),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, _below_zero(x)),
    "gelu": _gelu,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * _below_zero(x)),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "sigmoid": _sigmoid,
}


def read_safetensors(path):
    """Arrays by name and the header's own words; ValueError if the file is not whole."""
    content = Path(path).read_bytes()
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        told = header.pop("__metadata__", {})
        arrays = {}
        begins, ends = zip(*sorted(entry["data_offsets"] for entry in header.values()), strict=True)
        if (0, *ends) != (*begins, len(content) - 8 - length):  # one after another, and nothing else
            raise ValueError
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if entry["dtype"] != "F32":
                raise ValueError
            arrays[name] = np.frombuffer(content, "<f4", (end - begin) // 4, 8 + length + begin).reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, MemoryError, OverflowError, RecursionError):
        raise ValueError(f"{path} is not a whole safetensors file of a policy") from None
    return arrays, told


class NumpyPolicy:
    """The policy in a file; `contract` says what goes in and comes out."""

    def __init__(self, path):
        self.arrays, told = read_safetensors(path)
        if "torch_ppo.contract" not in told:
            raise ValueError(f"{path} has no contract of torch_ppo, so it is no policy of it")
        kind = "torch_ppo"
        try:
            self.contract = json.loads(told["torch_ppo.contract"])
            self.network = self.contract["network"]
            self.sizes = [self.contract["observation"]["size"], self.contract["action"]["size"]]
            kind = self.network["kind"]
            self(np.zeros(self.sizes[0]), self._no_noise())  # whatever lacks is missed now
        except (ValueError, LookupError, TypeError, AttributeError, MemoryError, RecursionError):
            raise ValueError(f"{path} has a {kind} policy that is not whole, or of another version") from None

    def __call__(self, observation, noise=None):
        """Action or controls `(..., action_dim)`; `noise`, as the contract has it, only for a stochastic policy."""
        x = self._checked("the observation", observation, self.sizes[0])
        if (noise is not None) != self.network["stochastic"]:
            raise ValueError("a stochastic policy takes noise, and no other does")
        with np.errstate(all="ignore"):
            if self.network["normalize"]:
                x = (x - self.arrays["mean"]) / self.arrays["std"]
                if self.network["clip"] is not None:
                    x = np.clip(x, -self.network["clip"], self.network["clip"])
            if self.network["kind"] == "categorical":
                return self._chosen(self._layers(self._layers(x, self.network["trunk"]), self.network["head"]), noise)
            raw = self._raw_action(x, noise)
            action = np.tanh(raw) if self.network["squash"] == "tanh" else raw
            if self.network["controls"]:
                action = self.arrays["controls.offset"] + self.arrays["controls.scale"] * action
                action = np.clip(action, self.arrays["controls.lower"], self.arrays["controls.upper"])
        return action.astype(np.float32)

    def _no_noise(self):
        if not self.network["stochastic"]:
            return None
        discrete = self.contract["action"].get("discrete")
        return np.zeros(sum(discrete["choices"]) if discrete else self.sizes[1])

    def _chosen(self, logits, noise):
        choices = self.contract["action"]["discrete"]["choices"]
        if noise is not None:
            uniform = self._checked("the noise", noise, sum(choices))
            logits = logits - np.log(-np.log(np.maximum(uniform, np.float32(1e-30))))
        parts = np.split(logits, np.cumsum(choices)[:-1], axis=-1)
        action = np.stack([part.argmax(-1) for part in parts], -1).astype(np.int64)
        return action + self.arrays["controls.offset"].astype(np.int64) if self.network["controls"] else action

    def _raw_action(self, x, noise):
        network = self.network
        x = self._layers(x, network["trunk"])
        if network["kind"] == "tanh_normal":
            loc, scale = np.split(x, 2, axis=-1)
            scale = _softplus(scale) + network["min_std"]
        else:
            loc = self._layers(x, network["mean_head"])
            if network["mean_clip_scale"] is not None:
                loc = network["mean_clip_scale"] * loc / (1 + np.abs(loc))
            scale = self._layers(x, network["std_head"]) if network["std_head"] else self.arrays["std_parameter"]
            scale = np.exp(scale) if network["log_std"] else scale
        return loc if noise is None else loc + scale * self._checked("the noise", noise, self.sizes[1])

    def _layers(self, x, layers):
        for layer in layers:
            if layer["kind"] == "dense":
                x = x @ self.arrays[layer["weight"]].T + self.arrays[layer["bias"]]
            elif layer["kind"] == "layer_norm":
                centred = x - x.mean(-1, keepdims=True)
                x = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(layer["eps"]))
                x = x * self.arrays[layer["weight"]] + self.arrays[layer["bias"]]
            else:
                x = ACTIVATIONS[layer["kind"]](x).astype(np.float32)
        return x

    @staticmethod
    def _checked(what, given, size):
        array = np.asarray(given, dtype=np.float32)
        if array.shape[-1:] != (size,):
            raise ValueError(f"{what} must be (..., {size}) for this policy, but is {array.shape}")
        return array
