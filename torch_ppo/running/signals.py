"""Ctrl-C, SIGTERM, and SIGHUP of a closed terminal: a run that is asked to stop saves first."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

# SIGHUP asks as often as it likes: a terminal that closes sends it from several sides at once.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """The first signal asks to stop after the training step; a second Ctrl-C or SIGTERM stops at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.number = 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            if number == signal.SIGHUP:
                return
            raise KeyboardInterrupt
        self.signal, self.number = signal.Signals(number).name, number
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
