"""How many CPU threads an SGD step is worth."""

import torch

from torch_ppo.learning.agent import Agent
from torch_ppo.settings.config import Config
from torch_ppo.simulation.cores import available_cores

# Threads wait for each other in every operation of an SGD step. Two that sleep were up to six times slower than one below 1 GFLOP,
# as fast at 1 to 2, and a quarter faster at 8 (docs/performance.md).
FLOP_PER_THREAD = 2e9


def most_threads() -> int:
    """Those that torch has now, and no more than there are cores for this process."""
    return min(torch.get_num_threads(), available_cores())


def worthwhile_threads(agent: Agent, config: Config) -> int:
    """One for every `FLOP_PER_THREAD` of an SGD step, at least one and at most `most_threads`.

    By sizes and not by a stopwatch, because sums of floats depend on how they are shared out. Where there are pictures all
    of them: convolutions are large.
    """
    most = most_threads()
    if agent.pixel_keys:
        return most
    parameters = sum(x.numel() for x in agent.parameters())
    # A product and a sum each, once forward and twice backward.
    flop = 6 * parameters * config.transitions_per_minibatch
    return min(most, max(1, int(flop / FLOP_PER_THREAD)))
