"""Brax's checkpoint folders: arrays by Orbax, which is an optional package, beside the network's configuration as JSON."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch_ppo.exporting.errors import optional_package
from torch_ppo.importing.imported import ForeignError

NETWORK = "ppo_network_config.json"
_OLDER = ("config.json",)


def is_checkpoint(path: Path) -> bool:
    """Whether a folder looks like one of Orbax's."""
    return (path / "_CHECKPOINT_METADATA").is_file() or (path / "_METADATA").is_file()


def find_checkpoint(path: Path) -> Path:
    """The folder itself, or the newest of those in it that are named by env steps, as Brax's save_checkpoint_path has them."""
    if not path.exists():
        raise ForeignError(f"there is no checkpoint {path}")
    if is_checkpoint(path):
        return path
    steps = [below for below in path.iterdir() if below.name.isdecimal() and is_checkpoint(below)]
    if not steps:
        raise ForeignError(f"{path} is no checkpoint of Orbax, and has none named by env steps, such as 000001000000")
    return max(steps, key=lambda below: int(below.name))


def env_steps_of(path: Path) -> int:
    """What the folder's name says; 0 where it is no number."""
    return int(path.name) if path.name.isdecimal() and len(path.name) < 19 else 0


def read_network(path: Path) -> dict | None:
    """The network's configuration; None if there is no such file."""
    for name in (NETWORK, *_OLDER):
        file = path / name
        if file.is_file():
            try:
                found = json.loads(file.read_bytes())
            except ValueError:
                found = None
            if not isinstance(found, dict):
                raise ForeignError(f"{file} is not a JSON object")
            if "network_factory_kwargs" in found or name == NETWORK:
                return found
    if others := sorted(file.name for file in path.glob("*_network_config.json")):
        raise ForeignError(f"{path} has {others[0]}: only checkpoints of PPO have a counterpart")
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs a page for each file."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def read_params(path: Path) -> object:
    """The arrays of a checkpoint, nested as they were saved. ForeignError if they cannot be read."""
    orbax = optional_package("orbax.checkpoint", "reading a checkpoint of Orbax", extra="brax")
    import numpy as np

    with _quiet():
        try:
            reader = orbax.PyTreeCheckpointer()
            metadata = reader.metadata(path.resolve())
            tree = getattr(metadata, "item_metadata", metadata)
            wanted = _mapped(tree, orbax.RestoreArgs(restore_type=np.ndarray))
            return reader.restore(path.resolve(), orbax.args.PyTreeRestore(restore_args=wanted))
        except Exception as error:  # noqa: BLE001 - its own are many, and of many packages
            reason = str(error).strip().partition("\n")[0][:200]
            raise ForeignError(f"{path} cannot be read by Orbax: {reason or type(error).__name__}") from None


def _mapped(tree: object, leaf: object) -> object:
    tree = getattr(tree, "tree", tree)
    if isinstance(tree, dict):
        return {name: _mapped(value, leaf) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_mapped(value, leaf) for value in tree]
    return leaf


def write(path: Path, params: tuple, network: dict) -> None:
    """A checkpoint folder as Brax's `checkpoint.save` leaves it."""
    orbax = optional_package("orbax.checkpoint", "writing a checkpoint of Orbax", extra="brax")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        orbax.PyTreeCheckpointer().save(path.resolve(), params)
    (path / NETWORK).write_text(json.dumps(network, indent=2) + "\n")
