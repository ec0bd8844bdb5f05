"""What a program prints: output that cannot be written never ends a run."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import TextIO

FULL = (errno.ENOSPC, errno.EDQUOT)  # may pass; anything else is a reader that has gone


class LastingStream:
    """A text stream whose write and flush never fail. After its reader has gone, what is written is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):  # in ASCII some of what is printed has no place
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if getattr(error, "errno", None) not in FULL:
            self.give_up()

    def give_up(self) -> None:
        """From now on to nowhere; what is still in a buffer too, for else the interpreter would fail on it at its end."""
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def settle(self) -> None:
        """At the end of the program: what still cannot be written is given up."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.give_up()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_output() -> Iterator[None]:
    """Standard output and error last for the duration, closed ones included."""
    _fill_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = lasting = [LastingStream(stream) for stream in before]
    try:
        yield
    finally:
        for stream in lasting:
            stream.settle()
        sys.stdout, sys.stderr = before


def _fill_closed() -> None:
    """Opens nothing in the place of a closed stdin, stdout or stderr: the next file opened would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                handle = os.open(os.devnull, os.O_RDWR)
                if handle != number:
                    os.dup2(handle, number)
                    os.close(handle)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
