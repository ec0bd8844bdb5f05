"""How fast a configuration runs: physics only, collecting only, whole training steps.

    python -m tools.bench --config cartpole_cpu

Each is timed in windows after a burn-in that is not counted; the median and the extremes are printed and written as
JSON. "physics" steps the simulator with random actions and nothing else: the bound for the other two.
"""

import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
import tyro

from torch_ppo.config import load_config
from torch_ppo.envs import make_task
from torch_ppo.train_step import learn, training_step
from torch_ppo.training_state import TrainingState


@dataclasses.dataclass(frozen=True)
class BenchArguments:
    """Measure steps per second of configurations."""

    config: tuple[str, ...] = ("cartpole_cpu",)
    """Configurations, by name or file."""
    windows: int = 7
    """Timed windows of each measurement."""
    seconds: float = 2.0
    """Least duration of a window; it holds at least one training step."""
    device: str = "auto"
    """As in training."""
    physics: str = "auto"
    """As in training."""
    json: Path | None = None
    """File for the numbers."""


def measure(work: Callable[[], None], steps: int, *, windows: int, seconds: float, device: torch.device) -> list[float]:
    """Env steps per second of `work`, which takes `steps`, in each window; two calls of burn-in go before."""

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(2):
        work()
    rates = []
    for _ in range(windows):
        synchronize()
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() - started < seconds:
            work()
            synchronize()
            done += steps
        rates.append(done / (time.perf_counter() - started))
    return rates


def measure_config(name: str, arguments: BenchArguments) -> dict[str, object]:
    """Rates of one configuration, with its sizes."""
    config = load_config(name, device=arguments.device, physics=arguments.physics, run_evals=False)
    state = TrainingState(config, make_task(config.env))
    config, env = state.config, state.env
    action = torch.empty(config.num_envs, state.action_dim, device=state.device)
    policy_steps = config.num_unrolls_per_env * config.unroll_length

    def physics() -> None:
        for _ in range(policy_steps):
            action.uniform_(-1.0, 1.0)
            for _ in range(config.action_repeat):
                env.task.apply(env.physics, env.memory, action)
                env.physics.step(env.num_substeps)

    def training() -> None:
        training_step(state.collector, state.learner)[0, 0].item()

    timing = {"windows": arguments.windows, "seconds": arguments.seconds, "device": state.device}
    steps = config.env_step_per_training_step
    rates = {"physics": measure(physics, steps, **timing)}
    env.reset()
    rates["collect"] = measure(state.collector, steps, **timing)
    rates["update"] = measure(lambda: learn(state.learner), steps, **timing)
    rates["training"] = measure(training, steps, **timing)
    bound = statistics.median(rates["physics"])
    return {
        "config": name,
        "env": config.env,
        "device": str(state.device),
        "physics_engine": config.physics,
        "num_envs": config.num_envs,
        "env_steps_per_training_step": steps,
        "ms_per_sgd_step": 1e3 * steps / statistics.median(rates["update"]) / config.sgd_steps_per_training_step,
        "fraction_of_physics": statistics.median(rates["training"]) / bound,
        "env_steps_per_second": {
            key: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for key, values in rates.items()
        },
    }


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    packages = ("torch", "mujoco", "mujoco-warp", "warp-lang", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def main() -> None:
    """The program `python -m tools.bench`."""
    arguments = tyro.cli(BenchArguments, prog="python -m tools.bench")
    results = {"machine": machine(), "results": []}
    print("env steps per second: median (min .. max)")
    for name in arguments.config:
        result = measure_config(name, arguments)
        results["results"].append(result)
        for key, rate in result["env_steps_per_second"].items():
            print(
                f"{name:>16} {key:>9} {rate['median']:>12,.0f}  ({rate['min']:,.0f} .. {rate['max']:,.0f})", flush=True
            )
        print(f"{name:>16} {'SGD step':>9} {result['ms_per_sgd_step']:>9.2f} ms; ", end="")
        print(f"training is {result['fraction_of_physics']:.0%} of physics only")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
