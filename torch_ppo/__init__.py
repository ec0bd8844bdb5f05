"""Brax PPO, exactly, in PyTorch, on MuJoCo Warp and MuJoCo.

What is here is promised (docs/api.md); inner modules are not. Each name is imported when it is first used, so that
`import torch_ppo` stays quick, and `python -m torch_ppo.train` is the first to load its module.
"""

import importlib
import os
import sys

__version__ = "0.1.0"

# Where each public name is; __init__.pyi says the same to editors and type checkers.
FACE = {
    "Config": "settings.config",
    "Env": "simulation.env",
    "Evaluation": "evaluate",
    "FrameStack": "simulation.frames",
    "Frames": "pictures",
    "Memory": "simulation.task",
    "Observation": "simulation.task",
    "Physics": "simulation.physics",
    "Rollout": "episodes",
    "RslRlEnv": "elsewhere.rsl_rl",
    "Task": "simulation.task",
    "UserError": "errors",
    "View": "simulation.views",
    "evaluate": "evaluate",
    "load_config": "settings.files",
    "load_model": "simulation.physics",
    "load_policy": "running.saved_policy",
    "make_env": "running.acting",
    "make_ppo_networks": "formulas.networks",
    "make_ppo_networks_vision": "formulas.pixels",
    "make_task": "environments.finding",
    "make_vec": "elsewhere.making",
    "menagerie_model": "simulation.menagerie",
    "render": "pictures",
    "rollout": "episodes",
    "train": "train",
}
__all__ = list(FACE)

# OpenMP threads that wait actively take the cores from whom they wait for: beside other programs an SGD step on two
# threads took 200 ms instead of 8. Read when torch is first imported, so it acts if torch_ppo comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Huge pages for torch's large CPU tensors; see running/accelerate.py.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# In a checkout envs/ and configs/ lie beside this folder; a wheel carries them inside it.
_here = os.path.dirname(os.path.abspath(__file__))
if not os.path.isdir(os.path.join(_here, "envs")):
    __path__.append(os.path.dirname(_here))


def _program() -> str:
    """The program of ours that this process is: `torch-ppo`, or the module after `-m`; empty where it only imports us."""
    if sys.argv[:1] != ["-m"]:  # as it is while Python looks for the module
        return "torch-ppo" if sys.argv and os.path.basename(sys.argv[0]) == "torch-ppo" else ""
    words = " ".join(sys.orig_argv).partition(" -m")[2].split()
    return words[0] if words and words[0].split(".")[0] == __name__ else ""


if _program():
    try:
        os.getcwd()
    except FileNotFoundError:  # torch's libraries end the process with words of their own
        sys.exit("error: the current folder has been deleted; cd to one that is there")
    # Before the libraries, which take seconds.
    importlib.import_module(f"{__name__}.errors").interrupts_end_imports()
    if _program() == f"{__name__}.train":
        importlib.import_module(f"{__name__}.command").say_loading(__version__)
    importlib.import_module(f"{__name__}.command").check_opengl()


def __getattr__(name: str) -> object:
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{FACE[name]}")
    # Kept, so that it is found here the next time. A program's module has the name of its call and can itself be called:
    # that is here already.
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return [*FACE, "__version__"]
