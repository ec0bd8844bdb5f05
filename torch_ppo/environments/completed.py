"""Completed: an environment of which only the least is known, `contract.Steps`, with everything that the trainer asks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torch_ppo.environments import said
from torch_ppo.environments.contract import NEEDED, WHOLE, Environment, EnvironmentMisfit, Steps, lacking
from torch_ppo.formulas.pixels import is_picture
from torch_ppo.simulation.broken import BrokenWorlds
from torch_ppo.simulation.copies import copy_into
from torch_ppo.simulation.env import MAX_STATE
from torch_ppo.simulation.episode_totals import EpisodeTotals, taken_name
from torch_ppo.simulation.host import host_can_ask
from torch_ppo.simulation.scaling import say_once
from torch_ppo.simulation.task import Observation
from torch_ppo.simulation.views import Size, size_of


def completed(env: object, *, device: torch.device, keep_final: bool = False) -> Environment:
    """`env` as it is where it has all of the contract, else with what it lacks. EnvironmentMisfit if that is too much."""
    missing = lacking(env, ("reset", "step", *(name for name in NEEDED if name not in _AFTER_RESET)))
    if missing:
        raise EnvironmentMisfit(
            f"the environment {type(env).__name__} lacks {', '.join(missing)}; it needs reset, step, "
            f"{', '.join(NEEDED)} (docs/environments.md)"
        )
    return Completed(env, device=device, keep_final=keep_final) if lacking(env, WHOLE) else env


def _copy(observed: Observation, kept: Observation) -> None:
    """Into tensors that stay."""
    for key, x in observed.items():
        kept[key].copy_(x)


_AFTER_RESET = ("observation", "reward", "termination", "truncation")  # an object may have them only then


class Completed:
    """See `contract.Environment`. Keeps copies of what the environment says, in tensors of its own that stay in place.

    Done is where an episode has terminated, was truncated, or broke: where an observation, reward or metric is inf or NaN.
    """

    recordable, compilable, compilable_on_gpu, num_substeps = False, ("after_step",), (), 1
    random_episode_phase, never_terminates = False, False
    task, physics, final_state, control_range = None, None, None, None

    def __init__(self, env: Steps, *, device: torch.device, keep_final: bool = False) -> None:
        self.env, self.device, self._keep_final = env, device, keep_final
        name = getattr(env, "name", None)
        self.name = name if isinstance(name, str) and name else type(env).__name__
        self.num_envs, self.action_dim, self.episode_length, self.action_repeat = (
            said.whole_number(env, what, self.name)
            for what in ("num_envs", "action_dim", "episode_length", "action_repeat")
        )
        self.choices = said.choices_of(env, self.name)
        self.reward_range = said.range_of(env, self.name)
        said.check_device(env, device, self.name)
        said.check_calls(env, self.name)
        self.overflowed = torch.zeros((), dtype=torch.int64, device=device)

        def zeros(dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(self.num_envs, device=device, dtype=dtype)

        self.done, self.truncation, self.termination, self.time_out = zeros(), zeros(), zeros(), zeros()
        self.steps = zeros(torch.int32)
        self._everywhere = torch.ones(self.num_envs, device=device, dtype=torch.bool)
        env.reset()
        missing = lacking(env, _AFTER_RESET[:1])
        if missing:
            raise EnvironmentMisfit(f"{self.name} lacks observation after its reset (docs/environments.md)")
        first = self._observed("observation")
        self._check_first(first)
        self.observation = {key: torch.zeros_like(x) for key, x in first.items()}
        self.seen: Any = self.observation if isinstance(env.observation, dict) else self.observation["state"]
        has_final = keep_final and getattr(env, "final_observation", None) is not None
        self.final_observation = {key: torch.zeros_like(x) for key, x in first.items()} if has_final else {}
        has_success = getattr(env, "success", None) is not None
        metrics = tuple(self._given_metrics())
        if taken := taken_name(metrics, has_success=has_success):
            raise EnvironmentMisfit(f"{self.name}.metrics has a {taken}; another name would work")
        numbers = [key for key, x in first.items() if x.is_floating_point()]
        self.broken = BrokenWorlds(self.num_envs, numbers, metrics, device=device, max_state=MAX_STATE)
        self.reward, self.metrics = self.broken.reward, self.broken.metrics
        self._totals = EpisodeTotals(self.num_envs, metrics, has_success=has_success, device=device)
        self.episode_totals, self.episode_metrics = self._totals.all, self._totals.by_name
        self.success = self._totals.success
        self._begin()

    @property
    def observation_sizes(self) -> dict[str, Size]:
        """Size of each observation; of pictures height, width and channels."""
        return {key: size_of(value) for key, value in self.observation.items()}

    @property
    def whole_episode(self) -> Tensor:
        """All of them, bool `(num_envs,)`."""
        return self._everywhere

    def _tensor(self, name: str, value: object, shape: tuple[int | None, ...]) -> Tensor:
        """What the environment has, as a tensor on the device; EnvironmentMisfit if it is of another shape or kind."""
        x = said.as_tensor(value, self.device)
        fits = x is not None and x.dim() == len(shape)
        if not fits or any(n not in (None, found) for n, found in zip(shape, x.shape, strict=True)):
            wanted = ", ".join("n" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
            found = said.described(value if x is None else x)
            raise EnvironmentMisfit(f"{self.name}.{name} is {found}, but numbers ({wanted}) are expected")
        return x

    def _given_metrics(self) -> Mapping[str, object]:
        """The metrics as they are given; EnvironmentMisfit if that is no dict by names."""
        given = getattr(self.env, "metrics", None)
        given = {} if given is None else given
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            found = f"a dict with {next(iter(given))!r}" if isinstance(given, Mapping) else type(given).__name__
            raise EnvironmentMisfit(f"{self.name}.metrics is {found}, but must be a dict of numbers by name")
        return given

    def _same_metrics(self) -> Mapping[str, object]:
        """The metrics as they are given, by the names that they had at first."""
        given = self._given_metrics()
        if given.keys() != self.metrics.keys():
            raise EnvironmentMisfit(
                f"{self.name}.metrics has {', '.join(given) or 'none'}, but had {', '.join(self.metrics) or 'none'} after "
                "its first reset, when all of them must be there"
            )
        return given

    def _check_first(self, observed: Observation) -> None:
        """EnvironmentMisfit for observations with which nothing can begin."""
        if not observed:
            raise EnvironmentMisfit(f"{self.name}.observation has none in it")
        for key, x in observed.items():
            if x.shape[-1] == 0:
                raise EnvironmentMisfit(f"{self.name}.observation[{key!r}] has no numbers in it")
            if not x.isfinite().all():
                raise EnvironmentMisfit(f"{self.name}.observation[{key!r}] is inf or NaN after its reset")

    def _check_late(self) -> None:
        """EnvironmentMisfit for what it has only now, and says nothing of an env that goes on for too long but once."""
        kept = (
            ("success", self.success is None),
            ("final_observation", self._keep_final and not self.final_observation),
        )
        for name, missing in kept:
            if missing and getattr(self.env, name, None) is not None:
                raise EnvironmentMisfit(
                    f"{self.name}.{name} is there after a step, but was not after the first reset, when it must be there, too"
                )
        if host_can_ask(self.steps) and self.steps.max() > self.episode_length:
            say_once(
                f"{self.name}.episode_length is {self.episode_length}, but an episode goes on after so many env steps; "
                "evaluations end there, and truncation should be true where a time limit ends an episode"
            )

    def _numbers(self, name: str) -> Tensor:
        """A number per env of the environment's."""
        return self._tensor(name, getattr(self.env, name, None), (self.num_envs,))

    def _truths(self, name: str) -> Tensor:
        """Where something is so, per env: bools, or numbers 0 and 1. EnvironmentMisfit for others.

        Those on a CUDA device are not looked at, because the host would wait for them.
        """
        x = self._numbers(name)
        if x.dtype != torch.bool and x.device.type == "cpu" and not ((x == 0) | (x == 1)).all():
            other = x[(x != 0) & (x != 1)][0].item()
            raise EnvironmentMisfit(f"{self.name}.{name} has {other:g} in it, but must be bool, or 0 and 1")
        return x

    def _observed(self, name: str) -> Observation:
        given = getattr(self.env, name)
        parts = given if isinstance(given, dict) else {"state": given}
        for key in parts:
            if not isinstance(key, str):
                raise EnvironmentMisfit(f"{self.name}.{name} has one named {key!r}, but names are str")
        shapes = {key: (self.num_envs, *([None] * (3 if is_picture(key) else 1))) for key in parts}
        found = {key: self._tensor(f"{name}[{key!r}]", x, shapes[key]) for key, x in parts.items()}
        return {key: x if x.dtype == torch.uint8 and is_picture(key) else x.float() for key, x in found.items()}

    def _alike(self, name: str, kept: Observation) -> Observation:
        """What is observed now. EnvironmentMisfit if it is not of the sizes that it had at first."""
        observed = self._observed(name)
        if observed.keys() != kept.keys():
            raise EnvironmentMisfit(f"{self.name}.{name} has {', '.join(observed)}, but had {', '.join(kept)} at first")
        for key, x in observed.items():
            if x.shape != kept[key].shape:
                raise EnvironmentMisfit(
                    f"{self.name}.{name}[{key!r}] is {tuple(x.shape)}, but was {tuple(kept[key].shape)} at first"
                )
        return observed

    def _begin(self) -> None:
        _copy(self._alike("observation", self.observation), self.observation)
        self._totals.begin()
        for x in (self.broken.given, self.done, self.truncation, self.termination, self.time_out, self.steps):
            x.zero_()

    @torch.no_grad()
    def reset(self) -> Any:
        """Starts a new episode in every env; returns `seen`."""
        self.env.reset()
        self._begin()
        return self.seen

    @torch.no_grad()
    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor]:
        """One policy step with `action` `(num_envs, action_dim)`; returns `(seen, reward, done)`."""
        env = self.env
        env.step(action)
        metrics = self._same_metrics()
        given = [
            self._numbers("reward"),
            *(self._tensor(f"metrics[{name!r}]", metrics[name], (self.num_envs,)) for name in self.metrics),
        ]
        observed, final = self._alike("observation", self.observation), None
        if self.final_observation:
            final = self._alike("final_observation", self.final_observation)
        time_out = None if getattr(env, "time_out", None) is None else self._truths("time_out")
        success = None if self.success is None else self._truths("success")
        ends = self._truths("termination"), self._truths("truncation")
        self.after_step(given, observed, final, *ends, time_out, success)
        self._check_late()
        return self.seen, self.reward, self.done

    @torch.no_grad()
    def after_step(
        self,
        given: list[Tensor],
        observed: Observation,
        final: Observation | None,
        termination: Tensor,
        truncation: Tensor,
        time_out: Tensor | None,
        success: Tensor | None,
    ) -> None:
        """What a step has come to, into tensors that stay; `given` is the reward and each metric. Can be compiled."""
        was_done = self.done.bool()
        self.broken.given.copy_(torch.stack(given))
        broken = self.broken.find((), observed if final is None else final, self.observation)
        _copy(observed, self.observation)
        if final is not None:
            _copy(final, self.final_observation)
        terminated, late = termination.bool() | broken, truncation.bool()
        self.termination.copy_(terminated)
        self.truncation.copy_(late & ~terminated)
        self.done.copy_(late | terminated)
        if time_out is not None:
            self.time_out.copy_(time_out)
        self.steps.masked_fill_(was_done, 0).add_(self.action_repeat)
        self._totals.add(self.action_repeat, self.broken.given, was_done)
        if success is not None:
            self.success.copy_(success.bool() & self.done.bool() & ~broken)

    def success_now(self) -> Tensor | None:
        """Of an episode that goes on it is not known."""
        return None if self.success is None else torch.zeros_like(self._everywhere)

    def controls(self) -> dict[str, list] | None:
        """What becomes of actions, where the environment says so."""
        return self.env.controls() if hasattr(self.env, "controls") else None

    def state(self) -> dict[str, object] | None:
        """Tensors that `load_state` goes on from; None where the environment has no state of its own to keep."""
        if lacking(self.env, ("state", "load_state")):
            return None
        own = self.env.state()
        self._check_state(own, "state()")
        return {"env": own, "rules": self._rules()}

    def _check_state(self, part: object, path: str) -> None:
        """EnvironmentMisfit for what a checkpoint cannot hold."""
        if isinstance(part, dict):
            for name, value in part.items():
                self._check_state(value, f"{path}[{name!r}]")
        elif not isinstance(part, Tensor):
            raise EnvironmentMisfit(
                f"{self.name}.{path} is {type(part).__name__}, but must be a tensor or a dict of tensors; "
                "torch.as_tensor(...) makes one of numbers, and without state() episodes begin anew after a resume"
            )

    def _rules(self) -> dict[str, object]:
        return {
            "observation": self.observation,
            "episode_totals": self.episode_totals,
            "steps": self.steps,
            "done": self.done,
            "broken": self.broken.counts,
        }

    def load_state(self, saved: dict[str, object]) -> None:
        """Goes on from a saved `state`. ValueError if it does not fit."""
        copy_into(self._rules(), saved["rules"], "env")
        self.env.load_state(saved["env"])
