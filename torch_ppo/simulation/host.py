"""When the host may look at a number, to leave out work that it shows to be needless."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

_as_on_cuda = False


def host_can_ask(x: Tensor) -> bool:
    """Whether reading from `x` is free and allowed: it lies on the CPU, and no compiler or recorder is at work."""
    return x.device.type == "cpu" and not _as_on_cuda and not torch.compiler.is_compiling()


@contextlib.contextmanager
def as_on_cuda() -> Iterator[None]:
    """Inside, the CPU does the same operations as a CUDA device would, so that they can be recorded and counted."""
    global _as_on_cuda
    before, _as_on_cuda = _as_on_cuda, True
    try:
        yield
    finally:
        _as_on_cuda = before
