"""The command line of a program, whose arguments are a dataclass; what cannot be read is one line, as in training."""

import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence

import tyro

from torch_ppo.command import called
from torch_ppo.errors import ConfigError
from torch_ppo.settings.checks import check_type
from torch_ppo.settings.spellings import HELP, TRUTH, element_of, known, name_of, option, options_in, rename, value

T = typing.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Least:
    """Mark of an option, `Annotated[int, Least(1)]`: the least that it may be, or each of several."""

    number: float


class Different:
    """Mark of an option that takes several values: none may be there twice."""


Count = typing.Annotated[int, Least(1)]
Duration = typing.Annotated[float, Least(0.01)]
Seed = typing.Annotated[int, Least(0)]
Counts = typing.Annotated[tuple[int, ...], Least(1)]
Seeds = typing.Annotated[tuple[int, ...], Least(0), Different()]


def read_command_line(arguments: type[T], program: str, words: Sequence[str] | None = None) -> T:
    """An instance of `arguments`, from `words` or this process's. ConfigError for what is no option or value of it.

    program:  as `called` has it
    """
    words = sys.argv[1:] if words is None else words
    read = tyro.cli(arguments, args=spelled(arguments, program, words), prog=called(program))
    for name, kind in typing.get_type_hints(arguments, include_extras=True).items():
        _check_numbers(name, getattr(read, name), getattr(kind, "__metadata__", ()))
    return read


def _check_numbers(name: str, given: object, marks: Sequence[object]) -> None:
    """ConfigError for a number that no program could use, or that the option's marks exclude."""
    numbers = given if isinstance(given, tuple) else (given,)
    for number in numbers:
        if isinstance(number, (int, float)):
            check_type(name, number, type(number))
            least = next((mark.number for mark in marks if isinstance(mark, Least)), number)
            if number < least:
                raise ConfigError(f"{name} is {number}, but must be {least} or more")
    if any(isinstance(mark, Different) for mark in marks) and len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        once = " ".join(map(str, dict.fromkeys(numbers)))
        raise ConfigError(f"{twice} is there twice; --{name.replace('_', '-')} {once} would work")


def spelled(arguments: type, program: str, words: Sequence[str]) -> list[str]:
    """The words as tyro reads them without an error: first those without an option, then options and their values."""
    if set(HELP) & set(words):
        return list(words)
    kinds, places = _kinds(arguments)
    free, options = [], []
    for flag, values, joined in options_in(rename(words, kinds)):
        if flag:
            name = known(name_of(flag), kinds, program, {})
            own, values = _own_values(kinds.get(name, bool), values, joined)
            options += option(name, own, kinds)
        free += values
    _check_places(arguments, places, free, program)
    if len(free) <= len(places):
        free = [value(name, word, kind) for word, (name, kind) in zip(free, places.items(), strict=False)]
    return [*free, *options]


def divided(arguments: type, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of this program's own options, and all others, which another reads."""
    kinds, _ = _kinds(arguments)
    own, others = [], []
    for flag, values, joined in options_in(words):
        is_own = flag in HELP or name_of(flag) in kinds
        (own if is_own else others).extend(_joined(flag, values, joined))
    return own, others


def _joined(flag: str, values: list[str], joined: bool) -> list[str]:
    if joined:
        return [f"{flag}={values[0]}", *values[1:]]
    return [flag, *values] if flag else values


def _kinds(arguments: type) -> tuple[dict[str, object], dict[str, object]]:
    """The type of each option, and of each word without one, by name."""
    options, places = {}, {}
    for name, kind in typing.get_type_hints(arguments, include_extras=True).items():
        marks = getattr(kind, "__metadata__", ())
        kind = typing.get_args(kind)[0] if marks else kind
        name = next((mark.name for mark in marks if getattr(mark, "name", None)), name)
        (places if tyro.conf.Positional in marks else options)[name.replace("_", "-")] = kind
    return options, places


def _own_values(kind: object, values: list[str], joined: bool) -> tuple[list[str], list[str]]:
    """Those of the values that are the option's, and those that come after them."""
    if element_of(kind) is not None:
        return values, []
    number = 1 if kind is not bool or joined or (values and values[0].lower() in TRUTH) else 0
    return values[:number], values[number:]


def _check_places(arguments: type, places: Mapping[str, object], given: Sequence[str], program: str) -> None:
    """ConfigError for too few or too many words without an option."""
    for word in given:
        if word.startswith("-") and not word[1:2].isdigit():
            raise ConfigError(f"there is no option {word}; {called(program)} --help has them all")
    several = any(element_of(kind) for kind in places.values())
    if len(given) > len(places) and not several:
        raise ConfigError(
            f"what is {' '.join(given[len(places) :])}? Options begin with --; {called(program)} --help has them all"
        )
    needed = [field.name for field in dataclasses.fields(arguments) if field.default is dataclasses.MISSING]
    missing = [name for name in list(places)[len(given) :] if name in needed]
    if missing:
        usage = " ".join(f"{name.upper()}{' ...' * (element_of(kind) is not None)}" for name, kind in places.items())
        raise ConfigError(f"{missing[0].upper()} is missing: {called(program)} {usage}; --help says more")


def refuse_idle(arguments: object, names: str, where: str) -> None:
    """ConfigError for the first of some arguments that is given, though it has no effect there.

    names:  of fields, with spaces between them
    where:  such as "with --web, which has controls of its own"
    """
    given = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
    defaults = {field.name: field.default for field in dataclasses.fields(arguments)}
    for name in names.split():
        if given[name] != defaults[name]:
            no = "no-" if given[name] is False else ""
            raise ConfigError(f"--{no}{name.replace('_', '-')} has no effect {where}; leave it out")
