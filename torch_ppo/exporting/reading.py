"""Exported policies of any format, by what is in the file."""

import json
import zipfile
from collections.abc import Callable
from json import JSONDecodeError
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from torch_ppo.command import called
from torch_ppo.exporting import onnx_file, pt2, safetensors_file, torchscript
from torch_ppo.exporting.contract import Contract, check_contract
from torch_ppo.exporting.errors import ExportError, damaged

# By what --format calls them; the first is what training writes.
FORMATS: dict[str, ModuleType] = {
    "torchscript": torchscript,
    "onnx": onnx_file,
    "pt2": pt2,
    "safetensors": safetensors_file,
}
Act = Callable[..., Tensor]


def format_of(path: Path) -> str | None:
    """The format of an exported policy, from its first bytes and its name; None if it is something else."""
    if not path.is_file():
        return None
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            names = []
        if any(name.endswith("/archive_format") for name in names) or path.suffix == pt2.SUFFIX:
            return "pt2"
        return "torchscript" if any("/code/" in name for name in names) else None
    if path.suffix in (onnx_file.SUFFIX, pt2.SUFFIX):
        return "onnx" if path.suffix == onnx_file.SUFFIX else "pt2"
    with path.open("rb") as file:
        begin = file.read(9)
    return "safetensors" if begin[8:] == b"{" or path.suffix == safetensors_file.SUFFIX else None


def read(path: Path, device: torch.device | str = "cpu") -> tuple[Act, Contract | None]:
    """What computes the actions, and the contract, if the file has one. ExportError for a file of something else."""
    name = format_of(path)
    if name is None:
        raise ExportError(f"{path} is not an exported policy; formats: {', '.join(FORMATS)}")
    try:
        return FORMATS[name].read(path, device)
    except (UnicodeDecodeError, JSONDecodeError, RecursionError):  # of its contract, which no format looks at
        raise damaged(path) from None


def check_acting(act: Act, contract: Contract | None, path: Path, device: torch.device | str = "cpu") -> Contract:
    """The contract of what `read` gave. ExportError for one that is not understood, or is not what the file does."""
    contract = check_contract(contract, path)
    seen, action = contract["observation"]["size"], contract["action"]
    pictures = [(view["height"], view["width"], view["channels"]) for view in contract.get("pixels") or ()]
    inputs = [torch.zeros(1, *size, dtype=torch.uint8, device=device) for size in pictures]
    if seen or not pictures:
        inputs.append(torch.zeros(1, seen, device=device))
    if not action["deterministic"]:
        discrete = action.get("discrete")
        inputs.append(torch.full((1, sum(discrete["choices"]) if discrete else action["size"]), 0.5, device=device))
    try:
        given = act(*inputs)
        fits = given.shape == (1, action["size"]) and bool(given.isfinite().all())
    except Exception:  # noqa: BLE001 - each runtime has its own for a size that it does not take
        fits = False
    if not fits:
        shapes = ", ".join(f"{tuple(x.shape)}" for x in inputs)
        raise ExportError(
            f"{path} does not do what its contract says: of {shapes} it does not make {action['size']} finite numbers; "
            f"{called('export')} makes it again"
        )
    return contract


def contract_in(path: Path) -> Contract | None:
    """The contract in a file, or in the JSON file beside a .safetensors. ExportError as from `read`."""
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    if path.suffix == ".json":
        try:
            return json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise ExportError(f"{path} is not JSON") from None
    return read(path)[1]


def is_ours(path: Path) -> bool:
    """Whether a file is an exported policy of torch_ppo, of this version or an older one, which may be replaced."""
    try:
        contract = contract_in(path)
    except ExportError:
        return False
    if isinstance(contract, dict) and "kind" in contract:
        return str(contract["kind"]).startswith("torch_ppo")
    if contract is None and format_of(path) == "torchscript":  # before there was a contract
        with zipfile.ZipFile(path) as archive:
            return any("/code/__torch__/torch_ppo/" in name for name in archive.namelist())
    return False
