"""Ctrl-C, SIGTERM, and SIGHUP of a closed terminal: a run that is asked to stop saves first."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

# SIGHUP asks as often as it likes: a terminal that closes sends it from several sides at once.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

PASSED_ON_WITHIN = 3.0  # seconds


class StopRequest:
    """The first signal asks to stop after the training step; a second Ctrl-C or SIGTERM stops at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.number = 0
        self._since = 0.0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            # A launcher of several processes passes on what the terminal has sent to all of them already.
            passed_on = "LOCAL_RANK" in os.environ and time.monotonic() - self._since < PASSED_ON_WITHIN
            if number == signal.SIGHUP or passed_on:
                return
            raise KeyboardInterrupt
        self.signal, self.number, self._since = signal.Signals(number).name, number, time.monotonic()
        text = f"\n{self.signal}: stopping after this training step; once more stops at once\n"
        with contextlib.suppress(OSError):  # not by print, which the signal may have interrupted
            os.write(1, text.encode())

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Installs the handlers for the duration. SIGHUP stays ignored where it is (nohup)."""
        before = {number: signal.getsignal(number) for number in ASKING}
        if before[signal.SIGHUP] == signal.SIG_IGN:
            del before[signal.SIGHUP]
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes sends several
    raise KeyboardInterrupt(number)


@contextlib.contextmanager
def all_interrupt() -> Iterator[None]:
    """Each of these signals raises KeyboardInterrupt, with its number, as Ctrl-C does; but for those that are ignored."""
    before = {number: signal.getsignal(number) for number in ASKING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
