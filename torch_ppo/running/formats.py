"""Formats of checkpoints: which are read, and what an older one becomes. The last is written."""

import torch
from torch import Tensor

# 3 has a hash; and of an env broken worlds by cause, and start states of all that `Task.start` writes.
# 4 has sensors of start states, and no observations of them, where a task's episodes have memory of their own.
# 5 counts timesteps.
FORMATS = (2, 3, 4, 5)


def upgraded_env(
    saved: dict[str, dict[str, Tensor]], live: dict[str, dict[str, Tensor]], number: int, *, num_substeps: int
) -> dict:
    """An env's state of format `number` as the last one has it; `live` has the entries that are needed.

    num_substeps:  timesteps in an env step
    """
    if "models" in live and "models" not in saved:  # the task has come to change its model: with the next episodes
        saved = {**saved, "models": live["models"]}
    if number == FORMATS[-1]:
        return saved
    physics = saved["physics"]
    if "timesteps" in live["physics"]:
        length = saved["episode_metrics"]["length"].masked_fill(saved["counters"]["done"].bool(), 0.0)
        physics = {**physics, "timesteps": length.long() * num_substeps}
    saved = {**saved, "physics": physics}
    if number == 4:
        return saved
    counts = saved["counters"]["broken"]
    if number == 2:  # only a state that is inf or NaN was counted
        total, counts = counts, torch.zeros_like(live["counters"]["broken"], device="cpu")
        counts[0] = total
    # What was not kept of a start state was 0 at restarts. Sensors are those of other starts, until the next reset.
    missing = {name: torch.zeros_like(x, device="cpu") for name, x in live["pool"].items()}
    if "sensordata" in missing:
        missing["sensordata"].copy_(live["pool"]["sensordata"])
    pool = {name: saved["pool"].get(name, x) for name, x in missing.items()}
    observation = saved["pool_observation"] if live["pool_observation"] else {}
    counters = {**saved["counters"], "broken": counts}
    # What tasks have come to remember begins at 0.
    memories = {
        name: {key: saved[name].get(key, torch.zeros_like(x, device="cpu")) for key, x in live[name].items()}
        for name in ("memory", "pool_memory")
    }
    return {**saved, **memories, "counters": counters, "pool": pool, "pool_observation": observation}
