"""The checkpoints of a run while it is being trained."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torch_ppo.running.checkpoint import CheckpointError
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.saved_policy import SavedPolicy

LOOK_EVERY = 0.5  # seconds


def checkpoint_names(folder: Path) -> list[str]:
    """Names of a run's checkpoints: best, last, and those that are named by env steps, newest first."""
    found = {path.stem for path in (folder / "checkpoints").glob("*.pt")}
    steps = sorted((int(name) for name in found if name.isdecimal()), reverse=True)
    return [*(name for name in ("best", "last") if name in found), *map(str, steps)]


class Following:
    """Looks for a newer `last.pt` in a run's folder.

    folder:  of the run
    load:    reads a checkpoint's policy
    """

    def __init__(self, folder: Path, load: Callable[[Path], SavedPolicy]) -> None:
        self.run, self._load = RunFolder(folder), load
        self.path = self.run.checkpoints / "last.pt"
        self._seen = self._version()
        self._looked = time.monotonic()

    def _version(self) -> tuple[int, ...] | None:
        """Differs whenever the file has been written; None if there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def newer(self) -> SavedPolicy | None:
        """The policy of a checkpoint that came since the last call, if one did; looks twice a second at most."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return None
        self._looked, version = now, self._version()
        if version is None or version == self._seen:
            return None
        with contextlib.suppress(CheckpointError):  # it may be replaced while it is read; there will be another
            policy = self._load(self.path)
            self._seen = version
            return policy
        return None

    @property
    def goes_on(self) -> bool:
        """Whether the run is being trained."""
        return self.run.is_taken

    def policies(self) -> Iterator[SavedPolicy]:
        """Waits for newer checkpoints, and gives the policy of each, until the training has ended."""
        while True:
            goes_on = self.goes_on  # before it looks, for what is written last
            self._looked = 0.0
            policy = self.newer()
            if policy is not None:
                yield policy
            elif not goes_on:
                return
            else:
                time.sleep(LOOK_EVERY)


def wait_for_first(folder: Path) -> None:
    """Returns when a run that is being trained has its first checkpoint, or will have none."""
    run = RunFolder(folder)
    if run.is_taken and not (run.checkpoints / "last.pt").exists():
        print(f"waiting for the first checkpoint of {folder}", flush=True)
        while run.is_taken and not (run.checkpoints / "last.pt").exists():
            time.sleep(LOOK_EVERY)
