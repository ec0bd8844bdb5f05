"""Clips of the policy while it is being trained, made in another process; none of them can harm the training."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from torch_ppo.running.disk import TEMPORARY
from torch_ppo.running.folder import RunFolder

MOST_SECONDS = 300.0  # that a clip may take
PATIENCE = 60.0  # seconds that the end of a training waits for the last
NICE = 10
# What tells a process that it is one of several, or which accelerator is its own.
NOT_INHERITED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE")


def environment_beside() -> dict[str, str]:
    """The environment of a process of ours beside a training: on the CPU, in one thread, and alone."""
    package = str(Path(__file__).parents[2])
    return {name: value for name, value in os.environ.items() if name not in NOT_INHERITED} | {
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


class Clips:
    """Makes a clip of a checkpoint at a time; while one is under way, the newest that is asked for waits.

    folder:   of the run; clips go to `videos/<env steps>.gif` in it
    say:      tells a warning
    publish:  what is to be done with a clip that is there, (env steps, file)
    """

    def __init__(self, folder: RunFolder, say: Callable[[str], None], publish: Callable[[int, Path], None]) -> None:
        self.folder, self._say, self._publish = folder, say, publish
        self.videos = folder.path / "videos"
        self._process: subprocess.Popen | None = None
        self._errors = None
        self._under_way: tuple[int, Path] | None = None  # env steps, checkpoint
        self._waiting: tuple[int, Path] | None = None
        self._since = 0.0
        self._said = False

    def ask(self, env_steps: int, checkpoint: Path) -> None:
        """A clip of a checkpoint is wanted, which may be removed later."""
        kept = checkpoint.with_name(f".{secrets.token_hex(6)}{TEMPORARY}")
        try:
            try:
                os.link(checkpoint, kept)
            except OSError:  # a file system without links
                shutil.copyfile(checkpoint, kept)
        except OSError as error:
            self._fail(env_steps, error.strerror or str(error))
            return
        if self._waiting is not None:
            _remove(self._waiting[1])
        self._waiting = env_steps, kept
        self.look()

    @property
    def busy(self) -> bool:
        """Whether a clip is under way or waits."""
        return self._process is not None or self._waiting is not None

    def look(self) -> None:
        """Now and then: takes what is ready, and begins what waits. Never waits."""
        if self._process is not None:
            status = self._process.poll()
            if status is not None:
                self._take(status)
            elif time.monotonic() - self._since > MOST_SECONDS:
                self._give_up(f"it took more than {MOST_SECONDS:.0f} s")
        if self._process is None and self._waiting is not None:
            self._begin()

    def finish(self, hurry: Callable[[], bool] = lambda: False, patience: float = PATIENCE) -> None:
        """Waits for what is under way and asked for, but no longer than so many seconds, nor in a hurry."""
        until = time.monotonic() + patience
        try:
            while self.busy:
                self.look()
                if hurry():
                    break
                if time.monotonic() > until:
                    self._give_up(f"it was not ready {patience:.0f} s after the end")
                    break
                time.sleep(0.05)
        finally:
            self.close()

    def close(self) -> None:
        """Gives up what is not ready."""
        self._end_process()
        for asked in (self._under_way, self._waiting):
            if asked is not None:
                _remove(asked[1])
        self._under_way = self._waiting = None

    def _begin(self) -> None:
        (env_steps, checkpoint), self._waiting = self._waiting, None
        self._under_way, self._since = (env_steps, checkpoint), time.monotonic()
        file = self.videos / f"{env_steps}.gif"
        command = [sys.executable, "-m", "torch_ppo.watching.clip", str(checkpoint), str(file), "--trust"]
        try:
            self.videos.mkdir(exist_ok=True)
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
            self._process = subprocess.Popen(
                command,
                env=environment_beside(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                process_group=0,  # Ctrl-C is for the training
            )
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        except OSError as error:
            self._end_process()
            self._done()
            self._fail(env_steps, error.strerror or str(error))

    def _take(self, status: int) -> None:
        """What a process that ended has made."""
        env_steps = self._under_way[0]
        file = self.videos / f"{env_steps}.gif"
        reason = ""
        if status or not file.is_file():
            reason = _last_line(self._errors) or f"its process ended with status {status}"
        self._end_process()
        self._done()
        if reason:
            self._fail(env_steps, reason)
        else:
            self._publish(env_steps, file)

    def _give_up(self, reason: str) -> None:
        steps = (self._under_way or self._waiting)[0]
        self._end_process()
        self._done()
        self._fail(steps, reason)

    def _done(self) -> None:
        if self._under_way is not None:
            _remove(self._under_way[1])
        self._under_way = None

    def _end_process(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process.stdin.close()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _fail(self, env_steps: int, reason: str) -> None:
        if not self._said:
            self._said = True
            self._say(f"warning: no clip of the policy at {env_steps:,} env steps: {reason}")


def _last_line(file: object) -> str:
    """The last line of what a process has written to a file, without `error:`."""
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
