"""What of a run's configuration may change when it is resumed, and why the rest may not."""

import dataclasses
from collections.abc import Mapping

from torch_ppo.errors import ConfigError
from torch_ppo.settings.config import Config
from torch_ppo.settings.sections import sections

# Said without a word: they decide how long the run is and what is kept of it.
SILENT = ("num_timesteps", "keep_checkpoints", "on_disk_error")
OF_THE_LOSS = ("clipping_epsilon", "clipping_epsilon_final", "entropy_cost", "entropy_cost_final")
# By section of `Config`: None where fields may change.
_WHY_NOT: dict[str, str | None] = {
    "Run": "episodes and random numbers are under way",
    "Envs and episodes": "episodes are under way with it",
    "Collecting and minibatches": "what a training step is, and so what has been counted, depends on it",
    "Loss": "what the value network has learned depends on it",
    "Optimizer": None,
    "Observation normalizer": "its statistics were made with it",
    "Networks": "the networks were made with it",
    "Pixels": "the networks were made with it",
    "Evaluation, logging, checkpoints": None,
    "Machine": "a resumed run is bit for bit the one that was not interrupted",
}
_OF_ITS_BEGINNING = ("restore_checkpoint_path", "restore_value_fn")


def why_not(field: str) -> str | None:
    """Why a setting cannot change in a resumed run; None where it can."""
    if field in (*SILENT, *OF_THE_LOSS):
        return None
    if field in _OF_ITS_BEGINNING:
        return "it is read when a run begins"
    (section,) = (title for title, fields in sections() if field in [name for name, _, _ in fields])
    return _WHY_NOT[section]


def config_to_resume(given: Config, own: Config) -> Config:
    """A checkpoint's own configuration, with what may change as it is given: on the command line, or in config.toml."""
    changed = {
        field.name: getattr(given, field.name) for field in dataclasses.fields(Config) if not why_not(field.name)
    }
    return dataclasses.replace(own, **changed)


def changes(config: Config, own: Config) -> list[str]:
    """A line on each setting that is another from here on."""
    return [
        f"note: {field.name} is {getattr(config, field.name)!r} from here on; it was {getattr(own, field.name)!r}"
        for field in dataclasses.fields(Config)
        if field.name not in SILENT and getattr(config, field.name) != getattr(own, field.name)
    ]


def refuse_changes(given: Config, config: Config, file: Mapping[str, object]) -> None:
    """ConfigError if an option given with --resume, or the run's config.toml, has what the run cannot change to."""
    for field in dataclasses.fields(Config):
        asked, own = getattr(given, field.name), getattr(config, field.name)
        if asked == own:
            continue
        flag, reason = field.name.replace("_", "-"), why_not(field.name)
        if asked == file.get(field.name, field.default):
            raise ConfigError(
                f"config.toml has been edited: {field.name} is {asked!r} there, and {own!r} in the checkpoint, and cannot "
                f"change in a resumed run, because {reason}; put it back, or start a new run with --restore-checkpoint-path"
            )
        raise ConfigError(
            f"--{flag} cannot change in a resumed run (it has {own!r}), because {reason}; start a new run with "
            "--restore-checkpoint-path"
        )
