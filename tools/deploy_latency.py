"""Latency of one call of an exported policy, batch 1, in each runtime that Python has.

python -m tools.deploy_latency runs/first        (after: python -m torch_ppo.export runs/first --format all)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from torch_ppo.errors import UserError, user_errors
from torch_ppo.exporting import onnx_file, pt2, safetensors_file, torchscript
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.settings.command_line import read_command_line

CALLS = 2000


def median_microseconds(call: Callable[[], object]) -> float:
    """Of many calls, after some that warm up."""
    for _ in range(200):
        call()
    seconds = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return 1e6 * float(np.median(seconds))


@dataclass(frozen=True)
class LatencyArguments:
    """Time one call of an exported policy in each runtime that Python has."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, exported with --format all."""


@user_errors()
def main() -> None:
    """Prints a line on each runtime."""
    folder = read_command_line(LatencyArguments, "tools.deploy_latency").run
    torch.set_num_threads(1)
    files = [folder / f"policy{module.SUFFIX}" for module in (safetensors_file, torchscript, pt2, onnx_file)]
    if missing := [file.name for file in files if not file.is_file()]:
        export = f"python -m torch_ppo.export {folder} --format all"
        raise UserError(f"{folder} has no {', '.join(missing)}; {export} would write all, where there is a run")
    numpy_policy = NumpyPolicy(folder / "policy.safetensors")
    tensor = torch.zeros(1, numpy_policy.sizes[0])
    array = tensor.numpy()
    network = numpy_policy.contract["network"]["trunk"]
    print(
        f"{numpy_policy.sizes[0]} -> {numpy_policy.sizes[1]}, {sum(x['kind'] == 'dense' for x in network)} dense layers"
    )
    for name, module in {"TorchScript": torchscript, "torch.export": pt2, "ONNX Runtime": onnx_file}.items():
        act, _ = module.read(folder / f"policy{module.SUFFIX}")
        with torch.inference_mode():
            print(f"{name:14} {median_microseconds(lambda act=act: act(tensor)):7.1f} us")
    print(f"{'NumPy':14} {median_microseconds(lambda: numpy_policy(array)):7.1f} us  ({safetensors_file.SUFFIX})")


if __name__ == "__main__":
    main()
