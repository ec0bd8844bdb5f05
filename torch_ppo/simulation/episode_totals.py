"""Totals of episodes: their length, rewards and metrics so far, in one tensor that stays where it is."""

from collections.abc import Iterable

import torch
from torch import Tensor


def taken_name(metric_names: Iterable[object], *, has_success: bool) -> str | None:
    """A metric whose name is that of a total of ours, and what this is, in words; None if there is none."""
    ours = {"reward": "rewards are", "sum_reward": "the sum of rewards is", "length": "lengths of episodes are"}
    ours |= {"success_rate": "success is"} if has_success else {}
    return next(
        (f"metric {name!r}, but that is what {ours[name]} reported as" for name in metric_names if name in ours), None
    )


class EpisodeTotals:
    """Of the episode that each env is in; on a done step, of the one that it finishes.

    all:      length, sum_reward, the metrics in their order and, where
              there is success, success_rate                             (n, num_envs)
    by_name:  its rows                                                   (num_envs,) per name
    length:   env steps                                                  (num_envs,)
    success:  1 where the episode ended as a success, written by the
              env in every step; None where none is told                 (num_envs,)
    """

    def __init__(self, num_envs: int, metric_names: Iterable[str], *, has_success: bool, device: torch.device) -> None:
        metric_names = tuple(metric_names)
        added = 2 + len(metric_names)
        self.all = torch.zeros(added + has_success, num_envs, device=device)
        self.success = self.all[-1] if has_success else None
        self._added = self.all[:added]
        self.length, sum_reward, *sums = self._added
        named = {"sum_reward": sum_reward, "length": self.length}
        self.by_name = {**named, **dict(zip(metric_names, sums, strict=True))}
        if has_success:
            self.by_name["success_rate"] = self.success

    def begin(self) -> None:
        """Every env begins an episode."""
        self.all.zero_()

    def add(self, env_steps: int, given: Tensor, was_done: Tensor) -> None:
        """A step of so many env steps; where the one before ended an episode, bool `(num_envs,)`, it is a new one's first.

        given:  reward and metrics of the step, in their order    (n, num_envs)
        """
        # All rows at once: one launch.
        self._added.masked_fill_(was_done, 0.0).add_(torch.cat([torch.full_like(given[:1], env_steps), given]))
