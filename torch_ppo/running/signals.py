"""Ctrl-C and SIGTERM: a run that is asked to stop saves first."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Ctrl-C and SIGTERM: the first asks to stop after the training step, the second stops at once."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self.number = 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal, self.number = signal.Signals(number).name, number
        print(f"\n{self.signal}: stopping after this training step; once more stops at once", flush=True)

    @contextlib.contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Installs the handlers for the duration."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield self
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
