"""One world of plain C MuJoCo, `mj_step` and nothing else, for a task that is to be played outside of training."""

import copy
from collections.abc import Mapping

import mujoco
import torch
from torch import Tensor

from torch_ppo.simulation.physics import keyframe, sensor_slice, sensor_slices
from torch_ppo.simulation.world_fields import WorldFields

WRITTEN = ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qfrc_applied", "xfrc_applied")


class SingleWorld:
    """See `torch_ppo.simulation.physics` for the contract; `num_envs` is 1.

    MuJoCo's state stays in float64 and its solver warm; the float32 tensors are copies, of which a task's changes are
    taken over. `model` may be changed before the first step.
    """

    num_envs = 1
    device = torch.device("cpu")

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = copy.copy(model)
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET  # a world gone bad ends the episode
        self.data = mujoco.MjData(self.model)
        self._sensors = sensor_slices(model)
        self._copies = {
            name: torch.as_tensor(getattr(self.data, name), dtype=torch.float32).clone()[None]
            for name in (*WRITTEN, "sensordata")
        }
        for name, tensor in self._copies.items():
            setattr(self, name, tensor)
        # For each that is not empty: MuJoCo's array, the tensor's numbers, and what they were when they were last read.
        self._arrays = {
            name: (getattr(self.data, name), tensor[0].numpy(), tensor[0].numpy().copy())
            for name, tensor in self._copies.items()
            if tensor.numel()
        }
        self.time = torch.zeros(1)
        self.overflow = torch.zeros(1, dtype=torch.int32)

    def _take_over(self) -> None:
        """What the task has written since the last read."""
        for name in WRITTEN:
            if name in self._arrays:
                array, now, before = self._arrays[name]
                if (now != before).any():
                    array[:] = now
                    before[:] = now

    def _read(self) -> None:
        for array, now, before in self._arrays.values():
            now[:] = array
            before[:] = now
        self.time.fill_(self.data.time)

    def step(self, num_substeps: int) -> None:
        self._take_over()
        mujoco.mj_step(self.model, self.data, num_substeps)
        self._read()

    def forward(self, where: Tensor | None = None) -> None:
        self._take_over()
        mujoco.mj_forward(self.model, self.data)
        self._read()

    def restart(self) -> None:
        """The model's own state, at rest."""
        mujoco.mj_resetData(self.model, self.data)
        self._read()

    def start_parts(self) -> dict[str, Tensor]:
        return {name: self._copies[name] for name in WRITTEN}

    def reset(self, mask: Tensor, start: Mapping[str, Tensor]) -> None:
        if mask.all():
            self.restart()
            for name, value in start.items():
                self._copies[name].copy_(value)

    def sensor(self, name: str) -> Tensor:
        return self.sensordata[:, sensor_slice(self._sensors, name)]

    def keyframe(self, name: str) -> dict[str, Tensor]:
        return keyframe(self.model, name, self.device)

    def model_field(self, name: str) -> Tensor:
        return WorldFields(self.model, 1, self.device).now(name)  # anew: the model may have changed

    def lasting_field(self, name: str) -> Tensor:
        return self.model_field(name).clone()

    def state(self) -> dict[str, Tensor]:
        return self._copies
