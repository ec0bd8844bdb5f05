"""How throughput grows with the number of devices that learn together, on one machine.

    python -m tools.bench_devices --config cartpole_cpu --processes 1 2 --rounds 3

Every round trains with each number of processes in turn, started by torchrun, and reads `training/sps` of its reports but
the first. One process has the threads of all cores, several share the cores between them. On a machine that others use,
compare within a round; the ratio printed is the median over rounds.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from torch_ppo.errors import UserError, user_errors
from torch_ppo.settings.command_line import Count, Counts, Least, read_command_line


@dataclasses.dataclass(frozen=True)
class DevicesArguments:
    """Measure training with several devices against one."""

    config: str = "cartpole_cpu"
    """Configuration, by name or file."""
    processes: Counts = (1, 2)
    """Numbers of processes; the first is what the others are compared with."""
    rounds: Count = 3
    """How often each is measured."""
    num_timesteps: Count = 400_000
    """Env steps of each training."""
    reports: Annotated[int, Least(2)] = 5
    """Reports in it."""
    set: tuple[str, ...] = ()
    """More options of torch_ppo.train, as NAME=VALUE."""
    json: Path | None = None
    """File for the numbers."""


def _named(setting: str) -> tuple[str, str]:
    """The name and the value of one; UserError if it has no =."""
    name, equals, value = setting.partition("=")
    if not equals:
        raise UserError(f"--set {setting} is not understood; --set {name}=VALUE would be")
    return name, value


def steps_per_second(arguments: DevicesArguments, processes: int) -> float:
    """Of one training: the median over its reports but the first. UserError with its own words if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        threads = max(1, len(os.sched_getaffinity(0)) // processes)
        options = {
            "config": arguments.config,
            "num-timesteps": arguments.num_timesteps,
            "num-evals": arguments.reports + 1,
            "torch-threads": threads,
            "run-dir": f"{folder}/run",
            **dict(_named(setting) for setting in arguments.set),
        }
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command += ["-m", "torch_ppo.train", "--no-run-evals"]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if ended.returncode:
            said = [line for line in ended.stderr.splitlines() if line.strip()] or ["nothing"]
            told = next((line for line in said if line.startswith("error: ")), said[-1])
            raise UserError(f"the training ended with status {ended.returncode}: {told.removeprefix('error: ')}")
        history = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    rates = [line["training/sps"] for line in map(json.loads, history) if "training/sps" in line]
    return statistics.median(rates[1:])


@user_errors()
def main() -> None:
    """Measures in turns, prints every rate and the ratios' medians."""
    arguments = read_command_line(DevicesArguments, "tools.bench_devices")
    rounds = []
    for _ in range(arguments.rounds):
        rates = {n: steps_per_second(arguments, n) for n in arguments.processes}
        rounds.append(rates)
        print("  ".join(f"{n}: {rate:>10,.0f}" for n, rate in rates.items()), flush=True)
    first, *others = arguments.processes
    for n in others:
        ratios = [rates[n] / rates[first] for rates in rounds]
        extremes = f"{min(ratios):.2f} .. {max(ratios):.2f}"
        print(f"{arguments.config}: {n} processes at {statistics.median(ratios):.2f} of {first} ({extremes})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"config": arguments.config, "steps_per_second": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
