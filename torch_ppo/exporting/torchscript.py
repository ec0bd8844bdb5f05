"""TorchScript: one file for Python and C++, for any leading axes. Deprecated in torch, and in use on many robots."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from torch_ppo.exporting.contract import CONTRACT_FILE, Contract
from torch_ppo.exporting.deployed import DeployedPixelPolicy, DeployedPolicy
from torch_ppo.exporting.errors import check_zip, damaged

SUFFIX = ".pt"
# Records that the writer makes itself.
_WRITTEN_ANYWAY = ("version", "byteorder", ".data/serialization_id")


@contextlib.contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Without torch's warnings about torch.jit, which is deprecated, and asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit\.")  # of a category that changed between versions
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


def _refuse_other_sizes(x: Tensor, size: int, name: str) -> Tensor:
    """Is compiled into the file, so that it refuses in words what the normalizer would broadcast."""
    if x.dim() < 1 or x.size(-1) != size:
        raise ValueError(f"{name} must be (..., {size}) for this policy, but is {x.size()}")
    return x


class _Checked(nn.Module):
    """A policy that looks at the sizes of its inputs first."""

    def __init__(self, policy: DeployedPolicy) -> None:
        super().__init__()
        self.policy, self.sizes = policy, [x.shape[-1] for x in policy.example()]
        self.check = torch.jit.script(_refuse_other_sizes)

    def forward(self, observation: Tensor) -> Tensor:
        return self.policy(self.check(observation, self.sizes[0], "the observation"))


class _CheckedWithNoise(_Checked):
    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        observation = self.check(observation, self.sizes[0], "the observation")
        return self.policy(observation, self.check(noise, self.sizes[1], "the noise"))


def _as_rows(x: Tensor, shape: list[int], name: str) -> Tensor:
    """Is compiled into the file: `x` `(..., *shape)` as `(n, *shape)`, or a refusal in words."""
    number = len(shape)
    if x.dim() < number or x.shape[x.dim() - number :] != shape:
        raise ValueError(f"{name} must be (..., {shape}) for this policy, but is {x.size()}")
    return x.reshape([-1] + shape)  # noqa: RUF005 - TorchScript has no *


def _with_leading_axes(rows: Tensor, like: Tensor, number: int) -> Tensor:
    """Is compiled into the file: `rows` with the leading axes of `like`, all but its last `number` ones."""
    return rows.reshape(like.shape[: like.dim() - number] + [rows.shape[-1]])  # noqa: RUF005


class _CheckedPixels(nn.Module):
    """A policy that sees pictures, for any leading axes, which convolutions have not."""

    def __init__(self, policy: DeployedPolicy) -> None:
        super().__init__()
        self.policy, self.names = policy, policy.input_names
        self.shapes = [list(x.shape[1:]) for x in policy.example()]
        self.as_rows, self.with_leading_axes = torch.jit.script(_as_rows), torch.jit.script(_with_leading_axes)

    def forward(self, *inputs: Tensor) -> Tensor:
        rows = [self.as_rows(x, *told) for x, *told in zip(inputs, self.shapes, self.names, strict=True)]
        return self.with_leading_axes(self.policy(*rows), inputs[0], len(self.shapes[0]))


def to_bytes(policy: DeployedPolicy, contract: Contract) -> bytes:
    """The content of a file for `torch.jit.load`."""
    with quiet_torchscript(), torch.no_grad():
        kind = _CheckedWithNoise if policy.stochastic else _Checked
        if isinstance(policy, DeployedPixelPolicy):
            kind = _CheckedPixels
        checked = kind(policy).eval()
        traced = torch.jit.freeze(torch.jit.trace(checked, policy.example(), check_trace=False))
        content = traced.save_to_buffer(_extra_files={CONTRACT_FILE: json.dumps(contract)})
    return _without_debug_files(content)


def _without_debug_files(content: bytes) -> bytes:
    """They have the trainer's paths, and only serve to name its lines in an error."""
    reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in _WRITTEN_ANYWAY:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return buffer.getvalue()


def read(path: Path, device: torch.device | str = "cpu") -> tuple[Callable[..., Tensor], Contract | None]:
    """The policy in a file, and its contract, if it has one. ExportError if it is cut off or damaged."""
    check_zip(path)
    extra = {CONTRACT_FILE: ""}
    try:
        with quiet_torchscript():
            module = torch.jit.load(str(path), map_location=device, _extra_files=extra).eval()
    except RuntimeError:
        raise damaged(path) from None
    return module, json.loads(extra[CONTRACT_FILE]) if extra[CONTRACT_FILE] else None
