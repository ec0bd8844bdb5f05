"""Means over the last finished training episodes, for `log_training_metrics`.

Source: brax/training/logger.py (EpisodeMetricsLogger). Steps are env steps here; Brax counts policy steps,
which differ by `action_repeat`.
"""

from collections import deque
from collections.abc import Mapping

from torch import Tensor


class EpisodeMetrics:
    """Keeps the last `window` values of every metric and reports their means every `interval` env steps."""

    def __init__(self, interval: int, *, action_repeat: int = 1, window: int = 100) -> None:
        self.interval, self.action_repeat, self.window = interval, action_repeat, window
        self.num_steps = 0
        self.last_report = 0
        self.values: dict[str, deque[float]] = {}

    def _extend(self, name: str, values: Tensor) -> None:
        self.values.setdefault(name, deque(maxlen=self.window)).extend(values.flatten()[-self.window :].tolist())

    def update(
        self, episode_done: Tensor, episode_metrics: Mapping[str, Tensor], losses: Mapping[str, Tensor]
    ) -> dict[str, float] | None:
        """Takes in one training step; returns the means `episode/<name>` when a report is due, else None.

        episode_done, episode_metrics:  (num_unrolls, unroll_length); entries count where an episode ended
        losses:                         any shape
        """
        self.num_steps += episode_done.numel() * self.action_repeat
        finished = episode_done.bool()
        lengths = episode_metrics["length"][finished]
        for name, totals in episode_metrics.items():
            totals = totals[finished]
            self._extend(name, totals / (lengths + 1e-8) if name.endswith("_per_step") else totals)
        for name, values in losses.items():
            self._extend(name, values)
        if self.num_steps - self.last_report < self.interval:
            return None
        self.last_report = self.num_steps
        return {f"episode/{name}": sum(values) / len(values) for name, values in self.values.items() if values}

    def state(self) -> dict[str, object]:
        """Plain values for a checkpoint."""
        values = {name: list(kept) for name, kept in self.values.items()}
        return {"num_steps": self.num_steps, "last_report": self.last_report, "values": values}

    def load_state(self, state: dict[str, object]) -> None:
        self.num_steps, self.last_report = state["num_steps"], state["last_report"]
        self.values = {name: deque(kept, maxlen=self.window) for name, kept in state["values"].items()}
