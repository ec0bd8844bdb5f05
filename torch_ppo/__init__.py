"""Brax PPO, exactly, in PyTorch, on MuJoCo Warp and MuJoCo.

What is here is promised (docs/api.md); inner modules are not. Each name is imported when it is first used, so that
`import torch_ppo` stays quick, and `python -m torch_ppo.train` is the first to load its module.
"""

import importlib
import os
from pathlib import Path

TYPE_CHECKING = False  # as editors and type checkers know it; importing typing would double the time
if TYPE_CHECKING:
    from torch_ppo.envs import make_task as make_task
    from torch_ppo.errors import UserError as UserError
    from torch_ppo.formulas.networks import make_ppo_networks as make_ppo_networks
    from torch_ppo.running.saved_policy import load_policy as load_policy
    from torch_ppo.settings.config import Config as Config
    from torch_ppo.settings.files import load_config as load_config
    from torch_ppo.simulation.env import Env as Env
    from torch_ppo.simulation.menagerie import menagerie_model as menagerie_model
    from torch_ppo.simulation.physics import Physics as Physics
    from torch_ppo.simulation.physics import load_model as load_model
    from torch_ppo.simulation.task import Memory as Memory
    from torch_ppo.simulation.task import Observation as Observation
    from torch_ppo.simulation.task import Task as Task
    from torch_ppo.train import train as train

__version__ = "0.1.0"

# Where each public name is.
FACE = {
    "Config": "settings.config",
    "Env": "simulation.env",
    "Memory": "simulation.task",
    "Observation": "simulation.task",
    "Physics": "simulation.physics",
    "Task": "simulation.task",
    "UserError": "errors",
    "load_config": "settings.files",
    "load_model": "simulation.physics",
    "load_policy": "running.saved_policy",
    "make_ppo_networks": "formulas.networks",
    "make_task": "envs",
    "menagerie_model": "simulation.menagerie",
    "train": "train",
}
__all__ = list(FACE)

# OpenMP threads that spin between torch's operations take the cores from MuJoCo's threads (with another program on
# two cores, collecting became 15 times slower). Read when torch is first imported, so it acts if torch_ppo comes first.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
# Huge pages for torch's large CPU tensors; see running/accelerate.py.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# In a checkout envs/ and configs/ lie beside this folder; a wheel carries them inside it.
if not (Path(__file__).parent / "envs").is_dir():
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name: str) -> object:
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{FACE[name]}")
    # Kept, so that it is found here the next time. A program's module has the name of its call and can itself be called:
    # that is here already.
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return [*FACE, "__version__"]
