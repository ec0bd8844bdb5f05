"""The toy task of the golden fixtures: a linear map for physics, so that Brax and this project can run the same env.

    x' = 0.9 x + 0.1 M a + c            t' = t + 1
    observation = [x0, x1, x2, x0 x1, x2 x2], privileged: [observation, -x]
    reward = 1 - 0.1 |x'|^2 - 0.01 |a|^2
    ends where |x'0| > limit or t' >= timeout

It is an ordinary `Task` with a `Physics` of its own and trains like any other.
"""

from collections.abc import Mapping

import mujoco
import torch
from torch import Tensor

from torch_ppo.simulation.physics import Physics, masked_write, sensor_slice, sensor_slices
from torch_ppo.simulation.task import Memory, Task

MATRIX = ((1.0, -0.5), (0.3, 0.8), (-0.6, 0.4))
VECTOR = (0.02, -0.01, 0.015)

# Nothing to simulate: MuJoCo only says how long a step is and that there are no sensors.
MJCF = '<mujoco><option timestep="0.02"/></mujoco>'


class ToyPhysics:
    """See `torch_ppo.simulation.physics` for the contract. x is `qpos` (num_envs, 3), the action `ctrl` (num_envs, 2)."""

    can_be_compiled = False

    def __init__(
        self, model: mujoco.MjModel, num_envs: int, *, matrix: Tensor, vector: Tensor, device: torch.device
    ) -> None:
        self.model, self.num_envs, self.device = model, num_envs, device
        self.matrix, self.vector = matrix.to(device), vector.to(device)
        dim, action_dim = matrix.shape
        self.qpos = torch.zeros(num_envs, dim, device=device)
        self.ctrl = torch.zeros(num_envs, action_dim, device=device)
        self.time = torch.zeros(num_envs, device=device)
        self.qvel, self.act, self.sensordata = (torch.zeros(num_envs, 0, device=device) for _ in range(3))
        self.mocap_pos, self.mocap_quat = (torch.zeros(num_envs, 0, size, device=device) for size in (3, 4))
        self.overflow = torch.zeros(num_envs, device=device, dtype=torch.int32)

    def step(self, num_substeps: int) -> None:
        for _ in range(num_substeps):
            self.qpos.copy_(0.9 * self.qpos + 0.1 * self.ctrl @ self.matrix.T + self.vector)
            self.time += self.model.opt.timestep

    def forward(self, where: Tensor | None = None) -> None:
        """There are no sensors to update."""

    def start_parts(self) -> dict[str, Tensor]:
        return {"qpos": self.qpos, "qvel": self.qvel, "ctrl": self.ctrl}

    def reset(self, mask: Tensor, start: Mapping[str, Tensor]) -> None:
        for name, tensor in self.start_parts().items():
            masked_write(mask, start[name], tensor)
        masked_write(mask, 0.0, self.time)

    def make_deterministic(self) -> None:
        """It is."""

    def sensor(self, name: str) -> Tensor:
        return self.sensordata[:, sensor_slice(sensor_slices(self.model), name)]

    def state(self) -> dict[str, Tensor]:
        return {"qpos": self.qpos, "ctrl": self.ctrl, "time": self.time}


class ToyTask(Task):
    """Starts at `x0` (num_envs, 3), or uniformly in ±0.5 where none is given.

    limit, timeout:  ends of an episode; None for none
    asymmetric:      observe "state" and "privileged_state"

    memory t:        steps since the last reset                       (num_envs,)
    memory tick:     steps since the start; automatic resets keep it  (num_envs,)
    """

    control_dt = 0.02
    metric_names = ("cost", "effort_per_step")
    memory_kept = ("tick",)

    def __init__(
        self,
        *,
        limit: float | None = 0.5,
        timeout: float | None = None,
        asymmetric: bool = False,
        x0: Tensor | None = None,
        matrix: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> None:
        self.limit, self.timeout, self.asymmetric, self.x0 = limit, timeout, asymmetric, x0
        self.matrix = torch.tensor(MATRIX) if matrix is None else matrix
        self.vector = torch.tensor(VECTOR) if vector is None else vector

    def make_model(self) -> mujoco.MjModel:
        return mujoco.MjModel.from_xml_string(MJCF)

    def make_physics(self, num_envs: int, *, device: torch.device, engine: str, capture: bool) -> Physics:
        return ToyPhysics(self.make_model(), num_envs, matrix=self.matrix, vector=self.vector, device=device)

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        return {name: torch.zeros(num_envs, device=device) for name in ("t", "tick")}

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        if self.x0 is None:
            physics.qpos.uniform_(-0.5, 0.5, generator=generator)
        else:
            physics.qpos.copy_(self.x0)

    def after_step(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        memory["t"] += 1.0
        memory["tick"] += 1.0

    def observe(self, physics: Physics, memory: Memory) -> Tensor | dict[str, Tensor]:
        x = physics.qpos
        state = torch.cat([x, x[:, :1] * x[:, 1:2], x[:, 2:].square()], dim=1)  # (num_envs, 5)
        return {"state": state, "privileged_state": torch.cat([state, -x], dim=1)} if self.asymmetric else state

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        cost, effort = physics.qpos.square().sum(1), action.square().sum(1)
        return 1.0 - 0.1 * cost - 0.01 * effort, {"cost": cost, "effort_per_step": effort}

    def terminated(self, physics: Physics, memory: Memory) -> Tensor | None:
        out = torch.zeros_like(physics.time, dtype=torch.bool)
        if self.limit is not None:
            out |= physics.qpos[:, 0].abs() > self.limit
        if self.timeout is not None:
            out |= memory["t"] >= self.timeout
        return out

    def time_out(self, physics: Physics, memory: Memory) -> Tensor | None:
        return None if self.timeout is None else memory["t"] >= self.timeout
