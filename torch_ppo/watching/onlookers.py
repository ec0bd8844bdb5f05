"""Who looks on while a run is trained: clips of its policy, and a tracker. None of them can harm the training."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from torch_ppo.errors import is_installed
from torch_ppo.running.disk import DiskError, write_atomically
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.logger import MetricsLog
from torch_ppo.running.trackers import TRACKERS, Tracking
from torch_ppo.running.training_state import TrainingState
from torch_ppo.watching.clips import Clips, environment_beside

PATIENCE, PATIENCE_IF_STOPPED = 60.0, 10.0  # seconds that the end waits for what the tracker has not sent
REPORT_SECONDS = 120.0  # that the run's page may take


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is wanted of a run; kept in its folder, `watching.json`, for when it is resumed.

    video_every:  reports from one clip to the next; None for no clips
    tracker:      the tracker's name
    tracked_run:  by what the tracker knows the run, once that is known
    """

    video_every: int | None = None
    tracker: str | None = None
    tracked_run: str | None = None

    @classmethod
    def of(cls, folder: Path, video_every: int | None, tracker: str | None) -> "Wanted":
        """What is asked for now, and for what is not asked, what the run has had until now."""
        before = _read(folder)
        tracker = tracker or before.tracker
        tracker = None if tracker == "off" else tracker
        same = tracker is not None and tracker == before.tracker
        return cls(video_every or before.video_every, tracker, before.tracked_run if same else None)

    def write(self, folder: Path) -> None:
        """DiskError if that cannot be done."""
        write_atomically(folder / "watching.json", json.dumps(dataclasses.asdict(self)).encode() + b"\n")


def _read(folder: Path) -> Wanted:
    """What a run's folder says; nothing where it has no such file, or somebody else's."""
    try:
        found = Wanted(**json.loads((folder / "watching.json").read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return Wanted()
    valid = (
        (found.video_every is None or (type(found.video_every) is int and found.video_every > 0))
        and found.tracker in (None, *TRACKERS)
        and isinstance(found.tracked_run, str | None)
    )
    return found if valid else Wanted()


class Onlookers:
    """Clips and the tracker of a run in its folder; `say` tells warnings, and `log` gets the clips."""

    def __init__(
        self, state: TrainingState, folder: RunFolder, log: MetricsLog, wanted: Wanted, say: Callable[[str], None]
    ) -> None:
        self.folder, self.wanted, self._say, self._log = folder, wanted, say, log
        self.clips = Clips(folder, say, self._publish) if wanted.video_every else None
        self.tracking: Tracking | None = None
        if wanted != Wanted():
            with contextlib.suppress(DiskError):  # a full disk is said elsewhere
                wanted.write(folder.path)
        if wanted.tracker is not None:
            settings = {name: value for name, value in dataclasses.asdict(state.config).items() if value is not None}
            tracker, known = TRACKERS[wanted.tracker], wanted.tracked_run
            self.tracking = Tracking(lambda: tracker(folder.path, settings, known), self._remember)

    def _remember(self, run: str) -> None:
        self.wanted = dataclasses.replace(self.wanted, tracked_run=run)
        with contextlib.suppress(DiskError):
            self.wanted.write(self.folder.path)

    def _publish(self, step: int, file: Path) -> None:
        self._log.write_clip(step, file)
        if self.tracking is not None:
            self.tracking.clip(step, file)

    def reported(self, step: int, metrics: Mapping[str, float]) -> None:
        """A report."""
        if self.tracking is not None:
            self.tracking.log(step, metrics)
        self.look()

    def saved(self, state: TrainingState) -> None:
        """After the checkpoint of a report was written."""
        if self.clips is None:
            return
        config = state.config
        each = config.num_training_steps // config.num_eval_intervals
        due = (state.training_steps // each) % self.wanted.video_every == 0
        if due or state.training_steps >= config.num_training_steps:
            self.clips.ask(state.env_steps, self.folder.checkpoints / "last.pt")

    def look(self) -> None:
        """After each training step: what is ready; never waits."""
        if self.clips is not None:
            self.clips.look()
        if self.tracking is not None and (problem := self.tracking.problem()) is not None:
            self._say(f"warning: tracker {self.wanted.tracker}: {problem}; training goes on")

    @property
    def clip_is_due(self) -> bool:
        """Whether a clip is under way or waits."""
        return self.clips is not None and self.clips.busy

    def finish(self, *, complete: bool, hurry: Callable[[], bool]) -> None:
        """The training has ended, or was stopped; waits a bounded time, and hardly if it was stopped or is in a `hurry`."""
        if self.clips is not None and complete:
            self.clips.finish(hurry)
        self.close()
        if self.tracking is not None:
            if complete and not hurry() and (files := self._report()):
                self.tracking.files(files)
            self.tracking.finish(complete, PATIENCE if complete else PATIENCE_IF_STOPPED, hurry)
        self.look()

    def close(self) -> None:
        """At once."""
        if self.clips is not None:
            self.clips.close()

    def _report(self) -> list[Path]:
        """The page of the run as `torch_ppo.plot` makes it; empty where that cannot be done."""
        if not is_installed("matplotlib"):
            return []
        files = [self.folder.path / f"report.{kind}" for kind in ("png", "html")]
        command = [sys.executable, "-m", "torch_ppo.plot", str(self.folder.path), "--trust"]
        command += ["--output", *map(str, files)]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                command,
                env=environment_beside(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=REPORT_SECONDS,
                check=True,
            )
        return [file for file in files if file.is_file()]
