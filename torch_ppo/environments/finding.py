"""What is meant by an environment that somebody names or hands over: its source."""

import importlib
import re
from collections.abc import Callable
from functools import partial

from torch_ppo.environments.contract import NEEDED, WHOLE, lacking
from torch_ppo.environments.sources import AS_USUAL, FunctionSource, ObjectSource, Source, TaskSource, Wrapping
from torch_ppo.envs import ENVS, canonical_name, load_named
from torch_ppo.envs import make_task as task_named
from torch_ppo.errors import ConfigError, install
from torch_ppo.simulation.task import Task

# Libraries whose environments a name may begin with: where their sources are, which are imported when one is asked for,
# and what each needs: an extra of ours, or a command.
LIBRARIES = {
    "gym": ("gymnasium_envs", "GymnasiumSource", "gym"),
    "brax": ("brax_envs", "BraxSource", "playground"),
    "playground": ("brax_envs", "PlaygroundSource", "playground"),
    "mjlab": (
        "mjlab_envs",
        "MjlabSource",
        "pip install mjlab in an environment of its own, for it pins an older mujoco",
    ),
}

SPELLINGS = {"gymnasium": "gym", "mujoco_playground": "playground"}  # what a package is called, and our prefix


def _package(library: str) -> str:
    """What is imported for a prefix."""
    return next((package for package, prefix in SPELLINGS.items() if prefix == library), library)


def library_of(name: str) -> str | None:
    """The library whose environment a name means, such as "gym" of gym:Ant-v5; None for ours and users' own."""
    library, colon, _ = name.partition(":")
    return library if colon and library in LIBRARIES else None


def runs_own_code(name: str) -> bool:
    """Whether loading the environment of that name runs code that it names: a module's or a file's."""
    library = library_of(name)
    return ":" in (name if library is None else name.removeprefix(f"{library}:"))


def simulated_task(name: str) -> Task:
    """The task of that name, ours or a user's, for programs that show or step our own simulation.

    ConfigError if it is another library's environment, or no task.
    """
    if library_of(name) is not None:
        raise ConfigError(
            f"{name} is not simulated here, so this needs a task of ours or of your own; evaluate without --physics and "
            "--perturb plays its episodes"
        )
    return make_task(name)


def make_task(name: str) -> Task:
    """A task by name, or a user's own: "package.module:Task" or "path/to/file.py:Task".

    ConfigError says what is wrong with the name, and suggests the nearest of ours, or the call for another library's.
    """
    theirs = name if isinstance(name, str) and library_of(name) else None
    if theirs is None and isinstance(name, str) and canonical_name(name) not in ENVS:
        theirs = _somebody_elses(name)
    if theirs is not None:
        raise ConfigError(
            f"{name} is no task, but an environment of {_package(library_of(theirs))}, which is not simulated here; "
            f'make_env("{theirs}", num_envs) makes envs of it, and train("{theirs}", ...) trains in it'
        )
    return task_named(name)


def _somebody_elses(name: str) -> str | None:
    """How an environment of another library is asked for, where a name looks like that but has no prefix that we know."""
    prefix, colon, rest = name.rpartition(":")
    if re.fullmatch(r".+-v\d+", name) and not colon:
        return f"gym:{name}"
    return f"{SPELLINGS[prefix]}:{rest}" if prefix in SPELLINGS else None


def source_of(given: object, parameter: str = "environment", wrapping: Wrapping = AS_USUAL) -> Source:
    """The source that is meant; ConfigError if there is none. A name is one of ours, of a library, or of a user's own.

    parameter:  what the value was given as
    """
    if isinstance(given, str):
        return _named(given, wrapping)
    if isinstance(given, type) and issubclass(given, Task):
        raise ConfigError(
            f"{parameter} is the class {given.__name__}, but must be a task: {given.__name__}() would work"
        )
    if isinstance(given, Task):
        return TaskSource(given, wrapping)
    if hasattr(given, "make") and hasattr(given, "simulated"):
        return given
    return _of_object(given, parameter, wrapping)


def _of_object(given: object, parameter: str, wrapping: Wrapping) -> Source:
    if not lacking(given, WHOLE) or not lacking(given, ("reset", "step", "num_envs", "action_dim")):
        return ObjectSource(given, wrapping)
    if hasattr(given, "single_action_space"):  # gymnasium.vector.VectorEnv
        return _library("gym").of_vector(given, wrapping)
    if not lacking(given, ("reset", "step", "action_size", "observation_size")):  # brax.envs.Env, Playground's MjxEnv
        return _library("brax").of_object(given, wrapping)
    if callable(given) and not isinstance(given, type):
        return FunctionSource(given, wrapping, source_of)
    if not lacking(given, ("reset", "step", "action_space", "observation_space")):  # gymnasium.Env
        spec = getattr(given, "spec", None)
        remedy = f'"gym:{spec.id}", say, would work' if spec else "gymnasium.make_vec makes several"
        raise ConfigError(
            f"{parameter} is a {type(given).__name__}, one env of Gymnasium's, but envs are needed; {remedy}"
        )
    if hasattr(given, "step"):
        missing = lacking(given, ("reset", "step", *NEEDED))
        raise ConfigError(
            f"{parameter} is a {type(given).__name__}, which lacks {', '.join(missing)} (docs/environments.md)"
        )
    raise ConfigError(f"{parameter} is {given!r}, but must be a torch_ppo.Task, an environment, or the name of one")


def _library(name: str) -> Callable[..., Source]:
    module, attribute, needs = LIBRARIES[name]
    try:
        return getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("torch_ppo"):
            raise
        raise ConfigError(
            f"{name}: environments need the package {error.name}: {needs if ' ' in needs else install(needs)}"
        ) from None


def _named(name: str, wrapping: Wrapping) -> Source:
    library = library_of(name)
    if library is not None:
        return _library(library)(name.removeprefix(f"{library}:"), wrapping)
    meant = _somebody_elses(name)
    if meant is not None and canonical_name(name) not in ENVS:
        raise ConfigError(
            f"there is no env {name!r}; {meant} would be {LIBRARIES[library_of(meant)][0].split('_')[0]}'s"
        )
    if ":" not in name or name.startswith(":"):
        return TaskSource(task_named(name), wrapping)
    found = load_named(name)
    made_by = found.func if isinstance(found, partial) else found
    if isinstance(found, Task) or (isinstance(made_by, type) and issubclass(made_by, Task)):
        return TaskSource(task_named(name), wrapping)
    return source_of(found, f"env {name}", wrapping)


def canonical(name: str) -> str:
    """The name by which an environment is known whatever the folder: ours by our names, a file by its whole path."""
    return name if library_of(name) else canonical_name(name)
