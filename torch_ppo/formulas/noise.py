"""Where a run's random numbers come from: one generator per purpose, all derived from one seed.

Separate streams keep purposes apart: an extra evaluation does not change training. The learning code draws
through `Noise`, so a test can replay recorded numbers through the same code.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

STREAMS = ("init", "train", "env", "eval", "eval_env")


class Noise(Protocol):
    """What collecting and updating draw."""

    def normal(self, *shape: int) -> Tensor: ...

    def permutation(self, n: int) -> Tensor: ...


class GeneratorNoise:
    """Noise from a torch generator on its device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of the given shape."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0..n-1, int64 `(n,)`: the order of random keys, which a CUDA graph can hold."""
        keys = torch.empty(n, dtype=torch.int64, device=self.generator.device)
        return keys.random_(generator=self.generator).argsort()


def make_generators(seed: int, device: torch.device) -> dict[str, torch.Generator]:
    """One generator per stream in `STREAMS`. "init" is on the CPU, so that networks start alike on all devices."""
    seeds = np.random.SeedSequence(seed).generate_state(len(STREAMS), np.uint64)
    generators = {}
    for name, stream_seed in zip(STREAMS, seeds, strict=True):
        generator = torch.Generator("cpu" if name == "init" else device)
        generators[name] = generator.manual_seed(int(stream_seed) % 2**63)
    return generators
