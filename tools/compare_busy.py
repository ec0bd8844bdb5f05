"""Training on a machine with other busy processes beside the same on an idle one, in turns, for numbers of torch threads.

    python -m tools.compare_busy --config presets/cartpole_small --torch-threads 1 2 --set compile=true --json busy.json

Two threads that wait for each other actively can make a busy machine many times slower than an idle one is; the ratios say
by how much. A fair share of C cores beside B busy processes is C / (C + B) where training uses them all, 1 where it
uses one and another is free.
"""

import dataclasses
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from tools.bench import machine
from torch_ppo.envs import make_task
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.accelerate import keep_freed_memory
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.command_line import Count, Counts, Duration, Least, read_command_line
from torch_ppo.settings.files import load_config, read_settings


@dataclasses.dataclass(frozen=True)
class BusyArguments:
    """Compare a busy machine with an idle one."""

    config: str = "presets/cartpole_small"
    """Configuration, by name or file."""
    set: tuple[str, ...] = ()
    """Other settings, as in TOML: compile=true."""
    torch_threads: Counts = (1, 2)
    """Numbers of threads, one after the other."""
    busy: Annotated[int, Least(0)] = 1
    """Processes that keep a core each busy."""
    rounds: Count = 9
    """Windows of either kind."""
    seconds: Duration = 1.5
    """Least duration of a window; it holds at least one training step."""
    json: Path | None = None
    """File for the numbers."""


def spin() -> None:
    """Keeps a core busy."""
    while True:
        sum(range(10_000))


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Other processes that compute, while it lasts."""
    processes = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    time.sleep(1.0)  # until they are up
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def rate(state: TrainingState, seconds: float) -> float:
    """Env steps per second of training in a window."""
    started, done = time.perf_counter(), 0
    while not done or time.perf_counter() - started < seconds:
        training_step(state.collector, state.learner)[0, 0].item()
        done += state.config.env_step_per_training_step
    return done / (time.perf_counter() - started)


def measure(arguments: BusyArguments, threads: int) -> dict[str, object]:
    """Rates of both, and the median of their ratios."""
    settings = read_settings(arguments.set, "--set")
    if "torch_threads" in settings:
        raise ConfigError("torch_threads is compared; --torch-threads 1 2 says which")
    config = load_config(arguments.config, **{**settings, "run_evals": False, "torch_threads": threads})
    state = TrainingState(config, make_task(config.env))
    for _ in range(3):
        training_step(state.collector, state.learner)
    rates = {"idle": [], "busy": []}
    for _ in range(arguments.rounds):
        rates["idle"].append(rate(state, arguments.seconds))
        with busy(arguments.busy):
            rates["busy"].append(rate(state, arguments.seconds))
    ratio = statistics.median(b / a for a, b in zip(rates["idle"], rates["busy"], strict=True))
    return {"torch_threads": threads, **rates, "ratio": ratio}


@user_errors()
def main() -> None:
    """The program."""
    arguments = read_command_line(BusyArguments, "tools.compare_busy")
    keep_freed_memory()
    found = []
    for threads in arguments.torch_threads:
        found.append(measure(arguments, threads))
        idle, beside = (statistics.median(found[-1][name]) for name in ("idle", "busy"))
        print(
            f"{threads} torch threads: {idle:,.0f} env steps/s idle, {beside:,.0f} beside {arguments.busy} busy; "
            f"{found[-1]['ratio']:.2f} (median of neighbours)",
            flush=True,
        )
    if arguments.json is not None:
        told = {"config": arguments.config, "set": arguments.set, "busy": arguments.busy}
        arguments.json.write_text(json.dumps({"machine": machine(), **told, "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
