"""Start states of episodes: a pool with one per env, and the masked copies by which finished envs go back to one."""

import torch
from torch import Tensor

from torch_ppo.simulation.physics import Physics, masked_write, normalize_quaternions
from torch_ppo.simulation.task import Memory, Observation, Task


class StartStates:
    """The pool, and `present`, the live tensors of the env that it is filled from and copied back to.

    pool:         parts of the physics' state                  (num_envs, ...) per name
    memory:       the task's                                   (num_envs, ...) per name
    observation:  first observations, those that can be kept   (num_envs, ...) per key
    new_memory:   whether `Task.each_episode` gives every episode memory of its own; its first observation cannot be kept
                  then, but for pictures, which show nothing of memory and would cost a second rendering
    """

    def __init__(
        self,
        task: Task,
        physics: Physics,
        present: Memory,
        nominal: dict[str, Tensor],
        first_frames: Observation,
        *,
        auto_reset: str,
        generator: torch.Generator,
    ) -> None:
        """`nominal` are the parts of the state before any start; `first_frames` are as the observations to be kept."""
        self.task, self.physics, self.present = task, physics, present
        self.auto_reset, self.generator = auto_reset, generator
        num_envs, device = physics.num_envs, physics.device
        self.new_memory = has_new_memory(task, auto_reset)
        self.pool = {name: torch.zeros_like(x) for name, x in physics.start_parts().items()}
        self.nominal = {name: nominal.get(name, x.clone()) for name, x in self.pool.items()}
        if self.new_memory:
            self.pool["sensordata"] = torch.zeros_like(physics.sensordata)
        self.memory = {name: tensor.clone() for name, tensor in present.items()}
        self.observation = {key: torch.zeros_like(x) for key, x in first_frames.items()}
        left = {*task.memory_kept, *(("random",) if self.new_memory else ())}  # or noise would be that of the pool
        self._restored = tuple(name for name in present if name not in left)
        self._source = torch.zeros(num_envs, device=device, dtype=torch.int64)  # whose start state each would get
        self._everywhere = torch.ones(num_envs, device=device, dtype=torch.bool)

    def begin(self, memory: Memory) -> None:
        """Has the task draw a start state of every env, into the physics and `memory`."""
        for tensor in memory.values():
            tensor.zero_()
        self.draw_random(memory)
        self.physics.reset(self._everywhere, self.nominal)
        self.task.start(self.physics, memory, self.generator)
        self.task.each_episode(memory, self.generator)
        normalize_quaternions(self.physics)

    def draw_random(self, memory: Memory) -> None:
        """New random numbers for the task."""
        if self.task.num_random:
            memory["random"].uniform_(generator=self.generator)

    def keep(self, where: Tensor, memory: Memory, observed: Observation) -> None:
        """Puts the present state of physics into the pool, with its memory and observation."""
        present = {**self.physics.start_parts(), "sensordata": self.physics.sensordata}
        for pool, found in ((self.pool, present), (self.memory, memory), (self.observation, observed)):
            for name, tensor in pool.items():
                masked_write(where, found[name], tensor)

    def draw(self) -> None:
        """What envs whose episode ends in this step will go on with. Not drawn where it is used: that is compiled."""
        if self.auto_reset == "random":
            self._source.random_(len(self._source), generator=self.generator)
        if self.new_memory:
            self.task.each_episode(self.memory, self.generator)

    def restart(self, done: Tensor) -> Observation:
        """Where `done` `(num_envs,)`, puts state and memory back to a start; returns all envs' kept observations."""

        def start(pool: Tensor) -> Tensor:
            return pool.index_select(0, self._source) if self.auto_reset == "random" else pool

        parts = {name: start(pool) for name, pool in self.pool.items()}
        self.physics.reset(done, parts)
        for name in self._restored:
            masked_write(done, start(self.memory[name]), self.present[name])
        if self.new_memory:
            masked_write(done, parts["sensordata"], self.physics.sensordata)
        return {key: start(pool) for key, pool in self.observation.items()}

    def state(self) -> dict[str, object]:
        """The live tensors of the pool."""
        return {"pool": self.pool, "pool_memory": self.memory, "pool_observation": self.observation}


def has_new_memory(task: Task, auto_reset: str) -> bool:
    """Whether every episode begins with memory of its own, from a start state that is older."""
    return auto_reset != "fresh" and type(task).each_episode is not Task.each_episode
