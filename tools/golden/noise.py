"""Random numbers: drawn for inputs, and given to Brax in place of its own."""

import contextlib
from collections.abc import Iterator

import numpy as np
from brax.training import distribution


def normal(random: np.random.RandomState, *shape: int) -> np.ndarray:
    """Standard normal numbers in float32."""
    return random.randn(*shape).astype(np.float32)


@contextlib.contextmanager
def injected_noise() -> Iterator[None]:
    """Inside this block the `seed` given to a Brax normal is the noise itself."""
    kind = distribution._NormalDistribution
    original = kind.sample
    kind.sample = lambda self, seed: seed * self.scale + self.loc
    try:
        yield
    finally:
        kind.sample = original
