"""The clock of collecting and updating, and what it must not do: wait for the device."""

import time
from typing import ClassVar

import pytest
import torch

from torch_ppo.running.phase_clock import PhaseClock


def test_phases_are_told_apart():
    clock = PhaseClock(torch.device("cpu"))
    for _ in range(3):
        clock.mark()
        time.sleep(0.02)
        clock.mark()
        time.sleep(0.005)
        clock.mark()
        clock.settle(still_running=1)
    assert clock.training_steps == 2
    clock.settle(still_running=0)
    assert clock.training_steps == 3
    rates = clock.metrics(100)
    assert 100 / 0.06 < rates["collect_sps"] < 100 / 0.02 and rates["update_sps"] > rates["collect_sps"]
    clock.clear()
    assert clock.metrics(100) == {}


class Event:
    """An event of a device that is still at work on the last three marks."""

    passed: ClassVar[list["Event"]] = []

    def __init__(self, *, enable_timing):
        assert enable_timing

    def record(self, stream):
        self.passed.append(self)

    def elapsed_time(self, end):
        assert end in self.passed[:-3], "this would wait for the device"
        return 1e3 * (self.passed.index(end) - self.passed.index(self))


def test_on_cuda_only_events_that_have_passed_are_read(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    clock = PhaseClock(torch.device("cuda", 0))
    for step in range(4):
        for _ in range(3):
            clock.mark()
        clock.settle(still_running=1)
        assert clock.training_steps == step
    assert clock.seconds == [3.0, 3.0]
    with pytest.raises(AssertionError, match="would wait"):
        clock.settle(still_running=0)  # before the host has waited
