"""The program `python -m tools.golden`."""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from tools.golden.augment import record_augment
from tools.golden.distributions import record_bijector, record_normal, record_tanh
from tools.golden.episodes import record_episode_logger, record_evaluator, record_toy, record_wrappers
from tools.golden.formulas import record_adaptive_lr, record_gae, record_quantile_huber, record_running_statistics
from tools.golden.manifest import ARRAYS, write_manifest
from tools.golden.minibatch_loss import record_loss
from tools.golden.network_outputs import record_layer_norm, record_networks
from tools.golden.schedule import record_schedule
from tools.golden.store import Store
from tools.golden.training_replay import record_replays
from tools.golden.training_steps import record_training_steps
from tools.golden.vision import record_vision

SHIPPED = Path(__file__).parents[2] / "tests" / "golden"
IN_BOTH = (
    record_gae,
    record_tanh,
    record_normal,
    record_bijector,
    record_running_statistics,
    record_quantile_huber,
    record_networks,
    record_layer_norm,
    record_vision,
    record_loss,
)
IN_PARENT = (
    record_adaptive_lr,
    record_augment,
    record_toy,
    record_wrappers,
    record_evaluator,
    record_episode_logger,
    record_training_steps,
    record_schedule,
)
IN_CHILD = (record_replays,)


def compute(store: Store) -> None:
    """Records all groups of this process."""
    for record in IN_BOTH + (IN_CHILD if store.in_child else IN_PARENT):
        record(store)


def compute_in_child(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a process with float64 enabled computes from the recorded `arrays`."""
    with tempfile.TemporaryDirectory() as folder:
        recorded, computed = Path(folder, "recorded.npz"), Path(folder, "computed.npz")
        np.savez(recorded, **arrays)
        command = [sys.executable, "-m", "tools.golden", "--child", str(recorded), str(computed)]
        subprocess.run(command, check=True, env=os.environ | {"JAX_ENABLE_X64": "1"})
        with np.load(computed) as file:
            return dict(file)


def run_child(recorded: Path, computed: Path) -> None:
    """What the child process does."""
    with np.load(recorded) as file:
        store = Store(parent=dict(file))
    compute(store)
    np.savez(computed, **store.arrays)


def versions(store: Store) -> np.ndarray:
    """Package versions and the cross-check, as JSON."""
    packages = {name: importlib.metadata.version(name) for name in ("brax", "jax", "flax", "optax", "numpy")}
    content = packages | {"cross_check_max_abs_diff_vs_ppo_train": store.cross_check}
    return np.array(json.dumps(content, sort_keys=True))


def generate(folder: Path) -> None:
    """Writes the arrays and their manifest into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store()
    compute(store)
    arrays = store.arrays | compute_in_child(store.arrays) | {"meta/versions": versions(store)}
    np.savez_compressed(folder / ARRAYS, **dict(sorted(arrays.items())))
    write_manifest(folder)


def main() -> None:
    """Reads the arguments and does what they say."""
    parser = argparse.ArgumentParser(prog="python -m tools.golden", description="Record what Brax's PPO computes.")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write to (default: tests/golden)")
    parser.add_argument("--report-only", action="store_true", help="check the arrays there, and rewrite the manifest")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_child(*arguments.child)
    elif arguments.report_only:
        write_manifest(arguments.out)
    elif jax.config.jax_enable_x64:
        parser.error("unset JAX_ENABLE_X64: only the child process computes in float64")
    else:
        generate(arguments.out)


if __name__ == "__main__":
    main()
