"""A terminal whose last line changes in place, while all that is printed appears above it."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from torch_ppo.command import columns


def is_terminal(stream: TextIO) -> bool:
    """Whether lines of a stream can be rewritten: a terminal, and not one that knows no such thing (TERM=dumb)."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


class BottomLine:
    """The last line, of which only the newest text is seen. One text is one row: what does not fit is cut.

    On a terminal that was made narrower the old text has become several rows, which all are erased.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.text = ""
        self._shown = 0  # characters
        self._lock = threading.RLock()

    @property
    def room(self) -> int:
        """Characters that fit; the last column is left free, because terminals differ in what comes after it."""
        return max(columns(self.stream) - 1, 1)

    def show(self, text: str, colour: tuple[str, str] | None = None) -> None:
        """Replaces the line; `colour` is a part of the text and the escape sequence before it."""
        with self._lock:
            self._erase()
            self.text, self._colour = text[: self.room], colour
            self._draw()

    def write_above(self, stream: TextIO, lines: str) -> None:
        """Whole lines, above it."""
        with self._lock:
            self._erase()
            if stream is not self.stream:
                self.stream.flush()
            stream.write(lines)
            stream.flush()
            self._draw()

    def end(self) -> None:
        """What is shown stays, and what comes is below it."""
        with self._lock:
            if self._shown:
                self._shown, self.text = 0, ""
                self.stream.write("\n")
                self.stream.flush()

    def _erase(self) -> None:
        if self._shown:
            rows_above = (self._shown - 1) // max(columns(self.stream), 1)
            up = f"\x1b[{rows_above}A" if rows_above else ""
            self.stream.write(f"\r{up}\x1b[J")
            self._shown = 0

    def _draw(self) -> None:
        if self.text:
            shown = self.text = self.text[: self.room]
            self._shown = len(shown)
            if self._colour and self._colour[0] in shown:
                part, begin = self._colour
                shown = shown.replace(part, f"{begin}{part}\x1b[0m")
            self.stream.write(shown)
        self.stream.flush()


class _Above:
    """A text stream whose whole lines appear above the last line."""

    def __init__(self, stream: TextIO, line: BottomLine) -> None:
        self._stream, self._line, self._begun = stream, line, ""

    def write(self, text: str) -> int:
        whole, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._line.write_above(self._stream, whole + newline)
        return len(text)

    def flush(self) -> None:
        """Nothing waits but the begin of a line."""

    def finish(self) -> None:
        if self._begun:
            self._line.write_above(self._stream, f"{self._begun}\n")
            self._begun = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextlib.contextmanager
def all_above(line: BottomLine) -> Iterator[None]:
    """Inside, whatever is printed on the terminal, by a task of somebody's too, is above the line, which then ends."""
    before = sys.stdout, sys.stderr
    above = [_Above(stream, line) if is_terminal(stream) else stream for stream in before]
    sys.stdout, sys.stderr = above
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in above:
            if isinstance(stream, _Above):
                stream.finish()
        line.end()


@contextlib.contextmanager
def changing_line() -> Iterator[Callable[[str], None]]:
    """Gives what shows a text in the last line, which is gone after the block; where nothing can change, it shows nothing."""
    if not is_terminal(sys.stdout):
        yield lambda text: None
        return
    line = BottomLine(sys.stdout)
    with all_above(line):
        try:
            yield line.show
        finally:
            line.show("")
