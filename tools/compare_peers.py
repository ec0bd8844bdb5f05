"""What an update costs here and in other PyTorch trainers: same batch, same networks, same number of SGD steps.

    python -m tools.compare_peers --config cartpole_cpu --json peers.json

Peers that are not installed are named with the line that installs them. They and this trainer take turns, one update
each, because shared machines change their speed within minutes: what counts is the ratio of neighbours.

Only the update is compared; collecting depends on the simulator that each is used with. CleanRL's PPO is a script to copy
and not something to import, so the script runs as it is, with --cleanrl-script and an interpreter that can run it: the time
of its passes is what an iteration takes longer with twice as many. Its networks are always two layers of 64. rsl_rl and Stable-Baselines3 compute the advantages once per batch,
outside of what is timed for them; here, as in Brax, that is part of every SGD step.
"""

import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from tools.bench import machine
from torch_ppo.envs import make_task
from torch_ppo.errors import user_errors
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.command_line import Count, read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, read_settings


@dataclasses.dataclass(frozen=True)
class PeersArguments:
    """Compare updates with those of rsl_rl, Stable-Baselines3 and CleanRL."""

    config: str = "cartpole_cpu"
    """Configuration, by name or file: its batch, minibatches, passes and network sizes."""
    set: tuple[str, ...] = ()
    """Other settings, as in TOML: torch_threads=2."""
    rounds: Count = 7
    """Updates of each that are timed, in turns; one of each goes before."""
    compile: bool = True
    """Time this trainer with torch.compile too."""
    cleanrl_script: Path | None = None
    """CleanRL's ppo_continuous_action.py, of a clone of its repository."""
    cleanrl_python: Path = Path(sys.executable)
    """Interpreter with what that script needs: pip install torch tensorboard tyro gymnasium[mujoco]==0.29.1"""
    json: Path | None = None
    """File for the numbers."""


def ours(config: Config) -> Callable[[], None]:
    """An update on a batch that was collected."""
    state = TrainingState(config, make_task(config.env))
    state.collector()
    return lambda: state.learner.update()[0, 0].item()


def rsl_rl(config: Config, obs_dim: int, action_dim: int, device: torch.device) -> Callable[[], None]:
    """rsl_rl's `PPO.update` on random numbers."""
    from rsl_rl.algorithms import PPO
    from rsl_rl.models import MLPModel
    from rsl_rl.storage import RolloutStorage
    from tensordict import TensorDict

    num_steps = config.num_unrolls_per_env * config.unroll_length
    obs = TensorDict({"policy": torch.randn(config.num_envs, obs_dim)}, batch_size=[config.num_envs]).to(device)
    groups = {"actor": ["policy"], "critic": ["policy"]}
    gaussian = {"class_name": "rsl_rl.modules.distribution:GaussianDistribution"}
    sizes = config.policy_hidden_layer_sizes, config.value_hidden_layer_sizes
    actor = MLPModel(obs, groups, "actor", action_dim, sizes[0], "swish", True, gaussian)
    critic = MLPModel(obs, groups, "critic", 1, sizes[1], "swish", True)
    storage = RolloutStorage("rl", config.num_envs, num_steps, obs, [action_dim], str(device))
    algorithm = PPO(
        actor,
        critic,
        storage,
        num_learning_epochs=config.num_updates_per_batch,
        num_mini_batches=config.num_minibatches,
        schedule="fixed",
        normalize_advantage_per_mini_batch=True,
        device=str(device),
    )

    def fill() -> None:
        for _ in range(num_steps):
            algorithm.act(obs)
            rewards = torch.randn(config.num_envs, device=device)
            algorithm.process_env_step(obs, rewards, torch.zeros_like(rewards), {})
        algorithm.compute_returns(obs)

    return prepared(fill, algorithm.update)


def stable_baselines3(config: Config, obs_dim: int, action_dim: int, device: torch.device) -> Callable[[], None]:
    """Stable-Baselines3's `PPO.train` on random numbers."""
    import gymnasium
    import numpy as np
    from stable_baselines3 import PPO
    from stable_baselines3.common.logger import configure

    class Nothing(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (action_dim,), np.float32)

    rows = config.num_unrolls * config.unroll_length
    sizes = {"pi": list(config.policy_hidden_layer_sizes), "vf": list(config.value_hidden_layer_sizes)}
    model = PPO(
        "MlpPolicy",
        Nothing(),
        n_steps=rows,  # one env; the update does not know how many there were
        batch_size=config.transitions_per_minibatch,
        n_epochs=config.num_updates_per_batch,
        policy_kwargs={"net_arch": sizes, "activation_fn": torch.nn.SiLU},
        device=str(device),
    )
    model.set_logger(configure(format_strings=[]))
    buffer, generator = model.rollout_buffer, np.random.default_rng(0)

    def fill() -> None:
        buffer.reset()
        for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns"):
            getattr(buffer, name)[:] = generator.normal(size=getattr(buffer, name).shape)
        buffer.log_probs[:] = -1.0
        buffer.full = True

    return prepared(fill, model.train)


def prepared(fill: Callable[[], None], update: Callable[[], object]) -> Callable[[], float]:
    """An update that first fills its storage; returns the seconds of the update alone."""

    def run() -> float:
        fill()
        started = time.perf_counter()
        update()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return run


CLEANRL_ENVS = 8


def cleanrl_iteration(arguments: PeersArguments, config: Config, passes: int) -> float:
    """Median seconds of an iteration of CleanRL's script, collecting included."""
    rows = config.num_unrolls * config.unroll_length
    num_iterations = arguments.rounds + 2
    options = {
        "env-id": "InvertedPendulum-v4",
        "total-timesteps": rows * num_iterations,
        "num-envs": CLEANRL_ENVS,
        "num-steps": rows // CLEANRL_ENVS,
        "num-minibatches": config.num_minibatches,
        "update-epochs": passes,
    }
    command = [str(arguments.cleanrl_python), "-u", str(arguments.cleanrl_script.resolve())]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:  # it logs into runs/ where it is started
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        times = [time.perf_counter() for line in process.stdout if line.startswith("SPS:")]
        if process.wait():
            raise SystemExit(f"CleanRL ended with status {process.returncode}; does {command[0]} have what it needs?")
    return statistics.median(b - a for a, b in pairwise(times[1:]))


def cleanrl(arguments: PeersArguments, config: Config) -> float:
    """Milliseconds per SGD step of CleanRL's script."""
    passes = config.num_updates_per_batch
    once, twice = (cleanrl_iteration(arguments, config, n * passes) for n in (1, 2))
    return 1e3 * (twice - once) / config.sgd_steps_per_training_step


PEERS = {
    "rsl_rl": (rsl_rl, "pip install rsl-rl-lib"),
    "stable_baselines3": (stable_baselines3, "pip install stable-baselines3"),
}


@user_errors()
def main() -> None:
    """The program `python -m tools.compare_peers`."""
    arguments = read_command_line(PeersArguments, "tools.compare_peers")
    config = load_config(arguments.config, **{**read_settings(arguments.set, "--set"), "run_evals": False})
    probe = TrainingState(dataclasses.replace(config, compile=False), make_task(config.env))
    (obs_dim,) = probe.observation_sizes.values()
    updates = {"ours": prepared(lambda: None, ours(dataclasses.replace(config, compile=False)))}
    if arguments.compile:
        updates["ours, compiled"] = prepared(lambda: None, ours(dataclasses.replace(config, compile=True)))
    for name, (make, install) in PEERS.items():
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: {install}")
        else:
            updates[name] = make(config, obs_dim, probe.action_dim, probe.device)
    seconds: dict[str, list[float]] = {name: [] for name in updates}
    for name, update in [*updates.items()] * (arguments.rounds + 1):
        seconds[name].append(update())
    sgd_steps = config.sgd_steps_per_training_step
    results = {"machine": machine(), "config": arguments.config, "torch_threads": torch.get_num_threads()}
    print(f"{config.transitions_per_minibatch:,} transitions per SGD step, {sgd_steps} SGD steps per update")
    for name, values in seconds.items():
        values = values[1:]
        ratio = statistics.median(b / a for a, b in zip(seconds["ours"][1:], values, strict=True))
        results[name] = {"ms_per_sgd_step": [1e3 * value / sgd_steps for value in values], "times_ours": ratio}
        milliseconds = 1e3 * statistics.median(values) / sgd_steps
        print(f"{name:>20} {milliseconds:8.3f} ms per SGD step, {ratio:5.2f} times ours (median of neighbours)")
    if arguments.cleanrl_script is None:
        print("CleanRL: git clone github.com/vwxyzjn/cleanrl, then --cleanrl-script cleanrl/ppo_continuous_action.py")
    else:
        milliseconds = cleanrl(arguments, config)
        ratio = milliseconds * sgd_steps / 1e3 / statistics.median(seconds["ours"][1:])
        results["cleanrl"] = {"ms_per_sgd_step": [milliseconds], "times_ours": ratio}
        print(
            f"{'CleanRL':>20} {milliseconds:8.3f} ms per SGD step, {ratio:5.2f} times ours (afterwards, not in turns)"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
