"""What goes through the hands of a dialect: a file's settings while they are read, and the account of it."""

import difflib
import math
from dataclasses import dataclass, field

from torch_ppo.errors import ConfigError, did_you_mean

MAX_NUMBER = 1e38  # what float32 holds
REQUIRED = object()
KINDS = {int: "an int", float: "a number", bool: "True or False", str: "a word", list: "a list", dict: "a section"}


def shown(value: object) -> str:
    """A value as it would be written down."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return str(value)


class Source:
    """One section of a file's settings. Keys are checked when it is made, types when they are taken."""

    def __init__(self, values: dict[str, object], where: str, known: set[str] | None) -> None:
        """`known` None knows all keys."""
        for key in values:
            if known is not None and key not in known:
                few = len(known) < 30 or difflib.get_close_matches(key, known, n=1)
                hint = did_you_mean(key, known) if few else ", and none that is known is spelled like it"
                raise ConfigError(f"unknown key {key!r} in {where}{hint}")
        self.values = dict(values)
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def take(self, key: str, kind: type, default: object = REQUIRED) -> object:
        """The value of a key, of the given kind; None passes only where it is the default."""
        if key not in self.values:
            if default is REQUIRED:
                raise ConfigError(f"{self.where} does not set {key}")
            return default
        value = self.values[key]
        if value is None and default is None:
            return None
        if kind in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            if not abs(value) < MAX_NUMBER and value != math.inf:
                raise ConfigError(f"{key} in {self.where} is beyond {MAX_NUMBER:g}")
            if kind is float or float(value).is_integer():
                return kind(value)
        elif kind is list and isinstance(value, tuple):
            return list(value)
        elif isinstance(value, kind) and kind not in (int, float):
            return value
        raise ConfigError(f"{key} is {value!r} in {self.where}, but must be {KINDS[kind]}")

    def one_of(self, key: str, words: tuple[str, ...], default: str) -> str:
        """A word out of several."""
        value = self.take(key, str, default)
        if value not in words:
            raise ConfigError(f"{key} is {value!r} in {self.where}, but must be one of {', '.join(words)}")
        return value

    def section(self, key: str, known: set[str] | None) -> "Source":
        """A section inside, empty where there is none."""
        return Source(self.take(key, dict, None) or {}, f"{key} of {self.where}", known)

    def std(self, key: str) -> float:
        """The standard deviation of a logarithm, by default 0."""
        value = self.take(key, float, 0.0)
        if not abs(value) <= 50:
            raise ConfigError(f"{key} is {value} in {self.where}, but must be a logarithm such as 0.0 or -2.0")
        return math.exp(value)

    def says(self, key: str, value: object) -> str:
        """`key = value` for the account, and whether the value is the library's own default."""
        return f"{key} = {shown(value)}" + ("" if key in self.values else " (its default)")


@dataclass
class Account:
    """What became of each setting: of another library's in ours, or of ours in another's."""

    title: str
    converted: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [self.title]
        for heading, lines in (
            ("converted", self.converted),
            ("differs in meaning", self.differs),
            ("no counterpart", self.without),
        ):
            if lines:
                parts += [f"  {heading}", *(f"    {line}" for line in lines)]
        return "\n".join(parts)


@dataclass
class Reading(Account):
    """Our settings so far, by the names of Config's fields, and the account of how they came about."""

    settings: dict[str, object] = field(default_factory=dict)

    def set(self, theirs: str, **ours: object) -> None:
        """These settings of ours are what theirs amounts to."""
        self.settings.update(ours)
        self.converted.append(f"{theirs} -> " + ", ".join(f"{name} = {shown(value)}" for name, value in ours.items()))

    def same(self, source: Source, names: dict[str, tuple[str, type, object]]) -> None:
        """Settings that only have another name there: key -> (our name, kind, their default). Infinity is no limit."""
        for key, (name, kind, default) in names.items():
            value = source.take(key, kind, default)
            if key in source or value is not None:
                self.set(source.says(key, value), **{name: None if value == math.inf else value})

    def neutral(self, source: Source, values: dict[str, tuple[object, str]]) -> None:
        """Settings without a counterpart: key -> (the value that means nothing, what another one would do there)."""
        for key, (nothing, what) in values.items():
            if key in source and source.values[key] != nothing:
                self.without.append(f"{key} = {shown(source.values[key])}: {what}")
