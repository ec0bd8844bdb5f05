"""Errors that a user can mend: the programs print their one line and exit with status 2, without a traceback."""

import contextlib
import difflib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType


class UserError(ValueError):
    """Names the value, the rule it breaks, and where possible a value that would work; in one line, whatever the value."""

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", "\\n").replace("\r", "\\r"))


class ConfigError(UserError):
    """A value that cannot work; the message names it, the rule, and a value that would."""


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """ " (did you mean ...?)" for the nearest known name, else the list of all.

    before:  what stands before every name, such as the dashes of an option; it makes no two names alike
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return (
        f"; did you mean {before + close[0]!r}?" if close else f"; known: {', '.join(before + each for each in known)}"
    )


def install(extra: str) -> str:
    """The command that installs one of our extras, as it works in the current folder."""
    source = _installed_from()
    try:
        here = source is not None and os.path.samefile(source, ".")
    except OSError:
        here = False
    if source is None or here:
        return f"pip install '.[{extra}]'{'' if here else ' in a checkout of torch_ppo'}"
    return f"pip install {shlex.quote(f'{source}[{extra}]')}"


def is_installed(package: str) -> bool:
    """Whether a package can be imported; a folder of its name that is no package, as `wandb` leaves behind, is none."""
    import importlib.util  # here, for this module is imported before anything is said

    found = importlib.util.find_spec(package)
    return found is not None and found.origin is not None


def _installed_from() -> str | None:
    """The checkout that runs, or that pip has installed from; None where there is none any more."""
    import importlib.metadata  # here, for this module is imported before anything is said
    import json
    import urllib.parse

    root = Path(__file__).parents[1]
    if (root / "pyproject.toml").is_file():
        return str(root)
    try:
        origin = json.loads(importlib.metadata.distribution("torch_ppo").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    url = urllib.parse.urlsplit(origin.get("url", ""))
    folder = urllib.parse.unquote(url.path)
    return folder if url.scheme == "file" and os.path.isfile(os.path.join(folder, "pyproject.toml")) else None


FOLDER_IS_GONE = "the current folder has been deleted; cd to one that is there"
# What the system says of a path that somebody gave or a disk that it is on; never a bug of ours.
_OF_THE_SYSTEM = (
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip


def _current_folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def is_of_memory(error: Exception) -> bool:
    """Whether it is Python's, or what torch says of the CPU's or a CUDA device's memory."""
    said = str(error)
    return isinstance(error, MemoryError) or "can't allocate memory" in said or "CUDA out of memory" in said


INTERRUPTED = 128 + signal.SIGINT


def _end_at_once(number: int, frame: FrameType | None) -> None:
    # Not by an exception: half-imported libraries make something else of it, or go on without what failed.
    os.write(2, b"\nstopped before anything was begun\n")
    os._exit(INTERRUPTED)


def interrupts_end_imports() -> None:
    """Ctrl-C ends the process with a line, until `user_errors` begins: while a program imports its libraries."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)


def interrupts_raise_again() -> None:
    """Ends what `interrupts_end_imports` began, if it did."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """A UserError inside, or a path that the system refuses, ends the program with its one line and exit status 2.

    Ctrl-C ends it with a line and status 130.
    """
    try:
        interrupts_raise_again()
        yield
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except UserError as error:
        # Whatever cannot be found or made then, that is why.
        reason = FOLDER_IS_GONE if _current_folder_is_gone() else error
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        print(f"error: not enough memory, fewer envs or smaller networks may fit: {reason}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _current_folder_is_gone():
            print(f"error: {FOLDER_IS_GONE}", file=sys.stderr)
            sys.exit(2)
        if error.filename is None or error.errno not in _OF_THE_SYSTEM:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
