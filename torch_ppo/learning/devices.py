"""The devices that learn together, one process each, joined by `torch.distributed`.

As in Brax every device has its own share of the envs and of every minibatch; gradients, the KL and the normalizer's sums
are of all. Every method is called by all processes in the same order, or they wait for each other.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from torch_ppo.errors import ConfigError, UserError
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.settings.config import Config

# Numbers up to which Gloo's gather, which is one round, beats its ring of two: there it is waiting that costs.
GATHERED_UP_TO = 1 << 17
SHARED = ("num_envs", "batch_size", "num_eval_envs")


class DeviceLost(UserError):
    """Another device's process has ended or does not answer."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """One of `count` devices, the one of number `rank`. With a count of 1 nothing is communicated.

    learning:  process group for tensors on the devices (NCCL on CUDA, Gloo on the CPU)
    host:      process group for numbers on the host (Gloo)
    """

    rank: int = 0
    count: int = 1
    learning: dist.ProcessGroup | None = None
    host: dist.ProcessGroup | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    def share(self, config: Config) -> Config:
        """The configuration with this device's part of the envs and of a minibatch. ConfigError if they do not divide."""
        for name in SHARED:
            value = getattr(config, name)
            if value % self.count and not (name == "num_eval_envs" and not config.run_evals):
                below, above = value // self.count * self.count, -(-value // self.count) * self.count
                others = " or ".join(str(n) for n in (below, above) if n)
                raise ConfigError(f"{name} = {value} is not divisible by the {self.count} devices; {others} would be")
        return dataclasses.replace(config, **{name: getattr(config, name) // self.count for name in SHARED})

    def sum_(self, x: Tensor) -> Tensor:
        """`x`, in place the sum over all devices."""
        if self.alone:
            return x
        if x.device.type == "cpu" and x.numel() * self.count <= GATHERED_UP_TO:
            return x.copy_(self.gathered(x[None]).sum(0))
        self._run(lambda: dist.all_reduce(x, group=self.learning))
        return x

    def mean_(self, x: Tensor) -> Tensor:
        """`x`, in place the mean over all devices."""
        return x if self.alone else self.sum_(x).div_(self.count)

    def gathered(self, x: Tensor) -> Tensor:
        """The `x` `(n, ...)` of all devices, one after the other: `(count * n, ...)`."""
        if self.alone:
            return x
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.count)]
        self._run(lambda: dist.all_gather(parts, x, group=self.learning))
        return torch.cat(parts)

    def update(self, statistics: RunningStatistics, batch: Tensor) -> None:
        """Takes the rows of `batch` `(..., dim)` of all devices into the statistics, which are the same everywhere."""
        statistics.update(batch, num_devices=self.count, sum_over_devices=self.sum_, mean_over_devices=self.mean_)

    def any(self, here: bool) -> bool:
        """Whether it is true of any device. The hosts wait for each other."""
        return here if self.alone else self.total(int(here)) > 0

    def total(self, here: int) -> int:
        """The sum of a number of each host."""
        if self.alone:
            return here
        number = torch.tensor([here], dtype=torch.int64)
        self._run(lambda: dist.all_reduce(number, group=self.host))
        return int(number)

    def from_first(self, text: str = "") -> str:
        """What the first device says; the others give nothing. Bytes travel, no objects."""
        if self.alone:
            return text
        content = torch.tensor(list(text.encode("utf-8", "surrogateescape")), dtype=torch.uint8)
        length = torch.tensor([len(content)], dtype=torch.int64)
        self._run(lambda: dist.broadcast(length, 0, group=self.host))
        if self.rank:
            content = torch.zeros(int(length), dtype=torch.uint8)
        self._run(lambda: dist.broadcast(content, 0, group=self.host))
        return bytes(content.tolist()).decode("utf-8", "surrogateescape")

    def _run(self, communicate: Callable[[], object]) -> None:
        """DeviceLost instead of the many words of a process group that has lost a member."""
        try:
            communicate()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise DeviceLost(
                f"device {self.rank} of {self.count} stops: another one has ended or has not answered in time ({reason})"
            ) from None


ALONE = Devices()
