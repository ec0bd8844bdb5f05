"""The tasks, by name."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch_ppo.config import ConfigError, did_you_mean
from torch_ppo.task import Task

from .cartpole import Cartpole

ENVS: dict[str, Callable[[], Task]] = {
    "cartpole": Cartpole,
    "cartpole_sparse": partial(Cartpole, sparse=True),
    "cartpole_swingup": partial(Cartpole, swing_up=True),
    "cartpole_swingup_sparse": partial(Cartpole, swing_up=True, sparse=True),
}

# What a task is called in the DM Control suite and in MuJoCo Playground, where it is there.
ALIASES = {
    "cartpole/balance": "cartpole",
    "cartpole/balance_sparse": "cartpole_sparse",
    "cartpole/swingup": "cartpole_swingup",
    "cartpole/swingup_sparse": "cartpole_swingup_sparse",
    "CartpoleBalance": "cartpole",
    "CartpoleBalanceSparse": "cartpole_sparse",
    "CartpoleSwingup": "cartpole_swingup",
    "CartpoleSwingupSparse": "cartpole_swingup_sparse",
}


def canonical_name(name: str) -> str:
    """Our name of a task of ours; any other is returned as it is."""
    return ALIASES.get(name, name)


def make_task(name: str) -> Task:
    """A task by name, or a user's own: "package.module:Task" or "path/to/file.py:Task".

    ConfigError says what is wrong with the name, and suggests the nearest of ours.
    """
    if not name:
        raise ConfigError(f"env is not set; known: {', '.join(ENVS)}")
    if ":" in name:
        return _load_task(name)
    name = canonical_name(name)
    if name not in ENVS:
        raise ConfigError(f"there is no env {name!r}{did_you_mean(name, ENVS)}")
    return ENVS[name]()


def _load_task(name: str) -> Task:
    place, _, attribute = name.rpartition(":")
    module = _load_file(Path(place), name) if place.endswith(".py") else _import(place, name)
    make = getattr(module, attribute, None)
    if make is None:
        raise ConfigError(f"env is {name!r}, but {place} has no {attribute}{did_you_mean(attribute, vars(module))}")
    task = make() if callable(make) else make
    if not isinstance(task, Task):
        raise ConfigError(f"env is {name!r}, but {attribute} makes a {type(task).__name__}, not a torch_ppo.task.Task")
    return task


def _import(place: str, name: str) -> object:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise ConfigError(f"env is {name!r}, but there is no module {error.name}") from None


def _load_file(path: Path, name: str) -> object:
    """The module in a file; it may import its neighbours."""
    if not path.is_file():
        raise ConfigError(f"env is {name!r}, but there is no file {path}")
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) == str(path):
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
