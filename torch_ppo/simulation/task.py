"""The contract between a task and everything else.

A task is one file beside its MJCF. It reads only `qpos`, `qvel`, `act`, `ctrl`, `time` and named sensors of
`physics`, so that it means the same on every engine, and its own `memory`: a dict of tensors `(num_envs, ...)`
that `Env` allocates, resets and checkpoints.

All methods are batched over envs and must not synchronise with the host or change shapes.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import mujoco
import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.formulas.controls import controls_of
from torch_ppo.simulation.engines import make_physics
from torch_ppo.simulation.physics import Physics, compile_spec, load_spec
from torch_ppo.simulation.scaling import declared_scaling
from torch_ppo.simulation.views import NO_VIEWS, View

Memory = dict[str, Tensor]
Observation = dict[str, Tensor]
Parts = tuple[tuple[str, int, str], ...]


class TaskError(UserError):
    """A task that lacks something, or returns something else than it should; names task, method, found and expected."""


class Task:
    """Base of all tasks; what it does not define here, a task must.

    mjcf:             path of its model file
    control_dt:       seconds between two actions; a multiple of the MJCF's timestep
    episode_length:   time limit in env steps, where the configuration sets none
    nconmax, njmax:   contacts and constraint rows per world for MuJoCo Warp; None lets it choose
    metric_names:     metrics that `reward` must return, in this order; those that are not named come after them
    action_scale:     what `apply` multiplies actions by: a number, one per actuator, or "ctrlrange", which maps [-1, 1] to
                      the range of each actuator; None for 1
    action_offset:    what it adds: a number, one per actuator, or the name of a keyframe, whose pose position servos then
                      hold at an action of 0; None for 0
    reward_range:     least and greatest reward of an env step, for whoever plots or tests a task; training does not read it
    memory_kept:      memory that an automatic reset leaves alone
    observation_names: what the numbers of an observation are, in their order: (name, size, unit) of each part; a dict of
                      such by key where there are several observations. Exported policies carry it
    commands:         what memory["command"] `(num_envs, n)` holds where the task is told what to do: (name, least, greatest,
                      unit) of each number; whoever watches a policy can set them. Where the task changes it by itself,
                      memory["command_steps"] counts down to the next
    num_random:       random numbers that the task uses per env and env step; `Env` keeps them in memory["random"],
                      uniform in [0, 1), `(num_envs, num_random)`, and draws new ones before `start` and `apply`
    views:            pictures that the policy sees, by name, each beside what `observe` returns as `pixels/<name>`; they
                      show the state that the physics has reached, before `after_step`
    """

    mjcf: Path | str
    control_dt: float
    episode_length: int = 1000
    nconmax: int | None = None
    njmax: int | None = None
    metric_names: tuple[str, ...] = ()
    reward_range: tuple[float, float] = (-math.inf, math.inf)
    memory_kept: tuple[str, ...] = ()
    observation_names: Parts | Mapping[str, Parts] = ()
    commands: tuple[tuple[str, float, float, str], ...] = ()
    num_random: int = 0
    views: Mapping[str, View] = NO_VIEWS
    action_scale: float | Sequence[float] | str | None = None
    action_offset: float | Sequence[float] | str | None = None

    def make_spec(self) -> mujoco.MjSpec:
        """The model before it is compiled: what is added here is seen in pictures, too."""
        if not hasattr(self, "mjcf"):
            raise TaskError(f"{type(self).__name__} has no mjcf, the path of its model file, and no make_model")
        return load_spec(self.mjcf)

    def make_model(self) -> mujoco.MjModel:
        """The compiled model."""
        return compile_spec(self.make_spec(), self.mjcf)

    def make_physics(self, num_envs: int, *, device: torch.device, engine: str, capture: bool) -> Physics:
        """The simulation of `num_envs` worlds."""
        return make_physics(
            self.make_model(),
            num_envs,
            device=device,
            engine=engine,
            capture=capture,
            nconmax=self.nconmax,
            njmax=self.njmax,
        )

    def make_memory(self, num_envs: int, device: torch.device) -> Memory:
        """The task's own state, zero at first. Most tasks have none."""
        return {}

    def randomize(self, physics: Physics, generator: torch.Generator) -> dict[str, Tensor]:
        """Domain randomisation: values `(num_envs, *field shape)` for fields of `mujoco.MjModel`, by name.

        Asked for once, before everything else, if the configuration says `randomize`. Nominal values are in
        `physics.model`. No tasks are randomised that do not define this.
        """
        raise NotImplementedError

    def randomize_episode(self, physics: Physics, generator: torch.Generator) -> dict[str, Tensor]:
        """Domain randomisation that is new in every episode: values `(num_envs, *field shape)` of model fields, by name.

        The same fields at every call. Called for all envs before each step, if the configuration says `randomize`; the
        episodes that begin after it take theirs. `physics.lasting_field(name)` is what to begin with: a copy of a field
        as `randomize` has left it, or nominal, on the device. `physics.model_field(name)` is what `observe` may read: the
        field as it is now. Sensors of a first observation are those of the new model.
        """
        raise NotImplementedError

    def start(self, physics: Physics, memory: Memory, generator: torch.Generator) -> None:
        """Writes a start state for every env into `physics` and `memory`, in place.

        All parts of the state are at the model's `qpos0`, at rest, and memory is zero, when this is called. Whatever is
        written (qpos, qvel, act, ctrl, mocap poses) holds at automatic restarts too.
        """
        raise TaskError(f"{type(self).__name__} has no start, which writes the state that an episode begins with")

    def each_episode(self, memory: Memory, generator: torch.Generator) -> None:
        """Writes the memory that is new in every episode, such as a command or the time of a push, for every env.

        Called after `start`, and before each step for the episodes that may end in it: the next ones begin with this
        memory, while a start state comes from where `auto_reset` says. Their first observations show it.
        """

    def apply(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        """Turns the action `(num_envs, action_dim)` into controls: by default action_offset + action_scale * action.

        With `action_delay` it is the one that arrives, as in `each_substep`. What a policy did last is kept in `after_step`.
        """
        scaling = declared_scaling(self, physics)
        physics.ctrl.copy_(action if scaling is None else controls_of(action, scaling))

    def each_substep(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        """Writes controls or applied forces before every timestep of the physics, after `apply`: laws at physics rate.

        Such as a torque of an angle and a velocity. Where a task does not define it, the physics takes all timesteps of
        an env step in one call. Sensors are those of the timestep before; `qpos` and `qvel` are new.
        """

    def after_step(self, physics: Physics, memory: Memory, action: Tensor) -> None:
        """Advances `memory` after the physics has stepped. `action` is the one sent in this env step, as in `reward`."""

    def observe(self, physics: Physics, memory: Memory) -> Tensor | Observation:
        """Observation `(num_envs, obs_dim)`, or a dict of several."""
        raise TaskError(f"{type(self).__name__} has no observe, which returns the observation (num_envs, obs_dim)")

    def reward(self, physics: Physics, memory: Memory, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Reward `(num_envs,)`; or the reward and metrics by name, each `(num_envs,)`."""
        raise TaskError(f"{type(self).__name__} has no reward, which returns the reward (num_envs,)")

    def terminated(self, physics: Physics, memory: Memory) -> Tensor | None:
        """Whether the task has ended, bool `(num_envs,)`; None if it never does."""
        return None

    def time_out(self, physics: Physics, memory: Memory) -> Tensor | None:
        """Where `terminated` is a time limit of the task's own, bool `(num_envs,)` (for bootstrap_on_timeout)."""
        return None

    def success(self, physics: Physics, memory: Memory) -> Tensor | None:
        """Whether what the task is for is achieved now, bool `(num_envs,)`; None if there is no such thing.

        An episode is a success if this is so after its last step (Gymnasium-Robotics' `is_success` as SB3 counts it,
        ManiSkill's `success_at_end`). For "at any step", keep that in `memory`, or let the episode end there.
        """
        return None

    def markers(self, physics: Physics, memory: Memory) -> Tensor | None:
        """Balls to draw where pictures are made, `(num_envs, n, 4)`: x, y, z and radius in metres.

        For what the model does not have, such as a target in memory. n and the radii do not change.
        """
        return None

    def action_dim(self, physics: Physics) -> int:
        """Size of an action; by default one per actuator."""
        return physics.ctrl.shape[1]


def observation_parts(task: Task, key: str, size: int) -> list[dict[str, str | int]] | None:
    """Name, start, size and unit of each part of the task's observation `key` of `size` numbers; None if it names none.

    TaskError if the parts are not as many numbers as the observation has. Names that are inherited by a task with an
    `observe` of its own are those of another observation; where they do not fit, there are none.
    """
    name, names = type(task).__name__, task.observation_names
    parts = names.get(key, ()) if isinstance(names, Mapping) else names
    if not isinstance(parts, (tuple, list)) or not all(_is_part(part) for part in parts):
        raise TaskError(
            f"{name}.observation_names is {names!r}, but must be a tuple of (name, size, unit), or a dict of such, such as "
            '(("position", 3, "m"), ("speed", 1, "m/s"))'
        )
    found, start = [], 0
    for title, length, unit in parts:
        found.append({"name": title, "start": start, "size": length, "unit": unit})
        start += length
    if start != size and found and not _are_inherited_names(task):
        raise TaskError(f"{name}.observation_names has {start} numbers for {key!r}, but observe returns {size}")
    return found if start == size else None


def _is_part(part: object) -> bool:
    """Whether it is (name, size, unit)."""
    return isinstance(part, (tuple, list)) and [type(each) for each in part] == [str, int, str] and part[1] > 0


def _are_inherited_names(task: Task) -> bool:
    """Whether a class further down has its own `observe`, but no `observation_names`."""
    if "observation_names" in vars(task):
        return False
    for each in type(task).__mro__:
        if "observation_names" in vars(each):
            return False
        if "observe" in vars(each):
            return True
    return False
