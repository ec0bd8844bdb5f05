"""Rooms stand on one another: a module imports from its own room and from rooms further down, never in a circle."""

import ast
import graphlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import torch_ppo

ROOT = Path(__file__).parents[1]

# From the bottom. Inside a room any order will do that has no circle.
ROOMS = (
    "torch_ppo.errors",
    "torch_ppo.command",
    "torch_ppo.formulas",
    "torch_ppo.settings",
    "torch_ppo.dialects",
    "torch_ppo.diagnosis",
    "torch_ppo.simulation",
    "torch_ppo.starting",
    "torch_ppo",  # the face: it names what others promise, and imports it only when it is asked for
    "torch_ppo.envs",
    "torch_ppo.environments",
    "torch_ppo.showing",
    "torch_ppo.learning",
    "torch_ppo.exporting",
    "torch_ppo.running",
    "torch_ppo.importing",
    "torch_ppo.watching",
    "torch_ppo.elsewhere",
    "programs",  # what one runs or calls: the modules in front
)
FOLDERS = {
    room: "envs" if room == "torch_ppo.envs" else room.replace(".", "/")
    for room in ROOMS
    if room.startswith("torch_ppo")
}


def sources() -> dict[str, Path]:
    """The file of every module, by the module's name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).glob("*.py"):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


SOURCES = sources()


def room_of(module: str) -> str:
    """The room that a module is in."""
    inside = [room for room in ROOMS if module == room or (room != "torch_ppo" and module.startswith(f"{room}."))]
    return inside[0] if inside else "programs"


def imports(module: str) -> Iterator[str]:
    """Full names of all that a module imports, wherever in the file; of ours, the modules, not what is in them."""
    path = SOURCES[module]
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            submodules = [f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in SOURCES]
            yield from submodules
            if len(submodules) < len(node.names):
                yield base


def ours(module: str) -> set[str]:
    """Our modules that a module imports."""
    return {name for name in imports(module) if name.split(".")[0] == "torch_ppo"}


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - {"torch_ppo"}))
def test_imports_point_downwards(module):
    for imported in ours(module):
        assert ROOMS.index(room_of(imported)) <= ROOMS.index(room_of(module)), f"{module} imports {imported}"


def test_no_circles():
    """In all of the house, and so inside each room."""
    graph = {module: ours(module) - {"torch_ppo"} for module in SOURCES if module != "torch_ppo"}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", [module for module in SOURCES if room_of(module) == "torch_ppo.formulas"])
def test_formulas_import_torch_only(module):
    """They can be read, tested and reused with torch alone."""
    for imported in imports(module):
        top = imported.split(".")[0]
        assert room_of(imported) == "torch_ppo.formulas" or top == "torch" or top in sys.stdlib_module_names, imported


def importers(*packages: str) -> set[str]:
    """Modules that import one of these packages or something in it."""

    def wanted(name: str) -> bool:
        return any(f"{name}.".startswith(f"{package}.") for package in packages)

    return {module for module in SOURCES if any(map(wanted, imports(module)))}


def test_tasks_are_known_only_to_the_programs_and_what_opens_runs():
    outside = {module for module in importers("torch_ppo.envs") if not module.startswith("torch_ppo.envs")}
    rooms = {"torch_ppo.environments", "torch_ppo.running", "torch_ppo.watching", "programs"}
    assert {room_of(module) for module in outside} == rooms


def test_warp_is_known_only_to_its_engine_and_its_ray_tracers():
    assert importers("warp", "mujoco_warp") == {
        "torch_ppo.simulation.capture",
        "torch_ppo.simulation.kernels",
        "torch_ppo.simulation.warp_constants",
        "torch_ppo.simulation.warp_engine",
        "torch_ppo.simulation.warp_views",
        "torch_ppo.showing.ray_tracer",
    }


@pytest.mark.parametrize("module", [module for module in SOURCES if module.startswith("torch_ppo.envs.")])
def test_tasks_are_written_with_the_public_face(module):
    """As a user's are: what they import of ours is promised."""
    assert {name for name in ours(module) if not name.startswith("torch_ppo.envs")} <= {"torch_ppo"}


def test_our_folders_are_imported_through_the_package():
    """`envs` and `configs` at top level would be somebody else's, and are not there in a wheel."""
    assert importers("envs", "configs") == set()


def test_face_for_editors_is_the_face():
    """What type checkers read in torch_ppo/__init__.pyi is what the package gives at run time."""
    tree = ast.parse(SOURCES["torch_ppo"].with_suffix(".pyi").read_text())
    told = {
        alias.asname: node.module.removeprefix("torch_ppo.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("torch_ppo")
        for alias in node.names
    }
    assert told == torch_ppo.FACE
