"""Where a run's random numbers come from: one generator per purpose, all derived from one seed.

Separate streams keep purposes apart: an extra evaluation does not change training.
"""

import numpy as np
import torch

STREAMS = ("init", "train", "env", "eval", "eval_env")


def make_generators(seed: int, device: torch.device, rank: int = 0, begun_at: int = 0) -> dict[str, torch.Generator]:
    """One generator per stream in `STREAMS`. "init" is on the CPU, so that networks start alike on all devices.

    rank:      of several devices; all but "init" differ between them
    begun_at:  training steps after which they begin anew, on other devices than before
    """
    tree = np.random.SeedSequence(seed)
    own = np.random.SeedSequence(seed, spawn_key=(rank, begun_at)) if rank or begun_at else tree
    generators = {}
    for i, name in enumerate(STREAMS):
        stream_seed = (tree if name == "init" else own).generate_state(len(STREAMS), np.uint64)[i]
        generator = torch.Generator("cpu" if name == "init" else device)
        generators[name] = generator.manual_seed(int(stream_seed) % 2**63)
    return generators
