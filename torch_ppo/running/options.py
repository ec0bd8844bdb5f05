"""The options of training: every field of `Config`, in the sections of docs/parameters.md, and a few of the program's."""

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from torch_ppo.settings.config import Config
from torch_ppo.settings.sections import sections


@dataclass(frozen=True, kw_only=True)
class UncheckedConfig(Config):
    """Settings that are checked once the command line has had its say, outside of tyro, which would frame the message."""

    def __post_init__(self) -> None:
        """Nothing yet."""

    def checked(self) -> Config:
        return Config(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


@dataclass(frozen=True, kw_only=True)
class ProgramOptions:
    """Options that are not settings of a run."""

    config: str | None = None
    """Configuration: a shipped name, a TOML file or a run folder; by default the task's own, its _cpu one without CUDA."""
    dialect: str | None = None
    """Whose words --config is in, for example sb3 or rsl_rl (docs/dialects.md); by default ours, TOML."""
    resume: Path | None = None
    """Run folder to go on with, from its last checkpoint, or one of its checkpoint files; with its configuration."""
    run_dir: Path | None = None
    """Folder of the run; runs/ENV-DATE-sSEED by default."""
    trust: bool = False
    """Run the code of a task of its own that a run's folder or a configuration names, without --env."""
    quiet: bool = False
    """Print warnings and errors only."""
    video_every: int | None = None
    """Make a clip of the policy at every so many reports and at the last, in a process of its own: videos/ of the run's
    folder, and TensorBoard. By default none; a resumed run goes on as it began."""
    tracker: Literal["off", "wandb", "trackio", "mlflow"] | None = None
    """Also send reports, settings, clips and the run's page to a tracker, by its own package, an extra of that name; by
    default none, and a resumed run goes on with its own (off ends that)."""


@dataclass(frozen=True)
class TrainArguments(ProgramOptions):
    """What the program is asked for."""

    settings: UncheckedConfig
    env_is_given: bool = False


def kinds() -> dict[str, object]:
    """The type of each option, by its field's name."""
    # The command line knows the machine, so that it can offer --compile and --no-compile.
    settings = {**typing.get_type_hints(Config), "compile": bool}
    return {**typing.get_type_hints(ProgramOptions), **settings}


def _grouped(values: dict[str, object]) -> tuple[type, object]:
    """A dataclass with one of each section's fields in it, and an instance of it with `values` as defaults."""
    types, groups, defaults = kinds(), [], {}
    for number, (title, fields) in enumerate(sections()):
        described = [
            (name, Annotated[types[name], tyro.conf.arg(help=doc)], dataclasses.field()) for name, _, doc in fields
        ]
        group = dataclasses.make_dataclass(f"Section{number}", described, frozen=True, kw_only=True)
        group.__doc__ = ""
        defaults[group.__name__] = group(**{name: values[name] for name, _, _ in fields})
        named = Annotated[tyro.conf.OmitArgPrefixes[group], tyro.conf.arg(name=title)]
        groups.append((group.__name__, named, dataclasses.field()))
    whole = dataclasses.make_dataclass("Grouped", groups, bases=(ProgramOptions,), frozen=True, kw_only=True)
    return whole, defaults


def read_options(
    words: Sequence[str], values: dict[str, object], given: ProgramOptions, *, prog: str, about: str
) -> TrainArguments:
    """The command line over `values` over the defaults of `Config`. With --help prints all, and exits.

    values:  by field of `Config`
    given:   the options of the program as they were found before
    about:   what --help says first
    """
    fields = dataclasses.fields(Config)
    values = {**{field.name: field.default for field in fields}, **values}
    values = {name: tyro.MISSING if value is dataclasses.MISSING else value for name, value in values.items()}
    whole, defaults = _grouped(values)
    program = {field.name: getattr(given, field.name) for field in dataclasses.fields(ProgramOptions)}
    default = whole(**program, **defaults)
    found = tyro.cli(whole, args=words, default=default, prog=prog, description=about)
    settings = {name: value for group in defaults for name, value in vars(getattr(found, group)).items()}
    return TrainArguments(UncheckedConfig(**settings), **{name: getattr(found, name) for name in program})
