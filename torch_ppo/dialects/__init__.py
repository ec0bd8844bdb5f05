"""Configurations in the words and units of other PPO implementations.

`read_dialect` turns such a file into our settings, and says what was converted, what differs in meaning and what has no
counterpart; `write_dialect` goes the other way. What each word amounts to: docs/dialects.md.

    python -m torch_ppo.dialects ppo.yml --from sb3 --to rsl_rl
"""

from pathlib import Path
from types import ModuleType

from torch_ppo.dialects import brax, cleanrl, guide, practice, rl_games, rsl_rl, sb3, skrl
from torch_ppo.dialects.parse import Symbol, parse
from torch_ppo.dialects.reading import Reading
from torch_ppo.dialects.writing import Writing
from torch_ppo.errors import ConfigError, did_you_mean
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import decoded

DIALECTS: dict[str, ModuleType] = {
    "brax": brax,
    "guide": guide,
    "practice": practice,
    "rsl_rl": rsl_rl,
    "sb3": sb3,
    "cleanrl": cleanrl,
    "rl_games": rl_games,
    "skrl": skrl,
}


def dialect_named(name: str) -> ModuleType:
    """The dialect of this name; ConfigError if there is none."""
    if name not in DIALECTS:
        raise ConfigError(f"there is no dialect {name!r}{did_you_mean(name, DIALECTS)}")
    return DIALECTS[name]


def convert(
    values: dict[str, object], dialect: str, *, where: str = "the settings", num_envs: int | None = None
) -> Reading:
    """Our settings from `values`, nested as in the library's own files; `num_envs` where the file does not say."""
    module = dialect_named(dialect)
    reading = Reading(f"{where}, read as {dialect}")
    # What is code and no setting: envs, loggers. A setting whose value is not in the text is an error.
    values = {key: value for key, value in values.items() if key in module.KEYS or not isinstance(value, Symbol)}
    try:
        module.read(dict(values), where, reading, num_envs)
    except ConfigError as error:
        raise ConfigError(f"{error}{_other_dialect(values, dialect, str(error))}") from None
    try:
        Config(**{"num_timesteps": 1, **reading.settings})
    except ConfigError as error:
        raise ConfigError(f"{where}, read as {dialect}: {error}") from None
    return reading


def _other_dialect(values: dict[str, object], dialect: str, error: str) -> str:
    """Which dialects know all keys of a file that this one does not."""
    if not error.startswith("unknown key"):
        return ""
    others = [name for name, module in DIALECTS.items() if name != dialect and values.keys() <= module.KEYS]
    return f"; --dialect {' or '.join(others)} knows them all" if others else ""


def _file_and_section(name: str) -> tuple[Path, str]:
    """`file.yml:Ant-v4` as its two parts; the section may be empty."""
    if not Path(name).is_file() and ":" in name:
        file, _, section = name.rpartition(":")
        return Path(file), section
    return Path(name), ""


def _read_file(path: Path) -> dict[str, object]:
    try:
        text = decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def read_dialect(name: str, dialect: str, *, num_envs: int | None = None) -> Reading:
    """Our settings from a file; `file.yml:Ant-v4` is one section of a file with several, as RL Zoo's."""
    dialect_named(dialect)
    path, section = _file_and_section(name)
    values = _read_file(path)
    if section:
        if not isinstance(values.get(section), dict):
            raise ConfigError(f"{path} has no section {section!r}{did_you_mean(section, values)}")
        values = values[section]
    elif dialect == "sb3" and all(isinstance(value, dict) for value in values.values()):
        if len(values) > 1:
            first = next(iter(values))
            raise ConfigError(f"{path} has settings for {len(values)} envs; name one of them, such as {path}:{first}")
        (values,) = values.values()
    return convert(values, dialect, where=name, num_envs=num_envs)


def likely_dialects(values: dict[str, object]) -> list[str]:
    """The dialects that know most keys of a file, if that is half of them or more; several where they know as many."""
    if len(values) > 0 and all(isinstance(value, dict) for value in values.values()):
        sections = list(values.values())
        if not any(values.keys() & module.KEYS for module in DIALECTS.values()):
            values = sections[0]  # RL Zoo's: the sections are envs
    known = {name: len(values.keys() & module.KEYS) for name, module in DIALECTS.items()}
    most = max(known.values())
    return [name for name, number in known.items() if number == most] if most and 2 * most >= len(values) else []


def propose_dialect(name: str) -> str | None:
    """What to say to a file that is given as ours and is not TOML, or not in our words; None for one that may be ours."""
    path, _ = _file_and_section(name)
    if not path.is_file():
        return None
    ours = Config.__dataclass_fields__.keys()
    if path.suffix == ".toml":
        try:
            values = parse(decoded(path.read_bytes(), str(path)), str(path))
        except (ConfigError, OSError):
            return None  # reading it says what is wrong
        if any(key in ours for key in values):
            return None
    else:
        values = _read_file(path)
    likely = likely_dialects(values)
    if values.keys() <= ours and not any(values.keys() <= DIALECTS[dialect].KEYS for dialect in likely):
        return f"{name} is in our words, but not in TOML; lines such as num_envs = 64 would be"
    if not likely:
        return (
            f"{name} is not a configuration of ours in TOML, and no dialect knows most of its keys "
            f"({', '.join(list(values)[:4])}); the dialects are {', '.join(DIALECTS)}"
        )
    others = f", or {' or '.join(likely[1:])}" if len(likely) > 1 else ""
    return f"{name} looks like {' or '.join(likely)}; add --dialect {likely[0]}{others}"


def write_dialect(config: Config, dialect: str) -> tuple[str, Writing]:
    """The text of a file with our settings in another library's words, and the account of it."""
    writing = Writing(f"written as {dialect}", config)
    text = dialect_named(dialect).write(writing)
    writing.finish()
    return text, writing
