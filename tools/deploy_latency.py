"""Latency of one call of an exported policy, batch 1, in each runtime that Python has.

python -m tools.deploy_latency runs/first        (after: python -m torch_ppo.export runs/first --format all)
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from torch_ppo.exporting import onnx_file, pt2, safetensors_file, torchscript
from torch_ppo.exporting.numpy_policy import NumpyPolicy

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


def main() -> None:
    """Prints a line on each runtime."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
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
