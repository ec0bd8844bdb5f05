"""MuJoCo Warp's CUDA kernels, compiled where there is no GPU, to be carried to where there is one.

    python -m tools.warp_kernels FOLDER --env cartpole ant quadruped_joystick
    WARP_CACHE_PATH=FOLDER ...                        on the GPU machine

Of each task a step is launched on the CPU, and what it launched is compiled for the GPU. Otherwise the first step there
takes a minute and more. Triton's kernels cannot be made without a GPU. Not tried on one yet.
"""

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
import warp as wp

from torch_ppo.envs import make_task
from torch_ppo.errors import user_errors
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.simulation.warp_engine import WarpPhysics

BLOCK_DIM = 256  # threads per block where a launch does not say


@dataclass(frozen=True)
class KernelArguments:
    """Compile the CUDA kernels of tasks without a GPU."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder for them; WARP_CACHE_PATH on the other machine."""
    env: tuple[str, ...] = ("cartpole", "ant", "quadruped_joystick")
    """Tasks."""
    arch: int = 90
    """Compute capability, as in sm_90: H100 and H200."""
    deterministic: bool = False
    """Those of `deterministic = true` as well."""


def launched_modules(name: str, *, deterministic: bool) -> dict[tuple[wp.Module, int], None]:
    """The modules whose kernels a step and a forward pass of the task launch, with threads per block on CUDA."""
    task, found, launch = make_task(name), {}, wp.launch

    def noted(*args: object, **kwargs: object) -> object:
        kernel = args[0] if args else kwargs["kernel"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 1)
        if math.prod(dim) if isinstance(dim, (tuple, list)) else dim:
            found[kernel.module, kwargs.get("block_dim", BLOCK_DIM)] = None
        return launch(*args, **kwargs)

    physics = WarpPhysics(
        task.make_model(), 2, device=torch.device("cpu"), capture=False, nconmax=task.nconmax, njmax=task.njmax
    )
    if deterministic:
        physics.make_deterministic()
    wp.launch = noted
    try:
        physics.step(1)
        physics.forward()
    finally:
        wp.launch = launch
    return found


def compile_modules(modules: Iterable[tuple[wp.Module, int]], arch: int) -> list[str]:
    """Compiles them for `arch` into Warp's cache; returns what did not compile."""
    failed = []
    for module, block_dim in modules:
        before = module.options["block_dim"]
        module.options["block_dim"] = block_dim
        try:
            wp.compile_aot_module(module, arch=arch, use_ptx=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others may compile
            failed.append(f"{module.name}: {error}")
        finally:
            module.options["block_dim"] = before
    return failed


@user_errors()
def main() -> None:
    """The program."""
    arguments = read_command_line(KernelArguments, "tools.warp_kernels")
    started, modules = time.perf_counter(), {}
    for name in arguments.env:
        for deterministic in dict.fromkeys((False, arguments.deterministic)):
            modules |= launched_modules(name, deterministic=deterministic)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    wp.config.kernel_cache_dir = str(arguments.folder.resolve())  # only now: kernels for the CPU stay where they are
    failed = compile_modules(modules, arguments.arch)
    size = sum(file.stat().st_size for file in arguments.folder.rglob("*.cubin"))
    print(
        f"{len(modules) - len(failed)} of {len(modules)} modules for sm_{arguments.arch}, {size / 2**20:.1f} MiB, "
        f"{time.perf_counter() - started:.0f} s, in {arguments.folder}"
    )
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
