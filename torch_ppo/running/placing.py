"""Where the runs of a study are trained: on this machine's devices, or as jobs of a cluster through submitit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch_ppo.errors import ConfigError, install

if TYPE_CHECKING:
    import submitit

CLUSTERS = ("slurm", "local")
ONE_GPU = {"gpus_per_node": 1}
# What else asks SLURM for GPUs, so that none is asked for twice.
GPU_PARAMETERS = ("gpus_per_node", "slurm_gpus_per_node", "slurm_gpus_per_task", "slurm_gres")


@dataclass(frozen=True)
class Run:
    """One seed of one variant. `options` are those of torch_ppo.train for it."""

    variant: str
    seed: int
    folder: Path
    options: tuple[str, ...]

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    @property
    def finished(self) -> bool:
        return (self.folder / "policy.pt").exists()


# A run that has ended, and what went wrong with it, if anything did.
Outcome = tuple[Run, str | None]


class Attempt:
    """A process that trains a run, or goes on training it.

    In a process group of its own: a terminal's Ctrl-C does not reach it, so that it is asked to stop once, by us.
    """

    def __init__(self, run: Run, environment: dict[str, str]) -> None:
        self.run = run
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        begun = (run.folder / "config.toml").exists()
        options = ["--resume", str(run.folder), "--trust"] if begun else [*run.options, "--run-dir", str(run.folder)]
        with open(run.log, "ab") as log:
            self._said_before = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "torch_ppo.train", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                process_group=0,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def failure(self) -> str | None:
        """Waits for the end, and returns what went wrong."""
        status = self.process.wait()
        if status == 0:
            return None
        with open(self.run.log, "rb") as log:
            log.seek(self._said_before)  # not what an earlier attempt said
            lines = log.read().decode(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.startswith("error: ")), f"ended with status {status}")


def stop(attempts: Collection[Attempt]) -> None:
    """Has them save and stop, and waits for it. Ctrl-C meanwhile asks once more, which stops them at once."""
    asking = True
    while asking:
        try:
            for attempt in attempts:
                if not attempt.ended:
                    attempt.process.send_signal(signal.SIGINT)
            for attempt in attempts:
                attempt.process.wait()
            asking = False
        except KeyboardInterrupt:
            continue


def device_names(words: Sequence[str]) -> tuple[str, ...]:
    """The devices of `--devices 0,1,2` or `--devices cpu,cpu`; ConfigError for another form."""
    names = tuple(name for word in words for name in word.replace(",", " ").split())
    if set(names) <= {"cpu"} or all(name.isdecimal() for name in names):
        return names
    raise ConfigError(
        f"--devices {','.join(names)} is neither numbers of GPUs nor cpu only; 0,1,2 or cpu,cpu would work"
    )


def slots(devices: Sequence[str], jobs: int) -> list[dict[str, str]]:
    """What a run finds in its environment at each place where there is one at a time: one place for each device.

    A run sees its GPU alone, as the first, so that another one can go on with it. Without devices there are `jobs`
    places. ConfigError for a GPU that is not there.
    """
    if not devices:
        return [{}] * jobs
    if "cpu" in devices:
        return [{} for _ in devices]
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ConfigError(f"--devices {','.join(devices)}: there is no CUDA device here; cpu,cpu would work")
    missing = [name for name in devices if int(name) >= count]
    if missing:
        there = ",".join(map(str, range(count)))
        raise ConfigError(f"--devices {','.join(devices)}: there is no GPU {missing[0]} here; {there} would work")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": names[int(name)].strip()} for name in devices]


def on_this_machine(runs: Sequence[Run], places: Sequence[dict[str, str]]) -> Iterator[Outcome]:
    """Trains one run at a time at each place, and yields each as it ends. Closed early, it stops what is under way."""
    waiting, free = deque(runs), deque(places)
    under_way: dict[Attempt, dict[str, str]] = {}
    try:
        while waiting or under_way:
            while waiting and free:
                place = free.popleft()
                under_way[Attempt(waiting.popleft(), place)] = place
            ended = [attempt for attempt in under_way if attempt.ended]
            for attempt in ended:
                free.append(under_way.pop(attempt))
                yield attempt.run, attempt.failure()
            if not ended:
                time.sleep(0.1)
    finally:
        stop(under_way)


class Job:
    """A run as submitit sends it to a node.

    Asked to leave (time limit, preemption) it saves, and is queued again to go on: submitit's checkpoint.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.attempt: Attempt | None = None

    def __call__(self) -> str | None:
        """Trains. Returns what went wrong, if anything did."""
        if self.run.finished:
            return None
        # SLURM sends this to all processes of a job; we stop the training ourselves, and then it saves.
        handler = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            self.attempt = Attempt(self.run, {})
        finally:
            signal.signal(signal.SIGUSR2, handler)
        try:
            return self.attempt.failure()
        finally:
            stop([self.attempt])

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Called by submitit in a signal's handler."""
        import submitit

        if self.attempt is not None and self.attempt.process.returncode is None:
            process = self.attempt.process
            process.send_signal(signal.SIGINT)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # process.wait may be what was interrupted
        return submitit.helpers.DelayedSubmission(Job(self.run))


def make_executor(folder: Path, words: Sequence[str], *, on_gpus: bool, jobs: int | None) -> "submitit.AutoExecutor":
    """What submits jobs, from parameters of submitit's AutoExecutor as `name=value`; ConfigError for one that is none.

    folder:  where submitit keeps its files
    jobs:    how many may run at the same time; None leaves it to the cluster
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise ConfigError(f"--launcher submitit needs the package submitit: {install('submitit')}") from None
    given = dict(_parameter(word) for word in words)
    cluster = given.pop("cluster", CLUSTERS[0])
    if cluster not in CLUSTERS:
        raise ConfigError(f"--submitit cluster={cluster} is none of {', '.join(CLUSTERS)}")
    if cluster == "local" and jobs is not None:
        raise ConfigError("--submitit cluster=local starts all runs at the same time; leave out --jobs or --launcher")
    gpu = ONE_GPU if on_gpus and not set(GPU_PARAMETERS) & given.keys() else {}
    parallel = {} if jobs is None else {"slurm_array_parallelism": jobs}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
    except RuntimeError:
        raise ConfigError(
            "--launcher submitit: there is no SLURM here (no srun); a login node has it, and without --launcher the "
            "runs are trained on this machine"
        ) from None
    try:
        executor.update_parameters(**{"name": "torch_ppo", "timeout_min": 720, **gpu, **parallel, **given})
    except (NameError, AssertionError, ValueError, TypeError) as error:
        raise ConfigError(f"--submitit: {' '.join(str(error).split())}") from None
    return executor


def _parameter(word: str) -> tuple[str, object]:
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"--submitit {word} is not name=value; timeout_min=240 would work")
    try:
        return name, json.loads(value)  # a number, true, a list or dict
    except ValueError:
        return name, value


def through_submitit(runs: Sequence[Run], executor: "submitit.AutoExecutor") -> Iterator[Outcome]:
    """Submits all runs as one array, and yields each as it ends. Closed early, it cancels the others.

    ConfigError if the cluster refuses them.
    """
    import submitit

    if not runs:
        return
    try:
        with executor.batch():
            jobs = [executor.submit(Job(run)) for run in runs]
    except submitit.core.utils.FailedJobError as error:
        raise ConfigError(f"--launcher submitit, refused: {' '.join(str(error).split())}") from None
    left = list(zip(jobs, runs, strict=True))
    try:
        while left:
            for pair in [pair for pair in left if pair[0].done()]:
                left.remove(pair)
                job, run = pair
                try:
                    yield run, job.result()
                except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
                    yield run, f"job {job.job_id} has no result; see {job.paths.stderr}"
            time.sleep(1.0)
    finally:
        for job, _ in left:
            job.cancel()
