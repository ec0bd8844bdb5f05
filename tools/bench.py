"""How fast a configuration runs, and how far from what the machine could do.

    python -m tools.bench --config cartpole_cpu cartpole --set compile=true
    python -m tools.bench --config cartpole --num-envs 1024 4096 --startup --json bench.json --profile traces

Timed in windows after a burn-in that is not counted; medians and extremes are printed and written as JSON:

    physics    the simulator with random actions and nothing else: the bound for the others
    collect    batches of unrolls, without learning
    update     what follows collecting, in env steps of the batch per second
    training   whole training steps

An SGD step is compared with the time that its matrix products, or its traffic with memory, would take at the speed that
this device shows in one large product and one large copy.
"""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import torch

from torch_ppo.envs import make_task
from torch_ppo.errors import user_errors
from torch_ppo.formulas.networks import Dense
from torch_ppo.learning.batch import tensors_of
from torch_ppo.learning.train_step import learn, training_step
from torch_ppo.running.accelerate import keep_freed_memory, torch_left_as_it_was
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.command_line import Count, Counts, Duration, read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, read_settings


@dataclasses.dataclass(frozen=True)
class BenchArguments:
    """Measure steps per second of configurations."""

    config: tuple[str, ...] = ("cartpole_cpu",)
    """Configurations, by name or file."""
    num_envs: Counts = ()
    """Sizes to run each with instead of its own; batch_size grows with them where it has to."""
    set: tuple[str, ...] = ()
    """Other settings, as in TOML: compile=true torch_threads=2 capture='"physics"'."""
    windows: Count = 7
    """Timed windows of each measurement."""
    seconds: Duration = 2.0
    """Least duration of a window; it holds at least one training step."""
    startup: bool = False
    """Also time fresh processes to their first training step, with empty and with filled kernel caches."""
    profile: Path | None = None
    """Folder for a torch profiler trace of one training step of each; prints a table too."""
    json: Path | None = None
    """File for the numbers."""


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(work: Callable[[], object], steps: int, arguments: BenchArguments, device: torch.device) -> list[float]:
    """Env steps per second of `work`, which takes `steps`, in each window; two calls of burn-in go before."""
    for _ in range(2):
        work()
    rates = []
    for _ in range(arguments.windows):
        synchronize(device)
        started, done = time.perf_counter(), 0
        while not done or time.perf_counter() - started < arguments.seconds:
            work()
            synchronize(device)
            done += steps
        rates.append(done / (time.perf_counter() - started))
    return rates


def best_time(work: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Least seconds that `work` took."""
    work()
    times = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)


def device_speed(device: torch.device) -> tuple[float, float]:
    """FLOP/s of a large float32 product as training computes it, and bytes/s of a large copy (read and written)."""
    n = 8192 if device.type == "cuda" else 1024
    layer = Dense(n, n).to(device)
    x = torch.randn(n, n, device=device)
    flops = 2 * n**3 / best_time(lambda: layer(x), device)
    source = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
    target = torch.empty_like(source)
    return flops, 2 * source.nbytes / best_time(lambda: target.copy_(source), device)


def sgd_step_work(state: TrainingState) -> tuple[float, float]:
    """FLOP of the matrix products of an SGD step, and bytes that it must move even if all activations stay on chip."""
    config, agent = state.config, state.agent
    rows = config.transitions_per_minibatch
    flops = 0.0
    for network in (agent.policy, agent.value):
        layers = [module for module in network.modules() if isinstance(module, Dense)]
        for i, layer in enumerate(layers):
            products = 2 if i == 0 else 3  # forward, weights' gradient, and but for the first the inputs' gradient
            flops += 2 * products * rows * layer.in_features * layer.out_features
            if network is agent.value and config.gae_per == "minibatch":  # the bootstrap value
                flops += 2 * config.batch_size * layer.in_features * layer.out_features
    _, bootstrap, data = state.batch.minibatch(torch.zeros(1, dtype=torch.int64, device=state.device))
    observation = sum(x.shape[-1] for x in state.batch.observation.values())
    row_bytes = 4 * (observation + sum(x[0, 0].numel() for field in data for x in tensors_of(field)))
    sequence_bytes = config.unroll_length * row_bytes + sum(x.nbytes for x in bootstrap.values())
    # Adam reads parameters, gradient and two moments, and writes all but the gradient.
    return flops, rows / config.unroll_length * sequence_bytes + 7 * state.learner.flat.nbytes


def sized_config(name: str, num_envs: int | None, settings: dict[str, object]) -> Config:
    """The configuration with other settings; batch_size raised to fit `num_envs` if it must be."""
    config = load_config(name, run_evals=False, **settings)
    if num_envs is None:
        return config
    num_unrolls = -(-config.num_unrolls // num_envs) * num_envs
    counted = config.unroll_length if config.minibatch_of == "transitions" else 1
    batch_size = -(-num_unrolls * counted // config.num_minibatches)
    return dataclasses.replace(config, num_envs=num_envs, batch_size=batch_size)


def measure_rates(state: TrainingState, arguments: BenchArguments) -> dict[str, list[float]]:
    """Env steps per second of physics, collecting, updating and training, in each window."""
    config, env, device = state.config, state.env, state.device
    action = torch.empty(config.num_envs, state.action_dim, device=device)
    policy_steps = config.num_unrolls_per_env * config.unroll_length

    def physics() -> None:
        for _ in range(policy_steps):
            action.uniform_(-1.0, 1.0)
            for _ in range(config.action_repeat):
                env.simulate(action)

    steps = config.env_step_per_training_step
    rates = {"physics": measure(physics, steps, arguments, device)}
    env.reset()
    rates["collect"] = measure(state.collector, steps, arguments, device)
    rates["update"] = measure(lambda: learn(state.learner), steps, arguments, device)
    rates["training"] = measure(lambda: train_once(state), steps, arguments, device)
    return rates


def train_once(state: TrainingState) -> None:
    """A training step and the read of its metrics."""
    training_step(state.collector, state.learner)[0, 0].item()


def measure_config(config: Config, arguments: BenchArguments) -> dict[str, object]:
    """Rates of one configuration, with its sizes and bounds."""
    on_cuda = torch.cuda.is_available() and config.device != "cpu"
    free_before = torch.cuda.mem_get_info()[0] if on_cuda else 0
    state = TrainingState(config, make_task(config.env))
    config, device, steps = state.config, state.device, state.config.env_step_per_training_step
    rates = measure_rates(state, arguments)
    median = {key: statistics.median(values) for key, values in rates.items()}
    seconds_per_sgd_step = steps / median["update"] / config.sgd_steps_per_training_step
    flops, traffic = sgd_step_work(state)
    flops_per_second, bytes_per_second = device_speed(device)
    bound = max(flops / flops_per_second, traffic / bytes_per_second)
    memory = (free_before - torch.cuda.mem_get_info()[0]) / config.num_envs if on_cuda else None
    if arguments.profile:
        profile(lambda: train_once(state), arguments.profile / f"{config.env}_{config.num_envs}.json", device)
    return {
        "env": config.env,
        "device": str(device),
        "physics_engine": config.physics,
        "capture": config.capture,
        "compile": config.compile,
        "matmul_precision": config.matmul_precision,
        "bf16": config.bf16,
        "torch_threads": torch.get_num_threads(),
        "num_envs": config.num_envs,
        "env_steps_per_training_step": steps,
        "sgd_steps_per_training_step": config.sgd_steps_per_training_step,
        "env_steps_per_second": {
            key: {"median": median[key], "min": min(values), "max": max(values)} for key, values in rates.items()
        },
        "fraction_of_physics": median["training"] / median["physics"],
        "ms_per_sgd_step": 1e3 * seconds_per_sgd_step,
        "gflop_per_sgd_step": flops / 1e9,
        "megabytes_per_sgd_step": traffic / 1e6,
        "device_gflops": flops_per_second / 1e9,
        "device_gigabytes_per_second": bytes_per_second / 1e9,
        "fraction_of_sgd_bound": bound / seconds_per_sgd_step,
        "preparation_seconds": state.preparation_time,
        "device_bytes_per_env": memory,
    }


def profile(work: Callable[[], object], trace: Path, device: torch.device) -> None:
    """Writes a trace of one call of `work` and prints where its time went."""
    trace.parent.mkdir(parents=True, exist_ok=True)
    with torch.profiler.profile() as profiler:
        work()
        synchronize(device)
    profiler.export_chrome_trace(str(trace))
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=50))
    print(f"trace of one training step: {trace}")


# What a process does up to its first training step, with an argument: the settings as JSON.
STARTUP = """
import json, sys
from torch_ppo.settings.config import Config
from torch_ppo.envs import make_task
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.training_state import TrainingState
config = Config(**json.loads(sys.argv[1]))
state = TrainingState(config, make_task(config.env))
training_step(state.collector, state.learner)[0, 0].item()
"""


def startup_seconds(config: Config) -> dict[str, float]:
    """Seconds from the start of a process to the end of its first training step, without and with kernel caches."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch", "WARP_CACHE_PATH": f"{folder}/warp"}
        caches["TRITON_CACHE_DIR"] = f"{folder}/triton"
        seconds = {}
        for key in ("cold", "warm"):
            started = time.perf_counter()
            settings = json.dumps(dataclasses.asdict(config))
            subprocess.run([sys.executable, "-c", STARTUP, settings], check=True, env={**os.environ, **caches})
            seconds[key] = time.perf_counter() - started
    return seconds


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    packages = ("torch", "mujoco", "mujoco-warp", "warp-lang", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def lines(name: str, result: dict[str, object]) -> Iterator[str]:
    """A result for people."""
    arrangement = f"capture {result['capture']}, compile {str(result['compile']).lower()}"
    yield f"{name}: {result['num_envs']:,} envs on {result['device']} with {result['physics_engine']}, {arrangement}"
    for key, rate in result["env_steps_per_second"].items():
        yield f"{key:>12} {rate['median']:>13,.0f}  ({rate['min']:,.0f} .. {rate['max']:,.0f})"
    share = f"{result['fraction_of_sgd_bound']:.0%} of this device's speed"
    yield f"{'SGD step':>12} {result['ms_per_sgd_step']:>10.3f} ms, {share}"
    yield f"{'':>12} training runs at {result['fraction_of_physics']:.0%} of physics alone"
    if result["device_bytes_per_env"] is not None:
        yield f"{'memory':>12} {result['device_bytes_per_env'] / 1024:>10.1f} KiB of the device per env"
    for key, seconds in result.get("startup_seconds", {}).items():
        yield f"{key + ' start':>12} {seconds:>10.1f} s to the end of the first training step"


@user_errors()
def main() -> None:
    """The program `python -m tools.bench`."""
    arguments = read_command_line(BenchArguments, "tools.bench")
    settings = read_settings(arguments.set, "--set")
    keep_freed_memory()
    results = {"machine": machine(), "results": []}
    print("env steps per second: median (lowest .. highest)")
    for name in arguments.config:
        for num_envs in arguments.num_envs or (None,):
            config = sized_config(name, num_envs, settings)
            with torch_left_as_it_was():  # the next one's threads are its own
                result = {"config": name, **measure_config(config, arguments)}
            if arguments.startup:
                result["startup_seconds"] = startup_seconds(config)
            results["results"].append(result)
            print(*lines(name, result), sep="\n", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
