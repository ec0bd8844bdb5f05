"""Weights as a safetensors file whose header, and a JSON file beside it, describe what is computed with them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from torch_ppo.exporting.contract import CONTRACT_KEY, Contract
from torch_ppo.exporting.deployed import DeployedPixelPolicy, DeployedPolicy
from torch_ppo.exporting.errors import ExportError, damaged
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.formulas.distribution import MIN_STD
from torch_ppo.formulas.networks import MLP, CategoricalPolicy, NormalPolicy, TanhNormalPolicy

SUFFIX = ".safetensors"

Arrays = dict[str, Tensor]
Layers = list[dict[str, object]]

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.SiLU: "swish",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.LeakyReLU: "leaky_relu",
    nn.SELU: "selu",
    nn.Mish: "mish",
    nn.Sigmoid: "sigmoid",
}


def _layers(modules: list[nn.Module], name: str, arrays: Arrays) -> Layers:
    """What the modules compute, one after the other; puts their weights into `arrays`."""
    found: Layers = []
    for i, module in enumerate(modules):
        if type(module) in _ACTIVATIONS:
            found.append({"kind": _ACTIVATIONS[type(module)]})
            continue
        weight, bias = f"{name}.{i}.weight", f"{name}.{i}.bias"
        arrays[weight], arrays[bias] = module.weight, module.bias
        if isinstance(module, nn.LayerNorm):
            found.append({"kind": "layer_norm", "weight": weight, "bias": bias, "eps": module.eps})
        else:
            found.append({"kind": "dense", "weight": weight, "bias": bias})
    return found


def describe(policy: DeployedPolicy) -> tuple[Arrays, dict[str, object]]:
    """The numbers of a policy by name, and in words what is computed with them. ExportError for a network not of ours."""
    if isinstance(policy, DeployedPixelPolicy):
        raise ExportError(
            "--format safetensors has no convolutions, for policies that see pixels; torchscript would work"
        )
    network, arrays = policy.policy, {"mean": policy.mean, "std": policy.std}
    if not isinstance(network, TanhNormalPolicy | NormalPolicy | CategoricalPolicy) or not isinstance(
        network.trunk, MLP
    ):
        raise ExportError(
            f"--format safetensors describes the networks of torch_ppo, not a {type(network).__name__}; torchscript would work"
        )
    told: dict[str, object] = {
        "normalize": policy.normalized,
        "clip": policy.clip,
        "trunk": _layers(list(network.trunk.layers), "trunk", arrays),
        "squash": "tanh" if policy.distribution.limit == 1.0 else None,
        "stochastic": policy.stochastic,
        "controls": policy.controls is not None,
    }
    if policy.controls is not None:
        arrays |= {f"controls.{name}": value for name, value in policy.controls.named_buffers()}
    if isinstance(network, TanhNormalPolicy):
        return arrays, {"kind": "tanh_normal", "min_std": MIN_STD, **told}
    if isinstance(network, CategoricalPolicy):
        return arrays, {"kind": "categorical", "head": _layers([network.logits_head], "logits_head", arrays), **told}
    told["mean_head"] = _layers([network.mean_head], "mean_head", arrays)
    told["std_head"] = _layers([network.std_head], "std_head", arrays) if network.std_head is not None else None
    if network.std is not None:
        arrays["std_parameter"] = network.std
    return arrays, {"kind": "normal", "log_std": network.log_std, "mean_clip_scale": network.mean_clip_scale, **told}


def to_bytes(policy: DeployedPolicy, contract: Contract) -> bytes:
    """The content of a safetensors file: the length of a header, the header, and all numbers as float32."""
    arrays, network = describe(policy)
    header: dict[str, object] = {"__metadata__": {CONTRACT_KEY: json.dumps({**contract, "network": network})}}
    numbers, at = [], 0
    for name, tensor in arrays.items():
        content = tensor.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(content)]}
        numbers.append(content)
        at += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *numbers])


def read(path: Path, device: torch.device | str = "cpu") -> tuple[Callable[..., Tensor], Contract | None]:
    """The policy in a file, and its contract; computes with NumPy. ExportError if it is cut off or damaged."""
    try:
        policy = NumpyPolicy(path)
    except ValueError:
        raise damaged(path) from None

    def act(*inputs: Tensor) -> Tensor:
        return torch.from_numpy(policy(*(x.detach().cpu().numpy() for x in inputs))).to(inputs[0].device)

    return act, policy.contract
