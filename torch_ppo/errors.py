"""Errors that a user can mend: the programs print their one line and exit with status 2, without a traceback."""

import contextlib
import difflib
import errno
import sys
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """Names the value, the rule it breaks, and where possible a value that would work; in one line, whatever the value."""

    def __init__(self, message: str) -> None:
        super().__init__(message.replace("\n", "\\n").replace("\r", "\\r"))


class ConfigError(UserError):
    """A value that cannot work; the message names it, the rule, and a value that would."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean ...?)" for the nearest known name, else the list of all."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


# What the system says of a path that somebody gave or a disk that it is on; never a bug of ours.
_OF_THE_SYSTEM = (
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
)  # fmt: skip


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """A UserError inside, or a path that the system refuses, ends the program with its one line and exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_SYSTEM:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
