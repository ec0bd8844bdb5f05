"""The progress of a run on the terminal, or in a file."""

import sys
import time
from typing import TextIO


def short_time(seconds: float) -> str:
    """Seconds as 12s, 3m05s or 2h07m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class Progress:
    """One line that is rewritten on a terminal; in a file, a line per evaluation and every 30 s at most."""

    FILE_INTERVAL = 30.0
    TERMINAL_INTERVAL = 0.2

    def __init__(self, total_steps: int, start_step: int, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.total_steps, self.start_step = total_steps, start_step
        self.terminal = self.stream.isatty()
        try:
            "±".encode(getattr(self.stream, "encoding", None) or "utf-8")
            self.plus_minus = "±"
        except UnicodeError:
            self.plus_minus = "+-"
        self.started = self.last_shown = time.perf_counter()
        self.reward, self.reward_step = "", 0
        self.line_open = False

    def _line(self, step: int, sps: float | None) -> str:
        width, share = len(f"{self.total_steps:,}"), 100 * step / self.total_steps
        position = f"{step:>{width},} steps {share:5.1f}%"
        reward = self.reward
        if reward and step != self.reward_step:  # never an old one as if it were current
            reward = f"  ({reward.strip()} at {self.reward_step:,})"
        elapsed = time.perf_counter() - self.started
        done = step - self.start_step
        if not done:
            return f"{position}{reward}"
        left = short_time((self.total_steps - step) * elapsed / done)
        return f"{position}  {sps or done / elapsed:>9,.0f} steps/s  {left:>6} left{reward}"

    def _show(self, text: str, *, keep: bool) -> None:
        if self.terminal:
            self.stream.write(f"\r\x1b[K{text}" + ("\n" if keep else ""))
        else:
            self.stream.write(f"{text}\n")
        self.stream.flush()
        self.line_open = self.terminal and not keep
        self.last_shown = time.perf_counter()

    def update(self, step: int) -> None:
        """After a training step."""
        interval = self.TERMINAL_INTERVAL if self.terminal else self.FILE_INTERVAL
        if time.perf_counter() - self.last_shown >= interval:
            self._show(self._line(step, None), keep=False)

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """At a report of metrics: a line that stays. Those of training episodes between two reports do not."""
        if "eval/episode_reward" in metrics:
            reward, std = metrics["eval/episode_reward"], metrics["eval/episode_reward_std"]
            length = metrics["eval/avg_episode_length"]
            self.reward = f"  reward {reward:.1f} {self.plus_minus} {std:.1f}  length {length:.0f}"
            if "eval/success_rate" in metrics:
                self.reward += f"  success {metrics['eval/success_rate']:.0%}"
            self.reward_step = step
        elif "episode/sum_reward" in metrics:  # of log_training_metrics, perhaps after every training step
            self.reward, self.reward_step = f"  training reward {metrics['episode/sum_reward']:.1f}", step
            return self.update(step)
        elif "training/episode_reward" in metrics:  # without evaluations
            self.reward, self.reward_step = f"  training reward {metrics['training/episode_reward']:.1f}", step
        self._show(self._line(step, metrics.get("training/sps")), keep=True)

    def message(self, text: str) -> None:
        """Any other line, below an open progress line."""
        if self.line_open:
            self.stream.write("\n")
            self.line_open = False
        self.stream.write(f"{text}\n")
        self.stream.flush()
