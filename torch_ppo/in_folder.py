"""A training in a run's folder: reports, checkpoints, the exported policy, and what the terminal shows of it."""

import contextlib
import functools
import math
import re
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field

from torch_ppo.command import called
from torch_ppo.diagnosis.findings import Watch
from torch_ppo.environments.finding import runs_own_code
from torch_ppo.export import export_of_run
from torch_ppo.formulas.pixels import is_picture
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
from torch_ppo.showing.seen import seen_by_several
from torch_ppo.simulation.physics import overflow_in_words
from torch_ppo.watching.onlookers import Onlookers, Wanted


@dataclass(frozen=True)
class Start:
    """How a training begins.

    introduction:  lines about the run
    began:         when the process did, by `time.perf_counter`
    quiet:         print warnings only
    wanted:        of whoever looks on
    """

    introduction: str
    began: float
    quiet: bool = False
    wanted: Wanted = field(default_factory=Wanted)


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


class Reports:
    """What becomes of a run's reports: lines in files, on the terminal, what the doctor says of them, checkpoints.

    Its methods are the callbacks of `loop.run`.
    """

    def __init__(self, state: TrainingState, folder: RunFolder, progress: Progress, wanted: Wanted) -> None:
        self.folder, self.progress, self.config = folder, progress, state.config
        self.writes = DiskWrites(self.config.on_disk_error, progress.message)
        last_step = state.env_steps if state.training_steps else -1
        never_ends = state.env.never_terminates
        self.log = MetricsLog(folder.path, self.config, never_ends=never_ends, last_step=last_step, writes=self.writes)
        history = read_history(folder.path / "metrics.jsonl")
        progress.know(history)
        self.watch = Watch(history, self.config, state.env.reward_range[1] * state.env.episode_length)
        self._said: set[str] = set()
        self.lost: int | None = None
        for note in self.log.notes:
            progress.message(note)
        self.onlookers = Onlookers(state, folder, self.log, wanted, progress.message)

    def close(self) -> None:
        """Closes the files; `lost` is then how many lines of metrics.jsonl could not be written."""
        self.onlookers.close()
        if self.lost is None:
            self.lost = self.log.close()

    def report(self, state: TrainingState, step: int, metrics: Metrics) -> None:
        """Whatever is to be kept and said of one."""
        findings = self.watch.look(step, metrics)
        histograms, state.histograms = state.histograms, {}
        self.log.write(step, metrics, histograms=histograms, findings=findings)
        if any(map(is_picture, state.env.observation)):
            self.log.write_picture(step, "seen", seen_by_several(state.env.observation, state.env.task))
        self.progress.report(step, metrics)
        self.onlookers.reported(step, metrics)
        for line in self.watch.lines(findings, f"{called('doctor')} {shlex.quote(str(self.folder.path))}"):
            self.progress.message(line)
        for warning in warnings_in(metrics):
            kind = re.sub(r"[\d,]+", "", warning)
            if kind not in self._said:  # once: the number is in every report
                self._said.add(kind)
                self.progress.message(warning)

    def save(self, state: TrainingState, *, best: bool, named: bool = True) -> bool:
        """Writes checkpoints; whether that could be done."""
        if state.devices.total(0):  # the others write their parts first, so that no checkpoint is without them
            self.progress.message("warning: another device could not write its part of this checkpoint")
        return self.log.sync() & self.writes(lambda: self.folder.save(state, named=named, best=best))

    def save_report(self, state: TrainingState, best: bool) -> None:
        """After a report."""
        saved = self.save(state, best=best)
        if saved:
            self.onlookers.saved(state)
        if saved & self.writes(lambda: save_extra(state, best)):
            self.writes.recovered()

    def last_words(self, state: TrainingState, error: DivergedError | BrokenWorldsError) -> None:
        """What the last report was too early for; the error itself says what may help."""
        metrics = {"training/broken_envs": float(state.env.broken.total)}
        if isinstance(error, DivergedError):
            metrics["training/total_loss"] = math.nan
        self.log.write(state.env_steps, metrics, findings=self.watch.look(state.env_steps, metrics))


def say_of_the_first_step(state: TrainingState, progress: Progress, began: float) -> None:
    """How long the beginning took, and how long the rest will, where that is long."""
    if state.preparation_time > 1.0:
        progress.note(
            f"first training step after {time.perf_counter() - began:.1f} s, {state.preparation_time:.1f} s of it for "
            "compiling and recording; less from now on, as kernels are kept"
        )
    if state.config.device == "cpu":
        for line in time_needed(state.config, state.training_steps, state.walltime):
            progress.note(line)


def run_in_folder(state: TrainingState, folder: RunFolder, stop: StopRequest, start: Start) -> None:
    """Trains, with reports, checkpoints and at the end the policy in a run's folder; prints the progress.

    Raises SystemExit if it was asked to stop, DiskError if a file could not be written.
    """
    config = state.config
    progress = Progress(
        config.total_env_steps, state.env_steps, num_reports=len(config.eval_env_steps), quiet=start.quiet
    )
    progress.introduce(start.introduction)
    with progress.shown(), contextlib.closing(Reports(state, folder, progress, start.wanted)) as reports:
        complete = train_in_folder(state, folder, stop, start, reports)
        if complete:
            best = folder.checkpoint("best")
            export_of_run(best, folder.policy, state.env.task)
            progress.note(f"{folder.policy}: TorchScript policy of {best.name}, checked against the live policy")
        if complete and reports.onlookers.clip_is_due:
            progress.note("waiting for the last clip, a minute at most; Ctrl-C ends that")
        reports.onlookers.finish(complete=complete, hurry=lambda: stop.signal is not None)
    if not complete:
        progress.message(f"stopped at {state.env_steps:,} env steps; go on with")
        trust = " --trust" if runs_own_code(config.env) or config.save_checkpoint_path else ""
        progress.message(f"  {called('train')} --resume {shlex.quote(str(folder.path))}{trust}")
        sys.exit(128 + stop.number)


def train_in_folder(state: TrainingState, folder: RunFolder, stop: StopRequest, start: Start, reports: Reports) -> bool:
    """The training; whether it is complete, and was not asked to stop before."""
    config, progress, writes, first_step = state.config, reports.progress, reports.writes, state.training_steps + 1

    def should_stop(state: TrainingState) -> bool:
        progress.update(state.env_steps, state.walltime)
        reports.onlookers.look()
        if state.training_steps == first_step:
            say_of_the_first_step(state, progress, start.began)
        return stop.signal is not None or writes.stopped_by is not None

    def should_stop_evaluating() -> bool:
        progress.evaluating()
        return stop.signal is not None

    if state.evaluator:
        state.evaluator.should_stop = should_stop_evaluating
    try:
        with contextlib.suppress(EvaluationStopped):
            run(
                state,
                progress_fn=functools.partial(reports.report, state),
                save=reports.save_report,
                should_stop=should_stop,
                warn=lambda text: progress.message(f"warning: {text}"),
            )
        complete = state.training_steps >= config.num_training_steps and not state.report_is_due
        saved = not state.devices.any(not complete or writes.failing is not None) or reports.save(
            state, best=False, named=False
        )
    except (DivergedError, BrokenWorldsError) as error:
        reports.last_words(state, error)
        raise
    except KeyboardInterrupt:
        progress.message(f"stopped at once; the last checkpoint, if any, is in {folder.checkpoints}")
        sys.exit(128 + (stop.number or signal.SIGINT))
    if not saved or writes.stopped_by:
        reports.close()
        lines = f"; {reports.lost} lines of metrics.jsonl are lost" if reports.lost else ""
        raise DiskError(f"{writes.failing}; {folder.what_is_saved()}{lines}")
    return complete
