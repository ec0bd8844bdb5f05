"""What the learning code draws its random numbers through, so that a test can replay recorded ones."""

from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """What collecting and updating draw."""

    def normal(self, *shape: int) -> Tensor: ...

    def uniform(self, *shape: int) -> Tensor: ...

    def permutation(self, n: int) -> Tensor: ...

    def integers(self, high: int, *shape: int) -> Tensor: ...


class GeneratorNoise:
    """Noise from a torch generator on its device; without one from torch's own on `device`."""

    def __init__(self, generator: torch.Generator | None, device: torch.device | None = None) -> None:
        self.generator, self.device = generator, device if generator is None else generator.device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of the given shape."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of the given shape."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0..n-1, int64 `(n,)`: the order of random keys, which a CUDA graph can hold."""
        keys = torch.empty(n, dtype=torch.int64, device=self.device)
        return keys.random_(generator=self.generator).argsort()

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform integers from 0 to high - 1, int64 of the given shape."""
        return torch.randint(high, shape, generator=self.generator, device=self.device)
