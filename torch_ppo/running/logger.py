"""What a run reports, in its folder: metrics.jsonl and TensorBoard's file, with env steps as x axis."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch_ppo.diagnosis.findings import FINDINGS, Finding
from torch_ppo.running.disk import AppendedFile, DiskWrites, disk_errors
from torch_ppo.running.history import cut_history, to_line
from torch_ppo.running.tensorboard import (
    Histogram,
    constant_metrics,
    finding_events,
    first_events,
    histogram_events,
    picture_event,
    scalars,
)
from torch_ppo.settings.config import Config


class MetricsLog:
    """Writes every report as a line of metrics.jsonl, and to TensorBoard what can change in this run.

    notes:  what is to be said of a history that was found
    """

    def __init__(self, folder: Path, config: Config, *, never_ends: bool, last_step: int, writes: DiskWrites) -> None:
        """Goes on after the report at `last_step`; -1 is before the first. DiskError if the folder cannot be written.

        never_ends:  whether only the time limit ends an episode
        """
        path = folder / "metrics.jsonl"
        # Lines after the checkpoint are of work that is about to be done again.
        self.notes = cut_history(path, last_step)
        self.writes = writes
        self._lines = AppendedFile(path)
        # Files are read in the order of their names; the microsecond keeps those of one second apart.
        self._events = AppendedFile(folder / f"events.out.tfevents.{time.time_ns() // 1000}")
        self._constant = constant_metrics(config, never_ends=never_ends)
        self.writes(lambda: self._events.append(*first_events(config, last_step + 1)))

    def write(
        self,
        step: int,
        metrics: dict[str, float],
        *,
        histograms: Mapping[str, Histogram] | None = None,
        findings: Sequence[Finding] = (),
    ) -> None:
        """One report. What cannot be written now comes before the next, if the run goes on.

        histograms:  inner edges and counts by name, for TensorBoard only
        findings:    what the doctor newly found
        """
        changing = {name: value for name, value in metrics.items() if name not in self._constant}
        events = [
            scalars(step, changing),
            *histogram_events(step, histograms or {}),
            *finding_events(step, findings),
        ]
        found = {FINDINGS: {finding.rule.name: finding.seen for finding in findings}} if findings else {}
        self.writes(
            lambda: self._lines.append(to_line(step, metrics, found)),
            lambda: self._events.append(*events),
        )

    def write_picture(self, step: int, name: str, content: bytes) -> None:
        """A picture, by the content of its file, for TensorBoard."""
        self.writes(lambda: self._events.append(picture_event(step, name, content)))

    def write_clip(self, step: int, file: Path) -> None:
        """An animation of the policy as it was, for TensorBoard."""

        def append() -> None:
            with disk_errors(file):
                content = file.read_bytes()
            self._events.append(picture_event(step, "policy", content))

        self.writes(append)

    def sync(self) -> bool:
        """What was reported survives a power loss, and is not behind a checkpoint; False if it cannot be written."""
        return self.writes(self._lines.append, self._events.append, self._lines.sync)

    def close(self) -> int:
        """How many lines of metrics.jsonl could not be written."""
        self.sync()
        for file in (self._lines, self._events):
            file.close()
        return len(self._lines.pending)
