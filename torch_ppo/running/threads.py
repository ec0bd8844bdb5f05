"""How many CPU threads an SGD step is worth."""

import torch

from torch_ppo.learning.agent import Agent
from torch_ppo.settings.config import Config

# In an SGD step the threads wait for each other some hundred times, and waking one costs 0.05 to 0.1 ms where cores are virtual.
# Two were up to six times slower than one below 1 GFLOP, as fast at 1 to 2, and a quarter faster at 8 (docs/performance.md).
FLOP_PER_THREAD = 2e9


def worthwhile_threads(agent: Agent, config: Config) -> int:
    """One for every `FLOP_PER_THREAD` of an SGD step, at least one and at most those that torch has now.

    By sizes and not by a stopwatch, because sums of floats depend on how they are shared out. Where there are pictures all
    of them: convolutions are large.
    """
    most = torch.get_num_threads()
    if agent.pixel_keys:
        return most
    parameters = sum(x.numel() for x in agent.parameters())
    flop = (
        6 * parameters * config.transitions_per_minibatch
    )  # a product and a sum each: forward, and backward two of them
    return min(most, max(1, int(flop / FLOP_PER_THREAD)))
