"""Configurations as TOML: those that are shipped, by name, and files of one's own, by path."""

import codecs
import dataclasses
import json
import os
import tomllib
import typing
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.settings.checks import check_type
from torch_ppo.settings.config import Config
from torch_ppo.settings.spellings import THEIRS


def config_names() -> list[str]:
    """Names of the shipped configurations, those of the tasks."""
    return _toml_names(resources.files("torch_ppo.configs"))


def preset_names() -> list[str]:
    """Names of the shipped presets, `presets/...`: numbers that somebody recommends, for a kind of task."""
    return [f"presets/{name}" for name in _toml_names(resources.files("torch_ppo.configs") / "presets")]


def _toml_names(folder: Traversable) -> list[str]:
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_config(name_or_path: str) -> dict[str, object]:
    """The settings in a shipped configuration (by name), a TOML file or a run folder (by path), checked for unknown keys.

    What a file names, a task's file or a checkpoint, is looked for beside it, and then from the current folder.
    """
    path = Path(name_or_path)
    if (path / "config.toml").is_file():
        path = path / "config.toml"
    if name_or_path in (shipped := [*config_names(), *preset_names()]):
        content = (resources.files("torch_ppo.configs") / f"{name_or_path}.toml").read_bytes()
    elif path.is_file():
        content = path.read_bytes()
    elif path.suffix == ".toml" or (len(path.parts) > 1 and path.parts[0] != "presets"):
        raise ConfigError(f"there is no configuration file {name_or_path}")
    else:
        raise ConfigError(f"there is no configuration {name_or_path!r}{did_you_mean(name_or_path, shipped)}")
    values = _settings_in(content, name_or_path)
    place, colon, attribute = values.get("env", "").rpartition(":")
    if place.endswith(".py"):  # else the name of a task or a module
        values["env"] = f"{_beside(path, place)}{colon}{attribute}"
    if restored := values.get("restore_checkpoint_path"):
        values["restore_checkpoint_path"] = _beside(path, restored)
    return values


def read_settings(lines: Sequence[str], where: str) -> dict[str, object]:
    """The settings in lines of TOML such as num_envs=64, checked for unknown keys; `where` says what gave them."""
    try:
        return _settings_in("\n".join(lines).encode(), where)
    except TomlError as error:
        raise ConfigError(
            f"{error}; numbers are as num_envs=64, a text has quotes of its own: 'physics=\"warp\"'"
        ) from None


def decoded(content: bytes, where: str) -> str:
    """A file's text, in UTF-8, or in what its first bytes say: Windows' editors write UTF-16 and marks before UTF-8.

    ConfigError for any other; `where` names the file.
    """
    marks = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
    encoding = next((encoding for mark, encoding in marks if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where} is not text in UTF-8 from byte {error.start} on; saved in UTF-8 it would work"
        ) from None


class TomlError(ConfigError):
    """What is no TOML at all."""


def _settings_in(content: bytes, where: str) -> dict[str, object]:
    """The settings in TOML, checked for unknown keys and wrong types."""
    try:
        values = tomllib.loads(decoded(content, where))
    except (ValueError, RecursionError) as error:  # of TOML, of an int of thousands of digits
        raise TomlError(f"{where} is not valid TOML: {error}") from None
    # TOML has lists, Config tuples. Checked here, because tyro warns of defaults of a wrong type.
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    known = typing.get_type_hints(Config)
    for key, value in values.items():
        if key not in known:
            hint = f"; it is {THEIRS[key]} here" if key in THEIRS else did_you_mean(key, known)
            raise ConfigError(f"unknown key {key!r} in {where}{hint}")
        check_type(key, value, known[key])
    return values


def _beside(file: Path, name: str) -> str:
    """The path `name`, as it is called from the current folder if it is beside `file`."""
    found = file.parent / name
    return str(found) if os.path.exists(found) else name


def load_config(name_or_path: str, **overrides: object) -> Config:
    """A checked Config from a shipped configuration, TOML file or run folder, with overrides."""
    values = {**read_config(name_or_path), **overrides}
    if "num_timesteps" not in values:
        raise ConfigError(f"{name_or_path} does not set num_timesteps, the env steps to train for")
    return Config(**values)


def to_toml(config: Config) -> str:
    """All fields as TOML text that `load_config` reads back; None, which TOML lacks, is left out."""
    lines = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is not None:
            # json writes 1e-05 and inf-free floats, strings, booleans and flat lists as TOML does. Not so its escapes
            # beyond ASCII, of which there are none, and DEL, which it does not escape.
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{field.name} = {text}")
    return "\n".join(lines) + "\n"
