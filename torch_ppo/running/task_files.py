"""The files that a task is made of: which they are, copies of them in a run's folder, and whether they have changed."""

import ast
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mujoco

from torch_ppo.simulation.included import find_assets

LARGEST_COPY = 1_000_000  # bytes of a mesh or texture; of larger ones the hash is kept
SOURCES = (".py", ".xml")  # copied whatever their size


@dataclass(frozen=True)
class TaskFiles:
    """Files by what they are called in the copy.

    source: the task's module
    root:   the folder from which it is imported
    base:   the folder that holds all the files, and becomes `task/`
    files:  where each is, by its path from `base`
    """

    source: Path
    root: Path
    base: Path
    files: dict[str, Path]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files.items()}

    def copy(self, folder: Path) -> list[str]:
        """Copies all but large assets, in the same order of folders; the names of those that were left out."""
        left_out = []
        for name, path in self.files.items():
            if path.suffix not in SOURCES and path.stat().st_size > LARGEST_COPY:
                left_out.append(name)
                continue
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        return left_out


def files_of(task: object) -> TaskFiles:
    """The module of a task, or of a function that makes envs, those of its neighbours that it imports, its MJCF and what
    that includes. OSError if unreadable.
    """
    module = sys.modules[task.__module__]
    source = Path(module.__file__).resolve()
    depth = 0 if module.__spec__ is None else module.__spec__.name.count(".")
    root = source.parents[depth]
    ours = module.__name__.startswith("torch_ppo.")
    files = {source, *_neighbours(module.__name__, source.parent if ours else root)}
    mjcf = getattr(task, "mjcf", None)
    if mjcf is not None and Path(mjcf).is_file():
        files |= set(_dependencies(Path(mjcf).resolve()))
    base = Path(os.path.commonpath([source.parent if ours else root, *(file.parent for file in files)]))
    return TaskFiles(source, root, base, {str(file.relative_to(base)): file for file in sorted(files)})


def _neighbours(name: str, tree: Path) -> set[Path]:
    """Files below the folder `tree` of the modules that this one imports, and those import, and so on."""
    found: set[Path] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        path = Path(file).resolve() if file else None
        if path is None or path in found or path.suffix != ".py" or not path.is_relative_to(tree):
            continue
        library = "site-packages" in path.relative_to(tree).parts or name.split(".")[0] == "torch_ppo"
        if library and not name.startswith("torch_ppo.envs."):
            continue
        found.add(path)
        waiting += _imports(name, path)
        waiting += [name.rpartition(".")[0]]  # a package's __init__.py
    return found


def _imports(name: str, path: Path) -> Iterator[str]:
    package = getattr(sys.modules[name], "__package__", None) or ""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _dependencies(mjcf: Path) -> Iterator[Path]:
    """An MJCF file, those that it includes or attaches, and its assets."""
    for name in (str(mjcf), *mujoco.mju_getXMLDependencies(str(mjcf))):
        path = Path(name) if Path(name).is_absolute() else mjcf.parent / name
        if path.is_file():
            yield path.resolve()
    # MuJoCo's list has included files' assets where they are not; of those that it loses ours has them.
    yield from find_assets(mujoco.MjSpec.from_file(str(mjcf)), mjcf)


def changed(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names of files whose content is another than then. Folders may have moved: a file is known by its last name."""
    before = {(Path(name).name, digest) for name, digest in then.items()}
    after = {(Path(name).name, digest) for name, digest in now.items()}
    return sorted({name for name, _ in before ^ after})


def where_to_load(env: str, record: dict[str, str], copies: Path) -> tuple[str, str | None]:
    """The name by which to load the task of a run, and a line to say if that is the copy in the run's folder.

    record:  `root` and `base` of when the run began, empty if not known
    copies:  the run's folder of copies
    """
    place, _, attribute = env.rpartition(":")
    if not place or not record:
        return env, None
    note = f"note: {{}} is gone; the copy in {copies} is used"
    base = Path(record["base"])
    if place.endswith(".py"):
        if Path(place).is_file() or not Path(place).is_relative_to(base):
            return env, None
        return f"{copies / Path(place).relative_to(base)}:{attribute}", note.format(place)
    # A module: importable from anywhere, or from the folder where it was.
    top = place.split(".")[0]
    root, copied_root = Path(record["root"]), copies / Path(record["root"]).relative_to(base)
    if importlib.util.find_spec(top) is not None:
        return env, None
    if (root / top).exists() or (root / f"{top}.py").exists():
        sys.path.append(str(root))
        return env, None
    sys.path.append(str(copied_root))
    return env, note.format(f"module {place}")
