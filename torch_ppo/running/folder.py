"""A run's folder: its files, where each of them is, and whose it is."""

import contextlib
import errno
import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from torch_ppo.command import called
from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import CheckpointError, DamagedError, load_checkpoint, save_checkpoint, to_bytes
from torch_ppo.running.disk import DiskError, disk_errors, remove_temporaries, write_atomically
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml


class RunFolder:
    """Where a run keeps its files; see docs/design.md section 6."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.config = path / "config.toml"
        self.policy = path / "policy.pt"
        self._lock: int | None = None
        self._named_here = False  # no --run-dir was given
        self._asked_as = "--run-dir"
        self._best: bytes | None = None  # what best.pt is to be, as long as it could not be written

    @classmethod
    def for_new_run(cls, path: Path | None, config: Config, asked_as: str = "--run-dir") -> "RunFolder":
        """Checks that the folder is free; creates nothing yet.

        asked_as:  what the path was given as
        """
        if path is None:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            name = config.env.rpartition(":")[2].replace("/", "-")  # of Gymnasium's names some have one
            path = Path("runs") / f"{name}-{stamp}-s{config.seed}"
            with readable(path, "--run-dir"):
                folder = cls(_next_free(path))
            folder._named_here = True
            return folder
        if str(path).encode(errors="replace") != os.fsencode(path):  # TorchScript could not be written in it
            raise ConfigError(f"{asked_as} is {str(path)!r}, but must be UTF-8")
        folder = cls(path)
        folder._asked_as = asked_as
        with readable(path, asked_as):
            folder._refuse_used()
            for above in (path, *path.parents):
                if above.exists() and not above.is_dir():
                    raise ConfigError(f"{asked_as} {path}: {above} is a file")
        return folder

    @classmethod
    def of_run(cls, path: Path) -> "RunFolder":
        """The run folder that `--resume` means: itself, or that of a checkpoint file. CheckpointError if it is none."""
        with readable(path, "--resume"):
            folder = cls(path.parent.parent if path.is_file() else path)
            if not path.exists():
                raise CheckpointError(f"there is no run folder or checkpoint {path}")
            if not folder.config.is_file() and path.is_file() and path.with_name("config.toml").is_file():
                raise CheckpointError(
                    f"{path} is in a run folder, but no checkpoint; --resume {path.parent} would work"
                )
            if not folder.config.is_file():
                what = "it" if path.is_dir() else f"nor in one, as {folder.path}"
                raise CheckpointError(f"{path} is not a run folder: {what} has no config.toml")
        return folder

    def _refuse_used(self) -> None:
        """ConfigError if there is something in the folder that no killed start of a run has left."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self._asked_as} {self.path} is a file; a new folder would work")
        if self.config.exists():
            raise ConfigError(
                f"{self._asked_as} {self.path} has a run already; a new folder would work, and {called('train')} --resume "
                f"{shlex.quote(str(self.path))} would go on with that run"
            )
        if any(not path.name.endswith(".tmp") for path in self.path.iterdir()):
            raise ConfigError(f"{self._asked_as} {self.path} is not empty; a new folder would work")

    def create(self, config: Config) -> None:
        """Makes the folder, takes it, and writes the resolved configuration: from then on it is a run to resume."""
        try:
            try:
                self.path.mkdir(parents=True, exist_ok=not self._named_here)
            except FileExistsError:  # another run of this second was faster
                if not self._named_here:  # or a link to nowhere is in the way
                    raise
                self.__init__(_next_free(self.path))
                return self.create(config)
            self.take()
            self._refuse_used()
            self.write_config(config)
            self.checkpoints.mkdir()
        except (OSError, DiskError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{self._asked_as} {self.path} cannot be written: {reason}") from None

    def take(self) -> None:
        """Has this process alone work in the folder, until it ends however it ends, and tidies up.

        ConfigError if another one does.
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        for patience in (0.02, 0.1, 0.0):  # somebody may just look, see `is_taken`
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    break  # a file system without locks, some network's: then there is none
                if not patience:
                    os.close(handle)
                    raise ConfigError(f"another process is at work in {self.path}; it must end first") from None
                time.sleep(patience)
        self._lock = handle
        for folder in (self.path, self.checkpoints, self.path / "broken"):
            remove_temporaries(folder)

    @property
    def is_taken(self) -> bool:
        """Whether a process is at work in the folder; False where the file system has no locks."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
        finally:
            os.close(handle)
        return False

    def close(self) -> None:
        """Lets another process take the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_config(self, config: Config) -> None:
        """config.toml; `--config` on it repeats the run."""
        write_atomically(self.config, to_toml(config).encode())

    def checkpoint(self, preferred: str) -> Path:
        """The `preferred` checkpoint, or the last one."""
        path = self.checkpoints / f"{preferred}.pt"
        return path if path.exists() else self.checkpoints / "last.pt"

    def _named(self) -> list[int]:
        """Env steps of the checkpoints that are named by them, newest first."""
        return sorted((int(path.stem) for path in self.checkpoints.glob("*.pt") if path.stem.isdecimal()), reverse=True)

    def load_newest(self) -> tuple[Path, dict[str, object], list[str]] | None:
        """The newest checkpoint that is whole, what is in it, and what is to be said; None where there is none at all.

        CheckpointError if there are some, and none is whole.
        """
        names = ["last", *map(str, self._named()), "best"]
        found = [path for name in names if (path := self.checkpoints / f"{name}.pt").is_file()]
        notes = [] if not found or found[0].stem == "last" else [f"note: there is no {self.checkpoints / 'last.pt'}"]
        first_error = None
        for path in found:
            try:
                saved = load_checkpoint(path)
            except DamagedError as error:
                first_error = first_error or error
                notes.append(f"note: {path} is not a whole checkpoint")
                continue
            if path.stem != "last":
                notes[-1] += f"; {path.name}, at {saved['env_steps']:,} env steps, is taken"
            return path, saved, notes
        if first_error:
            raise first_error
        return None

    def mend_best(self, saved: dict[str, object]) -> None:
        """Makes best.pt the checkpoint that `saved` knows as the best, where that is still there under its steps.

        It is another one if `saved` is older than it, or if it is damaged.
        """
        best, path = saved["best"], self.checkpoints / "best.pt"
        if best is None:
            return
        with contextlib.suppress(CheckpointError):
            if load_checkpoint(path)["env_steps"] == best["env_steps"]:
                return
        with contextlib.suppress(CheckpointError):
            save_checkpoint(load_checkpoint(self.checkpoints / f"{best['env_steps']}.pt"), path)

    def save(self, state: TrainingState, *, named: bool, best: bool) -> None:
        """Writes last.pt; also <env steps>.pt if `named`, and best.pt if `best`. DiskError if one cannot be written."""
        content = to_bytes(state.checkpoint())
        if best:
            self._best = content
        # last.pt last: after a crash in between all of this is done again.
        if named:
            write_atomically(self.checkpoints / f"{state.env_steps}.pt", content, sync_folder=False)
        if self._best is not None:
            write_atomically(self.checkpoints / "best.pt", self._best, sync_folder=False)
            self._best = None
        if state.config.keep_checkpoints is not None:
            for steps in [n for n in self._named() if n <= state.env_steps][state.config.keep_checkpoints :]:
                with disk_errors(self.checkpoints / f"{steps}.pt"):
                    (self.checkpoints / f"{steps}.pt").unlink(missing_ok=True)
        write_atomically(self.checkpoints / "last.pt", content)

    def part(self, env_steps: int, rank: int, count: int) -> Path:
        """File of one of several devices' own part of the checkpoint after so many env steps."""
        return self.checkpoints / "devices" / f"{env_steps}-{rank}of{count}.pt"

    def save_part(self, state: TrainingState) -> None:
        """Writes this device's part; the newest two are kept, for the first device may not write its own any more."""
        rank, count = state.devices.rank, state.devices.count
        path = self.part(state.env_steps, rank, count)
        with disk_errors(path.parent):
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, to_bytes(state.own_part() | {"env_steps": state.env_steps}))
            steps = sorted(int(old.name.partition("-")[0]) for old in path.parent.glob(f"*-{rank}of{count}.pt"))
            for old in steps[:-2]:
                self.part(old, rank, count).unlink(missing_ok=True)

    def what_is_saved(self) -> str:
        """In words, how far the last checkpoint goes; it has been read, so it is whole."""
        try:
            newest = self.load_newest()
        except CheckpointError as error:
            return str(error)
        if newest is None:
            return "no checkpoint was written yet"
        path, saved, _ = newest
        return f"{path} at {saved['env_steps']:,} env steps is whole, and --resume {self.path} goes on from there"


@contextlib.contextmanager
def readable(path: Path, setting: str) -> Iterator[None]:
    """ConfigError if the path of a setting cannot be looked at, or be a path: too long, or not permitted."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{setting} {path}: {error.strerror}") from None


def _next_free(path: Path) -> Path:
    """`path`, or `path-2` and so on if it is there."""
    number = 1
    while (free := path if number == 1 else path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free
