"""Formats of checkpoints: which are read, and what an older one becomes. The last is written."""

import torch
from torch import Tensor

# 3 has a hash; and of an env broken worlds by cause, and start states of all that `Task.start` writes.
FORMATS = (2, 3)


def upgraded_env(saved: dict[str, dict[str, Tensor]], live: dict[str, dict[str, Tensor]], number: int) -> dict:
    """An env's state of format `number` as the last one has it; `live` has the entries that are needed."""
    if number == FORMATS[-1]:
        return saved
    counts = torch.zeros_like(live["counters"]["broken"], device="cpu")
    counts[0] = saved["counters"]["broken"]  # only a state that is inf or NaN was counted
    # What was not kept of a start state was 0 at restarts.
    pool = {name: saved["pool"].get(name, torch.zeros_like(x, device="cpu")) for name, x in live["pool"].items()}
    return {**saved, "counters": {**saved["counters"], "broken": counts}, "pool": pool}
