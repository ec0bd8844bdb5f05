"""This trainer beside Brax PPO on MuJoCo Playground's own environments: one environment's code, the same settings, several
seeds, a permutation test for each task.

    python -m tools.beside_brax docs/results/beside_brax --seeds 0 1 2 3 4

Needs torch_ppo, JAX, Brax and Playground in one environment: `pip install -e ".[playground,plot]"`. Every run is a file of
the folder; those that are there are kept, so it can be stopped and goes on where it was. JAX_COMPILATION_CACHE_DIR saves
most of what each run of Brax would compile again. After each task the numbers are FOLDER.json, the table goes to
the standard output, and the picture is FOLDER.png.
"""

import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Annotated

import tyro

from tools.bands import Curve, compare, draw
from tools.bench import machine
from tools.compare_brax import CompareArguments, learn_seeds
from torch_ppo.environments.finding import source_of
from torch_ppo.errors import user_errors
from torch_ppo.running.seed_statistics import holm
from torch_ppo.settings.command_line import Seeds, read_command_line
from torch_ppo.settings.config import Config

# Playground's settings of each task, but smaller networks and batches, and mostly shorter episodes with a discount that goes
# with them, so that it is learned in some minutes on one core.
SMALL = {
    "episode_length": 250,
    "num_envs": 128,
    "unroll_length": 20,
    "batch_size": 64,
    "num_minibatches": 8,
    "num_updates_per_batch": 8,
    "discounting": 0.97,
    "reward_scaling": 1.0,
    "policy_hidden_layer_sizes": (64, 64),
    "value_hidden_layer_sizes": (64, 64),
    "num_evals": 5,
    "num_eval_envs": 128,
    "num_resets_per_eval": 1,
    "torch_threads": 1,
    "device": "cpu",
    "compile": False,
}
TASKS = {
    "CartpoleBalance": {"num_timesteps": 204_800},
    "CartpoleSwingup": {"num_timesteps": 4_096_000, "episode_length": 1000, "action_repeat": 4, "discounting": 0.98},
    "PointMass": {"num_timesteps": 1_638_400},
    # As configs/pendulum_swingup_cpu.toml; with squashed actions neither had swung it up after 1M env steps.
    "PendulumSwingup": {
        "num_timesteps": 12_288_000,
        "episode_length": 1000,
        "action_repeat": 6,
        "num_envs": 256,
        "unroll_length": 25,
        "num_updates_per_batch": 4,
        "discounting": 0.98,
        "gae_lambda": 0.98,
        "reward_scaling": 0.1,
        "learning_rate": 1e-3,
        "entropy_cost": 3e-3,
        "clipping_epsilon": 0.2,
        "max_grad_norm": 1.0,
        "distribution_type": "normal",
        "noise_std_type": "log",
        "mean_kernel_init_fn": "zeros",
        "num_evals": 11,
        "num_resets_per_eval": 8,
    },
    # Actions that are held find the cup.
    "BallInCup": {"num_timesteps": 819_200, "discounting": 0.95, "action_repeat": 4},
    "FingerSpin": {"num_timesteps": 819_200, "discounting": 0.95},
}


@dataclasses.dataclass(frozen=True)
class BesideArguments:
    """Train both, and compare."""

    folder: Annotated[Path, tyro.conf.Positional]
    """For the curves."""
    seeds: Seeds = (0, 1, 2, 3, 4)
    """Seeds to train with."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Which of the tasks."""
    report: bool = False
    """Train nothing: compare the seeds that both have been trained with."""
    brax_python: Path = Path(sys.executable)
    """Interpreter of Brax, if it is not this one."""


def config_of(task: str) -> Config:
    """The settings of both trainers."""
    settings = source_of(f"playground:{task}").settings()
    return Config(**{**settings, "env": f"playground:{task}", **SMALL, **TASKS[task]})


def numbers(task: str, curves: dict[str, dict[int, Curve]]) -> dict[str, object]:
    """What `bands.compare` says, the last evaluation of every seed, and all of them."""
    last = {who: {seed: curve[-1][1] for seed, curve in curves[who].items()} for who in ("ours", "brax")}
    found = compare(curves["ours"], curves["brax"])
    return {**found, "last": last, "curves": curves, "config": dataclasses.asdict(config_of(task))}


def seeds_there(folder: Path) -> tuple[int, ...]:
    """Seeds that both have been trained with."""
    found = [{int(file.stem.split("seed")[-1]) for file in folder.glob(f"{who}*.jsonl")} for who in ("brax", "ours")]
    return tuple(sorted(set.intersection(*found)))


def table(tasks: dict[str, dict[str, object]]) -> str:
    """A row per task: mean and standard deviation over seeds, and the p-values, corrected for the number of tasks."""
    lines = [
        "| task | env steps | seeds | at the end, ours | Brax | over the run, ours | Brax | p | p, corrected |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    corrected = holm([found["area"] for found in tasks.values()])
    for (task, found), p in zip(tasks.items(), corrected, strict=True):
        values = [*(list(found["last"][who].values()) for who in ("ours", "brax")), *found["mean_over_run"].values()]
        cells = [f"{statistics.mean(each):.0f} ± {statistics.stdev(each):.0f}" for each in values]
        steps = f"{found['env_steps'][-1]:,}"
        lines.append(
            f"| {' | '.join([task, steps, str(found['seeds']['ours']), *cells])} | {found['area']:.2f} | {p:.2f} |"
        )
    return "\n".join(lines)


def write(folder: Path, tasks: dict[str, dict[str, object]]) -> None:
    """Numbers, table and picture."""
    folder.with_suffix(".json").write_text(json.dumps({"machine": machine(), "tasks": tasks}, indent=1) + "\n")
    print(table(tasks), flush=True)
    panels = {
        f"{task}, p = {found['area']:.2f}": {"Brax": found["curves"]["brax"], "torch_ppo": found["curves"]["ours"]}
        for task, found in tasks.items()
    }
    draw(panels, folder.with_suffix(".png"))


@user_errors()
def main() -> None:
    """The program `python -m tools.beside_brax`."""
    arguments = read_command_line(BesideArguments, "tools.beside_brax")
    tasks: dict[str, dict[str, object]] = {}
    for task in arguments.tasks:
        folder = arguments.folder / task
        seeds = seeds_there(folder) if arguments.report else arguments.seeds
        if len(seeds) < 2:
            print(f"{task}: {len(seeds)} seeds are too few to compare")
            continue
        own = CompareArguments(arguments.brax_python, seeds=seeds, learning=folder)
        tasks[task] = numbers(task, learn_seeds(own, config_of(task), "jax"))
        write(arguments.folder, tasks)


if __name__ == "__main__":
    main()
