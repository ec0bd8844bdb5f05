"""Everything that a run holds and a checkpoint saves."""

import copy
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import torch

import torch_ppo
from torch_ppo.environments.contract import Environment
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Source, Wanted
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.noise import GeneratorNoise
from torch_ppo.learning.agent import make_agent
from torch_ppo.learning.batch import allocate_batch
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.learning.factory import NetworkFactory
from torch_ppo.learning.update import Learner
from torch_ppo.running.accelerate import compile_parts, keep_freed_memory, record_graphs, set_precision
from torch_ppo.running.determinism import allow_determinism_later, determinism_in_words, make_torch_deterministic
from torch_ppo.running.episode_metrics import EpisodeMetrics
from torch_ppo.running.evaluate import Evaluator, act_of
from torch_ppo.running.fit import actions_in_words, actions_of, network_misfit, sizes_in_words, task_misfit
from torch_ppo.running.formats import FORMATS, upgraded_env
from torch_ppo.running.generators import make_generators
from torch_ppo.running.late_numbers import LateNumbers
from torch_ppo.running.memory_needed import check_memory
from torch_ppo.running.phase_clock import PhaseClock
from torch_ppo.running.resolved import resolve_config, with_distribution
from torch_ppo.running.threads import worthwhile_threads
from torch_ppo.settings.config import Config
from torch_ppo.simulation.copies import clone, copy_into
from torch_ppo.simulation.task import Task

log = logging.getLogger(__name__)


def _kept(env: Environment) -> dict[str, object] | None:
    """A copy of an env's state; None if it cannot be checkpointed."""
    state = env.state()
    return None if state is None else clone(state)


# A resumed run in which one of them is another has the learning rate that they say; else that of its checkpoint.
DECIDES_LEARNING_RATE = ("learning_rate", "learning_rate_schedule", "learning_rate_warmup_timesteps")
FIRST_OF_ONE = {"rank": 0, "count": 1}  # what a checkpoint without "devices" is of


class TrainingState:
    """Envs, agent, optimizer, random state and counters of one run.

    training_steps:   done so far; env_steps follows from it
    interval_sums:    sums of the mean metrics of the training steps since the last report, float64 `(n,)`,
                      as `Learner.metric_names` has them
    interval_steps:   training steps since the last report
    interval_time:    seconds spent in them; what is still queued on the device counts once the host has waited for it
    controls:         what the task makes of actions, see `simulation.scaling.to_plain`; None if it is not that simple
    walltime:         seconds spent in training steps, likewise
    clock:            seconds of collecting and of updating since the last report
    histograms:       of whole training episodes until the last report: inner edges and counts by name
    last_step:        of the last training step the mean loss, the share of policy steps that broke a world, and the
                      largest |reward|
    broken_before:    what `env.broken.counts` was at the last report
    broken_folder:    where files about broken worlds go; None for nowhere
    best:             highest eval/episode_reward so far and its env steps, or None
    preparation_time: seconds that compiling and recording took
    devices:          those that learn together; `config` is of all of them, envs and batch are this one's
    """

    def __init__(
        self,
        config: Config,
        environment: Source | Task,
        *,
        eval_environment: Source | Task | None = None,
        network_factory: NetworkFactory | None = None,
        devices: Devices = ALONE,
    ) -> None:
        self.source = source_of(environment)
        self.config = config = resolve_config(config, self.source)
        self.devices, share = devices, devices.share(config)
        self.device = torch.device(config.device)
        check_memory(config, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        else:
            torch.cuda.set_device(self.device)  # a task, or torch's capture, may say "cuda" and mean this one
            allow_determinism_later(self.device)
        if config.torch_threads is not None:
            torch.set_num_threads(config.torch_threads)
        if config.deterministic:
            make_torch_deterministic(self.device)
        self.generators = make_generators(config.seed, self.device, devices.rank)
        rules = {"auto_reset": config.auto_reset, "random_episode_phase": config.random_episode_phase}
        self.env = self._make_env(self.source, share.num_envs, "env", randomize=True, keep_final=True, **rules)
        config = dataclasses.replace(config, episode_length=self.env.episode_length)
        self.config = config = with_distribution(config, self.env)
        if config.bootstrap_on_truncation and not self.env.final_observation:
            raise ConfigError(
                f"bootstrap_on_truncation needs the observation before a restart, which {self.env.name} does not keep; false "
                "would work"
            )
        if config.deterministic:
            log.info(determinism_in_words(self.env, config.physics))
        self.observation_sizes, self.action_dim = self.env.observation_sizes, self.env.action_dim
        self.choices = self.env.choices
        self.agent = make_agent(
            config,
            self.observation_sizes,
            self.action_dim,
            choices=self.choices,
            generator=self.generators["init"],
            network_factory=network_factory,
        ).to(self.device)
        if config.torch_threads is None and self.device.type == "cpu":
            torch.set_num_threads(worthwhile_threads(self.agent, share))
        set_precision(self.agent, config.matmul_precision, config.bf16)
        self.batch = allocate_batch(share, self.env, self.agent)
        self.noise = GeneratorNoise(self.generators["train"])
        self.collector = Collector(share, self.env, self.agent, self.batch, self.noise)
        self.learner = Learner(self.agent, config, self.batch, self.noise, devices)
        self.evaluator = None
        if config.run_evals and config.num_evals > 0:
            source = self.source if eval_environment is None else source_of(eval_environment)
            eval_env = self._make_env(source, share.num_eval_envs, "eval_env", randomize=config.randomize_eval)
            sizes = (eval_env.observation_sizes, actions_of(eval_env))
            if sizes != (self.observation_sizes, actions_of(self.env)):
                raise ConfigError(
                    f"eval_env gives {sizes_in_words(sizes[0])} and takes {actions_in_words(sizes[1])}, but the environment "
                    f"gives {sizes_in_words(self.observation_sizes)} and takes {actions_in_words(actions_of(self.env))}"
                )
            eval_noise = GeneratorNoise(self.generators["eval"])
            act = act_of(self.agent, eval_env, eval_noise, deterministic=config.deterministic_eval)
            self.evaluator = Evaluator(eval_env, act, devices)
        self.episode_metrics = EpisodeMetrics(
            config.training_metrics_steps or config.env_step_per_training_step, action_repeat=config.action_repeat
        )
        self.training_steps = 0
        self.walltime = 0.0
        self.interval_sums = torch.zeros(len(self.learner.metric_names), device=self.device, dtype=torch.float64)
        self.last_step = LateNumbers(3, self.device)
        self.interval_steps = 0
        self.interval_time = 0.0
        self.clock = PhaseClock(self.device)
        self.histograms: dict[str, tuple[list[float], list[int]]] = {}
        self.broken_before = self.env.broken.counts.tolist()
        self.broken_folder: Path | None = None
        self.best: dict[str, float] | None = None
        self.controls = self.env.controls()
        started = time.perf_counter()
        self._accelerate()
        self.preparation_time = time.perf_counter() - started

    def _accelerate(self) -> None:
        """Compiles and records what the configuration says, by a trial run whose effects are taken back."""
        config, record = self.config, self.config.capture == "unroll"
        if not (config.compile or record):
            return
        before = self.checkpoint()
        eval_env = self.evaluator.env if self.evaluator else None
        eval_env_before = None if eval_env is None else _kept(eval_env)
        if config.compile:
            compile_parts(self.collector, self.learner, few_launches=self.device.type == "cuda")
        self.collector.unroll()
        self.learner.sgd_pass()
        if record:
            record_graphs(self.collector, self.learner, self.evaluator, self.generators, self.device)
        if self.collector.evidence is not None:
            self.collector.evidence.take()
        self.load_checkpoint(before)
        if eval_env_before is not None:
            eval_env.load_state(eval_env_before)  # no part of a checkpoint, but its counts are reported

    def _make_env(self, source: Source, num_envs: int, stream: str, **wanted: Any) -> Environment:
        """Envs of a source with random numbers of their own; ConfigError if they do not obey the configuration."""
        config = self.config
        env = source.make(Wanted(config, num_envs, self.generators[stream], **wanted))
        for name in ("episode_length", "action_repeat"):
            asked, found = getattr(config, name), getattr(env, name)
            if asked not in (None, found) and not source.simulated:
                instead = "leave it out" if getattr(Config, name) is None else f"{name} = {found} would work"
                raise ConfigError(f"{name} is {asked}, but {env.name} has {found} of its own; {instead}")
        return env

    @property
    def task_name(self) -> str:
        """What errors call the task: the name that it was asked for by, without the folder of a file; or its class."""
        return Path(self.config.env).name or self.env.name

    @property
    def env_steps(self) -> int:
        """Env steps collected so far."""
        return self.training_steps * self.config.env_step_per_training_step

    @property
    def report_is_due(self) -> bool:
        """Whether the last training step ended an interval between evaluations of which there is no report yet."""
        steps_per_report = self.config.num_training_steps // self.config.num_eval_intervals
        return self.interval_steps > 0 and self.training_steps % steps_per_report == 0

    def add_time(self, seconds: float) -> None:
        """Counts seconds of training."""
        self.walltime += seconds
        self.interval_time += seconds

    def checkpoint(self) -> dict[str, object]:
        """Copies of everything that a run needs to go on exactly; only tensors and plain values."""
        return {
            "format": FORMATS[-1],
            "version": torch_ppo.__version__,
            "config": dataclasses.asdict(self.config),
            "observation_sizes": self.observation_sizes,
            "action_dim": self.action_dim,
            "choices": self.choices,
            "controls": self.controls,
            "agent": clone(self.agent.state_dict()),
            "optimizer": copy.deepcopy(self.learner.optimizer.state_dict()),
            **self.own_part(),
            "learner": clone(self.learner.state()),
            "env_steps": self.env_steps,
            "training_steps": self.training_steps,
            "walltime": self.walltime,
            "eval_walltime": self.evaluator.walltime if self.evaluator else 0.0,
            "interval": {"sums": self.interval_sums.tolist(), "steps": self.interval_steps, "time": self.interval_time},
            "diagnostics": clone(self.collector.diagnostics.state()),
            "episode_metrics": self.episode_metrics.state(),
            "best": self.best,
        }

    def own_part(self) -> dict[str, object]:
        """Copies of what differs between devices that learn together."""
        return {
            "devices": {"rank": self.devices.rank, "count": self.devices.count},
            "env": _kept(self.env) or {},
            "collector": clone(self.collector.state()),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def load_checkpoint(self, saved: dict[str, object], part: dict[str, object] | None = None) -> bool:
        """Goes on from a checkpoint of the same configuration. ValueError if it does not fit.

        part:  this device's own, of the same training step, where several learn together; the checkpoint has the first's

        Returns whether its episodes go on. They begin anew where the env cannot be checkpointed; and with other random
        numbers where there is no such part, as with another number of devices.
        """
        if torch.device(saved["config"]["device"]).type != self.device.type:
            raise ValueError(
                f"the run was on {saved['config']['device']}, this is {self.device}; its random state differs"
            )
        sizes = (saved["observation_sizes"], saved.get("choices") or saved["action_dim"])
        misfit = task_misfit(sizes, (self.observation_sizes, actions_of(self.env)), self.task_name)
        misfit = "; ".join(misfit) or network_misfit(saved["agent"], self.agent.state_dict(), self.task_name)
        if misfit:
            raise ValueError(misfit)
        self.agent.load_state_dict(saved["agent"])
        self.learner.load_optimizer(saved["optimizer"])
        if any(saved["config"].get(name) != getattr(self.config, name) for name in DECIDES_LEARNING_RATE):
            self.learner.learning_rate.fill_(self.config.learning_rate)  # a schedule then sets its own
        copy_into(self.learner.state(), saved["learner"], "learner")
        self.training_steps = saved["training_steps"]
        own = {"rank": self.devices.rank, "count": self.devices.count}
        found = next((x for x in (part, saved) if x and x.get("devices", FIRST_OF_ONE) == own), None)
        env = None if found is None else self.env.state()
        if found is not None:
            if env is not None:
                saved_env = upgraded_env(found["env"], env, saved["format"], num_substeps=self.env.num_substeps)
                self.env.load_state(saved_env)
            copy_into(self.collector.state(), found["collector"], "collector")
            generators = found["generators"]
        else:
            anew = make_generators(self.config.seed, self.device, self.devices.rank, self.training_steps)
            generators = {name: generator.get_state() for name, generator in anew.items()}
        for name, generator in self.generators.items():
            generator.set_state(generators[name].cpu())
        if env is None:
            self.env.reset()
        self.walltime = saved["walltime"]
        if self.evaluator:
            self.evaluator.walltime = saved["eval_walltime"]
        interval = saved["interval"]
        self.interval_sums.copy_(torch.tensor(interval["sums"], dtype=torch.float64))
        self.interval_steps, self.interval_time = interval["steps"], interval["time"]
        try:
            copy_into(self.collector.diagnostics.state(), saved["diagnostics"], "diagnostics")
        except (KeyError, ValueError):  # not in the first files of format 3; or the task has come to tell more
            self.collector.diagnostics.clear()
        self.episode_metrics.load_state(saved["episode_metrics"])
        self.best = saved["best"]
        self.broken_before = self.env.broken.counts.tolist()
        return env is not None
