"""What policies see of an env: what the task observes and its views, the last few of them, in tensors that stay."""

from typing import Any

import torch
from torch import Tensor

from torch_ppo.simulation.dry_step import as_observation
from torch_ppo.simulation.frames import frames_by_key, full_of, pushed
from torch_ppo.simulation.physics import Physics, masked_write
from torch_ppo.simulation.task import Memory, Observation, Task, TaskError


class Observations:
    """Stacks of the last frames of a task. A frame is what there is to see at one time, a tensor per key.

    present:  the stacks                                   (num_envs, frames * frame_dim) per key
    frame:    tensors like one frame                       (num_envs, ..., frame_dim) per key
    seen:     `present`, as `Task.observe` returns it      a tensor, or a dict
    """

    def __init__(
        self,
        task: Task,
        physics: Physics,
        first: Observation,
        *,
        single: bool,
        pictures: Observation,
        history: int,
        history_obs_keys: tuple[str, ...],
    ) -> None:
        """`first` is what the task observes, `single` whether as a tensor of its own; `pictures` what its views show."""
        self.task, self.physics, self._pictures = task, physics, pictures
        self.frame = {key: torch.zeros_like(x) for key, x in {**first, **pictures}.items()}
        self._frames = frames_by_key(history, history_obs_keys, self.frame)
        self.present = {key: torch.zeros_like(full_of(x, self._frames[key])) for key, x in self.frame.items()}
        self.seen: Any = self.present["state"] if single and not pictures else self.present

    def look(self) -> None:
        """Draws what the task's views show now; here, and not in `newest`, because that is compiled."""
        if self._pictures:
            self.physics.render()

    def newest(self, memory: Memory) -> Observation:
        """The frame of the present state. TaskError if it has other keys than the first had."""
        observed = {**as_observation(self.task.observe(self.physics, memory)), **self._pictures}
        if observed.keys() != self.present.keys():
            raise TaskError(
                f"{type(self.task).__name__}.observe returns {', '.join(observed)}, but returned "
                f"{', '.join(self.present)} at first"
            )
        return observed

    def stacked(self, frame: Observation) -> Observation:
        """The stacks with a new frame and without their oldest; `present` keeps what it has until `write`."""
        return {key: pushed(self.present[key], x) for key, x in frame.items()}

    def write(self, stacks: Observation) -> None:
        """These are what is seen now."""
        for key, stack in stacks.items():
            self.present[key].copy_(stack)

    def write_restarted(self, done: Tensor, first: Observation, stacks: Observation) -> None:
        """The stacks, but where an episode is `done`, bool `(num_envs,)`, the first frame of the next, repeated."""
        for key, stack in stacks.items():
            where = done.view(-1, *[1] * (stack.dim() - 1))
            torch.where(where, full_of(first[key], self._frames[key]), stack, out=self.present[key])

    def begin(self, first: Observation, where: Tensor | None = None) -> None:
        """Episodes begin with these frames, in the envs of `where`, bool `(num_envs,)`, or in all."""
        for key, frame in first.items():
            stack = full_of(frame, self._frames[key])
            if where is None:
                self.present[key].copy_(stack)
            else:
                masked_write(where, stack, self.present[key])
