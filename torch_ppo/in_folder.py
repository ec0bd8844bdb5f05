"""A training in a run's folder: reports, checkpoints, the exported policy, and what the terminal shows of it."""

import contextlib
import math
import signal
import sys
import time

from torch_ppo.command import called
from torch_ppo.diagnosis.findings import Watch
from torch_ppo.environments.finding import runs_own_code
from torch_ppo.export import export_of_run
from torch_ppo.running.disk import DiskError, DiskWrites
from torch_ppo.running.evaluate import EvaluationStopped
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.history import read_history
from torch_ppo.running.logger import MetricsLog
from torch_ppo.running.loop import BrokenWorldsError, DivergedError, Metrics, run, save_extra
from torch_ppo.running.progress import Progress
from torch_ppo.running.signals import StopRequest
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.plan import time_needed
from torch_ppo.simulation.physics import overflow_in_words


def warnings_in(metrics: Metrics) -> list[str]:
    """What a report should say in words."""
    counted = {"envs": metrics.get("training/overflowed_envs"), "eval envs": metrics.get("eval/overflowed_envs")}
    return [f"warning: {overflow_in_words(int(number), which)}" for which, number in counted.items() if number]


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
    config, first_step = state.config, state.training_steps + 1
    progress = Progress(config.total_env_steps, state.env_steps)
    writes = DiskWrites(config.on_disk_error, progress.message)
    last_step = state.env_steps if state.training_steps else -1
    never_ends = state.env.never_terminates
    log = MetricsLog(folder.path, config, never_ends=never_ends, last_step=last_step, writes=writes)
    most = state.env.reward_range[1] * state.env.episode_length
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
        sys.exit(128 + (stop.number or signal.SIGINT))
    finally:
        lost = log.close()
    if not saved or writes.stopped_by:
        lines = f"; {lost} lines of metrics.jsonl are lost" if lost else ""
        raise DiskError(f"{writes.failing}; {folder.what_is_saved()}{lines}")
    if not complete:
        progress.message(f"stopped at {state.env_steps:,} env steps; go on with")
        trust = " --trust" if runs_own_code(config.env) or config.save_checkpoint_path else ""
        progress.message(f"  {called('train')} --resume {folder.path}{trust}")
        sys.exit(128 + stop.number)
    best = folder.checkpoint("best")
    export_of_run(best, folder.policy, state.env.task)
    progress.message(f"{folder.policy}: TorchScript policy of {best.name}, checked against the live policy")
