"""How long the device collects and how long it updates, without waiting for it."""

import time

import torch


class PhaseClock:
    """Takes the time at three marks of each training step: its begin, after collecting, its end.

    On CUDA a mark is an event in the queue, which `settle` reads once the host knows that the device has passed it.

    seconds:         of collecting and of updating, since `clear`
    training_steps:  that these are of
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[float | torch.cuda.Event] = []
        self.clear()

    def clear(self) -> None:
        """Begins a new interval."""
        self.seconds, self.training_steps = [0.0, 0.0], 0

    def mark(self) -> None:
        """Now, in the order of what is queued."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def settle(self, *, still_running: int) -> None:
        """Counts all training steps but the last `still_running`."""
        while len(self._marks) >= 3 * (1 + still_running):
            for phase in range(2):
                begin, end = self._marks[phase : phase + 2]
                on_cuda = isinstance(begin, torch.cuda.Event)
                self.seconds[phase] += begin.elapsed_time(end) / 1e3 if on_cuda else end - begin
            self.training_steps += 1
            del self._marks[:3]

    def metrics(self, env_steps_each: int) -> dict[str, float]:
        """Env steps per second of collecting and of updating; empty before the first training step."""
        return {
            f"{phase}_sps": self.training_steps * env_steps_each / seconds
            for phase, seconds in zip(("collect", "update"), self.seconds, strict=True)
            if seconds
        }
