"""This trainer beside Brax PPO on MuJoCo Playground's cart-pole: the same settings, on the same machine, in one run.

    python -m tools.compare_brax --brax-python ~/brax/bin/python                  speed, taking turns
    python -m tools.compare_brax --brax-python ~/brax/bin/python --learning out   learning curves of several seeds

Brax needs an environment of its own: `pip install "jax[cpu]" brax "flax<0.12.8" playground` (jax[cuda13] on a GPU).

For speed the two take turns, one training step each, while the other waits: shared machines change their speed
within minutes, so what counts is the ratio of neighbours; on a busy machine that of CPU time, which tells the work of
both whoever else wants the cores. Brax's first two training steps, which compile, are left out.

With --set 'env="playground:CartpoleBalance"' both are trained on the very same code; the interpreter that runs this then needs
JAX and Playground, too. `tools/beside_brax.py` does so with several tasks.

For learning both train to the end with each seed; `tools/bands.py` has the test that decides whether the curves differ, and
draws them. Seeds mean different random numbers in the two; --same-networks starts ours from Brax's initial networks.
"""

import dataclasses
import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

import torch_ppo
from tools.bands import Curve, compare, draw
from tools.bench import machine
from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Source
from torch_ppo.errors import user_errors
from torch_ppo.learning.policy import Params
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.history import read_curve
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.command_line import Count, Seeds, read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, read_settings
from torch_ppo.settings.sections import sections

# What is Brax's by the same name, of training and of networks.
BRAX_TRAIN = (
    "num_timesteps num_envs episode_length action_repeat learning_rate entropy_cost discounting unroll_length batch_size "
    "num_minibatches num_updates_per_batch num_resets_per_eval normalize_observations normalize_observations_std_eps "
    "normalize_observations_mode normalize_until_count reward_scaling clipping_epsilon clipping_epsilon_value gae_lambda "
    "max_grad_norm normalize_advantage vf_loss_coefficient bootstrap_on_timeout use_distributional_critic desired_kl "
    "learning_rate_schedule learning_rate_schedule_min_lr learning_rate_schedule_max_lr seed num_evals num_eval_envs "
    "deterministic_eval run_evals"
).split()
BRAX_NETWORKS = (
    "policy_hidden_layer_sizes value_hidden_layer_sizes activation policy_obs_key value_obs_key distribution_type "
    "noise_std_type init_noise_std state_dependent_std mean_clip_scale policy_network_kernel_init_fn "
    "value_network_kernel_init_fn mean_kernel_init_fn use_distributional_critic num_quantiles"
).split()
# Of settings that Brax has, values that it lacks; it gets its default.
OURS = {"learning_rate_schedule": ("LINEAR", "COSINE")}
KERNELS = ("policy_network", "value_network", "mean")
# Sections of Config that say where a run happens and what is reported of it, not what is learned.
NOT_LEARNING = ("Evaluation, logging, checkpoints", "Machine")

WARMUP_INTERVALS = 2


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """Compare with Brax."""

    brax_python: Path
    """Interpreter of an environment with brax and playground."""
    config: str = "cartpole"
    """Configuration, by name or file."""
    set: tuple[str, ...] = ()
    """Other settings for both, or for this trainer alone, as in TOML: episode_length=1000 compile=true."""
    brax_env: str | None = None
    """Playground's name of the task; else that of env, if it is Playground's, or CartpoleBalance."""
    impl: tuple[Literal["jax", "warp"], ...] = ("jax",)
    """Playground's physics implementations to compare with."""
    rounds: Count = 5
    """Training steps of each, in turns."""
    learning: Path | None = None
    """Train both to the end instead, and write curves, test and picture into this folder. Curves there already are kept."""
    seeds: Seeds = (0, 1, 2, 3, 4)
    """Seeds to train with."""
    same_networks: bool = False
    """Start this trainer from Brax's initial networks."""
    json: Path | None = None
    """File for the numbers."""


def brax_env(arguments: CompareArguments, config: Config) -> str:
    """Playground's name of the task."""
    library, _, name = config.env.partition(":")
    return arguments.brax_env or (name if library == "playground" else "CartpoleBalance")


def brax_settings(config: Config) -> tuple[dict[str, object], dict[str, object]]:
    """What Brax's `train` and `make_ppo_networks` are called with; functions by their names in JAX."""
    networks = {name: getattr(config, name) for name in BRAX_NETWORKS}
    for kernel in KERNELS:
        scale = getattr(config, f"{kernel}_kernel_init_scale")
        networks[f"{kernel}_kernel_init_kwargs"] = None if scale is None else {"scale": scale}
    train = {name: getattr(config, name) for name in BRAX_TRAIN}
    train |= {name: None for name, values in OURS.items() if train[name] in values}
    return train, networks


def ours_alone(config: Config) -> list[str]:
    """Settings that Brax lacks, as far as they are not our defaults and matter for what is learned."""
    given = [name for title, fields in sections() if title not in NOT_LEARNING for name, _, _ in fields]
    known = {"env", *BRAX_TRAIN, *BRAX_NETWORKS, *(f"{kernel}_kernel_init_scale" for kernel in KERNELS)}
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    return [
        name
        for name in given
        if (name not in known and getattr(config, name) != defaults[name])
        or getattr(config, name) in OURS.get(name, ())
    ]


def start_brax(arguments: CompareArguments, config: Config, impl: str, **settings: object) -> subprocess.Popen:
    """The worker, with pipes to talk to it."""
    alone = ours_alone(config)
    if alone:
        shown = ", ".join(f"{name} = {getattr(config, name)!r}" for name in alone)
        print(f"of ours alone, Brax has no such settings: {shown}", flush=True)
    train, networks = brax_settings(config)
    message = {"env": brax_env(arguments, config), "impl": impl, "train": train, "networks": networks, **settings}
    command = [str(arguments.brax_python), str(Path(__file__).with_name("brax_worker.py")), json.dumps(message)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def rows(worker: subprocess.Popen) -> Iterator[dict[str, float]]:
    """The reports of the worker, as they come; RuntimeError if it fails."""
    for line in worker.stdout:
        if line.startswith("{"):
            row = json.loads(line)
            if "step" in row:
                yield row
    if worker.wait():
        raise RuntimeError(f"Brax ended with status {worker.returncode}")


def compare_speed(arguments: CompareArguments, config: Config, impl: str) -> dict[str, object]:
    """Env steps per second of both, round by round."""
    steps = config.env_step_per_training_step
    # An interval is one training step.
    num_evals = arguments.rounds + WARMUP_INTERVALS + 1
    # Without resets: Brax multiplies its steps per second by their number, though the time is that of all of them.
    config = dataclasses.replace(
        config,
        num_evals=num_evals,
        num_timesteps=(num_evals - 1) * steps,
        num_resets_per_eval=0,
        run_evals=False,
    )
    state = TrainingState(config, source_of(config.env))
    training_step(state.collector, state.learner)[0, 0].item()
    worker = start_brax(arguments, config, impl, stepwise=True)
    rates = {"ours": [], "brax": []}
    cpu = {"ours": [], "brax": []}
    before = 0.0
    for row in rows(worker):
        if row["step"] > WARMUP_INTERVALS * steps:
            started, started_cpu = time.perf_counter(), time.process_time()
            training_step(state.collector, state.learner)[0, 0].item()
            rates["ours"].append(steps / (time.perf_counter() - started))
            cpu["ours"].append(time.process_time() - started_cpu)
            cpu["brax"].append(row["cpu"] - before)
            rates["brax"].append(row["training/sps"])
            print(f"{impl}: Brax {rates['brax'][-1]:,.0f}, then ours {rates['ours'][-1]:,.0f}", flush=True)
        before = row["cpu"]
        worker.stdin.write("\n")
        worker.stdin.flush()
    return {
        "env_steps_per_second": rates,
        "cpu_seconds": cpu,
        "cpu_ratio": statistics.median(cpu["brax"]) / statistics.median(cpu["ours"]),
        **{who: statistics.median(values) for who, values in rates.items()},
        "ratio": statistics.median(a / b for a, b in zip(rates["ours"], rates["brax"], strict=True)),
    }


def network_states(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """State dicts of policy and value network from the worker's file; flax kernels are (in, out)."""
    states = {"policy": {}, "value": {}}
    with np.load(file) as arrays:
        for path, array in arrays.items():
            network, layer, name = path.split("/")
            index = 2 * int(layer.removeprefix("hidden_"))  # an activation lies between two layers
            states[network][f"trunk.layers.{index}.{'weight' if name == 'kernel' else name}"] = torch.from_numpy(
                array.T
            )
    return states["policy"], states["value"]


def write_curve(rows: Iterator[dict[str, float]], curve: Path, num_timesteps: int) -> None:
    """Writes reports as they come; the file has its name when the last is there."""
    part = curve.with_suffix(".part")
    with open(part, "w") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
            file.flush()
            if row["step"] >= num_timesteps:
                part.rename(curve)


def learn_brax(arguments: CompareArguments, config: Config, impl: str, curves: dict[int, Path]) -> None:
    """Trains Brax to the end with each seed, in one process; writes its reports and, if wanted, its initial networks."""
    networks = str(networks_file(arguments, impl)) if arguments.same_networks else None
    worker = start_brax(arguments, config, impl, seeds=list(curves), networks_file=networks)
    for seed, reports in itertools.groupby(rows(worker), key=lambda row: row["seed"]):
        write_curve(reports, curves[seed], config.num_timesteps)


def networks_file(arguments: CompareArguments, impl: str, seed: object = "SEED") -> Path:
    """Where Brax's initial networks are."""
    return arguments.learning / f"brax_{impl}_networks_seed{seed}.npz"


def learn_ours(config: Config, source: Source, curve: Path, networks: Path | None) -> None:
    """Trains this trainer to the end, from the networks in a file if one is given; writes its reports."""
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "num_timesteps"}
    params: Params | None = None
    if networks is not None:
        normalizer = torch_ppo.train(source, 0, **settings)[1][0]
        params = (normalizer, *network_states(networks))
    part = curve.with_suffix(".part")
    with open(part, "w") as file:

        def progress(step: int, metrics: dict[str, float]) -> None:
            print(json.dumps({"step": step, **metrics}), file=file, flush=True)

        torch_ppo.train(source, config.num_timesteps, restore_params=params, progress_fn=progress, **settings)
    part.rename(curve)


def learn_seeds(arguments: CompareArguments, config: Config, impl: str) -> dict[str, dict[int, Curve]]:
    """Curves of both by seed, from `arguments.learning`, or trained and kept there."""
    folder = arguments.learning
    folder.mkdir(parents=True, exist_ok=True)
    brax = {seed: folder / f"brax_{impl}_seed{seed}.jsonl" for seed in arguments.seeds}
    missing = {seed: file for seed, file in brax.items() if not file.exists()}
    if missing:
        learn_brax(arguments, config, impl, missing)
    ours = {seed: folder / f"ours_seed{seed}.jsonl" for seed in arguments.seeds}
    source = source_of(config.env)  # one for all: it keeps what has been compiled
    for seed, file in ours.items():
        if not file.exists():
            networks = networks_file(arguments, impl, seed) if arguments.same_networks else None
            learn_ours(dataclasses.replace(config, seed=seed), source, file, networks)
    curves = {
        who: {s: read_curve(file) for s, file in files.items()} for who, files in (("brax", brax), ("ours", ours))
    }
    for who, by_seed in curves.items():
        for seed, curve in by_seed.items():
            print(f"{config.env} seed {seed} {who:>5}", *(f"{reward:.0f}" for _, reward in curve), flush=True)
    return curves


def compare_learning(arguments: CompareArguments, config: Config, impl: str) -> dict[str, object]:
    """Curves of both for every seed under `arguments.learning`, and what `bands.compare` says of them."""
    curves = learn_seeds(arguments, config, impl)
    result = compare(curves["ours"], curves["brax"])
    print(f"area: p = {result['area']:.3f}; smallest of the steps, corrected: p = {min(result['steps'].values()):.3f}")
    title = f"{config.env}, {impl}"
    draw({title: {"Brax": curves["brax"], "torch_ppo": curves["ours"]}}, arguments.learning / "bands.png")
    return result


@user_errors()
def main() -> None:
    """The program `python -m tools.compare_brax`."""
    arguments = read_command_line(CompareArguments, "tools.compare_brax")
    config = load_config(arguments.config, **read_settings(arguments.set, "--set"))
    results = {"machine": machine(), "config": dataclasses.asdict(config)}
    for impl in arguments.impl:
        if arguments.learning:
            results[impl] = compare_learning(arguments, config, impl)
        else:
            results[impl] = result = compare_speed(arguments, config, impl)
            print(f"{impl}: ours {result['ours']:,.0f}, Brax {result['brax']:,.0f} env steps/s (medians); ", end="")
            print(f"ours is {result['ratio']:.2f} times as fast (median of neighbours), ", end="")
            print(f"{result['cpu_ratio']:.2f} times by CPU time (of medians)", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
