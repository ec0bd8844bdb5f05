"""Env: a task, its physics, and the rules of an episode.

Action repeat, time limit, truncation and termination, automatic reset and episode metrics are those of Brax's
wrapper stack (brax/envs/wrappers/training.py), here plain tensor code over fixed buffers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_ppo.formulas.controls import Scaling
from torch_ppo.formulas.pixels import PREFIX
from torch_ppo.simulation.action_delay import ActionDelay, delay_range
from torch_ppo.simulation.broken import BrokenWorlds
from torch_ppo.simulation.copies import copy_into
from torch_ppo.simulation.dry_step import (
    as_reward,
    check_attributes,
    check_memory,
    dry_step,
    raising_one_line,
    substeps_per_control,
)
from torch_ppo.simulation.episode_models import EpisodeModels
from torch_ppo.simulation.episode_totals import EpisodeTotals
from torch_ppo.simulation.host import host_can_ask
from torch_ppo.simulation.observations import Observations
from torch_ppo.simulation.physics import Physics, left_as_it_was
from torch_ppo.simulation.scaling import (
    declared_scaling,
    measured_scaling,
    out_of_reach,
    ranges,
    say_once,
    to_plain,
    unscaled,
)
from torch_ppo.simulation.start_states import StartStates, has_new_memory
from torch_ppo.simulation.task import Observation, Task
from torch_ppo.simulation.views import Size, seen_views, size_of

MAX_STATE = 1e10  # MuJoCo's own limit of |qpos| and |qvel| (mjMAXVAL)

RandomizationFn = Callable[[Physics, torch.Generator], dict[str, Tensor]]


class Env:
    """`num_envs` episodes of a task, stepped together. All tensors are written in place.

    observation:      after the step and any reset; with
                      `history`, of so many last steps, see
                      `simulation.frames`                      (num_envs, obs_dim) per key; the task's
                                                               `views` as in `simulation.views`
    seen:             the same, as `Task.observe` returns it   a tensor, or a dict
    reward:           summed over action repeats               (num_envs,)
    done:             1 where the episode ended                (num_envs,)
    truncation:       1 where only the time limit ended it     (num_envs,)
    termination:      1 where the task ended it                (num_envs,)
    time_out:         1 where the task reports a time-out      (num_envs,)
    success:          1 where the episode ended as a success;
                      None where the task never says so        (num_envs,)
    steps:            env steps in the episode; what the time
                      limit counts                             (num_envs,) int32
    metrics:          the task's, of this step                 (num_envs,) per name
    episode_metrics:  totals of the episode: sum_reward,
                      length and one per metric, and, where
                      there is success, success_rate, which is
                      `success`; on a done step, those of the
                      finished episode                  (num_envs,) per name
    episode_totals:   the same in one: length, sum_reward, the
                      metrics in their order, success_rate     (n, num_envs)
    broken:           which worlds went bad, and why; they
                      end as a termination with reward 0       see `simulation.broken`

    With `keep_final`, after the step and before any reset:
    final_observation: else empty                              (num_envs, obs_dim) per key
    final_state:      qpos, qvel, act, ctrl; else None         (num_envs, nq + nv + na + nu)

    `randomization_fn(physics, generator)` gives each world its own model, as `Task.randomize` does; None for none.
    With `randomize_episode` each episode has its own, where the task has `Task.randomize_episode`.
    A finished episode restarts from a pool of start states that `reset` draws: its own (`auto_reset="cached"`,
    Brax) or a random env's ("random"). The restart is a masked copy and costs no physics. With "fresh" an env's own is
    drawn anew after each of its episodes, which needs a forward pass (of all worlds in each step on CUDA).
    `history`, `action_delay` and `view_size` are explained in `Config`. Without `vision` a task's views are not drawn.
    `deterministic` asks it of the physics.
    With `random_episode_phase` the time limit has begun to count before `reset`, by a random part of it in each env;
    the first episodes are then short, which `whole_episode` tells.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        episode_length: int,
        device: torch.device,
        generator: torch.Generator,
        action_repeat: int = 1,
        auto_reset: str = "cached",
        random_episode_phase: bool = False,
        engine: str = "auto",
        capture: bool = True,
        randomization_fn: RandomizationFn | None = None,
        randomize_episode: bool = False,
        keep_final: bool = False,
        history: int = 1,
        history_obs_keys: tuple[str, ...] = (),
        action_delay: int | tuple[int, ...] = 0,
        vision: bool = True,
        view_size: int | None = None,
        max_state: float = MAX_STATE,
        deterministic: bool = False,
    ) -> None:
        check_attributes(task)
        self.task, self.num_envs, self.device, self.generator = task, num_envs, device, generator
        self.episode_length, self.action_repeat, self.auto_reset = episode_length, action_repeat, auto_reset
        self.random_episode_phase = random_episode_phase
        views = seen_views(task.views, vision=vision, view_size=view_size)
        engine = "warp" if views and engine == "auto" else engine  # C MuJoCo needs OpenGL to draw
        with raising_one_line(task):
            self.physics = task.make_physics(num_envs, device=device, engine=engine, capture=capture)
        if views:
            self.physics.set_views(views)
        pictures = {f"{PREFIX}{name}": x for name, x in self.physics.pictures.items()} if views else {}
        if deterministic:
            self.physics.make_deterministic()
        if randomization_fn is not None:
            with raising_one_line(task):
                fields = randomization_fn(self.physics, generator)
            self.physics.set_model_fields(fields)
        has_models = randomize_episode and type(task).randomize_episode is not Task.randomize_episode
        self.models = EpisodeModels(task.randomize_episode, self.physics, generator) if has_models else None
        self.num_substeps = substeps_per_control(task, self.physics.model.opt.timestep)
        self._has_each_substep = type(task).each_substep is not Task.each_substep
        with raising_one_line(task):
            self.action_dim = task.action_dim(self.physics)
            self.memory = task.make_memory(num_envs, device)
        check_memory(task, self.memory, num_envs)
        if task.num_random:
            self.memory["random"] = torch.zeros(num_envs, task.num_random, device=device)

        def zeros(dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(num_envs, device=device, dtype=dtype)

        self.done, self.truncation, self.termination, self.time_out = zeros(), zeros(), zeros(), zeros()
        self.steps = zeros(torch.int32)
        low, high = delay_range(action_delay)
        delayed = (low, high, num_envs, self.action_dim)
        self.delay = ActionDelay(*delayed, device=device, generator=generator) if high else None
        with torch.no_grad():
            nominal = {name: x.clone() for name, x in self.physics.start_parts().items()}
            found = dry_step(self.task, self.physics, self.memory, self.action_dim, generator, pictures)
            if self._actions_are_controls:
                say_once(out_of_reach(self.physics.model, type(task).__name__))
            self._observations = Observations(
                task,
                self.physics,
                found.observation,
                single=found.single,
                pictures=pictures,
                history=history,
                history_obs_keys=history_obs_keys,
            )
            self.observation, self.seen = self._observations.present, self._observations.seen
            # Only now is it known which applied forces the task uses; they are 0 at first.
            self.starts = StartStates(
                task,
                self.physics,
                self.memory,
                nominal,
                pictures if has_new_memory(task, auto_reset) else self._observations.frame,
                auto_reset=auto_reset,
                generator=generator,
            )
            kept = self.observation if keep_final else {}
            self.final_observation = {key: torch.zeros_like(value) for key, value in kept.items()}
            self.final_state = torch.cat(self._state_parts(), 1) if keep_final else None
            numbers = [key for key, x in self.observation.items() if x.is_floating_point()]
            self.broken = BrokenWorlds(num_envs, numbers, found.metric_names, device=device, max_state=max_state)
            self.reward, self.metrics = self.broken.reward, self.broken.metrics
            self._totals = EpisodeTotals(num_envs, self.metrics, has_success=found.has_success, device=device)
            self.episode_totals, self.episode_metrics = self._totals.all, self._totals.by_name
            self.success = self._totals.success
            self.reset()

    @property
    def _actions_are_controls(self) -> bool:
        task, own = self.task, type(self.task)
        scaled = task.action_scale is not None or task.action_offset is not None
        return own.apply is Task.apply and not scaled and not self._has_each_substep

    def scaling(self) -> Scaling | None:
        """What `Task.apply` makes of actions, for each actuator; None if it depends on more than the action.

        That of an `apply` of the task's own is measured. Reads from the device.
        """
        task, physics = self.task, self.physics
        if self._has_each_substep or not self.action_dim == physics.model.nu == physics.ctrl.shape[1]:
            return None
        if type(task).apply is Task.apply:
            return declared_scaling(task, physics) or unscaled(physics.model)
        return measured_scaling(task.apply, physics, self.memory)

    def controls(self) -> dict[str, list] | None:
        """`scaling` as plain values, with the actuators' names; see `simulation.scaling.to_plain`."""
        scaling = self.scaling()
        return None if scaling is None else to_plain(scaling, self.physics.model)

    @property
    def compilable(self) -> tuple[str, ...]:
        """Methods that torch.compile takes whole: all of `step` if nothing is drawn in it and the physics allows it."""
        draws = (
            self.task.num_random or self.auto_reset != "cached" or self.starts.new_memory or self.delay or self.models
        )
        return ("after_physics",) if draws or not self.physics.can_be_compiled else ("step",)

    @property
    def observation_sizes(self) -> dict[str, Size]:
        """Size of each observation; of pictures height, width and channels."""
        return {key: size_of(value) for key, value in self.observation.items()}

    @property
    def whole_episode(self) -> Tensor:
        """Whether the episode began at its beginning, bool `(num_envs,)`; see `random_episode_phase`."""
        return self.steps == self.episode_metrics["length"]

    @torch.no_grad()
    def reset(self) -> Any:
        """Starts a new episode in every env, from freshly drawn start states, which become the pool; returns `seen`."""
        self.starts.begin(self.memory)
        if self.models is not None:
            self.models.draw()
            self.models.write(torch.ones_like(self.done, dtype=torch.bool))
        self.physics.forward()
        self._observations.look()
        self._begin_all(self._observations.newest(self.memory))
        if self.delay is not None:
            self.delay.reset()
        return self.seen

    def _begin_all(self, observed: Observation) -> None:
        """Makes the present state the pool, and every env's first."""
        self.starts.keep(torch.ones_like(self.done, dtype=torch.bool), self.memory, observed)
        self._observations.begin(observed)
        self._totals.begin()
        for tensor in (self.broken.given, self.done, self.truncation, self.termination, self.time_out, self.steps):
            tensor.zero_()
        if self.random_episode_phase:
            policy_steps = -(-self.episode_length // self.action_repeat)
            self.steps.random_(policy_steps, generator=self.generator).mul_(self.action_repeat)

    def _draw_restarts(self) -> None:
        """What envs whose episode ends in this step go on with. Drawn here, not where it is used: that is compiled."""
        self.starts.draw()
        if self.delay is not None:
            self.delay.draw()
        if self.models is not None:
            self.models.draw()
        if self.auto_reset == "fresh":
            self._refill_pool()

    def _refill_pool(self) -> None:
        """Draws start states for all envs; those whose own has been used keep them for the next episode."""
        used = self.done.bool() | self._totals.length.eq(0)  # by the episode that has just begun
        memory = {name: torch.zeros_like(tensor) for name, tensor in self.memory.items()}
        with left_as_it_was(self.physics):
            self.starts.begin(memory)
            if host_can_ask(used) and not used.any():
                return  # now that as many random numbers are drawn as on CUDA
            if self.physics.model.nsensordata and self.models is None:  # else it waits for the model of the episode
                self.physics.forward(used)
            self._observations.look()
            self.starts.keep(used, memory, self._observations.newest(memory))

    @torch.no_grad()
    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor]:
        """One policy step with `action` `(num_envs, action_dim)`. Returns `(seen, reward, done)`.

        These are the env's own tensors, which the next step overwrites: clone what is to be kept. Where an episode has
        ended, what is seen is the start of the next one already.
        """
        self._draw_restarts()
        for repeat in range(1, self.action_repeat + 1):
            # Random numbers are drawn here, not where they are used: after_physics is compiled, which a generator cannot be.
            self.starts.draw_random(self.memory)
            arriving = action if self.delay is None else self.delay(action)
            self.simulate(arriving)
            if repeat == self.action_repeat:
                self._observations.look()
            # Of what was sent, not of what arrives: that is what a robot knows.
            self.after_physics(action, repeat == 1, repeat == self.action_repeat)
        if self.models is not None:
            self._begin_models()
        return self.seen, self.reward, self.done

    def simulate(self, action: Tensor) -> None:
        """The physics of one env step: the task turns `action` into controls, once or before every substep."""
        self.before_physics(action)
        if not self._has_each_substep:
            self.physics.step(self.num_substeps)
            return
        for _ in range(self.num_substeps):
            self.task.each_substep(self.physics, self.memory, action)
            self.physics.step(1)

    def before_physics(self, action: Tensor) -> None:
        """The task's controls for `action` `(num_envs, action_dim)`; only torch operations, so that it can be compiled."""
        self.task.apply(self.physics, self.memory, action)

    def after_physics(self, action: Tensor, first: bool, last: bool) -> None:
        """What follows the physics of one of the action's repeats: reward, and at the last the rules of an episode.

        Only torch operations on tensors that stay where they are, so that it can be compiled.
        """
        self.task.after_step(self.physics, self.memory, action)
        reward, metrics = as_reward(self.task.reward(self.physics, self.memory, action))
        reward = reward if first else self.reward + reward
        if last:
            self._settle(reward, metrics)
        else:
            self.reward.copy_(reward)

    def _settle(self, reward: Tensor, metrics: dict[str, Tensor]) -> None:
        # As in Brax, an end before the last repeat is not seen, and metrics are those of the last repeat.
        task, physics, memory = self.task, self.physics, self.memory
        was_done = self.done.bool()
        self.broken.given.copy_(torch.stack([reward, *(metrics[name] for name in self.metrics)]))
        observed = self._observations.newest(memory)
        broken = self.broken.find((physics.qpos, physics.qvel), observed, self.observation)
        stacks = self._observations.stacked(observed)
        terminated = task.terminated(physics, memory)
        terminated = broken if terminated is None else terminated.bool() | broken

        self.steps.masked_fill_(was_done, 0)
        self.steps += self.action_repeat
        late = self.steps >= self.episode_length
        done = late | terminated
        self.done.copy_(done)
        self.termination.copy_(terminated)
        self.truncation.copy_(late & ~terminated)
        time_out = task.time_out(physics, memory)
        if time_out is not None:
            self.time_out.copy_(time_out)
        self._totals.add(self.action_repeat, self.broken.given, was_done)
        for key, kept in self.final_observation.items():
            kept.copy_(stacks[key])
        if self.final_state is not None:
            torch.cat(self._state_parts(), 1, out=self.final_state)
        if host_can_ask(done) and not done.any():
            if self.success is not None:
                self.success.zero_()
            self._observations.write(stacks)
        else:
            if self.success is not None:
                self.success.copy_(task.success(physics, memory).bool() & done & ~broken)
            self._restart(done, stacks)

    def _state_parts(self) -> list[Tensor]:
        physics = self.physics
        return [physics.qpos, physics.qvel, physics.act, physics.ctrl]

    def _restart(self, done: Tensor, stacks: Observation) -> None:
        """Where `done` `(num_envs,)`, puts state, memory and observation back to a start state."""
        first = self.starts.restart(done)
        if self.delay is not None:
            self.delay.restart(done)
        if self.starts.new_memory:
            first = {**self._observations.newest(self.memory), **first}
        self._observations.write_restarted(done, first, stacks)

    def _begin_models(self) -> None:
        """Gives episodes that begin their model, and first observations what they see of it."""
        done = self.done.bool()
        if host_can_ask(done) and not done.any():
            return
        self.models.write(done)
        self.models.sense(done)
        self._observations.look()
        self._observations.begin(self._observations.newest(self.memory), done)

    # What else is asked of any env, see docs/environments.md.
    recordable, choices = True, None
    compilable_on_gpu = ("before_physics",)

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self.task).__name__

    @property
    def reward_range(self) -> tuple[float, float]:
        """Least and greatest reward of an env step."""
        return self.task.reward_range

    @property
    def never_terminates(self) -> bool:
        """Whether only the time limit ends an episode."""
        return type(self.task).terminated is Task.terminated

    @property
    def control_range(self) -> Tensor:
        """Limits of each actuator, infinite where there is none, `(2, nu)`."""
        return torch.stack(ranges(self.physics.model)).to(self.device)

    @property
    def overflowed(self) -> Tensor:
        """How many envs have exceeded a buffer of MuJoCo Warp so far, int64 `()`."""
        return self.physics.overflow.ne(0).sum()

    def success_now(self) -> Tensor | None:
        """Whether what the task is for is achieved now, bool `(num_envs,)`; None if the task never says so."""
        return self.task.success(self.physics, self.memory)

    def load_state(self, saved: dict[str, object]) -> None:
        """Copies a saved `state` back. ValueError if it does not fit."""
        copy_into(self.state(), saved, "env")

    def state(self) -> dict[str, object]:
        """The live tensors that, copied back, continue every episode exactly (with the generator's state)."""
        return {
            "physics": self.physics.state(),
            "memory": self.memory,
            "observation": self.observation,
            # All but success, which every step tells anew.
            "episode_metrics": {name: x for name, x in self.episode_metrics.items() if x is not self.success},
            "counters": {"steps": self.steps, "done": self.done, "broken": self.broken.counts},
            **self.starts.state(),
            **({} if self.delay is None else {"delay": self.delay.state()}),
            **({} if self.models is None else {"models": self.physics.model_state()}),
        }
