"""Simulation time as a count of timesteps: a float32 sum stops growing (of 2 ms, after 18 hours)."""

import torch
from torch import Tensor

from torch_ppo.simulation.physics import masked_write


class Clock:
    """Writes `time`, float32 seconds `(num_envs,)`, from how many timesteps of so many seconds each world has taken.

    timesteps:  since the last restart, int64 `(num_envs,)`; the state from which `time` follows
    """

    def __init__(self, time: Tensor, timestep: float) -> None:
        self.time, self.timesteps = time, torch.zeros_like(time, dtype=torch.int64)
        # A tensor, so that the product is made in float64; a number would let it be made in float32.
        self._timestep = torch.tensor([timestep], dtype=torch.float64, device=time.device)

    def advance(self, num_substeps: int) -> None:
        """Counts so many timesteps in every world; `time` is the float32 nearest to the product."""
        self.timesteps.add_(num_substeps)
        if torch.compiler.is_compiling():  # which fuses the two, and takes no `out` with gaps
            self.time.copy_(self.timesteps * self._timestep)
        else:
            torch.mul(self.timesteps, self._timestep, out=self.time)

    def reset(self, mask: Tensor) -> None:
        """Back to 0 where `mask` `(num_envs,)`."""
        masked_write(mask, 0.0, self.time)
        masked_write(mask, 0, self.timesteps)
