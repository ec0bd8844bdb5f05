"""Everything that a run holds and a checkpoint saves."""

import copy
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import torch_ppo
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.noise import GeneratorNoise
from torch_ppo.learning.agent import NetworkFactory, make_agent
from torch_ppo.learning.batch import allocate_batch
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.learning.update import METRICS, Learner
from torch_ppo.running.accelerate import compile_parts, keep_freed_memory, record_graphs, set_precision
from torch_ppo.running.determinism import determinism_in_words, make_torch_deterministic
from torch_ppo.running.episode_metrics import EpisodeMetrics
from torch_ppo.running.evaluate import Evaluator, act_of
from torch_ppo.running.fit import actions_in_words, network_misfit, sizes_in_words, task_misfit
from torch_ppo.running.formats import FORMATS, upgraded_env
from torch_ppo.running.generators import make_generators
from torch_ppo.running.late_numbers import LateNumbers
from torch_ppo.running.memory_needed import check_memory
from torch_ppo.running.phase_clock import PhaseClock
from torch_ppo.settings.config import Config
from torch_ppo.simulation.env import Env, RandomizationFn
from torch_ppo.simulation.scaling import to_plain
from torch_ppo.simulation.task import Task

log = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """The torch device for a `device` setting; ConfigError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {name!r}, but must be auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"device is {name!r}, but there is no CUDA device here; cpu would work")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ConfigError(f"device is {name!r}, but there are only {torch.cuda.device_count()} CUDA devices")
        # Warp wants to know which one.
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return device


def resolve_config(config: Config, task: Task) -> Config:
    """The configuration with what was left open filled in: device, engine, capture level, episode length."""
    device = resolve_device(config.device)
    engine = config.physics
    if engine == "auto":
        engine = "warp" if device.type == "cuda" else "mujoco"
    if engine == "mujoco" and device.type != "cpu":
        raise ConfigError(f"physics = mujoco runs on the CPU, not on {config.device}; warp would work there")
    capture = config.capture
    if capture == "physics" and engine == "mujoco":
        raise ConfigError("capture = physics records MuJoCo Warp's kernels, C MuJoCo has none; none or auto would work")
    if capture == "unroll" and device.type != "cuda":
        raise ConfigError(f"capture = unroll records CUDA graphs, and the device is {device}; auto would work")
    if capture == "auto":
        capture = "none" if engine == "mujoco" else "unroll" if device.type == "cuda" else "physics"
    return dataclasses.replace(
        config,
        device=str(device),
        physics=engine,
        capture=capture,
        compile=device.type == "cuda" if config.compile is None else config.compile,
        episode_length=config.episode_length or task.episode_length,
    )


def randomization_of(task: Task, config: Config, given: RandomizationFn | None) -> RandomizationFn | None:
    """What an env of `task` is randomised by: what the library call was given, else the task's own if wanted.

    None where there is nothing of the kind, or only what `randomize_episode` does.
    """
    if given is not None or not config.randomize:
        return given
    if type(task).randomize is not Task.randomize:
        return task.randomize
    if type(task).randomize_episode is not Task.randomize_episode:
        return None
    raise ConfigError(f"randomize is true, but {type(task).__name__} has no randomize; false would work")


def seen_and_done(config: Config) -> dict[str, Any]:
    """The settings of an `Env` that decide what a policy sees at once, and when what it does arrives."""
    return {name: getattr(config, name) for name in ("history", "history_obs_keys", "action_delay")}


def copy_into(live: object, saved: object, path: str = "") -> None:
    """Copies saved tensors into live ones of the same structure, in place; ValueError names a mismatch."""
    if isinstance(live, Tensor):
        if not isinstance(saved, Tensor) or live.shape != saved.shape:
            found = tuple(saved.shape) if isinstance(saved, Tensor) else saved
            raise ValueError(f"{path} is {found} in the checkpoint, but {tuple(live.shape)} here")
        live.copy_(saved)
        return
    if not isinstance(saved, dict) or live.keys() != saved.keys():
        raise ValueError(f"{path or 'the state'} has other entries in the checkpoint")
    for name, value in live.items():
        copy_into(value, saved[name], f"{path}.{name}" if path else name)


def clone(live: object) -> object:
    """A copy of a nested dict of tensors."""
    if isinstance(live, Tensor):
        return live.detach().clone()
    return {name: clone(value) for name, value in live.items()}


# A resumed run in which one of them is another has the learning rate that they say; else that of its checkpoint.
DECIDES_LEARNING_RATE = ("learning_rate", "learning_rate_schedule", "learning_rate_warmup_timesteps")
FIRST_OF_ONE = {"rank": 0, "count": 1}  # what a checkpoint without "devices" is of


class TrainingState:
    """Envs, agent, optimizer, random state and counters of one run.

    training_steps:   done so far; env_steps follows from it
    interval_sums:    sums of the mean metrics of the training steps since the last report, float64 (len(METRICS),)
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
        task: Task,
        *,
        eval_task: Task | None = None,
        network_factory: NetworkFactory | None = None,
        randomization_fn: RandomizationFn | None = None,
        devices: Devices = ALONE,
    ) -> None:
        self.config = config = resolve_config(config, task)
        self.devices, share = devices, devices.share(config)
        self.device = torch.device(config.device)
        check_memory(config, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        else:
            torch.cuda.set_device(self.device)  # a task, or torch's capture, may say "cuda" and mean this one
        if config.torch_threads is not None:
            torch.set_num_threads(config.torch_threads)
        if config.deterministic:
            make_torch_deterministic(self.device)
        self.generators = make_generators(config.seed, self.device, devices.rank)
        self.env = self._make_env(
            task,
            share.num_envs,
            "env",
            auto_reset=config.auto_reset,
            random_episode_phase=config.random_episode_phase,
            randomization_fn=randomization_of(task, config, randomization_fn),
            randomize_episode=config.randomize,
            keep_final=True,
        )
        if config.deterministic:
            log.info(determinism_in_words(self.env, config.physics))
        self.observation_sizes, self.action_dim = self.env.observation_sizes, self.env.action_dim
        self.agent = make_agent(
            config,
            self.observation_sizes,
            self.action_dim,
            generator=self.generators["init"],
            network_factory=network_factory,
        ).to(self.device)
        set_precision(self.agent, config.matmul_precision, config.bf16)
        self.batch = allocate_batch(share, self.env, self.agent)
        self.noise = GeneratorNoise(self.generators["train"])
        self.collector = Collector(share, self.env, self.agent, self.batch, self.noise)
        self.learner = Learner(self.agent, config, self.batch, self.noise, devices)
        self.evaluator = None
        if config.run_evals and config.num_evals > 0:
            eval_task = eval_task or task
            randomization = randomization_of(eval_task, config, randomization_fn) if config.randomize_eval else None
            eval_env = self._make_env(
                eval_task,
                share.num_eval_envs,
                "eval_env",
                randomization_fn=randomization,
                randomize_episode=config.randomize and config.randomize_eval,
            )
            sizes = (eval_env.observation_sizes, eval_env.action_dim)
            if sizes != (self.observation_sizes, self.action_dim):
                raise ConfigError(
                    f"eval_env gives {sizes_in_words(sizes[0])} and takes {actions_in_words(sizes[1])}, but the environment "
                    f"gives {sizes_in_words(self.observation_sizes)} and takes {self.action_dim}"
                )
            eval_noise = GeneratorNoise(self.generators["eval"])
            act = act_of(self.agent, eval_env, eval_noise, deterministic=config.deterministic_eval)
            self.evaluator = Evaluator(eval_env, act, devices)
        self.episode_metrics = EpisodeMetrics(
            config.training_metrics_steps or config.env_step_per_training_step, action_repeat=config.action_repeat
        )
        self.training_steps = 0
        self.walltime = 0.0
        self.interval_sums = torch.zeros(len(METRICS), device=self.device, dtype=torch.float64)
        self.last_step = LateNumbers(3, self.device)
        self.interval_steps = 0
        self.interval_time = 0.0
        self.clock = PhaseClock(self.device)
        self.histograms: dict[str, tuple[list[float], list[int]]] = {}
        self.broken_before = self.env.broken.counts.tolist()
        self.broken_folder: Path | None = None
        self.best: dict[str, float] | None = None
        scaling = self.env.scaling()
        self.controls = None if scaling is None else to_plain(scaling, self.env.physics.model)
        started = time.perf_counter()
        self._accelerate()
        self.preparation_time = time.perf_counter() - started

    def _accelerate(self) -> None:
        """Compiles and records what the configuration says, by a trial run whose effects are taken back."""
        config, record = self.config, self.config.capture == "unroll"
        if not (config.compile or record):
            return
        before = self.checkpoint()
        eval_env = self.evaluator.env.state() if self.evaluator else {}
        eval_env_before = clone(eval_env)
        if config.compile:
            compile_parts(self.collector, self.learner, few_launches=self.device.type == "cuda")
        self.collector.unroll()
        self.learner.sgd_pass()
        if record:
            record_graphs(self.collector, self.learner, self.evaluator, self.generators, self.device)
        self.collector.evidence.take()
        self.load_checkpoint(before)
        copy_into(eval_env, eval_env_before)  # no part of a checkpoint, but its counts are reported

    def _make_env(
        self,
        task: Task,
        num_envs: int,
        stream: str,
        *,
        randomization_fn: RandomizationFn | None,
        randomize_episode: bool,
        auto_reset: str = "cached",
        random_episode_phase: bool = False,
        keep_final: bool = False,
    ) -> Env:
        config = self.config
        return Env(
            task,
            num_envs,
            episode_length=config.episode_length,
            device=self.device,
            generator=self.generators[stream],
            action_repeat=config.action_repeat,
            auto_reset=auto_reset,
            random_episode_phase=random_episode_phase,
            engine=config.physics,
            # Within a recorded unroll it is part of that; the recording of its own is for resets.
            capture=config.capture != "none",
            randomization_fn=randomization_fn,
            randomize_episode=randomize_episode,
            keep_final=keep_final,
            **seen_and_done(config),
            max_state=config.max_state,
            deterministic=config.deterministic,
        )

    @property
    def task_name(self) -> str:
        """What errors call the task: the name that it was asked for by, without the folder of a file; or its class."""
        return Path(self.config.env).name or type(self.env.task).__name__

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
            "env": clone(self.env.state()),
            "collector": clone(self.collector.state()),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def load_checkpoint(self, saved: dict[str, object], part: dict[str, object] | None = None) -> bool:
        """Goes on from a checkpoint of the same configuration. ValueError if it does not fit.

        part:  this device's own, of the same training step, where several learn together; the checkpoint has the first's

        Returns whether its episodes go on. They begin anew, with other random numbers, where there is no such part, as
        with another number of devices.
        """
        if torch.device(saved["config"]["device"]).type != self.device.type:
            raise ValueError(
                f"the run was on {saved['config']['device']}, this is {self.device}; its random state differs"
            )
        sizes = (saved["observation_sizes"], saved["action_dim"])
        misfit = task_misfit(sizes, (self.observation_sizes, self.action_dim), self.task_name)
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
        if found is not None:
            env = self.env.state()
            saved_env = upgraded_env(found["env"], env, saved["format"], num_substeps=self.env.num_substeps)
            copy_into(env, saved_env, "env")
            copy_into(self.collector.state(), found["collector"], "collector")
            generators = found["generators"]
        else:
            anew = make_generators(self.config.seed, self.device, self.devices.rank, self.training_steps)
            generators = {name: generator.get_state() for name, generator in anew.items()}
        for name, generator in self.generators.items():
            generator.set_state(generators[name].cpu())
        if found is None:
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
        return found is not None
