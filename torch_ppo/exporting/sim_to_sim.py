"""A policy in plain C MuJoCo, one world, by what its contract says: nothing of the trainer acts here.

The task gives start states, observations and rewards; when to ask the policy, what it sees and how late its actions
arrive is the contract's.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mujoco
import torch
from torch import Tensor

from torch_ppo.exporting.contract import Contract
from torch_ppo.exporting.errors import ExportError
from torch_ppo.simulation.dry_step import as_observation, as_reward, timesteps_in
from torch_ppo.simulation.physics import normalize_quaternions
from torch_ppo.simulation.single_world import SingleWorld
from torch_ppo.simulation.task import Task

Act = Callable[..., Tensor]
POINTS = 5  # of a range that are tried


class Perturbation(NamedTuple):
    """How a world differs from the one that was trained in.

    friction:  times the sliding friction of all geoms
    mass:      times mass and inertia of all bodies
    delay:     env steps by which actions arrive late; None for what was trained with
    noise:     of the observation, in standard deviations of each number as the normalizer knows it
    """

    friction: float = 1.0
    mass: float = 1.0
    delay: int | None = None
    noise: float = 0.0


class Episode(NamedTuple):
    """Sum of the rewards, length in env steps, the task's metrics (means of a "...per_step", else sums), and whether the
    task was achieved at the end, None where it does not say.
    """

    reward: float
    length: int
    metrics: dict[str, float]
    success: bool | None


def perturbed_model(model: mujoco.MjModel, perturbation: Perturbation) -> None:
    """Changes a model in place, with what follows from its masses."""
    model.geom_friction[:, 0] *= perturbation.friction
    model.pair_friction[:, :2] *= perturbation.friction
    if perturbation.mass != 1.0:
        model.body_mass[:] *= perturbation.mass
        model.body_inertia[:] *= perturbation.mass
        mujoco.mj_setConst(model, mujoco.MjData(model))


class Player:
    """Plays episodes of a task with a policy. ExportError where the policy does not fit."""

    def __init__(
        self,
        act: Act,
        contract: Contract,
        task: Task,
        *,
        seed: int,
        episode_length: int | None,
        perturbation: Perturbation,
    ) -> None:
        if contract["output"]["name"] != "action":
            raise ExportError(
                "a file whose output are controls cannot be played in a task, which makes controls itself"
            )
        if contract.get("pixels"):
            raise ExportError(
                "the policy sees pixels, which are not drawn here; evaluate without --physics mujoco and --perturb would work"
            )
        self.act, self.contract, self.task, self.perturbation = act, contract, task, perturbation
        model = task.make_model()
        perturbed_model(model, perturbation)
        self.world = SingleWorld(model)
        size, taken = contract["action"]["size"], task.action_dim(self.world)
        if contract["action"].get("discrete"):
            raise ExportError(
                f"the policy does not fit the task: its actions are discrete, but the task takes {taken} numbers"
            )
        if size != taken:
            raise ExportError(f"the policy does not fit the task: it has {size} actions, but the task takes {taken}")
        self.length = episode_length or contract["task"]["episode_length"] or task.episode_length
        repeat = contract["action_repeat"]
        if self.length < repeat:
            raise ExportError(
                f"episode_length = {self.length} is shorter than one policy step of action_repeat = {repeat}"
            )
        self.generator = torch.Generator().manual_seed(seed)
        # Apart, so that start states are the same whatever is perturbed.
        self.own_generator = torch.Generator().manual_seed(seed + 1)
        self.memory = task.make_memory(1, self.world.device)
        if task.num_random:
            self.memory["random"] = torch.zeros(1, task.num_random)
        self.std = torch.tensor(contract["observation"]["std"])

    @functools.cached_property
    def substeps(self) -> int:
        """Timesteps of an env step; asked for when the observation has been found to fit."""
        return timesteps_in(self.contract["control_dt"] or self.task.control_dt, self.world.model.opt.timestep)

    def _draw(self) -> None:
        if self.task.num_random:
            self.memory["random"].uniform_(generator=self.generator)

    def _start(self) -> None:
        self.world.restart()
        for tensor in self.memory.values():
            tensor.zero_()
        self._draw()
        self.task.start(self.world, self.memory, self.generator)
        self.task.each_episode(self.memory, self.generator)
        normalize_quaternions(self.world)
        self.world.forward()

    def _frame(self) -> Tensor:
        """The observation that the policy sees, `(1, frame_dim)`."""
        observed = as_observation(self.task.observe(self.world, self.memory))
        key, history = self.contract["observation"]["key"], self.contract["observation"]["history"]
        frame = next(iter(observed.values())) if len(observed) == 1 else observed.get(key)
        if frame is None or frame.shape[1] * history != self.contract["observation"]["size"]:
            sizes = {name: x.shape[1] for name, x in observed.items()}
            raise ExportError(
                f"the policy does not fit the task, which observes {sizes}; it sees {self.contract['observation']['size']} "
                f"numbers of {key!r}"
            )
        return frame

    def _action(self, stack: Tensor) -> Tensor:
        if self.perturbation.noise:
            noise = torch.randn(stack.shape, generator=self.own_generator)
            stack = stack + self.perturbation.noise * self.std * noise
        inputs = [stack]
        if not self.contract["action"]["deterministic"]:
            inputs.append(torch.randn(1, self.contract["action"]["size"], generator=self.own_generator))
        return self.act(*inputs)

    def _delay(self) -> int:
        if self.perturbation.delay is not None:
            return self.perturbation.delay
        trained = self.contract["trained_with_action_delay"]
        low, high = (trained, trained) if isinstance(trained, int) else trained
        return int(torch.randint(low, high + 1, (), generator=self.own_generator))

    @torch.no_grad()
    def episode(self) -> Episode:
        """One whole episode."""
        self._start()
        stack = self._frame().repeat(1, self.contract["observation"]["history"])
        longest = self.length + self.contract["action_repeat"]  # an episode never takes what would arrive after it
        waiting = [torch.zeros(1, self.contract["action"]["size"])] * min(self._delay(), longest)
        total, steps, sums = 0.0, 0, {}
        while True:
            action = self._action(stack)
            for _ in range(self.contract["action_repeat"]):
                waiting.append(action)
                reward, metrics = self._env_step(waiting.pop(0), action)
                total += reward
                steps += 1
            frame = self._frame()
            stack = torch.cat([stack[:, frame.shape[1] :], frame], 1)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + value.item()
            ended = self.task.terminated(self.world, self.memory)
            broken = not (frame.isfinite().all() and self.world.qvel.isfinite().all())
            if steps >= self.length or broken or (ended is not None and bool(ended)):
                break
        asked = -(-steps // self.contract["action_repeat"])
        success = self.task.success(self.world, self.memory)
        return Episode(
            total,
            steps,
            {name: x / asked if name.endswith("per_step") else x for name, x in sums.items()},
            None if success is None else bool(success),
        )

    def _env_step(self, arriving: Tensor, sent: Tensor) -> tuple[float, dict[str, Tensor]]:
        task, world, memory = self.task, self.world, self.memory
        self._draw()
        task.apply(world, memory, arriving)
        if type(task).each_substep is Task.each_substep:
            world.step(self.substeps)
        else:
            for _ in range(self.substeps):
                task.each_substep(world, memory, arriving)
                world.step(1)
        task.after_step(world, memory, sent)
        reward, metrics = as_reward(task.reward(world, memory, sent))
        return reward.item() if reward.isfinite().all() else 0.0, metrics


def parse_perturbations(text: str) -> dict[str, list[float]]:
    """ "friction=0.5..1.5,delay=0..2,noise=0.05" as values to try by name. ExportError says what is wrong."""
    found: dict[str, list[float]] = {}
    for part in text.split(","):
        name, equals, values = part.strip().partition("=")
        if not equals or name not in Perturbation._fields:
            raise ExportError(
                f"--perturb {part.strip()!r} is not one of friction, mass, delay and noise, as in mass=0.8..1.2"
            )
        try:
            ends = [float(x) for x in values.split("..")]
        except ValueError:
            ends = []
        whole = name == "delay"
        if len(ends) not in (1, 2) or not 0 <= ends[0] <= ends[-1] < float("inf") or (name == "mass" and ends[0] == 0):
            raise ExportError(f"--perturb {name} is {values!r}, but must be a number or a range, such as 0.8..1.2")
        if whole and any(x != int(x) for x in ends):
            raise ExportError(f"--perturb delay is {values!r}, but must be whole env steps, such as 0..2")
        if whole:
            found[name] = list(range(int(ends[0]), int(ends[-1]) + 1))
        elif len(ends) == 1 or ends[0] == ends[1]:
            found[name] = ends[:1]
        else:
            found[name] = [ends[0] + (ends[1] - ends[0]) * i / (POINTS - 1) for i in range(POINTS)]
    return found


def perturbations(text: str) -> Iterator[tuple[str, Perturbation]]:
    """What to try, with its name: nothing, each value alone, and the corners where all are at an end together."""
    values = parse_perturbations(text)
    yield "as trained", Perturbation()
    for name, tried in values.items():
        for value in tried:
            yield f"{name} {value:g}", Perturbation(**{name: value})
    if len(values) > 1:
        ends: list[dict[str, Any]] = [
            dict(zip(values, corner, strict=True))
            for corner in itertools.product(*({x[0]: 0, x[-1]: 0} for x in values.values()))
        ]
        for corner in ends:
            yield ", ".join(f"{name} {value:g}" for name, value in corner.items()), Perturbation(**corner)
