"""Running mean and standard deviation of observations.

Source: brax/training/acme/running_statistics.py. Variances are population variances. "ema" is Brax's
name for a mode whose rate is n / count, so that on one device it agrees with "welford" up to rounding;
the difference that matters is that only "ema" obeys `until_count`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

STD_MIN, STD_MAX = 1e-6, 1e6


OverDevices = Callable[[Tensor], Tensor]  # the sum, or the mean, of a tensor over the devices that learn together


def on_one_device(x: Tensor) -> Tensor:
    """What `OverDevices` is with one device."""
    return x


def welford_update(
    mean: Tensor,
    summed_variance: Tensor,
    count: Tensor,
    batch: Tensor,
    std_eps: float,
    sum_over_devices: OverDevices = on_one_device,
) -> tuple[Tensor, Tensor, Tensor]:
    """New (mean, std, summed_variance), each `(dim,)`, after `batch` `(n, dim)`.

    `count` `()` already includes the n rows of `batch`, of every device.
    """
    total = count.to(batch.dtype)
    deviation = batch - mean
    mean = mean + sum_over_devices(deviation.sum(0)) / total
    summed_variance = summed_variance + sum_over_devices((deviation * (batch - mean)).sum(0))
    std = torch.sqrt(summed_variance.clamp(min=0.0) / total + std_eps).clamp(STD_MIN, STD_MAX)
    return mean, std, summed_variance


def ema_update(
    mean: Tensor,
    variance: Tensor,
    count: Tensor,
    batch: Tensor,
    std_eps: float,
    until_count: int | None,
    num_devices: int = 1,
    mean_over_devices: OverDevices = on_one_device,
) -> tuple[Tensor, Tensor, Tensor]:
    """New (mean, std, variance), each `(dim,)`, after `batch` `(n, dim)`.

    `count` `()` already includes the n rows, of every device. Nothing changes once it exceeds `until_count`. Over several
    devices variances are averaged, without the variance between devices, as in Brax.
    """
    rate = num_devices * batch.shape[0] / count.to(batch.dtype)
    if until_count is not None:
        rate = torch.where(count > until_count, torch.zeros_like(rate), rate)
    batch_variance, batch_mean = (mean_over_devices(x) for x in torch.var_mean(batch, 0, correction=0))
    shift = batch_mean - mean
    new_mean = mean + rate * shift
    variance = variance + rate * (batch_variance - variance + shift * (batch_mean - new_mean))
    std = torch.sqrt(variance.clamp(min=0.0) + std_eps).clamp(STD_MIN, STD_MAX)
    return new_mean, std, variance


def mode_of(std: Tensor, summed_variance: Tensor, count: int, std_eps: float = 0.0) -> str:
    """Whose `summed_variance` `(dim,)` it is, by which of "welford" and "ema" explains `std` `(dim,)` better.

    Brax's checkpoints do not say, and the two differ by a factor of `count`.
    """
    variance = summed_variance.double().clamp(min=0.0)
    off = {}
    for mode, found in (("welford", variance / max(count, 1)), ("ema", variance)):
        expected = (found + std_eps).sqrt().clamp(STD_MIN, STD_MAX)
        off[mode] = (expected / std.double().clamp(min=STD_MIN)).log().abs().sum()
    return "ema" if off["ema"] < off["welford"] else "welford"


def robust_mean_and_std(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Median and what would be the standard deviation of a normal distribution with the same 1 % and 99 % quantiles.

    Of up to some thousand rows of `batch` `(n, dim)`. A column that hardly changes has its plain standard deviation.
    """
    rows = batch[:: max(1, len(batch) // 4096)]
    low, median, high = rows.quantile(rows.new_tensor([0.01, 0.5, 0.99]), dim=0)
    std = (high - low) / 4.653  # between these quantiles of a standard normal distribution
    return median, torch.where(std > 0, std, batch.std(0, correction=0))


class RunningStatistics(nn.Module):
    """Statistics of one observation, of which those who ask may see the last `frames`, side by side, the newest last.

    All frames of a stack share the statistics, and each observation is counted once, when it is the newest.

    mean, std:        used by `normalize`                          (dim,)
    summed_variance:  sum of squared deviations ("welford")
                      or the variance itself ("ema")               (dim,)
    count:            rows seen, int64                             ()
    """

    def __init__(
        self,
        dim: int,
        *,
        mode: str = "welford",
        std_eps: float = 0.0,
        until_count: int | None = None,
        clip: float | None = None,
        frames: int = 1,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.mode, self.std_eps, self.until_count, self.clip = mode, std_eps, until_count, clip
        self._begun = False
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("summed_variance", torch.zeros(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def obs_dim(self) -> int:
        """Size of what is normalised: frames * dim."""
        return self.frames * len(self.mean)

    @torch.no_grad()
    def update(
        self,
        batch: Tensor,
        *,
        num_devices: int = 1,
        sum_over_devices: OverDevices = on_one_device,
        mean_over_devices: OverDevices = on_one_device,
    ) -> None:
        """Takes the newest frame of all rows of `batch` `(..., frames * dim)` into account, in place.

        Of every device, if they are several, each with as many rows.
        """
        batch = batch.reshape(-1, batch.shape[-1])[:, -len(self.mean) :]
        if self.clip is not None:
            batch = self._clipped(batch)
        self.count += num_devices * batch.shape[0]
        if self.mode == "welford":
            new = welford_update(self.mean, self.summed_variance, self.count, batch, self.std_eps, sum_over_devices)
        else:
            new = ema_update(
                self.mean,
                self.summed_variance,
                self.count,
                batch,
                self.std_eps,
                self.until_count,
                num_devices,
                mean_over_devices,
            )
        for buffer, value in zip((self.mean, self.std, self.summed_variance), new, strict=True):
            buffer.copy_(value)

    def normalize(self, x: Tensor) -> Tensor:
        """(x - mean) / std over each frame of the last axis `(..., frames * dim)`, within ±clip if there is one."""
        if self.frames == 1:
            normal = (x - self.mean) / self.std
        else:
            normal = ((x.unflatten(-1, (self.frames, -1)) - self.mean) / self.std).flatten(-2)
        return normal if self.clip is None else normal.clamp(-self.clip, self.clip)

    def _clipped(self, batch: Tensor) -> Tensor:
        """`batch` `(n, dim)` within `clip` standard deviations of the mean.

        What is clipped still counts, as that far away, so that a change for good is followed in a few updates.
        """
        if not self._begun:  # the one read from the device, in the first update
            self._begun = self.count.item() > 0
        mean, std = (self.mean, self.std) if self._begun else robust_mean_and_std(batch)
        self._begun = True
        return batch.clamp(mean - self.clip * std, mean + self.clip * std)
