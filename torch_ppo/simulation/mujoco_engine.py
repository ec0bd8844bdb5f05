"""C MuJoCo: worlds stepped by `mujoco.rollout` over a thread pool. The default on the CPU."""

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mujoco
import numpy as np
import torch
from mujoco import rollout
from torch import Tensor

from torch_ppo.simulation.clock import Clock
from torch_ppo.simulation.cores import available_cores
from torch_ppo.simulation.mujoco_operator import number_of
from torch_ppo.simulation.mujoco_operator import rollout as rollout_operator
from torch_ppo.simulation.mujoco_profiler import unprofiled
from torch_ppo.simulation.physics import PhysicsError, keyframe, masked_write, sensor_slice, sensor_slices
from torch_ppo.simulation.randomization import ModelFields, check_episode_fields, check_fields, set_fields, world_models
from torch_ppo.simulation.views import NO_VIEWS, View, check_views
from torch_ppo.simulation.world_fields import WorldFields

# Waking a thread and waiting for it costs 0.05 to 0.1 ms, so one with less to do than this slows the step down.
LEAST_SECONDS_PER_THREAD = 2.5e-4

# Inputs that are held during a step, in the order of MuJoCo's state vector.
HELD = {
    "ctrl": mujoco.mjtState.mjSTATE_CTRL,
    "qfrc_applied": mujoco.mjtState.mjSTATE_QFRC_APPLIED,
    "xfrc_applied": mujoco.mjtState.mjSTATE_XFRC_APPLIED,
    "mocap_pos": mujoco.mjtState.mjSTATE_MOCAP_POS,
    "mocap_quat": mujoco.mjtState.mjSTATE_MOCAP_QUAT,
}

_said: set[str] = set()


def say_once(warning: str) -> None:
    """Logs a warning of MuJoCo the first time that one of its kind comes.

    MuJoCo itself would print each, thousands a second, and write them to MUJOCO_LOG.TXT in the current folder.
    """
    kind = warning.partition("Time =")[0].rstrip(" .0123456789")
    if kind not in _said:
        _said.add(kind)
        logging.getLogger("torch_ppo").warning("MuJoCo: %s (others of this kind are not shown)", warning.strip())


def _mocap_poses(model: mujoco.MjModel, num_envs: int) -> tuple[Tensor, Tensor]:
    """Where the model has its mocap bodies, `(num_envs, nmocap, 3)` and `(num_envs, nmocap, 4)`."""
    data = mujoco.MjData(model)
    return tuple(
        torch.as_tensor(x, dtype=torch.float32).repeat(num_envs, 1, 1) for x in (data.mocap_pos, data.mocap_quat)
    )


class Buffers(NamedTuple):
    """What `mujoco.rollout` reads and writes in a call of so many substeps, float64, n worlds.

    inputs:   where float32 tensors go before it, and which           pairs of target and source
    outputs:  likewise after it
    state:    at the beginning                                        (n, size of state)
    held:     inputs, the same in every substep                       (n, substeps, size of inputs)
    states:   after each substep                                      (n, substeps, size of state)
    sensors:  of each substep                                         (n, substeps, nsensordata)
    """

    inputs: list[tuple[Tensor, Tensor]]
    outputs: list[tuple[Tensor, Tensor]]
    state: np.ndarray
    held: np.ndarray
    states: np.ndarray
    sensors: np.ndarray


class MujocoPhysics:
    """See `torch_ppo.simulation.physics` for the contract.

    State lives in float32 between steps, so both engines round alike; each step computes in float64. The solver
    starts cold at every call of `step` (`mujoco.rollout` does not return its warm start).
    """

    def __init__(self, model: mujoco.MjModel, num_envs: int, *, device: torch.device) -> None:
        if device.type != "cpu":
            raise PhysicsError(f"C MuJoCo runs on the CPU, not on {device}; physics = warp would work there")
        if mujoco.get_mju_user_warning() is None:
            mujoco.set_mju_user_warning(say_once)
        self.num_envs, self.device = num_envs, device
        self.model = model = copy.copy(model)
        # A world gone bad is the env's business (it ends the episode), not to be reset behind its back.
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        nq, nv, na, nu = model.nq, model.nv, model.na, model.nu
        num_state = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        if num_state != 1 + nq + nv + na:
            raise PhysicsError("models with plugin state, history or delays are not supported by C MuJoCo here")

        self._state = torch.zeros(num_envs, num_state)  # columns: time, qpos, qvel, act
        self.time = self._state[:, 0]
        self._clock = Clock(self.time, model.opt.timestep)
        self.qpos, self.qvel, self.act = self._state[:, 1:].split([nq, nv, na], dim=1)
        self.ctrl = torch.zeros(num_envs, nu)
        self.mocap_pos, self.mocap_quat = _mocap_poses(model, num_envs)
        # What is held during a step, in the order of MuJoCo's state; forces once they are used.
        self._held = {"ctrl": self.ctrl}
        if model.nmocap:
            self._held |= {"mocap_pos": self.mocap_pos, "mocap_quat": self.mocap_quat}
        self.sensordata = torch.zeros(num_envs, model.nsensordata)
        self.overflow = torch.zeros(num_envs, dtype=torch.int32)
        self.qpos.copy_(torch.as_tensor(model.qpos0, dtype=torch.float32))

        self._sensors = sensor_slices(model)
        self._models = [model] * num_envs
        self._fields = WorldFields(model, num_envs, device)
        self._in_models: dict[str, Tensor] = {}  # what `_models` have of the fields that vary
        self._buffers: dict[int, Buffers] = {}
        self._drawing = None
        self.views: Mapping[str, View] = NO_VIEWS
        self.pictures: dict[str, Tensor] = {}
        self._number = number_of(self)
        self._use_threads(1)
        self._threads_chosen = False

    def _use_threads(self, num_threads: int) -> None:
        """Steps worlds in that many threads; 1 is the calling thread. Results do not depend on it."""
        self.num_threads = num_threads
        self._rollout = rollout.Rollout(nthread=num_threads if num_threads > 1 else 0)
        self._datas = [mujoco.MjData(self.model) for _ in range(num_threads)]
        self._chunk = -(-self.num_envs // (4 * num_threads))

    def _choose_threads(self, num_substeps: int) -> None:
        """As many threads as have enough to do, by how long the calling thread takes for a step alone."""
        self._threads_chosen = True
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            self._simulate(num_substeps)
            seconds.append(time.perf_counter() - started)
        useful = int(min(seconds) / LEAST_SECONDS_PER_THREAD)
        num_threads = min(available_cores(), self.num_envs, useful)
        if num_threads > 1:
            self._use_threads(num_threads)

    def _buffers_for(self, num_substeps: int) -> Buffers:
        """Allocated at the first call for this number."""
        if num_substeps not in self._buffers:
            model, n = self.model, self.num_envs
            shapes = (
                (n, self._state.shape[1]),
                (n, num_substeps, mujoco.mj_stateSize(model, self._held_spec)),
                (n, num_substeps, self._state.shape[1]),
                (n, num_substeps, model.nsensordata),
            )
            state, held, states, sensors = (torch.zeros(shape, dtype=torch.float64) for shape in shapes)
            parts = [x.flatten(1) for x in self._held.values()]
            spaces = held.split([x.shape[1] for x in parts], dim=2)
            inputs = [(state, self._state), *((space, x[:, None]) for space, x in zip(spaces, parts, strict=True))]
            outputs = [(self._state, states[:, -1]), (self.sensordata, sensors[:, -1])]
            self._buffers[num_substeps] = Buffers(
                [(target, source) for target, source in inputs if target.numel()],
                [(target, source) for target, source in outputs if target.numel()],
                *(x.numpy() for x in (state, held, states, sensors)),
            )
        return self._buffers[num_substeps]

    def step(self, num_substeps: int) -> None:
        if torch.compiler.is_compiling():
            self._step_in_graph(num_substeps)
            return
        self._follow_fields()
        buffers = self._buffers_for(num_substeps)
        for target, source in buffers.inputs:
            target.copy_(source)
        if not self._threads_chosen:
            self._choose_threads(num_substeps)
        self._simulate(num_substeps)
        for target, source in buffers.outputs:
            target.copy_(source)
        self._clock.advance(num_substeps)

    def _step_in_graph(self, num_substeps: int) -> None:
        """`step` for a compiler: it makes the float64 copies, and the rollout is an operator."""
        held = torch.cat([x.flatten(1) for x in self._held.values()], 1).double()
        held = held[:, None].expand(-1, num_substeps, -1).contiguous()
        states, sensors = rollout_operator(self._number, self.model.nsensordata, self._state.double(), held)
        for target, source in ((self._state, states), (self.sensordata, sensors)):
            if target.numel():
                target.copy_(source[:, -1])
        self._clock.advance(num_substeps)

    def _simulate(self, num_substeps: int) -> None:
        """From the buffers of this number of substeps, into them."""
        buffers = self._buffers_for(num_substeps)
        self.simulate(buffers.state, buffers.held, buffers.states, buffers.sensors)

    def simulate(self, state: np.ndarray, held: np.ndarray, states: np.ndarray, sensors: np.ndarray) -> None:
        """From `state` with the inputs `held` into `states` and `sensors`; shapes are those of `Buffers`."""
        with unprofiled:
            self._rollout.rollout(
                self._models,
                self._datas,
                state,
                held,
                control_spec=self._held_spec,
                nstep=held.shape[1],
                state=states,
                sensordata=sensors,
                skip_checks=True,
                chunk_size=self._chunk,
            )

    def forward(self, where: Tensor | None = None) -> None:
        if not self.model.nsensordata:
            return
        self._follow_fields()
        data = self._datas[0]
        for i in range(self.num_envs) if where is None else where.nonzero().flatten().tolist():
            self._put(data, i)
            data.qacc_warmstart[:] = 0.0
            mujoco.mj_forward(self._models[i], data)
            self.sensordata[i] = torch.from_numpy(data.sensordata)

    def _put(self, data: mujoco.MjData, world: int) -> None:
        """A world's state."""
        data.time = self.time[world].item()
        for name in ("qpos", "qvel", "act", *self._held):
            getattr(data, name)[:] = getattr(self, name)[world].numpy()

    def set_views(self, views: Mapping[str, View]) -> None:
        from torch_ppo.simulation.mujoco_views import MujocoViews  # OpenGL, which others do not need

        check_views(views, self.model)
        self.views = dict(views)
        self._drawing = MujocoViews(self.model, views, self.num_envs)
        self.pictures = self._drawing.pictures

    def render(self) -> None:
        self._follow_fields()
        data = self._datas[0]
        self._drawing.begin()
        for world, model in enumerate(self._models):
            self._put(data, world)
            for follow in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_camlight, mujoco.mj_flex):
                follow(model, data)
            self._drawing.draw(model, data, world)

    @property
    def qfrc_applied(self) -> Tensor:
        return self._force("qfrc_applied", self.model.nv)

    @property
    def xfrc_applied(self) -> Tensor:
        return self._force("xfrc_applied", self.model.nbody, 6)

    def _force(self, name: str, *shape: int) -> Tensor:
        """An applied force, held from its first use on."""
        if name not in self._held:
            if self._buffers:
                raise PhysicsError(
                    f"{name} must first be used before the first step, in the task's start, apply or each_substep"
                )
            self._held[name] = torch.zeros(self.num_envs, *shape)
            self._held = {held: self._held[held] for held in HELD if held in self._held}
        return self._held[name]

    @property
    def _held_spec(self) -> int:
        """The parts of MuJoCo's state that are held, as bits."""
        return sum(int(HELD[name]) for name in self._held)

    def start_parts(self) -> dict[str, Tensor]:
        return {"qpos": self.qpos, "qvel": self.qvel, "act": self.act, **self._held}

    def reset(self, mask: Tensor, start: Mapping[str, Tensor]) -> None:
        for name, tensor in self.start_parts().items():
            if tensor.numel():
                masked_write(mask, start[name], tensor)
        self._clock.reset(mask)

    def set_model_fields(self, fields: ModelFields) -> None:
        fields = check_fields(self.model, self.num_envs, fields, "mujoco", self.views)
        self._models = list(world_models(self.model, self.num_envs, fields))
        self._fields.set_own(fields)
        if "qpos0" in fields:
            self.qpos.copy_(fields["qpos0"])

    def vary_model_fields(self, draws: Sequence[ModelFields]) -> list[str]:
        samples = check_episode_fields(self.model, self.num_envs, draws, "mujoco", self.views)
        if not self._fields.own:
            self._models = [copy.copy(self.model) for _ in range(self.num_envs)]
        self._fields.open(samples)
        self._in_models = {name: torch.full_like(x, torch.nan) for name, x in self._fields.written.items()}
        self._constants_data = mujoco.MjData(self.model)
        return list(samples)

    def write_model_fields(self, where: Tensor, fields: Mapping[str, Tensor]) -> None:
        self._fields.write(where, fields)

    def _follow_fields(self) -> None:
        """Writes fields into the models of the worlds where they have changed, be it by a checkpoint."""
        written, inside = self._fields.written, self._in_models
        if all(torch.equal(tensor, inside[name]) for name, tensor in written.items()):
            return
        changed = torch.stack([(tensor != inside[name]).flatten(1).any(1) for name, tensor in written.items()]).any(0)
        for world in changed.nonzero().flatten().tolist():
            set_fields(self._models[world], self._constants_data, written, world)
        for name, tensor in written.items():
            inside[name].copy_(tensor)

    def model_field(self, name: str) -> Tensor:
        return self._fields.now(name)

    def lasting_field(self, name: str) -> Tensor:
        return self._fields.lasting(name)

    def model_state(self) -> dict[str, Tensor]:
        return self._fields.written

    @property
    def can_be_compiled(self) -> bool:
        return not self._fields.written and not self.pictures

    def make_deterministic(self) -> None:
        """C MuJoCo is: each world is computed by one thread, whatever their number."""

    def sensor(self, name: str) -> Tensor:
        return self.sensordata[:, sensor_slice(self._sensors, name)]

    def keyframe(self, name: str) -> dict[str, Tensor]:
        return keyframe(self.model, name, self.device)

    def state(self) -> dict[str, Tensor]:
        return {
            "state": self._state,
            "timesteps": self._clock.timesteps,
            **self._held,
            "sensordata": self.sensordata,
        }
