"""Actions that arrive late: a number of env steps that is the same for all, or drawn for each episode."""

import torch
from torch import Tensor

from torch_ppo.simulation.physics import masked_write


def delay_range(action_delay: int | tuple[int, ...]) -> tuple[int, int]:
    """Least and greatest delay in env steps of a setting, which is a number or both of them."""
    return (action_delay, action_delay) if isinstance(action_delay, int) else (action_delay[0], action_delay[1])


class ActionDelay:
    """Holds actions back. Until the first of an episode arrives, there the action is 0.

    waiting:  the actions of the last steps, newest first          (num_envs, high + 1, action_dim)
    delay:    in env steps, from low to high                       (num_envs,) int64
    """

    def __init__(
        self, low: int, high: int, num_envs: int, action_dim: int, *, device: torch.device, generator: torch.Generator
    ) -> None:
        self.low, self.high, self.generator = low, high, generator
        self.waiting = torch.zeros(num_envs, high + 1, action_dim, device=device)
        self.delay = torch.full((num_envs,), low, device=device, dtype=torch.int64)
        self._next = self.delay.clone()  # of the episode that comes after this step, if one does
        self._everywhere = torch.ones(num_envs, device=device, dtype=torch.bool)

    def draw(self) -> None:
        """Draws what `restart` takes; a restart is compiled, which a generator cannot be."""
        if self.low < self.high:
            self._next.random_(self.low, self.high + 1, generator=self.generator)

    def restart(self, done: Tensor) -> None:
        """New episodes where `done` `(num_envs,)`: nothing is under way, and the delay is the one that was drawn."""
        masked_write(done, 0.0, self.waiting)
        masked_write(done, self._next, self.delay)

    def reset(self) -> None:
        """New episodes everywhere."""
        self.draw()
        self.restart(self._everywhere)

    def __call__(self, action: Tensor) -> Tensor:
        """The action `(num_envs, action_dim)` that arrives in this env step, in which `action` is sent."""
        self.waiting.copy_(torch.cat([action[:, None], self.waiting[:, :-1]], 1))
        chosen = self.delay[:, None, None].expand(-1, 1, action.shape[1])
        return self.waiting.gather(1, chosen).squeeze(1)

    def state(self) -> dict[str, Tensor]:
        """The live tensors that, copied back, continue exactly."""
        return {"waiting": self.waiting, "delay": self.delay}
