"""Imports point only downwards: every module has a level and imports only modules of lower levels."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"torch_ppo": "torch_ppo", "torch_ppo.dialects": "torch_ppo/dialects", "torch_ppo.envs": "envs"}

# From the bottom. A new module gets a line here, on the lowest level that is above all that it imports.
LEVELS = (
    (
        "errors noise distribution running_statistics episode_metrics late_number capture logger schedules "
        "envs.joystick envs.rewards envs.terrain"
    ),
    "losses networks physics ray_tracer video",
    "config_checks randomization",
    "config task",
    "config_file",
    "menagerie physics_mujoco physics_warp dialects.parse dialects.reading",
    "dialects.writing",
    "dialects.brax dialects.rollout",
    "dialects.cleanrl dialects.guide dialects.rl_games dialects.rsl_rl dialects.sb3 dialects.skrl",
    "dialects.practice",
    "dialects",
    (
        "agent envs.acrobot envs.ant envs.ball_in_cup envs.biped envs.cartpole envs.cheetah envs.finger envs.fish "
        "envs.hopper envs.humanoid envs.pendulum envs.point_mass envs.quadruped envs.reacher envs.swimmer envs.walker"
    ),
    "env envs policy",
    "collect evaluate render",
    "prepare",
    "update",
    "accelerate",
    "train_step training_state",
    "checkpoint",
    "program",
    "dialects.__main__ export play seeds tasks",
    "train",
)
LEVEL = {f"torch_ppo.{name}": level for level, names in enumerate(LEVELS) for name in names.split()}
LEVEL["torch_ppo"] = -1  # the package itself: its version, and where envs/ lies

# The one place where a lower module names higher ones: `make_physics` loads the engine that it is asked for.
UPWARDS = {
    ("torch_ppo.simulation.physics", "torch_ppo.simulation.mujoco_engine"),
    ("torch_ppo.simulation.physics", "torch_ppo.simulation.warp_engine"),
}

# Modules of formulas: they can be read, tested and reused with torch alone.
PURE = "distribution losses networks running_statistics schedules noise envs.rewards".split()


def sources() -> dict[str, Path]:
    """The file of every module, by the module's name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).glob("*.py"):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


SOURCES = sources()


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


def test_every_module_has_a_level():
    assert SOURCES.keys() == LEVEL.keys()


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_downwards(module):
    for imported in imports(module):
        if imported.split(".")[0] == "torch_ppo" and (module, imported) not in UPWARDS:
            assert LEVEL[imported] < LEVEL[module], f"{module} imports {imported}"


def test_exceptions_exist():
    assert {pair for pair in UPWARDS if pair[1] in imports(pair[0])} == UPWARDS


@pytest.mark.parametrize("name", PURE)
def test_formulas_need_only_torch(name):
    for imported in imports(f"torch_ppo.{name}"):
        top = imported.split(".")[0]
        pure = imported.removeprefix("torch_ppo.") in PURE
        assert pure or top in {"torch", "numpy"} or top in sys.stdlib_module_names, f"{name} imports {imported}"


def importers(*packages: str) -> set[str]:
    """Modules that import one of these packages or something in it."""

    def wanted(name: str) -> bool:
        return any(f"{name}.".startswith(f"{package}.") for package in packages)

    return {module for module in SOURCES if any(map(wanted, imports(module)))}


def test_tasks_are_known_only_to_the_trainer_and_the_programs():
    outside = {module for module in importers("torch_ppo.envs") if not module.startswith("torch_ppo.envs")}
    assert outside == {"torch_ppo.train", "torch_ppo.running.program", "torch_ppo.play", "torch_ppo.tasks"}


def test_warp_is_known_only_to_its_engine_and_its_ray_tracer():
    assert importers("warp", "mujoco_warp") == {
        f"torch_ppo.{name}" for name in ("capture", "physics_warp", "ray_tracer")
    }


def test_our_folders_are_imported_through_the_package():
    """`envs` and `configs` at top level would be somebody else's, and are not there in a wheel."""
    assert importers("envs", "configs") == set()
