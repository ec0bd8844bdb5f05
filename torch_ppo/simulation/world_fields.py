"""Model fields as each world has them: for tasks that observe them, and for those that change them in every episode."""

from collections.abc import Iterable, Mapping

import mujoco
import numpy as np
import torch
from torch import Tensor

from torch_ppo.simulation.physics import PhysicsError, masked_write


class WorldFields:
    """What an engine knows of its worlds' models, as float32 tensors `(num_envs, *field shape)` by name.

    own:      what `set_model_fields` gave; all else is nominal
    written:  the live tensors of fields that episodes change
    """

    def __init__(self, model: mujoco.MjModel, num_envs: int, device: torch.device) -> None:
        self.model, self.num_envs, self.device = model, num_envs, device
        self.own: dict[str, Tensor] = {}
        self.written: dict[str, Tensor] = {}
        self._lasting: dict[str, Tensor] = {}

    def set_own(self, fields: Mapping[str, Tensor]) -> None:
        """Takes what worlds have for good."""
        self.own = {name: value.detach().to(self.device, torch.float32) for name, value in fields.items()}
        self._lasting.clear()

    def lasting(self, name: str) -> Tensor:
        """The field without what episodes change; a copy, to be changed."""
        return self._read_only(name).clone(memory_format=torch.contiguous_format)

    def _read_only(self, name: str) -> Tensor:
        # Made once: a recorded step cannot copy from the host.
        if name not in self._lasting:
            nominal = getattr(self.model, name, None)
            if not isinstance(nominal, np.ndarray) or not np.issubdtype(nominal.dtype, np.floating):
                raise PhysicsError(f"{name!r} is not a field of numbers in MuJoCo's MjModel, such as 'geom_friction'")
            value = self.own.get(name)
            if value is None:
                value = (
                    torch.as_tensor(nominal, dtype=torch.float32).to(self.device).expand(self.num_envs, *nominal.shape)
                )
            self._lasting[name] = value
        return self._lasting[name]

    def now(self, name: str) -> Tensor:
        """The field as it is in this step; read-only."""
        found = self.written.get(name)
        return self._read_only(name) if found is None else found

    def open(self, names: Iterable[str]) -> None:
        """Lets episodes change these fields, where the engine has no tensors of its own for them."""
        self.written = {name: self.lasting(name) for name in names}

    def write(self, where: Tensor, fields: Mapping[str, Tensor]) -> None:
        """Writes fields of the worlds `where` `(num_envs,)`."""
        for name, tensor in self.written.items():
            masked_write(where, fields[name], tensor)
