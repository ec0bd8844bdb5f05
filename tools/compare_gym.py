"""Training on Gymnasium's environments here and in Stable-Baselines3: the same settings, in turns, in one process.

    python -m tools.compare_gym --env HalfCheetah-v5 --num-envs 64 --json compare_gym.json

Needs `pip install stable-baselines3` beside this project. Both take turns, one training step each (collecting and updating),
because shared machines change their speed within minutes: what counts is the ratio of neighbours. Stable-Baselines3 has its
envs in this process (DummyVecEnv) and in a process each (SubprocVecEnv); it is held against the faster of the two.
"""

import dataclasses
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium
import torch

from tools.bench import machine
from torch_ppo.dialects import read_dialect
from torch_ppo.environments.finding import source_of
from torch_ppo.errors import user_errors
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.command_line import Count, Counts, read_command_line
from torch_ppo.settings.config import Config


@dataclasses.dataclass(frozen=True)
class GymArguments:
    """Compare training on an environment of Gymnasium with Stable-Baselines3."""

    env: str = "HalfCheetah-v5"
    """Gymnasium's id."""
    num_envs: Count = 64
    """Envs."""
    unroll_length: Count = 32
    """Steps of each env in a training step: Stable-Baselines3's n_steps."""
    minibatch: Count = 256
    """Transitions in an SGD step: its batch_size."""
    num_updates_per_batch: Count = 10
    """Passes: its n_epochs."""
    hidden: Counts = (64, 64)
    """Hidden layers of both networks."""
    rounds: Count = 7
    """Training steps of each that are timed, in turns; one of each goes before."""
    compile: bool = False
    """Time this trainer with torch.compile too."""
    json: Path | None = None
    """File for the numbers."""


def ours(arguments: GymArguments, *, compiled: bool) -> Callable[[], None]:
    """A training step here."""
    given = {
        "n_envs": arguments.num_envs,
        "n_steps": arguments.unroll_length,
        "batch_size": arguments.minibatch,
        "n_epochs": arguments.num_updates_per_batch,
        "policy_kwargs": {"net_arch": list(arguments.hidden)},
        "n_timesteps": 1,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(given, file)
        file.flush()
        settings = read_dialect(file.name, "sb3", num_envs=arguments.num_envs).settings
    config = Config(**{**settings, "env": f"gym:{arguments.env}", "run_evals": False, "compile": compiled})
    state = TrainingState(config, source_of(config.env))
    return lambda: training_step(state.collector, state.learner)[0, 0].item()


def stable_baselines3(arguments: GymArguments, kind: str) -> Callable[[], None]:
    """A training step of Stable-Baselines3's PPO; `kind` of its vector env."""
    from stable_baselines3 import PPO
    from stable_baselines3.common import vec_env
    from stable_baselines3.common.logger import configure

    makers = [partial(gymnasium.make, arguments.env)] * arguments.num_envs
    # Forked, or each of its processes would import all of this anew.
    env = vec_env.DummyVecEnv(makers) if kind == "DummyVecEnv" else vec_env.SubprocVecEnv(makers, start_method="fork")
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=arguments.unroll_length,
        batch_size=arguments.minibatch,
        n_epochs=arguments.num_updates_per_batch,
        policy_kwargs={"net_arch": list(arguments.hidden)},
        device="cpu",
    )
    model.set_logger(configure(format_strings=[]))
    _, callback = model._setup_learn(10**9)

    def step() -> None:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=arguments.unroll_length)
        model.train()

    return step


@user_errors()
def main() -> None:
    """The program `python -m tools.compare_gym`."""
    arguments = read_command_line(GymArguments, "tools.compare_gym")
    warnings.simplefilter("ignore")
    steps = {"ours": ours(arguments, compiled=False)}
    if arguments.compile:
        steps["ours, compiled"] = ours(arguments, compiled=True)
    for kind in ("DummyVecEnv", "SubprocVecEnv"):
        steps[f"SB3, {kind}"] = stable_baselines3(arguments, kind)
    transitions = arguments.num_envs * arguments.unroll_length
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in [*steps.items()] * (arguments.rounds + 1):
        started = time.perf_counter()
        step()
        rates[name].append(transitions / (time.perf_counter() - started))
    rates = {name: values[1:] for name, values in rates.items()}
    results = {"machine": machine(), "torch_threads": torch.get_num_threads(), "rates": rates}
    results["settings"] = {name: value for name, value in vars(arguments).items() if name != "json"}
    best = max((name for name in rates if name.startswith("SB3")), key=lambda name: statistics.median(rates[name]))
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(values, rates[best], strict=True))
        results[name] = {"median": statistics.median(values), "times_sb3": ratio}
        print(
            f"{name:>20} {results[name]['median']:9,.0f} env steps/s, {ratio:5.2f} times {best} (median of neighbours)"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
