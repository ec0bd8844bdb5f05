"""Training: the loop, the library call `torch_ppo.train(environment, ...)`, and the program.

python -m torch_ppo.train --env cartpole
"""

import contextlib
import dataclasses
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from torch_ppo.callable_module import make_callable
from torch_ppo.errors import UserError
from torch_ppo.learning.agent import NetworkFactory
from torch_ppo.learning.devices import DeviceLost
from torch_ppo.learning.policy import MakePolicy, Params, params_of, policy_maker
from torch_ppo.learning.train_step import training_step
from torch_ppo.learning.update import METRICS
from torch_ppo.running.accelerate import torch_left_as_it_was
from torch_ppo.running.broken_cases import broken_lines, too_many_broken, why_not_a_number
from torch_ppo.running.call_arguments import check_functions, checked_arguments
from torch_ppo.running.checkpoint import restore, save_checkpoint
from torch_ppo.running.disk import DiskError, DiskWrites, check_folder
from torch_ppo.running.evaluate import EvaluationStopped
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.joining import NotNeeded, joined, only_the_first_speaks
from torch_ppo.running.signals import StopRequest
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.plan import summary, time_needed
from torch_ppo.settings.signature import with_settings
from torch_ppo.simulation.env import RandomizationFn
from torch_ppo.simulation.physics import overflow_in_words
from torch_ppo.simulation.task import Task

__all__ = ["train"]  # what `help` shows

Metrics = dict[str, float]
TOTAL_LOSS = METRICS.index("total_loss")


class DivergedError(UserError):
    """The loss is no longer a number."""


class BrokenWorldsError(UserError):
    """More worlds broke than `max_broken_fraction` allows."""


def warn_once_here(text: str) -> None:
    """What the library call does with a warning about the run: a Python warning."""
    warnings.warn(text, stacklevel=3)


def run(
    state: TrainingState,
    *,
    progress_fn: Callable[[int, Metrics], object] = lambda step, metrics: None,
    policy_params_fn: Callable[[int, MakePolicy, Params], object] = lambda step, make_policy, params: None,
    save: Callable[[TrainingState, bool], None] = lambda state, best: None,
    should_stop: Callable[[TrainingState], bool] = lambda state: False,
    warn: Callable[[str], None] = warn_once_here,
) -> Metrics:
    """Trains until the end, or until `should_stop` after a training step. Returns the last reported metrics.

    The callbacks come where Brax has them. `save(state, best)` follows each report, also where `progress_fn` raises.
    Raises EvaluationStopped if the evaluator's `should_stop` said so; a resumed run makes that evaluation again.
    """
    config, metrics = state.config, {}
    make_policy = policy_maker(state.agent)
    if state.training_steps == 0:
        if state.evaluator and config.num_evals > 1:
            metrics = evaluated(state)
            progress_fn(0, metrics)
        policy_params_fn(0, make_policy, params_of(state.agent))

    while state.training_steps < config.num_training_steps or state.report_is_due:
        if not state.report_is_due:  # else the run was stopped in an evaluation, which is made again
            take_training_step(state, progress_fn)
            if config.num_resets_per_eval and state.training_steps % config.num_training_steps_per_epoch == 0:
                state.env.reset()
        if state.report_is_due:
            policy_params_fn(state.env_steps, make_policy, params_of(state.agent))
            metrics, best = report(state, warn)
            try:
                if config.num_evals > 0:
                    progress_fn(state.env_steps, metrics)
            finally:  # raising is a way to stop: what was reached is kept. A log comes before the checkpoint it leads to.
                save(state, best)
        if state.devices.any(should_stop(state)):
            break
    return metrics if config.num_evals > 0 else {}


def take_training_step(state: TrainingState, progress_fn: Callable[[int, Metrics], object]) -> None:
    """One training step and its bookkeeping. On CUDA it only queues work, and waits for the step before."""
    started = time.perf_counter()
    metrics = training_step(state.collector, state.learner, state.clock.mark)
    means = metrics.mean(0)
    state.interval_sums += means
    state.collector.diagnostics.look_at_updates(metrics)
    check_last_step(state, collected=state.env_steps + state.config.env_step_per_training_step)
    state.clock.settle(still_running=1)
    batch = state.batch
    watched = torch.stack([means[TOTAL_LOSS], batch.broken.ne(0).float().mean(), batch.reward.abs().max()])
    state.last_step.write(state.devices.mean_(watched))
    state.training_steps += 1
    state.interval_steps += 1
    episode = None
    if state.config.log_training_metrics:
        losses = dict(zip(METRICS, metrics.unbind(1), strict=True))
        # Time is the first axis of the batch; episodes are counted sequence by sequence, as in Brax.
        gathered = state.devices.gathered
        totals = {name: gathered(total.T) for name, total in state.batch.episode_metrics.items()}
        episode = state.episode_metrics.update(gathered(state.batch.episode_done.T), totals, losses)
    seconds = time.perf_counter() - started
    state.add_time(seconds)
    if episode:
        episode["episode/sps"] = state.config.env_step_per_training_step / seconds
        progress_fn(state.env_steps, episode)


def check_last_step(state: TrainingState, *, collected: int) -> None:
    """DivergedError if the loss of the last training step is inf or NaN, BrokenWorldsError if it broke too many worlds."""
    loss, broken, peak_reward = state.last_step.read()
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss} at {state.env_steps:,} env steps; {why_not_a_number(state, peak_reward)}"
        )
    if broken > state.config.max_broken_fraction:
        raise BrokenWorldsError(too_many_broken(state, broken, collected))


def report(state: TrainingState, warn: Callable[[str], None] = warn_once_here) -> tuple[Metrics, bool]:
    """Evaluates, and averages the loss metrics since the last report; also whether this is the best evaluation.

    Brax averages the last epoch only and overstates sps with several resets per evaluation; this is the whole interval.
    """
    started = time.perf_counter()
    sums = state.interval_sums.tolist()  # here the host waits for the device
    state.add_time(time.perf_counter() - started)
    check_last_step(state, collected=state.env_steps)
    for line in broken_lines(state):
        warn(line)
    n = state.interval_steps
    metrics = {f"training/{name}": total / n for name, total in zip(METRICS, sums, strict=True)}
    metrics |= interior(state)
    metrics["training/sps"] = n * state.config.env_step_per_training_step / state.interval_time
    metrics["training/walltime"] = state.walltime
    devices, broken = state.devices, state.env.broken
    metrics |= broken.metrics_by_cause("training", devices.sum_(broken.counts.clone()))
    metrics["training/overflowed_envs"] = float(devices.total(int(state.env.physics.overflow.ne(0).sum())))
    evaluation = evaluated(state) if state.evaluator else {}
    state.interval_sums.zero_()
    state.interval_steps, state.interval_time = 0, 0.0
    state.collector.diagnostics.clear()
    state.clock.clear()
    best = False
    if evaluation:
        metrics = {**evaluation, **metrics}
        reward = metrics["eval/episode_reward"]
        # NaN is never the best, and has to be none where it once became it.
        best = math.isfinite(reward) and (state.best is None or not reward <= state.best["reward"])
        if best:
            state.best = {"reward": reward, "env_steps": state.env_steps}
    return metrics, best


def interior(state: TrainingState) -> Metrics:
    """What else is known of the training since the last report; also leaves `state.histograms`."""
    found, histograms = state.collector.diagnostics.read()
    state.histograms = {f"training/{name}": histogram for name, histogram in histograms.items()}
    state.clock.settle(still_running=0)
    found |= state.clock.metrics(state.config.env_step_per_training_step)
    if state.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(state.device)
        found["device_memory_gib"] = (total - free) / 2**30
    return {f"training/{name}": value for name, value in found.items()}


def evaluated(state: TrainingState) -> Metrics:
    """An evaluation. One that is given up leaves the random state as it was, so that it can be made again."""
    before = {name: state.generators[name].get_state() for name in ("eval", "eval_env")}
    try:
        return state.evaluator()
    except EvaluationStopped:
        for name, numbers in before.items():
            state.generators[name].set_state(numbers)
        raise


def warnings_in(metrics: Metrics) -> list[str]:
    """What a report should say in words."""
    counted = {"envs": metrics.get("training/overflowed_envs"), "eval envs": metrics.get("eval/overflowed_envs")}
    return [f"warning: {overflow_in_words(int(number), which)}" for which, number in counted.items() if number]


@with_settings
def train(
    environment: Task | str,
    num_timesteps: int,
    *,
    eval_env: Task | str | None = None,
    network_factory: NetworkFactory | Mapping[str, object] | None = None,
    randomization_fn: RandomizationFn | None = None,
    progress_fn: Callable[[int, Metrics], object] = lambda step, metrics: None,
    policy_params_fn: Callable[[int, MakePolicy, Params], object] = lambda step, make_policy, params: None,
    restore_params: Params | None = None,
    **settings: object,
) -> tuple[MakePolicy, Params, Metrics]:
    """Trains `environment` and returns `(make_policy, params, metrics)`; the counterpart of `brax...ppo.train`.

    environment:       a task, or the name of one of ours
    num_timesteps:     env steps to train for, at least; 0 only initialises (and restores)
    eval_env:          another task for evaluation
    network_factory:   a dict of Brax's factory options, or a function (policy_obs_dim, value_obs_dim,
                       action_dim) -> (policy, value) of modules as in `torch_ppo.formulas.networks`
    randomization_fn:  (physics, generator) -> values of model fields for each env, as `Task.randomize`; of training
                       and, unless `randomize_eval` is false, of evaluation
    progress_fn:       called with (env steps, metrics) at every report
    policy_params_fn:  called with (env steps, make_policy, params) at step 0 and before every report
    restore_params:    (normalizer, policy, value) to start from; comes before `restore_checkpoint_path`
    settings:          every field of `Config`, with Brax's names and defaults

    Raises ConfigError for a value that cannot work and DivergedError if the loss becomes NaN.
    """
    check_functions(progress_fn=progress_fn, policy_params_fn=policy_params_fn)
    environment, eval_env, network_factory = checked_arguments(
        environment, num_timesteps, eval_env, network_factory, restore_params, settings
    )
    # With 0 the networks are still made, so the rest of the configuration is checked as for one training step.
    config = Config(num_timesteps=num_timesteps or 1, **settings)
    if config.save_checkpoint_path is not None:
        check_folder(Path(config.save_checkpoint_path), "save_checkpoint_path")
    with torch_left_as_it_was(), joined(config) as (devices, device):
        state = TrainingState(
            dataclasses.replace(config, device=device),
            environment,
            eval_task=eval_env,
            network_factory=network_factory,
            randomization_fn=randomization_fn,
            devices=devices,
        )
        restore(state, restore_params)
        metrics = {}
        if num_timesteps:
            metrics = run(state, progress_fn=progress_fn, policy_params_fn=policy_params_fn, save=save_extra)
        return policy_maker(state.agent), params_of(state.agent), metrics


def save_extra(state: TrainingState, best: bool) -> None:
    """A checkpoint in `save_checkpoint_path`, named by env steps, if the configuration sets one. DiskError if not."""
    if state.config.save_checkpoint_path is not None and not state.devices.rank:
        save_checkpoint(state.checkpoint(), Path(state.config.save_checkpoint_path) / f"{state.env_steps:012d}.pt")


def main() -> None:
    """The program `python -m torch_ppo.train`."""
    # Only the program needs these, and TensorBoard takes a while to import.
    from torch_ppo.command import print_notes
    from torch_ppo.errors import user_errors
    from torch_ppo.export import is_exported
    from torch_ppo.running.opening import open_run
    from torch_ppo.running.output import lasting_output
    from torch_ppo.running.program import parse_arguments
    from torch_ppo.running.restarts import words_after_restarts

    started = time.perf_counter()
    print_notes()
    with only_the_first_speaks(), lasting_output(), user_errors(), StopRequest().listening() as stop:
        try:
            parsed = parse_arguments(words_after_restarts(sys.argv[1:]))
            with joined(parsed[0].settings) as (devices, device):
                folder, state, introduction = open_run(parsed, is_exported=is_exported, devices=devices, device=device)
                with contextlib.closing(folder):
                    if devices.rank:
                        run_beside(state, folder, stop)
                    else:
                        print(introduction, summary(state.config), sep="\n", flush=True)
                        run_in_folder(state, folder, stop, started)
        except KeyboardInterrupt:
            sys.exit(128 + (stop.number or signal.SIGINT))  # without a signal: raised by the task
        except NotNeeded:
            return
        except DeviceLost as error:  # whoever notices says it, for it may be the first that is gone
            print(f"error: {error}", file=sys.__stderr__, flush=True)
            sys.exit(1)


def run_beside(state: TrainingState, folder: RunFolder, stop: StopRequest) -> None:
    """What the other devices do while the first is in `run_in_folder`: train along, and keep their parts."""

    def save(state: TrainingState, best: bool = False) -> None:
        failed = 0
        try:
            folder.save_part(state)
        except DiskError:  # a resumed run begins this device's episodes anew
            failed = 1
        state.devices.total(failed)

    if state.evaluator:
        state.evaluator.should_stop = lambda: stop.signal is not None
    with contextlib.suppress(EvaluationStopped):
        run(state, save=save, should_stop=lambda state: stop.signal is not None, warn=lambda text: None)
    complete = state.training_steps >= state.config.num_training_steps and not state.report_is_due
    if state.devices.any(not complete):
        save(state)
    if not complete:
        sys.exit(128 + stop.number)


def run_in_folder(state: TrainingState, folder: RunFolder, stop: StopRequest, started: float) -> None:
    """Trains, with reports, checkpoints and at the end the policy in a run's folder; prints the progress.

    Raises SystemExit if it was asked to stop, DiskError if a file could not be written.
    """
    from torch_ppo.command import called
    from torch_ppo.diagnosis.findings import Watch
    from torch_ppo.export import export_of_run
    from torch_ppo.running.history import read_history
    from torch_ppo.running.logger import MetricsLog
    from torch_ppo.running.progress import Progress

    config, first_step = state.config, state.training_steps + 1
    progress = Progress(config.total_env_steps, state.env_steps)
    writes = DiskWrites(config.on_disk_error, progress.message)
    last_step = state.env_steps if state.training_steps else -1
    log = MetricsLog(folder.path, config, state.env.task, last_step=last_step, writes=writes)
    most = state.env.task.reward_range[1] * state.env.episode_length
    watch = Watch(read_history(folder.path / "metrics.jsonl"), config, most)
    for note in log.notes:
        progress.message(note)

    def on_progress(step: int, metrics: Metrics) -> None:
        findings = watch.look(step, metrics)
        histograms, state.histograms = state.histograms, {}
        log.write(step, metrics, histograms=histograms, findings=findings)
        progress.report(step, metrics)
        for line in watch.lines(findings, f"{called('doctor')} {folder.path}"):
            progress.message(line)
        for warning in warnings_in(metrics):
            progress.message(warning)

    def save(best: bool, named: bool = True) -> bool:
        if state.devices.total(0):  # the others write their parts first, so that no checkpoint is without them
            progress.message("warning: another device could not write its part of this checkpoint")
        return log.sync() & writes(lambda: folder.save(state, named=named, best=best))

    def on_save(state: TrainingState, best: bool) -> None:
        if save(best) & writes(lambda: save_extra(state, best)):
            writes.recovered()

    def should_stop(state: TrainingState) -> bool:
        progress.update(state.env_steps)
        if state.training_steps == first_step and state.preparation_time > 1.0:
            seconds = time.perf_counter() - started
            progress.message(
                f"first training step after {seconds:.1f} s, {state.preparation_time:.1f} s of it for compiling "
                "and recording; less from now on, as kernels are kept"
            )
        if state.training_steps == first_step and config.device == "cpu":
            for line in time_needed(config, state.training_steps, state.walltime):
                progress.message(line)
        return stop.signal is not None or writes.stopped_by is not None

    if state.evaluator:
        state.evaluator.should_stop = lambda: stop.signal is not None
    try:
        with contextlib.suppress(EvaluationStopped):
            run(
                state,
                progress_fn=on_progress,
                save=on_save,
                should_stop=should_stop,
                warn=lambda text: progress.message(f"warning: {text}"),
            )
        complete = state.training_steps >= config.num_training_steps and not state.report_is_due
        saved = not state.devices.any(not complete or writes.failing is not None) or save(best=False, named=False)
    except (DivergedError, BrokenWorldsError) as error:
        # What the last report was too early for; the error itself says what may help.
        metrics = {"training/broken_envs": float(state.env.broken.total)}
        if isinstance(error, DivergedError):
            metrics["training/total_loss"] = math.nan
        log.write(state.env_steps, metrics, findings=watch.look(state.env_steps, metrics))
        raise
    except KeyboardInterrupt:
        progress.message(f"stopped at once; the last checkpoint, if any, is in {folder.checkpoints}")
        sys.exit(128 + stop.number)
    finally:
        lost = log.close()
    if not saved or writes.stopped_by:
        lines = f"; {lost} lines of metrics.jsonl are lost" if lost else ""
        raise DiskError(f"{writes.failing}; {folder.what_is_saved()}{lines}")
    if not complete:
        progress.message(f"stopped at {state.env_steps:,} env steps; go on with")
        trust = " --trust" if ":" in config.env or config.save_checkpoint_path else ""
        progress.message(f"  {called('train')} --resume {folder.path}{trust}")
        sys.exit(128 + stop.number)
    best = folder.checkpoint("best")
    export_of_run(best, folder.policy, state.env.task)
    progress.message(f"{folder.policy}: TorchScript policy of {best.name}, checked against the live policy")


make_callable(__name__)

if __name__ == "__main__":
    main()
