"""Where a run's random numbers come from: one generator per purpose, all derived from one seed.

Separate streams keep purposes apart: an extra evaluation does not change training.
"""

import numpy as np
import torch

STREAMS = ("init", "train", "env", "eval", "eval_env")


def make_generators(seed: int, device: torch.device) -> dict[str, torch.Generator]:
    """One generator per stream in `STREAMS`. "init" is on the CPU, so that networks start alike on all devices."""
    seeds = np.random.SeedSequence(seed).generate_state(len(STREAMS), np.uint64)
    generators = {}
    for name, stream_seed in zip(STREAMS, seeds, strict=True):
        generator = torch.Generator("cpu" if name == "init" else device)
        generators[name] = generator.manual_seed(int(stream_seed) % 2**63)
    return generators
