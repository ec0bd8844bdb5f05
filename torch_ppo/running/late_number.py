"""Watching a number on the device without waiting for the work that was just queued."""

import torch
from torch import Tensor


class LateNumber:
    """A number that the device writes and the host reads one turn later. 0 at first.

    Read between queueing a turn's work and writing its number, so that the host waits for the turn before only: the
    device always has work queued, and the host never runs ahead by more than a turn.
    """

    def __init__(self, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        self._value = torch.zeros((), pin_memory=on_cuda)
        self._written = torch.cuda.Event() if on_cuda else None

    def write(self, number: Tensor) -> None:
        """Takes a number `()` as it will be when the device gets here."""
        self._value.copy_(number, non_blocking=True)
        if self._written is not None:
            self._written.record(torch.cuda.current_stream(number.device))

    def read(self) -> float:
        """The number last written; waits for it."""
        if self._written is not None:
            self._written.synchronize()
        return self._value.item()
