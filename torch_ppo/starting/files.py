"""A first task for a robot: a task file, a configuration for the CPU, and a test, written from what its MJCF has.

The texts are a start to be changed, so they are plain: positions and velocities observed, one reward in a line or two, an end
where a floating base has fallen or a pose is lost, actions scaled to what the actuators take.
"""

import importlib.util
import keyword
import os
import re
import sys
from pathlib import Path

from torch_ppo.starting.robot import StarterError, look_at
from torch_ppo.starting.texts import configuration_text, task_text, test_text


def write_starter(mjcf: Path, folder: Path | None) -> tuple[list[Path], str]:
    """Writes task, configuration and test for a robot into `folder`, by default beside its MJCF; the files, and the class.

    StarterError, and nothing written, if one of them is there already, or if the model has no actuators.
    """
    mjcf = mjcf.expanduser()
    robot = look_at(mjcf)
    folder = (folder or mjcf.parent).expanduser()
    if folder.exists() and not folder.is_dir():
        raise StarterError(f"--output {folder} is a file, but must be a folder")
    module, name = names_for(mjcf, folder)
    relative = Path(os.path.relpath(mjcf.resolve(), folder.resolve())).as_posix()
    texts = {
        folder / f"{module}.py": task_text(robot, name, relative),
        folder / f"{module}.toml": configuration_text(robot, name, module),
        folder / f"test_{module}.py": test_text(name, module),
    }
    there = [str(path) for path in texts if path.exists()]
    if there:
        raise StarterError(f"there already: {', '.join(there)}; --output elsewhere would write into another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StarterError(f"{folder} cannot be written: {error.strerror}; --output DIR would choose another") from None
    return list(texts), name


def names_for(mjcf: Path, folder: Path) -> tuple[str, str]:
    """Names of module and class: the file's, or the folder's of one called scene, as identifiers that nothing else has."""
    stem = mjcf.resolve().parent.name if mjcf.stem == "scene" else mjcf.stem
    words = [word for word in re.split(r"[\W_]+", stem) if word] or ["robot"]
    module, name = "_".join(words), "".join(word[0].upper() + word[1:] for word in words)
    if not module.isidentifier():  # begins with a digit
        module, name = f"robot_{module}", f"Robot{name}"
    if keyword.iskeyword(module) or _is_taken(module, folder):
        module = f"{module}_task"
    # What the file imports must not be hidden by its own class.
    return module, f"{name}Task" if name in ("Task", "Tensor", "Memory", "Physics", "Path") or keyword.iskeyword(
        name
    ) else name


def _is_taken(module: str, folder: Path) -> bool:
    """Whether something else is imported by that name, which a file in `folder` would hide."""
    if module in sys.stdlib_module_names:
        return True
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return found is not None and (found.origin is None or Path(found.origin).resolve().parent != folder.resolve())
