"""One step without physics: everything that a task has is asked for once, so that a mistake shows before training.

Tensors of other floating types are cast where they enter; everything else that cannot be is a TaskError with task, method,
what was found, and what was expected.
"""

import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from torch_ppo.errors import UserError, is_of_memory
from torch_ppo.formulas.pixels import is_picture
from torch_ppo.simulation.episode_totals import taken_name
from torch_ppo.simulation.physics import Physics, PhysicsError
from torch_ppo.simulation.scaling import say_once
from torch_ppo.simulation.task import Memory, Observation, Task, TaskError, observation_parts


class Found(NamedTuple):
    """What a task turned out to have: observations of the start state, whether that is a single tensor and no dict,
    the metrics that `reward` returns, and whether it tells success.
    """

    observation: Observation
    single: bool
    metric_names: tuple[str, ...]
    has_success: bool


def as_observation(observed: Tensor | Observation) -> Observation:
    """Observations by key, float32, or uint8 of pictures; a single one is "state"."""
    parts = observed if isinstance(observed, dict) else {"state": observed}
    return {key: x if x.dtype == torch.uint8 else x.float() for key, x in parts.items()}


def as_reward(returned: Tensor | tuple[Tensor, dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Reward and metrics; a task without metrics may return the reward alone."""
    return returned if isinstance(returned, tuple) else (returned, {})


def described(value: object) -> str:
    """Type and shape of whatever a task returned."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" {tuple(shape)}" if shape is not None else "")


def check_attributes(task: Task) -> None:
    """TaskError for what a task says of itself that cannot be; before anything is allocated by it."""
    name = type(task).__name__
    number = task.num_random
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise TaskError(f"{name}.num_random is {number!r}, but must be an int, 0 or greater")
    length = task.episode_length
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length < 2**31:
        raise TaskError(f"{name}.episode_length is {length!r}, but must be an int of env steps, 1 or greater")
    for attribute in ("nconmax", "njmax"):
        number = getattr(task, attribute)
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
            raise TaskError(f"{name}.{attribute} is {number!r}, but must be an int, 0 or greater, or None")
    for attribute in ("metric_names", "memory_kept"):
        names = getattr(task, attribute)
        if not isinstance(names, (tuple, list)) or not all(isinstance(each, str) for each in names):
            raise TaskError(f'{name}.{attribute} is {names!r}, but must be a tuple of names, such as ("phase",)')


def substeps_per_control(task: Task, timestep: float) -> int:
    """Timesteps of so many seconds in the task's `control_dt`. TaskError if that is no multiple."""
    control_dt = getattr(task, "control_dt", None)
    if not isinstance(control_dt, (int, float)) or not math.isfinite(control_dt):
        raise TaskError(
            f"{type(task).__name__}.control_dt is {control_dt}, but must be seconds, a multiple of the model's "
            f"timestep = {timestep} s"
        )
    return timesteps_in(control_dt, timestep)


def timesteps_in(control_dt: float, timestep: float) -> int:
    """Timesteps of so many seconds in `control_dt` seconds. PhysicsError if that is no multiple, or more than MuJoCo counts."""
    timesteps = round(control_dt / timestep)
    if timesteps < 1 or abs(timesteps * timestep - control_dt) > 1e-6:
        raise PhysicsError(f"control_dt = {control_dt} s is not a multiple of the model's timestep = {timestep} s")
    if timesteps >= 2**31:
        raise PhysicsError(
            f"control_dt = {control_dt} s is {timesteps:,} timesteps of {timestep} s, but must be less than 2**31"
        )
    return timesteps


def check_memory(task: Task, memory: object, num_envs: int) -> None:
    """TaskError for a memory that `Env` could not reset: it is a dict of tensors with the envs first."""
    name = type(task).__name__
    if not isinstance(memory, dict):
        raise TaskError(f"{name}.make_memory returns {described(memory)}, but a dict of tensors is expected")
    for key, x in memory.items():
        if not isinstance(x, Tensor) or x.shape[:1] != (num_envs,):
            raise TaskError(
                f"{name}.make_memory returns {key!r} as {described(x)}, but a tensor ({num_envs}, ...) is expected"
            )
    if task.num_random and "random" in memory:
        raise TaskError(f"{name}.make_memory makes 'random', which num_random makes; another name would work")


@dataclass(frozen=True)
class _Expected:
    """What the methods of a task of that name have to return for so many envs."""

    name: str
    num_envs: int

    def fail(self, method: str, what: str) -> NoReturn:
        raise TaskError(f"{self.name}.{method} {what}")

    def numbers(self, method: str, what: str, value: object, *sizes: int) -> None:
        shape = (self.num_envs, *sizes)
        if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
            self.fail(method, f"returns {what} as {described(value)}, but float {shape} is expected")
        if not value.isfinite().all():
            self.fail(method, f"returns {what} that is inf or NaN in a start state")

    def picture(self, key: str, value: object) -> None:
        sound = isinstance(value, Tensor) and value.dim() == 4 and value.shape[0] == self.num_envs and value.numel() > 0
        if not sound or not (value.dtype == torch.uint8 or value.is_floating_point()):
            expected = f"uint8 or float ({self.num_envs}, height, width, channels)"
            self.fail("observe", f"returns observation {key!r} as {described(value)}, but {expected} is expected")

    def observation(self, task: Task, observed: object, pictures: Collection[str]) -> None:
        parts = observed if isinstance(observed, dict) else {"state": observed}
        if not parts and not task.views:
            self.fail("observe", "returns no observation")
        for key, value in parts.items():
            if not isinstance(key, str):
                self.fail("observe", f"returns an observation named {key!r}, but names are str")
            if is_picture(key):
                if key in pictures:
                    self.fail("observe", f"returns {key!r}, which is the view of that name; another name would work")
                self.picture(key, value)
                continue
            width = value.shape[-1] if isinstance(value, Tensor) and value.dim() else 1
            self.numbers("observe", f"observation {key!r}", value, width)
            if width == 0:
                self.fail("observe", f"returns observation {key!r} without numbers")
            observation_parts(task, key, width)

    def reward(self, task: Task, returned: object) -> tuple[str, ...]:
        """Checks it; returns the names of the metrics."""
        returned = as_reward(returned)
        if len(returned) != 2 or not isinstance(returned[1], dict):
            self.fail("reward", "must return the reward, or the reward and a dict of metrics by name")
        value, metrics = returned
        self.numbers("reward", "the reward", value)
        for metric in task.metric_names:
            if metric not in metrics:
                self.fail("reward", f"returns no metric {metric!r}, one of metric_names")
        for metric, x in metrics.items():
            self.numbers("reward", f"metric {metric!r}", x.float() if isinstance(x, Tensor) else x)
        return tuple(dict.fromkeys((*task.metric_names, *metrics)))

    def ends(self, returned: dict[str, object]) -> None:
        for method, x in returned.items():
            if x is None:
                continue
            expected = f"bool ({self.num_envs},) is expected"
            if not isinstance(x, Tensor) or x.shape != (self.num_envs,):
                self.fail(method, f"returns {described(x)}, but {expected}")
            if x.dtype != torch.bool:  # of numbers, which are meant is not certain: any but 0 would count
                self.fail(method, f"returns {described(x)}, but {expected}; of 0 and 1, x > 0.5 would work")
        if returned["terminated"] is not None and returned["terminated"].all():
            say_once(
                f"{self.name}.terminated is true in every start state, so that episodes end at once; is it the wrong way "
                "round?"
            )

    def same_memory(self, memory: Memory, before: Memory) -> None:
        for key in dict.fromkeys((*before, *memory)):
            if memory.get(key) is not before.get(key):  # a recorded step would go on with the old one
                what = "puts another tensor in the place of" if key in before else "adds"
                self.fail(
                    "start or another method",
                    f"{what} memory[{key!r}]; make_memory makes all of it, and memory[{key!r}].copy_(x) writes into it",
                )


def dry_step(
    task: Task,
    physics: Physics,
    memory: Memory,
    action_dim: int,
    generator: torch.Generator,
    pictures: Collection[str] = (),
) -> Found:
    """Start, apply, observe, reward and the ends of an episode, in this order, on copies of memory and generator.

    pictures:  observations that are pictures of the task's views, beside those that it returns

    `physics` is left as `start` and `apply` made it.
    """
    expected = _Expected(type(task).__name__, physics.num_envs)
    fail = expected.fail
    if not isinstance(action_dim, int) or action_dim < 1:
        fail(
            "action_dim",
            f"is {action_dim}: the model has no actuators; give the MJCF some, or the task an action_dim and an apply of its "
            "own, which may write physics.qfrc_applied",
        )
    for key in task.memory_kept:
        if key not in memory:
            known = ", ".join(memory) or "none"
            fail("memory_kept", f"names {key!r}, which make_memory does not make; it has: {known}")
    copies = {key: x.clone() for key, x in memory.items()}
    memory = dict(copies)
    own = torch.Generator(generator.device)
    own.set_state(generator.get_state())
    action = torch.zeros(physics.num_envs, action_dim, device=physics.device)
    with raising_one_line(task), _writing_in_place(physics, fail), _no_other_random_numbers(fail):
        task.start(physics, memory, own)
        task.each_episode(memory, own)
        for method in ("apply", "each_substep", "after_step"):
            with _only_read("the action", [action], method, fail):
                returned = getattr(task, method)(physics, memory, action)
            if returned is not None and method != "after_step":
                fail(method, "returns something, but must write it: physics.ctrl.copy_(controls)")
        physics.forward()
        state = ("the state or the sensors of physics", [*physics.start_parts().values(), physics.sensordata])
        with _only_read(*state, "observe", fail):
            observed = task.observe(physics, memory)
        with _only_read("the action", [action], "reward", fail), _only_read(*state, "reward", fail):
            reward = task.reward(physics, memory, action)
        ends = {}
        for method in ("terminated", "time_out", "success"):
            with _only_read(*state, method, fail):
                ends[method] = getattr(task, method)(physics, memory)
    expected.same_memory(memory, copies)
    expected.observation(task, observed, pictures)
    metric_names = expected.reward(task, reward)
    expected.ends(ends)
    has_success = ends["success"] is not None
    if taken := taken_name(metric_names, has_success=has_success):
        fail("reward", f"returns a {taken}; another name would work")
    return Found(as_observation(observed), isinstance(observed, Tensor), metric_names, has_success)


@contextmanager
def raising_one_line(task: Task) -> Iterator[None]:
    """What a method of the task raises becomes a TaskError, with the line of the task's own file where it stands.

    What comes from elsewhere goes on as it is: it is no mistake of the task.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        modules = {sys.modules.get(each.__module__) for each in type(task).__mro__ if each not in (Task, object)}
        files = {getattr(module, "__file__", None) for module in modules}
        own = [frame for frame in frames if frame.filename in files]
        in_the_call = len(frames) == 2  # ours and the caller's: a method has other arguments than it gets
        if isinstance(error, OSError) or is_of_memory(error) or not (own or in_the_call):
            raise
        hint = place = ""
        if "Boolean value of Tensor" in str(error):
            hint = "; a method acts on all envs at once, and torch.where(condition, a, b) would choose in each"
        if own:
            place = f" ({own[-1].filename}:{own[-1].lineno}, {own[-1].name}: {own[-1].line})"
        raise TaskError(f"{type(task).__name__} raises {type(error).__name__}: {error}{hint}{place}") from error


@contextmanager
def _writing_in_place(physics: Physics, fail: object) -> Iterator[None]:
    """Refuses `physics.qpos = x`, which would only give the name to another tensor."""
    names = [name for name in ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat") if hasattr(physics, name)]
    before = {name: getattr(physics, name) for name in names}
    yield
    for name, tensor in before.items():
        if getattr(physics, name) is not tensor:
            setattr(physics, name, tensor)
            fail(
                "start or apply",
                f"puts another tensor in the place of physics.{name}; physics.{name}.copy_(x) writes into it",
            )


@contextmanager
def _only_read(
    what: str, tensors: Iterable[Tensor], method: str, fail: Callable[[str, str], NoReturn]
) -> Iterator[None]:
    """Refuses what writes into them, as `v = physics.qvel; v *= 0.1` does: the simulation would go on from there."""
    tensors = [x for x in tensors if not x.is_inference()]  # which do not count
    before = [x._version for x in tensors]
    yield
    if [x._version for x in tensors] != before:
        fail(
            method, f"writes into {what}, which it may only read; x * 0.1 instead of x *= 0.1, or x.clone(), is a copy"
        )


@contextmanager
def _no_other_random_numbers(fail: object) -> Iterator[None]:
    """Refuses torch's global random numbers: a run could not be repeated, and a recorded step would repeat one number."""
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        fail(
            "start or another method",
            "draws random numbers of torch's own; start has generator=, and steps have num_random and memory['random']",
        )
