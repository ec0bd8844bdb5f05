"""Golden fixtures: what Brax computed, found by key and compared at the manifest's tolerances.

The file is tests/golden/brax_golden.npz, or the one that the environment variable TORCH_PPO_GOLDEN names, written
by tools/golden. Its keys, where a training step has `<group>/<case>/step<s>` for `<group>/<case>`, are

    <group>/<case>/cfg              settings, JSON
    <group>/<case>/in/<name>        inputs, float32
    <group>/<case>/out/<name>       Brax's outputs in float32
    <group>/<case>/out64/<name>     the same in float64, from the same inputs
    <group>/<case>/spec/<network>   order of the network's flat parameters, "name:dim,dim" each

Cases, sizes and settings are read from the file; no test knows them.
"""

import functools
import json
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torch_ppo.formulas.networks import NormalPolicy
from torch_ppo.formulas.pixels import VisionNetwork

SHIPPED = Path(__file__).parents[1] / "golden" / "brax_golden.npz"
FILE = Path(os.environ.get("TORCH_PPO_GOLDEN") or SHIPPED)
OUTPUTS = {torch.float64: "out64", torch.float32: "out"}
TOLERANCE = "f32 1e-5 |x|; f64 1e-10 |x|"  # of what no manifest knows

with np.load(FILE) as _file:
    ARRAYS: dict[str, np.ndarray] = dict(_file)


def read_manifest(fixture: Path) -> dict[str, str]:
    """Tolerance of every key in the manifest beside a fixture; empty if there is none."""
    path = fixture.with_name("brax_golden_manifest.json")
    return {key: entry["tolerance"] for key, entry in json.loads(path.read_text()).items()} if path.exists() else {}


def without_case(key: str) -> str:
    """A key less its case and its numbers: what keys of the same meaning have in common."""
    group, _, name = key.split("/", 2) if key.count("/") > 1 else (key, "", "")
    return re.sub(r"\d+", "#", f"{group}/{name}")


SHIPPED_MANIFEST = read_manifest(SHIPPED)
MANIFEST = read_manifest(FILE) or SHIPPED_MANIFEST
TOLERANCE_BY_NAME = {without_case(key): text for key, text in reversed(SHIPPED_MANIFEST.items())}


def tolerance(key: str, expected: Tensor, *, ema: bool) -> dict[str, float]:
    """`rtol` and `atol` for a key from its entry in the manifest, such as "f32 1e-5 |x|; f64 1e-10 |x|, ema 1e-7 |x|".

    |x| is the largest entry, at least 1. "flags exact" and "counters exact" mean arrays of whole numbers.
    """
    text = MANIFEST.get(key) or TOLERANCE_BY_NAME.get(without_case(key), TOLERANCE)
    if text == "input":
        text = TOLERANCE
    if not expected.is_floating_point() or text == "exact" or ("exact" in text and expected.equal(expected.round())):
        return {"rtol": 0.0, "atol": 0.0}
    numbers = {
        label: (float(number), unit) for label, number, unit in re.findall(r"(f32|f64|ema) (\S+) ([^\s;,]+)", text)
    }
    label = "f32" if expected.dtype == torch.float32 else "ema" if ema and "ema" in numbers else "f64"
    number, unit = numbers[label]
    if unit == "relative":
        return {"rtol": number, "atol": 0.0}
    return {"rtol": 0.0, "atol": number * max(1.0, expected.abs().max().item())}


@dataclass(frozen=True)
class Case:
    """One case, or one training step of a case, in one precision.

    path:   `<group>/<case>` or `<group>/<case>/step<s>`
    dtype:  of inputs and outputs; float64 compares with `out64`, float32 with `out`
    """

    path: str
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.path.partition('/')[2]}-{str(self.dtype).removeprefix('torch.')}"

    def _of_case(self, name: str) -> np.ndarray:
        group, case = self.path.split("/")[:2]
        return ARRAYS[f"{group}/{case}/{name}"]

    @functools.cached_property
    def cfg(self) -> dict:
        """The settings of the case."""
        return json.loads(str(self._of_case("cfg")))

    def spec(self, network: str) -> list[str]:
        """Order of the flat parameters of "policy" or "value"."""
        return [str(entry) for entry in self._of_case(f"spec/{network}")]

    def step(self, number: int) -> "Case":
        """A training step of this case, or another one of this step's case."""
        return Case("/".join([*self.path.split("/")[:2], f"step{number}"]), self.dtype)

    @property
    def steps(self) -> list["Case"]:
        """All training steps of the case, in order."""
        found = {int(match[1]) for key in ARRAYS if (match := re.match(rf"{re.escape(self.path)}/step(\d+)/", key))}
        return [self.step(number) for number in sorted(found)]

    def __contains__(self, name: str) -> bool:
        return f"{self.path}/{name}" in ARRAYS

    def __getitem__(self, name: str) -> Tensor:
        """A fresh tensor of a recorded array, such as `case["in/rewards"]`; integers stay integers."""
        array = ARRAYS[f"{self.path}/{name}"]
        return torch.tensor(array, dtype=self.dtype if array.dtype.kind == "f" else None)

    def below(self, part: str) -> dict[str, Tensor]:
        """All arrays `<part>/<name>`, by name."""
        start = f"{self.path}/{part}/"
        names = [key.removeprefix(start) for key in ARRAYS if key.startswith(start)]
        return {name: self[f"{part}/{name}"] for name in names}

    def observation(self, name: str) -> dict[str, Tensor]:
        """A recorded observation, or anything recorded per observation, as a dict."""
        return {"state": self[name]} if name in self else self.below(name)

    def check(self, actual: Mapping[str, Tensor], *, part: str | None = None, without: tuple[str, ...] = ()) -> None:
        """Compares everything recorded in a part (the outputs) but names that start with one of `without`."""
        part = part or OUTPUTS[self.dtype]
        names = [name for name in self.below(part) if not name.startswith(without)]
        assert names, f"nothing is recorded in {self.path}/{part}"
        for name in names:
            self.compare(name, actual[name], part=part)

    def compare(
        self, name: str, actual: Tensor, *, part: str | None = None, of: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        """Compares with one recorded array, or with what the function `of` makes of it."""
        key = f"{part or OUTPUTS[self.dtype]}/{name}"
        expected = of(self[key])
        allowed = tolerance(f"{self.path}/{key}", expected, ema=self.cfg.get("mode") == "ema")
        torch.testing.assert_close(
            actual.detach(), expected, **allowed, msg=lambda message: f"{self.path}/{key}: {message}"
        )


def cases(group: str, *dtypes: torch.dtype, steps: bool = False) -> pytest.MarkDecorator:
    """Parametrises a test by all cases of a group, or by their steps, in every precision (or `dtypes`) recorded."""
    path = re.compile(rf"({group}/[^/]+{'/step[0-9]+' if steps else ''})/(?:.*/)?(out|out64)/")
    found = {match.groups() for key in ARRAYS if (match := path.match(key))}
    wanted = [
        Case(path, dtype)
        for path in sorted({path for path, _ in found})
        for dtype, part in OUTPUTS.items()
        if (path, part) in found and dtype in (dtypes or OUTPUTS)
    ]
    return pytest.mark.parametrize("case", wanted, ids=str)


class RecordedNoise:
    """The `Noise` that replays recorded numbers in order."""

    def __init__(
        self, normals: Iterable[Tensor], permutations: Iterable[Tensor] = (), integers: Iterable[Tensor] = ()
    ) -> None:
        self.normals, self.permutations, self.recorded_integers = deque(normals), deque(permutations), deque(integers)

    def normal(self, *shape: int) -> Tensor:
        noise = self.normals.popleft()
        assert noise.shape == shape
        return noise

    def permutation(self, n: int) -> Tensor:
        order = self.permutations.popleft()
        assert order.shape == (n,)
        return order

    def integers(self, high: int, *shape: int) -> Tensor:
        numbers = self.recorded_integers.popleft()
        assert numbers.shape == shape and numbers.min() >= 0 and numbers.max() < high
        return numbers

    def assert_spent(self) -> None:
        """Everything recorded has been drawn."""
        assert not self.normals and not self.permutations and not self.recorded_integers


def flax_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """A network's parameters by the names that Brax's networks give them, less the prefix "MLP_0/"."""
    named = {}
    if isinstance(network, VisionNetwork):
        for i, view in enumerate(network.encoder.views):
            for j, layer in enumerate(layer for layer in view.layers if isinstance(layer, nn.Conv2d)):
                named |= {f"CNN_{i}/Conv_{j}/bias": layer.bias, f"CNN_{i}/Conv_{j}/kernel": layer.weight}
        network = network.head
    for kind, name, weight in ((nn.Linear, "hidden", "kernel"), (nn.LayerNorm, "LayerNorm", "scale")):
        for i, layer in enumerate(layer for layer in network.trunk.layers if isinstance(layer, kind)):
            named |= {f"{name}_{i}/bias": layer.bias, f"{name}_{i}/{weight}": layer.weight}
    if isinstance(network, NormalPolicy):
        for i, head in enumerate(head for head in (network.mean_head, network.std_head) if head):
            named |= {f"Dense_{i}/bias": head.bias, f"Dense_{i}/kernel": head.weight}
        if network.std is not None:
            named["std_logparam/log_value" if network.log_std else "std_param/value"] = network.std
    return named


def unflatten(network: nn.Module, spec: list[str], vector: Tensor) -> dict[nn.Parameter, Tensor]:
    """Cuts a flat vector into one tensor per parameter; kernels `(..., in, out)` become weights `(out, in, ...)`."""
    named, tensors = flax_parameters(network), {}
    shapes = {name.removeprefix("MLP_0/"): dims for name, dims in (entry.split(":") for entry in spec)}
    assert named.keys() == shapes.keys()
    shapes = {name: [int(dim) for dim in dims.split(",")] for name, dims in shapes.items()}
    pieces = vector.split([math.prod(shape) for shape in shapes.values()])
    for (name, shape), piece in zip(shapes.items(), pieces, strict=True):
        tensor = piece.view(shape)
        # Adam's fused kernel ignores strides, so its moments must be contiguous.
        tensors[named[name]] = weight_of(tensor).contiguous() if name.endswith("/kernel") else tensor
    return tensors


def flatten(network: nn.Module, spec: list[str], tensors: Mapping[nn.Parameter, Tensor]) -> Tensor:
    """The inverse of `unflatten`."""
    named, pieces = flax_parameters(network), []
    for entry in spec:
        name = entry.split(":")[0].removeprefix("MLP_0/")
        tensor = tensors[named[name]]
        pieces.append((kernel_of(tensor) if name.endswith("/kernel") else tensor).flatten())
    return torch.cat(pieces)


def weight_of(kernel: Tensor) -> Tensor:
    """torch's weight, `(out, in)` or `(out, in, height, width)`, of a flax kernel `(in, out)`, `(height, width, in, out)`."""
    return kernel.permute(-1, -2, *range(kernel.dim() - 2))


def kernel_of(weight: Tensor) -> Tensor:
    """The inverse."""
    return weight.permute(*range(2, weight.dim()), 1, 0)
