"""Files that are written whole or not at all, and what a disk may refuse."""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from torch_ppo.errors import ConfigError, UserError

TEMPORARY = ".tmp"  # how the name of a file under way ends; it begins with a dot


class DiskError(UserError):
    """A file that cannot be written: its path and the reason."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """An OSError inside becomes a DiskError about `path`."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror or error}") from None


def write_atomically(path: Path, content: bytes, *, sync_folder: bool = True) -> None:
    """Writes under a temporary name, syncs, renames, and syncs the folder: a crash leaves the old file or the new one.

    The folder must be there; where another file in it follows at once, it need not be synced twice. DiskError if the file cannot be written; the old one, if any, is then as it was.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}{TEMPORARY}")  # short, whatever the length of the name
    with disk_errors(path):
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                _write(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    if sync_folder:
        _sync_folder(path.parent)


def _write(handle: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(handle, left) :]


def _sync_folder(path: Path) -> None:
    """Has the names in a folder survive a power loss, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed process left half-written, of this version and of those before it."""
    patterns = (f".*{TEMPORARY}", ".*.pt.????????", ".config.toml.????????", ".*.unchecked")
    for pattern in patterns:
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()


class AppendedFile:
    """A file that grows by whole pieces. One that fails is taken back, kept, and written before the next."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: list[bytes] = []
        with disk_errors(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def append(self, *pieces: bytes) -> None:
        """DiskError if they cannot be written now."""
        self.pending += pieces
        with disk_errors(self.path):
            status = os.fstat(self._handle)
            if status.st_nlink == 0:  # writing to a deleted file succeeds, and is lost
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            try:
                _write(self._handle, b"".join(self.pending))
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._handle, status.st_size)
                raise
        self.pending.clear()

    def sync(self) -> None:
        """What was written survives a power loss."""
        with disk_errors(self.path):
            os.fsync(self._handle)

    def close(self) -> None:
        os.close(self._handle)


class DiskWrites:
    """The writes of a run, and what becomes of one that fails, as `on_disk_error` has it.

    With "stop" the first failure is kept in `stopped_by`, and the run ends after the training step under way. With
    "continue" it is said once, and the next report tries again.
    """

    def __init__(self, on_error: str, say: Callable[[str], None]) -> None:
        self.on_error, self.say = on_error, say
        self.failing: DiskError | None = None

    def __call__(self, *writes: Callable[[], None]) -> bool:
        """Makes all these writes; whether none failed."""
        errors = []
        for write in writes:
            try:
                write()
            except DiskError as error:
                errors.append(error)
        if errors and self.failing is None:
            self.failing = errors[0]
            if self.on_error == "continue":
                self.say(f"warning: {self.failing}; training goes on, and the next report tries again")
        return not errors

    def recovered(self) -> None:
        """After all files of a report were written."""
        if self.failing is not None:
            self.failing = None
            self.say("files are written again")

    @property
    def stopped_by(self) -> DiskError | None:
        return self.failing if self.on_error == "stop" else None


def check_folder(path: Path, setting: str) -> None:
    """ConfigError if a file is where the folder `path` of a setting, or one above it, should be."""
    for folder in (path, *path.parents):
        try:
            blocked = folder.exists() and not folder.is_dir()
        except (OSError, ValueError) as error:  # a name that no file can have
            raise ConfigError(f"{setting} {path}: {getattr(error, 'strerror', None) or error}") from None
        if blocked:
            raise ConfigError(f"{setting} {path}: {folder} is a file")


def make_folder(path: Path, setting: str) -> None:
    """Makes the folder of a setting, and sees whether files can be written in it; ConfigError if not."""
    check_folder(path, setting)
    probe = path / f".{secrets.token_hex(6)}{TEMPORARY}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{setting} {path} cannot be written: {error.strerror}") from None
