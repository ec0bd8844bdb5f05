"""The same seed, the same bits: what it asks of torch, and what it comes to for a task."""

import contextlib
import os
from collections.abc import Iterator

import mujoco
import torch

from torch_ppo.errors import ConfigError
from torch_ppo.simulation.env import Env

# cuBLAS reads it when it starts. torch refuses deterministic products without one of these values, and looks for it once
# in a process: at the first product on CUDA, deterministic or not.
CUBLAS_VARIABLE, CUBLAS_VALUES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")


def allow_determinism_later(device: torch.device) -> None:
    """Before the first product on `device`: whoever trains in this process after may ask for `deterministic`."""
    if device.type == "cuda":
        os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_VALUES[0])  # what cuBLAS takes by itself on an H100


def _product(device: torch.device) -> None:
    torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device))


def make_torch_deterministic(device: torch.device) -> None:
    """From now on torch takes deterministic algorithms, and raises RuntimeError naming an operation that has none.

    torch.compile then chooses nothing by a stopwatch that changes results.
    ConfigError if the environment has cuBLAS work in another way, or had at its first product.
    """
    if device.type == "cuda":
        value = os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_VALUES[0])
        if value not in CUBLAS_VALUES:
            raise ConfigError(
                f"deterministic = true needs {CUBLAS_VARIABLE} = {' or '.join(CUBLAS_VALUES)} in the environment, where "
                f"it is {value!r}; it may also be left out"
            )
    # Would fill what is allocated, in every step; nothing here reads what was not written.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    if device.type == "cuda" and torch.cuda.is_available():
        try:
            _product(device)
        except RuntimeError as error:
            if CUBLAS_VARIABLE not in str(error):
                raise
            raise ConfigError(
                f"deterministic = true comes too late: this process has made products on CUDA without {CUBLAS_VARIABLE} "
                f"in its environment, and torch looks for it once; {CUBLAS_VARIABLE}={CUBLAS_VALUES[0]} at its start would work"
            ) from None


@contextlib.contextmanager
def determinism_left_as_it_was() -> Iterator[None]:
    """Takes back what `make_torch_deterministic` did inside."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    variable = os.environ.get(CUBLAS_VARIABLE)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        if variable is None:
            os.environ.pop(CUBLAS_VARIABLE, None)


def can_touch(env: Env) -> bool:
    """Whether anything in the env's model can have contacts; a task that has room for none says that nothing can."""
    model = env.physics.model
    if env.task.nconmax == 0 or model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT:
        return False
    return bool(model.npair or (model.geom_contype.any() and model.geom_conaffinity.any()))


def determinism_in_words(env: Env, engine: str) -> str:
    """What `deterministic` promises in `env` with this engine, "mujoco" or "warp", and what it costs."""
    promise = (
        "deterministic: the same seed gives the same bits on this machine, with these versions and this many threads"
    )
    if env.physics is None:
        return f"deterministic: of all but {env.name}, whose simulation is not ours"
    if engine == "mujoco":
        return f"{promise}, as it does without; C MuJoCo computes each world in one thread: no cost"
    if env.device.type == "cpu":
        return f"{promise}, as it does without; MuJoCo Warp sorts and sums in order for it: up to a fifth of physics"
    contacts = (
        "contacts, constraint rows and sums over them are put in order, in every step, which costs most"
        if can_touch(env)
        else "the task has no contacts, so only its sums are put in order"
    )
    return f"{promise} and this kind of GPU; {contacts} (neither promise nor cost has been measured on a GPU yet)"
