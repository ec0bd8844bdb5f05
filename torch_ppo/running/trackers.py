"""Trackers: Weights & Biases, Trackio and MLflow, each through its own package, which is an extra of that name.

They get the configuration, every report, clips, and the page of the run. Each call is made in a thread of its own, so that
neither a slow nor a failing one harms the training.
"""

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch_ppo.errors import ConfigError, install, is_installed

PROJECT = "torch_ppo"  # where the package's own environment variable names no other
MOST_WAITING = 1000  # calls; of more, the newest are left out
CLIP = "policy"
Settings = Mapping[str, object]


class Tracker(Protocol):
    """A tracked run. Its methods may raise anything, and take their time.

    id:  what finds the same run again
    """

    id: str

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The numbers of a report."""

    def clip(self, step: int, file: Path) -> None:
        """An animation of the policy."""

    def files(self, files: Sequence[Path]) -> None:
        """Files that are to be kept with the run."""

    def finish(self, complete: bool) -> None:
        """The training has ended, or was stopped to go on later."""


class Wandb:
    """Weights & Biases: WANDB_PROJECT, WANDB_MODE=offline and all others of its variables hold."""

    def __init__(self, folder: Path, settings: Settings, known: str | None) -> None:
        import wandb

        self._wandb, self.id = wandb, known or secrets.token_hex(6)
        mode = os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not wandb.login(prompt=False):  # it would ask, on the terminal
            raise RuntimeError("not logged in; `wandb login` would do, or WANDB_MODE=offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.id,
            name=folder.name,
            config=dict(settings),
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(folder)),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("env_steps")
        self._run.define_metric("*", step_metric="env_steps")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"env_steps": step, **metrics})

    def clip(self, step: int, file: Path) -> None:
        self._run.log({"env_steps": step, CLIP: self._wandb.Video(str(file), format="gif")})

    def files(self, files: Sequence[Path]) -> None:
        artifact = self._wandb.Artifact(f"report-{self.id}", "report")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def finish(self, complete: bool) -> None:
        self._run.finish()


class Trackio:
    """Trackio, Hugging Face's: TRACKIO_PROJECT, TRACKIO_DIR and TRACKIO_SPACE_ID hold."""

    def __init__(self, folder: Path, settings: Settings, known: str | None) -> None:
        import trackio

        self.id = known or f"{folder.name}-{secrets.token_hex(3)}"
        self._trackio = trackio
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=self.id,
            config=dict(settings),
            resume="allow" if known else "never",
            embed=False,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def clip(self, step: int, file: Path) -> None:
        self._run.log({CLIP: self._trackio.Video(str(file), format="gif")}, step=step)

    def files(self, files: Sequence[Path]) -> None:
        for file in files:
            self._run.log_artifact(file, name=f"{self.id}-{file.name}", type="report")

    def finish(self, complete: bool) -> None:
        self._run.finish()


class Mlflow:
    """MLflow: MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME hold."""

    def __init__(self, folder: Path, settings: Settings, known: str | None) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, self._client = Metric, MlflowClient()
        if known is not None:
            self.id = known
            self._client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        self.id = self._client.create_run(number, run_name=folder.name).info.run_id
        params = [Param(name, str(value)) for name, value in settings.items()]
        for begin in range(0, len(params), 100):  # as many as one call takes
            self._client.log_batch(self.id, params=params[begin : begin + 100])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(self.id, [self._metric(name, value, now, step) for name, value in metrics.items()])

    def clip(self, step: int, file: Path) -> None:
        self._client.log_artifact(self.id, str(file), "videos")

    def files(self, files: Sequence[Path]) -> None:
        for file in files:
            self._client.log_artifact(self.id, str(file))

    def finish(self, complete: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if complete else "KILLED")


TRACKERS = {"wandb": Wandb, "trackio": Trackio, "mlflow": Mlflow}


def check_tracker(name: str) -> None:
    """ConfigError if a tracker's package is not installed."""
    if not is_installed(name):
        raise ConfigError(f"--tracker {name} needs the package {name}, the extra {name}: {install(name)}")


class Tracking:
    """A tracked run, from a thread. What fails is said once, and nothing more is sent.

    make:     makes the tracker; called in the thread
    started:  is told the run's id, in the thread, as soon as it is known
    """

    def __init__(self, make: Callable[[], Tracker], started: Callable[[str], None]) -> None:
        self._calls: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(MOST_WAITING)
        self._problem: str | None = None
        self._too_slow = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(make, started), daemon=True)
        self._thread.start()

    def _send(self, make: Callable[[], Tracker], started: Callable[[str], None]) -> None:
        try:
            tracker = make()
            started(tracker.id)
            while (call := self._calls.get()) is not None:
                call(tracker)
        # Whatever a package raises: a network that is gone, a server's words, its own bugs; some call sys.exit.
        except BaseException as error:  # noqa: BLE001
            first = str(error).strip().partition("\n")[0]
            what = f"{type(error).__name__}: {first}" if first else type(error).__name__
            self._problem = f"{what}; nothing more is sent to it"
        finally:
            self._ended.set()

    def problem(self) -> str | None:
        """What went wrong, once; as a warning says it."""
        problem, self._problem = self._problem, None
        return problem

    def _ask(self, call: Callable[[Tracker], None]) -> None:
        if self._ended.is_set():
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            if not self._too_slow:
                self._too_slow = True
                self._problem = (
                    f"it is too slow: {MOST_WAITING} calls wait, and newer ones are left out until it has caught up"
                )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._ask(lambda tracker, metrics=dict(metrics): tracker.log(step, metrics))

    def clip(self, step: int, file: Path) -> None:
        self._ask(lambda tracker: tracker.clip(step, file))

    def files(self, files: Sequence[Path]) -> None:
        self._ask(lambda tracker: tracker.files(files))

    def finish(self, complete: bool, patience: float, hurry: Callable[[], bool]) -> None:
        """Waits until all has been sent, but no longer than so many seconds, nor in a hurry."""
        until = time.monotonic() + patience
        for call in (lambda tracker: tracker.finish(complete), None):
            while not self._ended.is_set() and time.monotonic() < until and not hurry():
                try:
                    self._calls.put(call, timeout=0.1)
                    break
                except queue.Full:
                    continue
        while not self._ended.wait(0.1):
            if time.monotonic() > until or hurry():
                self._problem = self._problem or f"not all was sent within {patience:.0f} s after the end"
                return
