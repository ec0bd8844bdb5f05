"""Watching numbers on the device without waiting for the work that was just queued."""

import torch
from torch import Tensor


class LateNumbers:
    """`n` numbers that the device writes and the host reads one turn later. 0 at first.

    Read between queueing a turn's work and writing its numbers, so that the host waits for the turn before only: the
    device always has work queued, and the host never runs ahead by more than a turn.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        on_cuda = device.type == "cuda"
        self._values = torch.zeros(n, pin_memory=on_cuda)
        self._written = torch.cuda.Event() if on_cuda else None

    def write(self, numbers: Tensor) -> None:
        """Takes numbers `(n,)` as they will be when the device gets here."""
        self._values.copy_(numbers, non_blocking=True)
        if self._written is not None:
            self._written.record(torch.cuda.current_stream(numbers.device))

    def read(self) -> list[float]:
        """The numbers last written; waits for them."""
        if self._written is not None:
            self._written.synchronize()
        return self._values.tolist()
