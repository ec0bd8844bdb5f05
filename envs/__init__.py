"""The tasks, by name."""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch_ppo.command import called
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.simulation.task import Task

from . import finger, walker
from .acrobot import Acrobot
from .ant import Ant, AntStand
from .ball_in_cup import BallInCup
from .biped import Biped
from .cartpole import Cartpole, CartpoleVision
from .cheetah import Cheetah
from .finger import Finger
from .fish import Fish
from .hopper import Hopper
from .humanoid import RUN_SPEED, WALK_SPEED, Humanoid
from .pendulum import Pendulum
from .point_mass import PointMass
from .quadruped import Quadruped
from .reacher import Reacher, ReacherVision
from .swimmer import Swimmer
from .walker import Walker

ENVS: dict[str, Callable[[], Task]] = {
    "acrobot_swingup": Acrobot,
    "acrobot_swingup_sparse": partial(Acrobot, sparse=True),
    "ant": Ant,
    "ant_stand": AntStand,
    "ball_in_cup_catch": BallInCup,
    "biped_joystick": Biped,
    "cartpole": Cartpole,
    "cartpole_balance_vision": CartpoleVision,
    "cartpole_sparse": partial(Cartpole, sparse=True),
    "cartpole_swingup": partial(Cartpole, swing_up=True),
    "cartpole_swingup_sparse": partial(Cartpole, swing_up=True, sparse=True),
    "cheetah_run": Cheetah,
    "finger_spin": Finger,
    "finger_turn_easy": partial(Finger, target_radius=finger.EASY_TARGET),
    "finger_turn_hard": partial(Finger, target_radius=finger.HARD_TARGET),
    "fish_swim": Fish,
    "hopper_hop": partial(Hopper, hopping=True),
    "hopper_stand": Hopper,
    "humanoid_run": partial(Humanoid, move_speed=RUN_SPEED),
    "humanoid_stand": Humanoid,
    "humanoid_walk": partial(Humanoid, move_speed=WALK_SPEED),
    "pendulum_swingup": Pendulum,
    "point_mass_easy": PointMass,
    "quadruped_joystick": Quadruped,
    "quadruped_joystick_rough": partial(Quadruped, rough=True),
    "reacher_easy": Reacher,
    "reacher_hard": partial(Reacher, hard=True),
    "reacher_vision": ReacherVision,
    "swimmer_swimmer6": Swimmer,
    "walker_run": partial(Walker, move_speed=walker.RUN_SPEED),
    "walker_stand": Walker,
    "walker_walk": partial(Walker, move_speed=walker.WALK_SPEED),
}

# What a task is called in the DM Control suite and in MuJoCo Playground.
OTHER_NAMES = {
    "acrobot_swingup": ("acrobot/swingup", "AcrobotSwingup"),
    "acrobot_swingup_sparse": ("acrobot/swingup_sparse", "AcrobotSwingupSparse"),
    "ant": ("Ant-v5",),
    "ant_stand": ("AntStand",),
    "ball_in_cup_catch": ("ball_in_cup/catch", "BallInCup"),
    "cartpole": ("cartpole/balance", "CartpoleBalance"),
    "cartpole_sparse": ("cartpole/balance_sparse", "CartpoleBalanceSparse"),
    "cartpole_swingup": ("cartpole/swingup", "CartpoleSwingup"),
    "cartpole_swingup_sparse": ("cartpole/swingup_sparse", "CartpoleSwingupSparse"),
    "cheetah_run": ("cheetah/run", "CheetahRun"),
    "finger_spin": ("finger/spin", "FingerSpin"),
    "finger_turn_easy": ("finger/turn_easy", "FingerTurnEasy"),
    "finger_turn_hard": ("finger/turn_hard", "FingerTurnHard"),
    "fish_swim": ("fish/swim", "FishSwim"),
    "hopper_hop": ("hopper/hop", "HopperHop"),
    "hopper_stand": ("hopper/stand", "HopperStand"),
    "humanoid_run": ("humanoid/run", "HumanoidRun"),
    "humanoid_stand": ("humanoid/stand", "HumanoidStand"),
    "humanoid_walk": ("humanoid/walk", "HumanoidWalk"),
    "pendulum_swingup": ("pendulum/swingup", "PendulumSwingup"),
    "point_mass_easy": ("point_mass/easy", "PointMass"),
    "quadruped_joystick": ("Go1JoystickFlatTerrain",),
    "quadruped_joystick_rough": ("Go1JoystickRoughTerrain",),
    "reacher_easy": ("reacher/easy", "ReacherEasy"),
    "reacher_hard": ("reacher/hard", "ReacherHard"),
    "swimmer_swimmer6": ("swimmer/swimmer6", "SwimmerSwimmer6"),
    "walker_run": ("walker/run", "WalkerRun"),
    "walker_stand": ("walker/stand", "WalkerStand"),
    "walker_walk": ("walker/walk", "WalkerWalk"),
}
ALIASES = {other: name for name, others in OTHER_NAMES.items() for other in others}


def canonical_name(name: str) -> str:
    """Our name of a task of ours; a file by its whole path, so that the name means the same in any folder."""
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        return f"{os.path.abspath(os.path.expanduser(place))}:{attribute}"
    return ALIASES.get(name, name)


def make_task(name: str) -> Task:
    """A task by name, or a user's own: "package.module:Task" or "path/to/file.py:Task".

    ConfigError says what is wrong with the name, and suggests the nearest of ours.
    """
    if not name:
        raise ConfigError(f"env is not set; known: {', '.join(ENVS)}")
    if ":" in name:
        return _load_task(name)
    if name.endswith(".py"):
        would = " or ".join(f"{name}:{each}" for each in _names_in(Path(name).expanduser()))
        raise ConfigError(
            f"env is {name!r}, a file, but must also name the task in it; {would or f'{name}:MyTask, say,'} would work"
        )
    name = canonical_name(name)
    if name not in ENVS and name.lower().endswith((".xml", ".mjcf", ".urdf")):
        raise ConfigError(
            f"env is {name!r}, a model, but must be a task; {called('tasks')} --new {name} writes a first one for it"
        )
    if name not in ENVS:
        raise ConfigError(f"there is no env {name!r}{did_you_mean(name, ENVS)}")
    return ENVS[name]()


def load_named(name: str) -> object:
    """What "package.module:name" or "path/to/file.py:name" means; ConfigError if there is no such thing."""
    place, _, attribute = name.rpartition(":")
    try:
        module = _load_file(Path(place).expanduser(), name) if place.endswith(".py") else _import(place, name)
    except SyntaxError as error:
        raise ConfigError(f"env is {name!r}, but {error.filename}:{error.lineno} is not Python: {error.msg}") from None
    made = getattr(module, attribute, None)
    if made is None:
        tasks = [each for each, value in vars(module).items() if value is not Task and _makes_task(value)]
        hint = did_you_mean(attribute, tasks) if tasks else ", nor any other torch_ppo.Task"
        raise ConfigError(f"env is {name!r}, but {place} has no {attribute or 'task without a name'}{hint}")
    return made


def _names_in(path: Path) -> list[str]:
    """Of a file that is not run for that: its own classes that are derived from others, where it can be read."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.bases and node.name[0] != "_"]


def _load_task(name: str) -> Task:
    make, attribute = load_named(name), name.rpartition(":")[2]
    if not _makes_task(make):
        raise ConfigError(
            f"env is {name!r}, but {attribute} is not a torch_ppo.Task; train and evaluate take environments of other kinds, too"
        )
    try:
        return make() if callable(make) else make
    except TypeError as error:
        raise ConfigError(f"env is {name!r}, but {attribute}() cannot be made: {error}") from None


def _makes_task(value: object) -> bool:
    """Whether it is a task, a class of tasks, or such a class with some arguments."""
    made = value.func if isinstance(value, partial) else value
    return isinstance(value, Task) or (isinstance(made, type) and issubclass(made, Task))


def _import(place: str, name: str) -> object:
    if not all(part.isidentifier() for part in place.split(".")):
        raise ConfigError(
            f"env is {name!r}, but {place!r} is no module; package.module:MyTask or path/to/file.py:MyTask would work"
        )
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise ConfigError(f"env is {name!r}, but there is no module {error.name}") from None


def _load_file(path: Path, name: str) -> object:
    """The module in a file; it may import its neighbours."""
    try:
        found = path.is_file()
    except OSError as error:  # a name that no file can have
        raise ConfigError(f"env is {name!r}, but {path}: {error.strerror}") from None
    if not found:
        raise ConfigError(f"env is {name!r}, but there is no file {path}")
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) == str(path):
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]  # half a module would be taken for it the next time
        raise
    return module
