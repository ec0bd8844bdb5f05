"""This trainer beside Brax PPO on MuJoCo Playground's cart-pole: the same settings, on the same machine, in one run.

    python -m tools.compare_brax --brax-python ~/brax/bin/python                  speed, taking turns
    python -m tools.compare_brax --brax-python ~/brax/bin/python --learn out      curves from the same initial networks

Brax needs an environment of its own: `pip install "jax[cpu]" brax "flax<0.12.8" playground` (jax[cuda13] on a GPU).

For speed the two take turns, one training step each, while the other waits: shared machines change their speed
within minutes, so what counts is the ratio of neighbours. Brax's first two training steps, which compile, are left out.
"""

import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

import torch_ppo
from tools.bench import machine
from torch_ppo.config import Config, load_config
from torch_ppo.envs import make_task
from torch_ppo.policy import Params
from torch_ppo.train_step import training_step
from torch_ppo.training_state import TrainingState

# What is Brax's by the same name; device settings and what it lacks are left out.
BRAX_ARGUMENTS = (
    "num_timesteps num_evals reward_scaling episode_length normalize_observations action_repeat unroll_length "
    "num_minibatches num_updates_per_batch discounting gae_lambda learning_rate clipping_epsilon entropy_cost num_envs "
    "batch_size max_grad_norm num_resets_per_eval num_eval_envs deterministic_eval seed run_evals"
).split()

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
    brax_env: str = "CartpoleBalance"
    """Playground's name of the task."""
    impl: tuple[Literal["jax", "warp"], ...] = ("jax",)
    """Playground's physics implementations to compare with."""
    rounds: int = 5
    """Training steps of each, in turns."""
    learn: Path | None = None
    """Train both to the end instead, from Brax's initial networks, and write their curves into this folder."""
    json: Path | None = None
    """File for the numbers."""


def start_brax(arguments: CompareArguments, config: Config, impl: str, **settings: object) -> subprocess.Popen:
    """The worker, with pipes to talk to it."""
    train = {name: getattr(config, name) for name in BRAX_ARGUMENTS}
    networks = {name: getattr(config, name) for name in ("policy_hidden_layer_sizes", "value_hidden_layer_sizes")}
    message = {"env": arguments.brax_env, "impl": impl, "train": train, "networks": networks, **settings}
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
    config = dataclasses.replace(config, num_evals=num_evals, num_timesteps=(num_evals - 1) * steps, run_evals=False)
    state = TrainingState(config, make_task(config.env))
    training_step(state.collector, state.learner)[0, 0].item()
    worker = start_brax(arguments, config, impl, stepwise=True)
    rates = {"ours": [], "brax": []}
    for row in rows(worker):
        if row["step"] > WARMUP_INTERVALS * steps:
            started = time.perf_counter()
            training_step(state.collector, state.learner)[0, 0].item()
            rates["ours"].append(steps / (time.perf_counter() - started))
            rates["brax"].append(row["training/sps"])
            print(f"{impl}: Brax {rates['brax'][-1]:,.0f}, then ours {rates['ours'][-1]:,.0f}", flush=True)
        worker.stdin.write("\n")
        worker.stdin.flush()
    return {
        "env_steps_per_second": rates,
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


def compare_learning(arguments: CompareArguments, config: Config, impl: str) -> dict[str, object]:
    """Evaluations of both from the same initial networks, in metrics.jsonl form under `arguments.learn`."""
    arguments.learn.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "num_timesteps"}
    curves = {}

    def write(who: str, row: dict[str, float]) -> None:
        with open(arguments.learn / f"{who}_seed{config.seed}.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        if "eval/episode_reward" in row:
            curves.setdefault(who, []).append((row["step"], row["eval/episode_reward"]))
            print(f"{who:>10} {row['step']:>12,} {row['eval/episode_reward']:8.1f}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "networks.npz"
        for row in rows(start_brax(arguments, config, impl, networks_file=str(file))):
            write(f"brax_{impl}", row)
        policy, value = network_states(file)
    normalizer = torch_ppo.train(make_task(config.env), 0, **settings)[1][0]
    params: Params = (normalizer, policy, value)
    torch_ppo.train(
        make_task(config.env),
        config.num_timesteps,
        restore_params=params,
        progress_fn=lambda step, metrics: write("ours", {"step": step, **metrics}),
        **settings,
    )
    return curves


def main() -> None:
    """The program `python -m tools.compare_brax`."""
    arguments = tyro.cli(CompareArguments, prog="python -m tools.compare_brax")
    config = load_config(arguments.config, **tomllib.loads("\n".join(arguments.set)))
    results = {"machine": machine(), "config": dataclasses.asdict(config)}
    for impl in arguments.impl:
        if arguments.learn:
            results[impl] = compare_learning(arguments, config, impl)
        else:
            results[impl] = result = compare_speed(arguments, config, impl)
            print(f"{impl}: ours {result['ours']:,.0f}, Brax {result['brax']:,.0f} env steps/s (medians); ", end="")
            print(f"ours is {result['ratio']:.2f} times as fast (median of neighbours)", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
