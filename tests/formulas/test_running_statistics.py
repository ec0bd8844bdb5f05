"""The normalizer after billions of observations, against float64; its formulas against Brax's are in test_brax_parity."""

import numpy as np
import pytest
import torch

from torch_ppo.formulas.running_statistics import RunningStatistics

ROWS = 20_480
MEAN, STD = np.array([0.0, 1.0, -30.0, 100.0]), np.array([1.0, 0.01, 5.0, 50.0])


def batches(number):
    generator = np.random.default_rng(0)
    for _ in range(number):
        yield (MEAN + STD * generator.standard_normal((ROWS, 4))).astype(np.float32)


@pytest.mark.parametrize("mode", ["welford", "ema"])
@pytest.mark.parametrize("seen", [2**24 - ROWS, 2**31 - ROWS, 10**11], ids=["2**24", "2**31", "1e11"])
def test_counts_beyond_integers_of_float32_and_int32(seen, mode):
    """A hundred training steps more, with a batch that lies a little beside what was seen before."""
    statistics = RunningStatistics(4, mode=mode)
    variance = STD**2 * 1.1
    mean, summed, count = MEAN + 0.1 * STD, variance * (seen if mode == "welford" else 1), seen
    statistics.mean.copy_(torch.from_numpy(mean))
    statistics.summed_variance.copy_(torch.from_numpy(summed))
    statistics.count.fill_(seen)
    for batch in batches(100):
        statistics.update(torch.from_numpy(batch))
        # The same in float64, as one formula for the union of two samples (Chan, Golub and LeVeque 1979).
        batch, total = batch.astype(np.float64), count + ROWS
        shift = batch.mean(0) - mean
        spread = (
            (summed if mode == "welford" else summed * count) + batch.var(0) * ROWS + shift**2 * count * ROWS / total
        )
        mean, count = mean + shift * ROWS / total, total
        summed = spread if mode == "welford" else spread / total
    std = np.sqrt(summed / count if mode == "welford" else summed)
    assert statistics.count.item() == count == seen + 100 * ROWS
    off = np.abs(statistics.mean.numpy() - mean) / std
    wide = np.abs(statistics.std.numpy() / std - 1)
    assert off.max() < 1e-3 and wide.max() < 1e-4, (off, wide)
