"""Whose checkpoint a file or folder is, and what it amounts to here."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch_ppo.exporting.reading import format_of
from torch_ppo.importing import brax, cleanrl, exported, orbax_folder, rsl_rl, sb3
from torch_ppo.importing.gaussian import Normalizer, read_torch
from torch_ppo.importing.imported import ForeignError, Imported
from torch_ppo.importing.pickles import read_pickle

# A pickle of its magic number; since then they are zip files.
TORCH_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
TRAINERS = ("brax", "rsl_rl", "sb3", "cleanrl", "torch_ppo")


@dataclass(frozen=True)
class Given:
    """What a user has said beside the checkpoint.

    settings:    of a configuration, by field of `Config`
    activation:  None for what the file says, or its trainer's default
    normalizer:  a file with statistics that the checkpoint does not have, or None
    trusted:     whether pickles are read
    """

    settings: Mapping[str, object]
    activation: str | None = None
    normalizer: Path | None = None
    trusted: bool = False


def read(path: Path, trainer: str | None, given: Given) -> tuple[str, Imported]:
    """Whose checkpoint it is, and the policy in our terms. ForeignError where it cannot be read or has no counterpart.

    trainer:  one of `TRAINERS`; None to see for oneself
    """
    if not path.exists():
        raise ForeignError(f"there is no checkpoint {path}")
    _check_not_ours(path)
    trainer = trainer or _trainer_of(path)
    if given.normalizer is not None and trainer not in ("sb3", "cleanrl"):
        raise ForeignError(f"--normalizer has no effect: a checkpoint of {trainer} has its own")
    if path.is_dir() != (trainer == "brax") and not (trainer == "brax" and path.is_file()):
        raise ForeignError(f"{path} is a folder, but a checkpoint of {trainer} is a file in it")
    if trainer != "torch_ppo" and path.is_file() and exported.is_one(path):
        raise ForeignError(f"{path} is safetensors, as policies exported here are, not of {trainer}; leave --from out")
    if trainer == "brax":
        return trainer, _of_brax(path, given)
    if trainer == "torch_ppo":
        if given.activation is not None:
            raise ForeignError(f"--activation {given.activation} has no effect: {path} says its own")
        return trainer, exported.read(path)
    normalizer = None if given.normalizer is None else sb3.read_normalizer(given.normalizer, trusted=given.trusted)
    if trainer == "sb3":
        return trainer, sb3.read(path, given.activation, normalizer)
    content = read_torch(path.read_bytes(), path)
    return trainer, _of_torch(trainer, content, path, given, normalizer)


def _check_not_ours(path: Path) -> None:
    """ForeignError for what is of torch_ppo and is not what can be brought in of it."""
    if (path / "config.toml").is_file() and (path / "checkpoints").is_dir():
        raise ForeignError(f"{path} is a run of torch_ppo already; --restore-checkpoint-path {path} trains on from it")
    if (name := format_of(path)) not in (None, "safetensors"):
        raise ForeignError(
            f"{path} is an exported policy ({name}); only safetensors can be brought in, which export --format safetensors "
            "writes"
        )


def _activation(given: Given) -> str | None:
    activation = given.settings.get("activation")
    return None if activation is None else str(activation)


def _of_brax(path: Path, given: Given) -> Imported:
    settings = dict(given.settings)
    if path.is_dir():
        path = orbax_folder.find_checkpoint(path)
        network = orbax_folder.read_network(path)
        params: object = orbax_folder.read_params(path)
        steps = orbax_folder.env_steps_of(path)
    else:
        network, steps = None, 0
        params = read_pickle(path, trusted=given.trusted)
    if given.activation is not None:
        settings["activation"] = given.activation
        if network and (own := network.get("network_factory_kwargs", {}).get("activation")) not in (
            None,
            given.activation,
        ):
            raise ForeignError(f"--activation {given.activation} has no effect: the checkpoint says {own}")
    return brax.read(params, network, settings, env_steps=steps)


def _of_torch(trainer: str, content: object, path: Path, given: Given, normalizer: Normalizer | None) -> Imported:
    module = {"rsl_rl": rsl_rl, "cleanrl": cleanrl}[trainer]
    if not module.is_one(content):
        what = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ForeignError(f"{path} is no checkpoint of {trainer}: it has {what or 'nothing'}")
    activation = given.activation or _activation(given) or module.DEFAULT_ACTIVATION
    if trainer == "rsl_rl":
        imported = rsl_rl.read(content, activation, str(path))
    else:
        imported = cleanrl.read(content, activation, str(path), normalizer)
    if given.activation is None and _activation(given) is None:
        imported.notes.append(
            f"the activation is taken to be {activation}, the trainer's default; --activation could say other"
        )
    return imported


def _trainer_of(path: Path) -> str:
    """By what is in it."""
    if path.is_dir():
        return "brax"
    if sb3.is_one(path):
        return "sb3"
    if zipfile.is_zipfile(path):
        return _of_content(read_torch(path.read_bytes(), path), path)
    with path.open("rb") as file:
        first = file.read(len(TORCH_BEFORE_1_6))
    if exported.is_one(path):
        return "torch_ppo"
    if first == TORCH_BEFORE_1_6:
        return _of_content(read_torch(path.read_bytes(), path), path)
    if first[:1] == b"\x80":
        return "brax"
    if first[:2] == b"PK":
        raise ForeignError(f"{path} is not a whole file (cut off?)")
    raise ForeignError(f"{path} is no checkpoint that is known; trainers: {', '.join(TRAINERS)}")


def _of_content(content: object, path: Path) -> str:
    """By what torch has read of a file."""
    if isinstance(content, dict) and {"agent", "config", "format"} <= content.keys():
        raise ForeignError(f"{path} is a checkpoint of torch_ppo already")
    for name, module in (("rsl_rl", rsl_rl), ("cleanrl", cleanrl)):
        if module.is_one(content):
            return name
    what = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else f"a {type(content).__name__}"
    raise ForeignError(
        f"{path} is no checkpoint that is known: it has {what or 'nothing'}; trainers: {', '.join(TRAINERS)}"
    )
