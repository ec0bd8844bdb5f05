"""The course of a run: what it reported so far, as rules look at it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch_ppo.settings.config import Config

Row = dict[str, float]  # a report; metrics.jsonl has more in it than numbers


class Point(NamedTuple):
    """A number in a report."""

    step: int
    value: float


@dataclass(frozen=True)
class Course:
    """Reports, oldest first, and what is known of the run.

    config:      None for another trainer's run
    max_reward:  greatest reward that an episode can have, inf if that is not known
    unit:        what steps are
    """

    rows: Sequence[Row]
    config: Config | None = None
    max_reward: float = math.inf
    unit: str = "env steps"

    @property
    def last_step(self) -> int:
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def total_steps(self) -> int:
        """Of the whole run; for another trainer's, as far as it got."""
        return self.config.total_env_steps if self.config else self.last_step

    @property
    def discrete(self) -> bool:
        """Whether actions are known to be discrete."""
        return self.config is not None and self.config.distribution_type == "categorical"

    @property
    def done(self) -> float:
        """Share of the run that is done."""
        return self.last_step / self.total_steps if self.total_steps else 0.0

    def series(self, name: str, *, since: float = 0.0) -> list[Point]:
        """All values of a metric, NaN included, from a share of the run on."""
        begin = since * self.total_steps
        return [
            Point(row["step"], value)
            for row in self.rows
            if isinstance(value := row.get(name), float | int) and row["step"] >= begin
        ]

    def at(self, step: int) -> str:
        """When, in words."""
        return f"at {step:,} {self.unit}"

    @property
    def rewards(self) -> list[Point]:
        """Of evaluations, or where there are none of training episodes; only numbers."""
        for name in ("eval/episode_reward", "training/episode_reward"):
            found = [point for point in self.series(name) if math.isfinite(point.value)]
            if found:
                return found
        return []

    def reward_error(self, step: int) -> float:
        """Standard error of the reward in an evaluation; 0 where it is not known."""
        spread = next((row.get("eval/episode_reward_std") for row in self.rows if row["step"] == step), None)
        if spread is None or not math.isfinite(spread):
            return 0.0
        return spread / math.sqrt(self.config.num_eval_envs if self.config else 10)
