"""Models of MuJoCo Menagerie (github.com/google-deepmind/mujoco_menagerie), by the name of their folder.

They are looked for on this machine and never downloaded from here: a run must not depend on the network.
"""

import importlib
import os
from pathlib import Path

from torch_ppo.errors import UserError, did_you_mean, install

CHECKOUT = "MUJOCO_MENAGERIE_PATH"  # environment variable: a checkout of the repository


def how_to_get_them() -> str:
    return (
        f"set {CHECKOUT} to a checkout of github.com/google-deepmind/mujoco_menagerie, or {install('menagerie')} and "
        "mujoco-menagerie prefetch"
    )


class MenagerieError(UserError):
    """A model that is not on this machine."""


def menagerie_model(name: str, file: str | None = None) -> Path:
    """The MJCF file of a robot, such as ("unitree_go1", "scene_mjx.xml"); by default its scene.xml.

    Looks in the checkout that MUJOCO_MENAGERIE_PATH names if it is set, otherwise in what the package
    mujoco-menagerie has downloaded. MenagerieError says where it looked, what there is, and how to get the models.
    """
    folder = _in_checkout(name) if os.environ.get(CHECKOUT) else _in_package(name)
    path = folder / (file or "scene.xml")
    if not path.is_file():
        files = sorted(other.name for other in folder.glob("*.xml"))
        raise MenagerieError(f"{folder} has no {path.name}{did_you_mean(path.name, files)}")
    return path


def _in_checkout(name: str) -> Path:
    root = Path(os.environ[CHECKOUT]).expanduser()
    if not root.is_dir():
        raise MenagerieError(f"{CHECKOUT} is {root}, which is not a folder; {how_to_get_them()}")
    robots = sorted({file.parent.name for file in root.glob("*/*.xml")})
    if not robots:
        raise MenagerieError(f"{CHECKOUT} is {root}, which has no robots; {how_to_get_them()}")
    if name not in robots:
        raise MenagerieError(f"{root} has no robot {name!r}{did_you_mean(name, robots)}")
    return root / name


def _in_package(name: str) -> Path:
    """A robot's folder in the cache of the package mujoco-menagerie."""
    try:
        package = importlib.import_module("mujoco_menagerie")
    except ModuleNotFoundError:
        raise MenagerieError(f"there are no models of MuJoCo Menagerie here; {how_to_get_them()}") from None
    if name not in package.names():
        raise MenagerieError(f"MuJoCo Menagerie has no robot {name!r}{did_you_mean(name, package.names())}")
    # Not by the package's own `path` or `xml`, which would download.
    robot, cache = package.get(name), package.Cache()
    folder = cache.model_path(robot) if cache.root is None else cache.root / name
    if not (folder.is_dir() if cache.root else cache.is_cached(robot)):
        raise MenagerieError(
            f"there is no {folder}; mujoco-menagerie prefetch {name} would download it, or set {CHECKOUT} to a checkout"
        )
    return folder
