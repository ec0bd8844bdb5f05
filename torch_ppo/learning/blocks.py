"""Policy steps in blocks, for a compiler: what lies between two steps of the physics becomes one function."""

import torch
from torch import Tensor

from torch_ppo.learning.collect import Collector, outcome_of_step


class Blocks:
    """In place of `Collector.policy_steps`; the env must be one that `can_be_compiled`.

    All blocks are computed by one function in tensors of its own, or each would be compiled for its place.

    block:    so many steps of the unroll    (num_steps, num_envs, ...)
    """

    def __init__(self, collector: Collector, num_steps: int) -> None:
        self.collector, self.num_steps = collector, num_steps
        self.block = collector.record.each_step(lambda x: torch.zeros_like(x[:num_steps]))
        starts = range(0, len(collector.rows), num_steps)
        self._places = [collector.record.each_step(lambda x, t=t: x[t : t + num_steps]).steps() for t in starts]

    def __call__(self, noise: Tensor) -> None:
        """As `Collector.policy_steps`."""
        for place, part in zip(self._places, noise.split(self.num_steps), strict=True):
            self.compute(part)
            torch._foreach_copy_(place, self.block.steps())

    def compute(self, noise: Tensor) -> None:
        """The next steps, into `block`; noise `(num_steps, num_envs, noise_dim)`. Can be compiled."""
        for t, step_noise in enumerate(noise.unbind(0)):
            row = self.block.each_step(lambda x, t=t: x[t])
            self.collector.policy_step(step_noise, row, outcome_of_step(self.collector.env, row))


def steps_of_block(unroll_length: int, action_repeat: int, most_substeps: int = 5) -> int:
    """The most steps that divide an unroll, with at most so many steps of the physics: each is compiled anew."""
    fitting = (n for n in range(1, unroll_length + 1) if not unroll_length % n and n * action_repeat <= most_substeps)
    return max(fitting, default=1)
