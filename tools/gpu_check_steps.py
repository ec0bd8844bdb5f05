"""Single steps of `tools.gpu_check`, each in a process of its own; prints a line of JSON."""

import importlib.util
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import tyro

PACKAGES = "torch triton numpy mujoco mujoco-core mujoco-warp warp-lang tyro tensorboard pillow pytest".split()


@dataclass(frozen=True)
class StepArguments:
    """Run one step."""

    step: Annotated[Literal["facts", "few"], tyro.conf.Positional]
    """facts about the machine, or a few training steps."""
    device: str = "cuda"
    """cuda or cpu."""
    capture: str = "none"
    """As in a configuration."""
    compile: bool = False
    """As in a configuration."""
    deterministic: bool = False
    """As in a configuration."""
    vision: bool = False
    """Of the few training steps: from pixels."""


def facts(device: str) -> dict[str, object]:
    """What the machine has, as far as it can be asked without using it."""
    found: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "compilers": {name: shutil.which(name) for name in ("gcc", "cc", "c++", "ptxas", "nvcc")},
        "python_h": (Path(sysconfig.get_path("include")) / "Python.h").exists(),  # Triton compiles against it
        "environment": {
            name: value for name, value in os.environ.items() if re.match("CUDA|CUBLAS|TORCH|WARP|TRITON", name)
        },
    }
    smi = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    found["nvidia_smi"] = output_of(smi)
    import torch

    found["torch_cuda"] = torch.version.cuda
    found["trace_autograd_ops"] = (
        importlib.util.find_spec("torch._dynamo") is not None
        and "trace_autograd_ops" in (Path(torch.__file__).parent / "_dynamo" / "config.py").read_text()
    )
    if device != "cpu" and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["capability"] = torch.cuda.get_device_capability()
    found["cuda_available"] = torch.cuda.is_available()
    import warp as wp

    wp.config.log_level = wp.LOG_WARNING
    wp.init()
    runtime = wp._src.context.runtime
    found["warp"] = {
        "toolkit": runtime.toolkit_version,
        "driver": runtime.driver_version,
        "cuda_devices": [
            {"name": x.name, "arch": x.arch, "mempool": x.is_mempool_supported} for x in wp.get_cuda_devices()
        ],
    }
    return found


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def output_of(command: list[str]) -> str | None:
    """What a program prints; None if it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def few_steps(
    device: str, capture: str, compile: bool, deterministic: bool, *, vision: bool = False
) -> dict[str, object]:
    """Two training steps of 64 envs: whether they run, whether their numbers are numbers, and how long all takes.

    What is known is printed as it comes, as a line of JSON, for one that hangs.

    vision:  of the cart-pole that is seen, by Brax's networks of pixels
    """
    from torch_ppo.envs import make_task
    from torch_ppo.formulas.pixels import is_picture
    from torch_ppo.learning.train_step import training_step
    from torch_ppo.running.training_state import TrainingState
    from torch_ppo.settings.config import Config

    settings = {"num_envs": 64, "batch_size": 64, "num_minibatches": 2, "unroll_length": 10, "num_eval_envs": 16}
    started = time.perf_counter()
    config = Config(
        env="cartpole_balance_vision" if vision else "cartpole", vision=vision, num_timesteps=10**6, num_evals=2, normalize_observations=True, episode_length=50, device=device,
        physics="warp", capture=capture, compile=compile, deterministic=deterministic, **settings,
    )  # fmt: skip
    state = TrainingState(config, make_task(config.env))
    found = {"device": str(state.device), "seconds_to_make": time.perf_counter() - started}
    found["preparation_seconds"] = state.preparation_time
    pixels = [x for key, x in state.env.observation.items() if is_picture(key)]
    for _ in range(2):
        print(json.dumps(found), flush=True)
        started = time.perf_counter()
        loss = training_step(state.collector, state.learner).mean(0)[0].item()
        found.setdefault("losses", []).append(loss)
        found.setdefault("seconds_per_step", []).append(time.perf_counter() - started)
    print(json.dumps(found), flush=True)
    evaluation = state.evaluator()
    return {
        **found,
        "finite": all(map(math.isfinite, found["losses"])) and bool(state.learner.flat.isfinite().all()),
        "eval_reward": evaluation["eval/episode_reward"],
        "eval_seconds": evaluation["eval/epoch_eval_time"],
        "pixels": [{"shape": list(x.shape), "spread": x.float().std().item()} for x in pixels],
        "parameters_sum": state.learner.flat.double().sum().item(),
    }


def main() -> None:
    """The program."""
    a = tyro.cli(StepArguments)
    if a.step == "facts":
        found = facts(a.device)
    else:
        found = few_steps(a.device, a.capture, a.compile, a.deterministic, vision=a.vision)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
