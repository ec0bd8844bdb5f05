"""What an evaluation comes to."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What a number of whole episodes came to; prints as one line. Tensors are on the CPU.

    env:      name of the task
    returns:  sum of the rewards                                             (episodes,)
    lengths:  in env steps                                                   (episodes,) int32
    metrics:  the task's, by name: means of a "...per_step", else sums       (episodes,) per name
    success:  whether the task was achieved at the end; None where the task
              does not say                                                   (episodes,) bool
    """

    env: str
    returns: Tensor
    lengths: Tensor
    metrics: dict[str, Tensor]
    success: Tensor | None = None

    @property
    def mean(self) -> float:
        """Mean return; `eval/episode_reward` of a run."""
        return self.returns.mean().item()

    @property
    def std(self) -> float:
        """Standard deviation of the returns (population); `eval/episode_reward_std` of a run."""
        return self.returns.std(correction=0).item()

    @property
    def standard_error(self) -> float:
        """How far off the mean may be: sample standard deviation over the root of the number; NaN for one episode."""
        n = len(self.returns)
        return self.std / math.sqrt(n - 1) if n > 1 else math.nan

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes that were a success; `eval/success_rate` of a run. None where the task does not say."""
        return None if self.success is None else self.success.float().mean().item()

    def __repr__(self) -> str:
        n, length = len(self.returns), self.lengths.to(torch.float32).mean().item()
        success = "" if self.success is None else f", success {self.success_rate:.0%}"
        digits = 1 if abs(self.mean) >= 10 else 3
        return (
            f"{self.env}: return {self.mean:.{digits}f} ± {self.std:.{digits}f} "
            f"(standard error {error_in_words(self)}), "
            f"length {length:.0f}{success}, {n} episode{'s' * (n != 1)}"
        )


def error_in_words(result: Evaluation) -> str:
    """The standard error for reading: two digits of a small one, else whole, not 1.2e+02; "-" where there is none."""
    if len(result.returns) == 1:
        return "-"
    return f"{result.standard_error:.2g}" if result.standard_error < 10 else f"{result.standard_error:.0f}"
