"""Ctrl-C, SIGTERM, SIGHUP of a closed terminal, SIGUSR1 and SIGUSR2 of a batch system: a run that is asked to stop saves first."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

# SIGHUP, a closed terminal's, and what batch systems send a while before the end of a job (`sbatch --signal=USR1@120`).
IN_ADVANCE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
ASKING = (signal.SIGINT, signal.SIGTERM, *IN_ADVANCE)

PASSED_ON_WITHIN = 3.0  # seconds


def _handlers() -> dict[int, object]:
    """Today's handler of each signal that asks, without those that have another use: submitit's of SIGUSR2, say."""
    before = {number: signal.getsignal(number) for number in ASKING}
    others = [number for number in (signal.SIGUSR1, signal.SIGUSR2) if before[number] != signal.SIG_DFL]
    return {number: handler for number, handler in before.items() if number not in others}


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
            if number in IN_ADVANCE or passed_on:
                return  # they ask as often as they like: a terminal that closes does so from several sides at once
            raise KeyboardInterrupt
        self.signal, self.number, self._since = signal.Signals(number).name, number, time.monotonic()
        text = f"\n{self.signal}: stopping after this training step; once more stops at once\n"
        with contextlib.suppress(OSError):  # not by print, which the signal may have interrupted
            os.write(1, text.encode())

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Installs the handlers for the duration. SIGHUP stays ignored where it is (nohup)."""
        before = _handlers()
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
    before = _handlers()
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
