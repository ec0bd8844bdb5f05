"""Soak: one small training for an hour; its memory and its open files must stay flat.

    python -m tools.soak --minutes 60

A run of the program with evaluations, checkpoints, best checkpoints and TensorBoard all the time, watched from outside
through Linux's /proc. Exit status 1 if memory grows by more than `--max-growth` MB an hour after the first fifth of the
time, or if more files are open at the end than then.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch_ppo.errors import user_errors
from torch_ppo.settings.command_line import Duration, read_command_line

NUM_ENVS, UNROLL = 16, 8
# Far more than any time is enough for: a report every 100 training steps, which is several in a second.
NUM_EVALS = 100_000
OPTIONS = (
    "--env", "cartpole", "--config", "cartpole_cpu", "--num-envs", str(NUM_ENVS), "--num-eval-envs", "4",
    "--unroll-length", str(UNROLL), "--batch-size", str(NUM_ENVS), "--num-minibatches", "1",
    "--num-updates-per-batch", "1", "--episode-length", "100", "--num-evals", str(NUM_EVALS),
    "--num-timesteps", str(100 * NUM_ENVS * UNROLL * NUM_EVALS), "--keep-checkpoints", "3", "--no-compile",
    "--device", "cpu", "--random-episode-phase",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """What the process held at a time: seconds since its start, resident memory in MB, open files and threads."""

    seconds: float
    megabytes: float
    files: int
    threads: int


def sample(pid: int, seconds: float) -> Sample:
    """A process's numbers, from /proc. OSError once it has ended."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Sample(seconds, int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]))


def growth(samples: Sequence[Sample]) -> float:
    """MB an hour: the slope of the least-squares line through the memory of the samples."""
    mean_time = sum(s.seconds for s in samples) / len(samples)
    mean_size = sum(s.megabytes for s in samples) / len(samples)
    spread = sum((s.seconds - mean_time) ** 2 for s in samples)
    return 3600 * sum((s.seconds - mean_time) * (s.megabytes - mean_size) for s in samples) / spread


def settled(samples: Sequence[Sample]) -> list[Sample]:
    """The samples without the first fifth of the time, in which caches fill."""
    return [s for s in samples if s.seconds >= samples[-1].seconds / 5]


def watch(seconds: float, every: float) -> tuple[list[Sample], int]:
    """Trains for that long, in a folder that is gone afterwards; the samples and the number of reports."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "torch_ppo.train", *OPTIONS, "--run-dir", str(folder)]
        samples: list[Sample] = []
        with open(Path(parent) / "output", "w+b") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            started = time.monotonic()
            try:
                while (now := time.monotonic() - started) < seconds and process.poll() is None:
                    samples.append(sample(process.pid, now))
                    time.sleep(every)
                ended_early = process.poll() is not None
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()
            if ended_early:
                output.seek(0)
                sys.exit(f"the training ended by itself:\n{output.read().decode(errors='replace')[-2000:]}")
        with open(folder / "metrics.jsonl", "rb") as history:
            return samples, sum(1 for _ in history)


@dataclass(frozen=True)
class SoakArguments:
    """Soak one small training, and judge."""

    minutes: Duration = 60.0
    """How long."""
    every: Duration = 5.0
    """Seconds between two looks."""
    max_growth: float = 10.0
    """MB an hour that are still called flat."""


@user_errors()
def main() -> None:
    """The program `python -m tools.soak`."""
    arguments = read_command_line(SoakArguments, "tools.soak")
    minutes = arguments.minutes
    samples, reports = watch(60 * minutes, arguments.every)
    kept = settled(samples)
    first, last, rise = kept[0], kept[-1], growth(kept)
    for s in samples[:: max(1, len(samples) // 12)]:
        print(f"{s.seconds:7.0f} s  {s.megabytes:8.1f} MB  {s.files:3d} files  {s.threads:3d} threads")
    print(
        f"{reports} reports in {minutes:g} minutes; from {first.seconds:.0f} s on {first.megabytes:.1f} -> "
        f"{last.megabytes:.1f} MB, {rise:+.1f} MB an hour; {first.files} -> {last.files} open files"
    )
    if rise > arguments.max_growth or last.files > first.files:
        sys.exit("not flat")


if __name__ == "__main__":
    main()
