"""Brax PPO, exactly, in PyTorch, on MuJoCo Warp and MuJoCo.

`torch_ppo.train(environment, ...)` is the library call, `python -m torch_ppo.train` the program.
"""

import importlib
import os
from pathlib import Path

__version__ = "0.1.0"

# OpenMP threads that spin between torch's operations take the cores from MuJoCo's threads (with another program on
# two cores, collecting became 15 times slower). Read when torch is first imported, so it acts if torch_ppo comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
# Huge pages for torch's large CPU tensors; see accelerate.keep_freed_memory.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# In a checkout envs/ and configs/ lie beside this folder; a wheel carries them inside it.
if not (Path(__file__).parent / "envs").is_dir():
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name: str) -> object:
    # Not imported up here: `python -m torch_ppo.train` must be the first to load that module.
    if name == "train":
        return importlib.import_module("torch_ppo.train")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
