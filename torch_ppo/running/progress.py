"""The progress of a run: one line that changes on a terminal, a few plain ones in a file."""

import contextlib
import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from torch_ppo.command import folded, highlighted, may_colour
from torch_ppo.running.terminal import BottomLine, all_above, is_terminal

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
CYAN = "\x1b[36m"
# What a report has as its reward, the first that there is; whose it is.
REWARDS = {
    "eval/episode_reward": "",
    "episode/sum_reward": "training ",  # of log_training_metrics, perhaps after every training step
    "training/episode_reward": "training ",  # without evaluations
}
RATE_OVER = 5.0  # seconds of training that steps/s are of, at least


def short_time(seconds: float) -> str:
    """Seconds as 12s, 3m05s, 2h07m or 3d04h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02d}h"


def short_number(value: float) -> str:
    """A reward with a digit after the point, or three digits where it is small."""
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def sparkline(values: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """Values as a row of at most `width` blocks, from the least (the first block) to the greatest (the last).

    More values than that are averaged in equal parts, as far as they are numbers; a part without any is a space.
    """
    n = min(len(values), width)
    if not n:
        return ""
    bounds = [len(values) * i // n for i in range(n + 1)]
    parts = [
        [v for v in values[a:b] if math.isfinite(v)] for a, b in itertools.pairwise(bounds)
    ]  # fmt: skip
    means = [math.fsum(part) / len(part) if part else math.nan for part in parts]
    there = [mean for mean in means if not math.isnan(mean)]
    if not there:
        return " " * n
    low, span = min(there), max(there) - min(there)
    top = len(blocks) - 1
    levels = [0.0 if math.isnan(m) or not span else (m - low) / span for m in means]
    return "".join(
        " " if math.isnan(mean) else blocks[round(top * level)] for mean, level in zip(means, levels, strict=True)
    )


def fitted(parts: Iterable[tuple[int, str]], room: int) -> str:
    """Parts of a line that fit into so many characters, in their order: the least important are left out first.

    parts:  (importance, text) each
    """
    kept = [part for part in parts if part[1]]
    while len(kept) > 1 and sum(len(text) + 2 for _, text in kept) - 2 > room:
        kept.remove(min(kept, key=lambda part: part[0]))
    return "  ".join(text for _, text in kept)[:room]


class Progress:
    """What is shown of a run while it goes on.

    total_steps:  env steps of the whole run
    start_step:   where this process began
    num_reports:  reports to come; of very many a file gets some
    quiet:        nothing but warnings and what must be known
    """

    FILE_INTERVAL = 30.0  # seconds between two lines; the longer a run has gone, the longer
    TERMINAL_INTERVAL = 0.2
    MOST_REPORTS = 2000  # lines of a file

    def __init__(
        self,
        total_steps: int,
        start_step: int,
        *,
        num_reports: int = 1,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.stream = stream or sys.stdout
        self.total_steps, self.step = total_steps, start_step
        self.rewards, self.quiet = [], quiet
        self.line = BottomLine(self.stream) if is_terminal(self.stream) and not quiet else None
        self.colours = may_colour(self.stream)
        self._every = max(-(-num_reports // self.MOST_REPORTS), 1)
        self._reports = 0
        self._plus_minus = "±" if self._has("±") else "+-"
        self._blocks = BLOCKS if self._has(BLOCKS) else ASCII_BLOCKS
        self._began = self._last_shown = time.perf_counter()
        self._after_first: tuple[float, int] | None = None  # time and steps after the first training step
        self._recent: deque[tuple[float, int]] = deque()  # seconds of training and steps
        self._reward: dict[str, float] = {}
        self._reward_step = 0
        self._doing = ""

    def _has(self, characters: str) -> bool:
        try:
            characters.encode(getattr(self.stream, "encoding", None) or "utf-8")
        except UnicodeError:
            return False
        return True

    def know(self, history: Iterable[Mapping[str, float]]) -> None:
        """Reports of before, of a run that is resumed."""
        for row in history:
            name = next((name for name in REWARDS if name in row and not name.startswith("episode/")), None)
            if name is not None:
                self.rewards.append(row[name])

    def introduce(self, lines: str) -> None:
        """The first lines; quiet, the warnings among them."""
        for line in lines.splitlines():
            if not self.quiet or line.startswith("warning:"):
                self.message(line)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While the run goes on: on a terminal, what anybody prints comes above the progress."""
        if self.line is None:
            yield
            return
        with all_above(self.line):
            self._show()
            yield

    def evaluating(self) -> None:
        """Now and then during an evaluation."""
        self._doing = "evaluating"
        self._show_if_due()

    def update(self, step: int, training_seconds: float | None = None) -> None:
        """After a training step; with the seconds that all of them took until now."""
        self.step, self._doing = step, ""
        if self._after_first is None:
            self._after_first = time.perf_counter(), step
        if training_seconds is not None:
            self._recent.append((training_seconds, step))
            while len(self._recent) > 2 and training_seconds - self._recent[1][0] >= RATE_OVER:
                self._recent.popleft()
        self._show_if_due()

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """At a report of metrics. In a file a line; of training episodes between two reports, only when one is due."""
        self.step, self._doing = step, ""
        between = False
        for name, which in REWARDS.items():
            if name in metrics:
                between = name.startswith("episode/")
                self._reward, self._reward_step = {**metrics, "reward": metrics[name], "which": which}, step
                if not between:
                    self.rewards.append(metrics[name])
                break
        if self.line is not None:
            self._show(at_once=not between)
            return
        if between:
            self._show_if_due()
            return
        self._reports += 1
        if self._reports % self._every == 1 % self._every or step >= self.total_steps:
            self._show(metrics.get("training/sps"))

    def message(self, text: str) -> None:
        """A line that stays. Quiet, only warnings and what must be known get here; see `note`."""
        if self.line is not None:
            text = folded(text, self.line.room)
        text = highlighted(text) if self.colours else text
        if self.line is not None:
            self.line.write_above(self.stream, f"{text}\n")
            return
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def note(self, text: str) -> None:
        """A line that stays, and that one can do without."""
        if not self.quiet:
            self.message(text)

    # What is shown

    def _interval(self) -> float:
        if self.line is not None:
            return self.TERMINAL_INTERVAL
        # A few lines in the first minutes, some hundred in a day.
        return max(self.FILE_INTERVAL, (time.perf_counter() - self._began) / 30)

    def _show_if_due(self) -> None:
        if time.perf_counter() - self._last_shown >= self._interval():
            self._show()

    def _show(self, sps: float | None = None, *, at_once: bool = True) -> None:
        if self.quiet or not (at_once or time.perf_counter() - self._last_shown >= self._interval()):
            return
        self._last_shown = time.perf_counter()
        if self.line is None:
            self.stream.write(f"{self._plain_line(sps)}\n")
            self.stream.flush()
            return
        text, spark = self._live_line(self.line.room)
        self.line.show(text, (spark, CYAN) if spark and self.colours else None)

    def _rate(self) -> float | None:
        """Env steps per second of training, lately."""
        if len(self._recent) < 2:
            return None
        (since, first), (until, last) = self._recent[0], self._recent[-1]
        return (last - first) / (until - since) if until > since else None

    def _left(self) -> str:
        """Time left, evaluations included; empty as long as that cannot be known."""
        if self._after_first is None or self.step <= self._after_first[1]:
            return ""
        since, first = self._after_first
        seconds = (self.total_steps - self.step) * (time.perf_counter() - since) / (self.step - first)
        return f"{short_time(seconds)} left"

    def _plain_line(self, sps: float | None) -> str:
        width = len(f"{self.total_steps:,}")
        position = f"{self.step:>{width},} steps {100 * self.step / self.total_steps:5.1f}%"
        rate = sps or self._rate()
        speed = "" if rate is None else f"  {rate:>9,.0f} steps/s"
        left = self._left() if self.step < self.total_steps else "0s left"
        speed += f"  {left:>11}" if left and speed else ""
        if self._doing:
            return f"{position}{speed}  {self._doing}"
        reward = "  ".join(self._reward_parts())
        if reward and self.step != self._reward_step:  # never an old one as if it were current
            return f"{position}{speed}  ({reward} at {self._reward_step:,})"
        return f"{position}{speed}  {reward}".rstrip()

    def _reward_parts(self) -> list[str]:
        """Reward with its spread, length of episodes, successes."""
        if not self._reward:
            return []
        values = self._reward
        text = f"{values['which']}reward {short_number(values['reward'])}"
        if values["which"]:
            return [text]
        spread = f"{self._plus_minus} {short_number(values['eval/episode_reward_std'])}"
        parts = [f"{text} {spread}", f"length {values['eval/avg_episode_length']:.0f}"]
        return [*parts, *([f"success {values['eval/success_rate']:.0%}"] if "eval/success_rate" in values else [])]

    def _live_line(self, room: int) -> tuple[str, str]:
        """The line, and the sparkline in it."""
        rate = self._rate()
        reward = which = success = ""
        if self._reward:
            which = "training " if self._reward["which"] and room > 60 else ""
            reward = f"{which}reward {short_number(self._reward['reward'])}"
            if "eval/success_rate" in self._reward:
                success = f"success {self._reward['eval/success_rate']:.0%}"
        doing = self._doing or ("" if self._after_first else "first training step")
        width = 20 if room >= 79 else 10 if room >= 50 else 5
        spark = sparkline(self.rewards, width, self._blocks) if len(self.rewards) > 1 else ""
        text = fitted(
            [
                (9, f"{100 * self.step / self.total_steps:5.1f}%"),
                (2, f"{self.step:,} steps"),
                (3, "" if rate is None else f"{rate:,.0f} steps/s"),
                (8, self._left()),
                (7, reward),
                (6, spark),
                (1, success),
                (5, doing),
            ],
            room,
        )
        return text, spark if spark in text else ""
