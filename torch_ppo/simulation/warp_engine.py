"""MuJoCo Warp: all worlds in one set of kernels, recorded as a graph. The default on CUDA; also runs on the CPU.

The tensors are views of Warp's arrays: nothing is copied between the simulator and torch.
"""

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from torch import Tensor

from torch_ppo.simulation.capture import capture_warp, in_a_recording, on_torch_stream
from torch_ppo.simulation.clock import Clock
from torch_ppo.simulation.kernels import compiling_is_said, start_warp
from torch_ppo.simulation.model_fields import FOLLOWED_ON_WARP
from torch_ppo.simulation.physics import PhysicsError, keyframe, masked_write, sensor_slice, sensor_slices
from torch_ppo.simulation.randomization import (
    ModelFields,
    check_episode_fields,
    check_fields,
    geom_poses,
    widest_model,
    with_derived_fields,
)
from torch_ppo.simulation.views import NO_VIEWS, View, check_views
from torch_ppo.simulation.warp_constants import Constants
from torch_ppo.simulation.warp_views import WarpViews
from torch_ppo.simulation.world_fields import WorldFields

start_warp()

# Iteration limits of the solver are bits of `overflow` too, but reaching one is not a lost contact.
CAPACITY_BITS = int(mjw.OverflowType.ALL) & ~int(mjw.OverflowType.ITERATIONS | mjw.OverflowType.LS_ITERATIONS)

# What else would work where MuJoCo Warp refuses a model, by a word of its complaint.
_INSTEAD = {
    "mjSOL_PGS": 'solver="Newton"',
    "Dense": 'jacobian="sparse"',
    "sleeping": 'solver="Newton"',
    "actuatorgroupdisable": "a model without those actuators",
}


def _check_groups(model: mujoco.MjModel) -> None:
    """NotImplementedError for actuators that C MuJoCo switches off; MuJoCo Warp 4.0 acts with them and says nothing."""
    group = model.actuator_group
    off = (group >= 0) & (group <= 30) & (model.opt.disableactuator >> group.clip(0, 30) & 1 == 1)
    if off.any():
        first = int(off.argmax())
        name = model.actuator(first).name
        raise NotImplementedError(
            f"actuatorgroupdisable switches {f'actuator {name!r}' if name else f'actuator number {first}'} off, which it ignores"
        )


class WarpPhysics:
    """See `torch_ppo.simulation.physics` for the contract.

    nconmax:  contacts per world, on average over worlds; None takes MuJoCo Warp's default
    njmax:    constraint rows in each world; None likewise
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        *,
        device: torch.device,
        capture: bool = True,
        nconmax: int | None = None,
        njmax: int | None = None,
    ) -> None:
        if device.type == "cuda" and device.index is None:  # Warp wants to know which one
            device = torch.device("cuda", torch.cuda.current_device())
        self.model, self.num_envs, self.device = model, num_envs, device
        if device.type == "cuda" and not wp.is_cuda_available():
            raise PhysicsError(
                "torch has CUDA but Warp has not: its driver is older than Warp's (R580 or newer is needed for CUDA 13)"
            )
        self._warp_device = wp.device_from_torch(device)
        self._capture = capture
        if njmax is not None:
            njmax = max(njmax, 1)  # with 0, MuJoCo Warp 4.0 leaves the velocity as it is
        try:
            _check_groups(model)
            with wp.ScopedDevice(self._warp_device):
                self._model = mjw.put_model(model)
                self._data = mjw.make_data(model, nworld=num_envs, nconmax=nconmax, njmax=njmax)
        except (NotImplementedError, ValueError) as error:
            complaint = " ".join(str(error).split()).rstrip(".")
            instead = "".join(f"{change} or " for word, change in _INSTEAD.items() if word in complaint)
            raise PhysicsError(
                f"MuJoCo Warp does not support this model: {complaint}; {instead}physics = mujoco would work"
            ) from None
        # Printed from inside the kernels otherwise; the env reports `overflow` instead.
        self._model.opt.warn_overflow = 0
        data = self._data
        self.qpos, self.qvel, self.act, self.ctrl, self.time, self.sensordata = map(
            wp.to_torch, (data.qpos, data.qvel, data.act, data.ctrl, data.time, data.sensordata)
        )
        self._clock = Clock(self.time, model.opt.timestep)
        self.mocap_pos, self.mocap_quat = wp.to_torch(data.mocap_pos), wp.to_torch(data.mocap_quat)
        self._forces = {"qfrc_applied": wp.to_torch(data.qfrc_applied), "xfrc_applied": wp.to_torch(data.xfrc_applied)}
        self._used_forces: dict[str, Tensor] = {}
        self._warmstart = wp.to_torch(data.qacc_warmstart)
        # Rows of connect and weld are made with velocities of the step before, which are then part of the state.
        moving = np.isin(model.eq_type, (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD)).any()
        self._velocities = {name: wp.to_torch(getattr(data, name)) for name in ("cvel", "cdof_dot") if moving}
        self._overflow = wp.to_torch(data.overflow)
        self._fields = WorldFields(model, num_envs, device)
        self._constants: Constants | None = None
        self._sensors = sensor_slices(model)
        self._drawing: WarpViews | None = None
        self.views: Mapping[str, View] = NO_VIEWS
        self.pictures: dict[str, Tensor] = {}
        self._replays: dict[Hashable, Callable[[], None]] = {}
        self._launched: set[Hashable] = set()

    def _recorded(self, function: Callable[[], None]) -> Callable[[], None]:
        """`function`, recorded, with the state that its trial run changed put back."""
        before = {name: tensor.clone() for name, tensor in self.state().items()}
        replay = capture_warp(function, self._warp_device)
        for name, tensor in self.state().items():
            tensor.copy_(before[name])
        return replay

    def _run(self, name: Hashable, function: Callable[[], None]) -> None:
        """Runs `function`, which has this name; as a recording of its own, made at the first time, if wanted.

        Within somebody else's recording it is launched as it is, to become part of that.
        """
        first = name not in self._launched
        with (
            compiling_is_said() if first else contextlib.nullcontext(),
            on_torch_stream(self.device),
            wp.ScopedDevice(self._warp_device),
        ):
            if self._capture and not in_a_recording():
                if name not in self._replays:
                    self._replays[name] = self._recorded(function)
                self._replays[name]()
            else:
                function()
        self._launched.add(name)

    def step(self, num_substeps: int) -> None:
        def substeps() -> None:
            for _ in range(num_substeps):
                mjw.step(self._model, self._data)

        self._run(num_substeps, substeps)
        self._clock.advance(num_substeps)

    def forward(self, where: Tensor | None = None) -> None:
        # All worlds, wherever it is wanted: how many there are is recorded.
        def forward() -> None:
            mjw.forward(self._model, self._data)

        self._run("forward", forward)

    def set_views(self, views: Mapping[str, View]) -> None:
        check_views(views, self.model)
        self.views = dict(views)
        self._drawing = WarpViews(self.model, views, self.num_envs, self.device)
        self.pictures = self._drawing.pictures

    def render(self) -> None:
        drawing = self._drawing
        if "pictures" not in self._launched:
            with wp.ScopedDevice(self._warp_device):
                drawing.prepare(self._fields.own.keys() | self._fields.written.keys())
        self._run("pictures", lambda: drawing.launch(self._model, self._data))

    @property
    def qfrc_applied(self) -> Tensor:
        return self._force("qfrc_applied")

    @property
    def xfrc_applied(self) -> Tensor:
        return self._force("xfrc_applied")

    def _force(self, name: str) -> Tensor:
        """An applied force, part of a start state from its first use on."""
        if name not in self._used_forces and self._launched - {"forward", "constants", "pictures"}:
            raise PhysicsError(
                f"{name} must first be used before the first step, in the task's start, apply or each_substep"
            )
        return self._used_forces.setdefault(name, self._forces[name])

    def start_parts(self) -> dict[str, Tensor]:
        parts = {"qpos": self.qpos, "qvel": self.qvel, "act": self.act, "ctrl": self.ctrl, **self._used_forces}
        parts |= self._velocities
        return parts | ({"mocap_pos": self.mocap_pos, "mocap_quat": self.mocap_quat} if self.model.nmocap else {})

    def reset(self, mask: Tensor, start: Mapping[str, Tensor]) -> None:
        for name, tensor in self.start_parts().items():
            if tensor.numel():
                masked_write(mask, start[name], tensor)
        # A stale warm start would be the only trace of the episode before.
        masked_write(mask, 0.0, self._warmstart)
        self._clock.reset(mask)

    @property
    def overflow(self) -> Tensor:
        """Capacity bits of each world, int32 `(num_envs,)`; they stay set until cleared."""
        return self._overflow & CAPACITY_BITS

    def set_model_fields(self, fields: ModelFields) -> None:
        if self._launched:
            raise RuntimeError("model fields must be set before the first step: recorded graphs keep the old ones")
        fields = check_fields(self.model, self.num_envs, fields, "warp", self.views)
        self._make_model(fields, widest=fields)
        self._fields.set_own(fields)
        poses = geom_poses(self.model, self.num_envs, fields)
        if poses is not None:
            for array, pose in zip((self._data.geom_xpos, self._data.geom_xmat), poses, strict=True):
                wp.to_torch(array).copy_(pose)
        if "qpos0" in fields:
            self.qpos.copy_(fields["qpos0"])

    def _make_model(self, fields: ModelFields, *, widest: ModelFields, kept: Sequence[str] = ()) -> None:
        """Gives worlds their fields and what follows from them; constants that are `kept` are arrays of each world, too."""
        deterministic = self._model.opt.deterministic
        with wp.ScopedDevice(self._warp_device):
            self._model = mjw.put_model(widest_model(self.model, widest))
        self._model.opt.warn_overflow, self._model.opt.deterministic = 0, deterministic
        # MuJoCo Warp reads an array that differs between worlds as [world % length]; one that does not has length 1.
        for name, value in with_derived_fields(self.model, self.num_envs, fields, kept).items():
            own = wp.array(value, dtype=getattr(self._model, name).dtype, device=self._warp_device)
            setattr(self._model, name, own)

    def vary_model_fields(self, draws: Sequence[ModelFields]) -> list[str]:
        if self._launched:
            raise RuntimeError("what varies must be said before the first step: recorded graphs keep the old arrays")
        samples = check_episode_fields(self.model, self.num_envs, draws, "warp", self.views)
        follow = sorted(set().union(*(FOLLOWED_ON_WARP.get(name, ()) for name in samples)))
        kept = [name for name in follow if getattr(self.model, name).size]
        own = {name: value.to(self.device) for name, value in self._fields.own.items()}
        lasting = {name: self._fields.lasting(name) for name in samples}
        self._make_model({**own, **lasting}, widest={**own, **samples}, kept=kept)
        self._fields.written = {name: wp.to_torch(getattr(self._model, name)) for name in samples}
        self._constants = Constants(self.model, self._model, self.num_envs, own, samples, kept)
        return list(samples)

    def write_model_fields(self, where: Tensor, fields: Mapping[str, Tensor]) -> None:
        self._fields.write(where, fields)
        if self._constants is not None and self._constants.names:
            self._constants.changed.copy_(where)
            self.compute_constants()

    def compute_constants(self) -> None:
        """Computes what follows from model fields, in worlds where they have just been written."""
        self._run("constants", self._constants.launch)

    def model_field(self, name: str) -> Tensor:
        return self._fields.now(name)

    def lasting_field(self, name: str) -> Tensor:
        return self._fields.lasting(name)

    def model_state(self) -> dict[str, Tensor]:
        return {**self._fields.written, **(self._constants.state() if self._constants is not None else {})}

    @property
    def can_be_compiled(self) -> bool:
        return False  # it is recorded instead

    def make_deterministic(self) -> None:
        """Contacts and constraint rows are sorted, and sums of atomic additions made in a fixed order."""
        if self._launched:
            raise RuntimeError("physics must be made deterministic before the first step")
        self._model.opt.deterministic = mjw.DeterminismType.ALL

    def sensor(self, name: str) -> Tensor:
        return self.sensordata[:, sensor_slice(self._sensors, name)]

    def keyframe(self, name: str) -> dict[str, Tensor]:
        return keyframe(self.model, name, self.device)

    def state(self) -> dict[str, Tensor]:
        return {
            **self.start_parts(),
            "time": self.time,
            "timesteps": self._clock.timesteps,
            "sensordata": self.sensordata,
            "qacc_warmstart": self._warmstart,
            "overflow": self._overflow,
        }
