"""What a run reports: metrics.jsonl and TensorBoard in its folder, and a progress line on the terminal."""

import json
import sys
import time
from pathlib import Path
from typing import TextIO

from torch.utils.tensorboard import SummaryWriter


class MetricsLog:
    """Writes every report to metrics.jsonl, one line each, and to TensorBoard; the x axis is env steps."""

    def __init__(self, folder: Path, *, resume_step: int | None = None) -> None:
        path = folder / "metrics.jsonl"
        if resume_step is not None and path.exists():
            # Lines after the checkpoint are of work that is about to be done again.
            kept = [line for line in path.read_text().splitlines() if _step(line) <= resume_step]
            path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._tensorboard = SummaryWriter(
            str(folder), purge_step=None if resume_step is None else resume_step + 1, flush_secs=10
        )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._tensorboard.add_scalar(name, value, step)
        self._tensorboard.flush()

    def close(self) -> None:
        self._file.close()
        self._tensorboard.close()


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # a line cut off by a crash
        return float("inf")


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
        self.started = self.last_shown = time.perf_counter()
        self.reward: str = ""
        self.line_open = False

    def _line(self, step: int, sps: float | None) -> str:
        width, share = len(f"{self.total_steps:,}"), 100 * step / self.total_steps
        position = f"{step:>{width},} steps {share:5.1f}%"
        elapsed = time.perf_counter() - self.started
        done = step - self.start_step
        if not done:
            return f"{position}{self.reward}"
        left = short_time((self.total_steps - step) * elapsed / done)
        return f"{position}  {sps or done / elapsed:>9,.0f} steps/s  {left:>6} left{self.reward}"

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
        """At an evaluation or another report of metrics: a line that stays."""
        if "eval/episode_reward" in metrics:
            reward, std = metrics["eval/episode_reward"], metrics["eval/episode_reward_std"]
            length = metrics["eval/avg_episode_length"]
            self.reward = f"  reward {reward:.1f} ± {std:.1f}  length {length:.0f}"
        elif "episode/sum_reward" in metrics:
            self.reward = f"  training reward {metrics['episode/sum_reward']:.1f}"
        self._show(self._line(step, metrics.get("training/sps")), keep=True)

    def message(self, text: str) -> None:
        """Any other line, below an open progress line."""
        if self.line_open:
            self.stream.write("\n")
            self.line_open = False
        self.stream.write(f"{text}\n")
        self.stream.flush()
