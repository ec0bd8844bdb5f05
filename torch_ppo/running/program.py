"""The arguments of a training run, and opening the run that they ask for."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from torch_ppo.dialects import read_dialect
from torch_ppo.envs import canonical_name, make_task
from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import (
    CheckpointError,
    config_of,
    load_checkpoint,
    restore,
)
from torch_ppo.running.disk import check_folder, disk_errors, make_folder
from torch_ppo.running.environment import locate_task, remember
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import config_names, read_config


@dataclass(frozen=True, kw_only=True)
class UncheckedConfig(Config):
    """Settings of a run."""

    # The command line knows the machine, so that it can offer --compile and --no-compile.
    compile: bool = False
    """torch.compile what is not physics. On by default with CUDA; on the CPU it takes half a minute before training."""

    def __post_init__(self) -> None:
        """Checked once the command line has had its say, and outside of tyro, which would frame the message."""

    def checked(self) -> Config:
        return Config(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


@dataclass(frozen=True)
class TrainArguments:
    """Train a task with PPO. Settings come from a configuration file; options override it."""

    settings: tyro.conf.OmitArgPrefixes[UncheckedConfig]
    config: str | None = None
    """Configuration: a shipped name or a TOML file. By default the task's own; on a machine without CUDA, its _cpu one."""
    dialect: str | None = None
    """Whose words --config is in, for example sb3 or rsl_rl (docs/dialects.md); by default ours, TOML."""
    resume: Path | None = None
    """Run folder to go on with, from its last checkpoint, or one of its checkpoint files; with its configuration."""
    run_dir: Path | None = None
    """Folder of the run; runs/ENV-DATE-sSEED by default."""


# With --resume these may still be given; everything else is the run's own.
RESUME_OVERRIDES = ("num_timesteps", "keep_checkpoints", "on_disk_error")


def default_config(env: str) -> tuple[str, str]:
    """The configuration for a task on this machine, and why, for the first line of output."""
    cpu = f"{env}_cpu"
    if not torch.cuda.is_available() and cpu in config_names():
        return cpu, f"no CUDA device; --config {env} for the GPU settings"
    return env, "the task's own"


def parse_arguments(argv: Sequence[str]) -> tuple[TrainArguments, str]:
    """Arguments with command line over file over defaults, and a line on where the settings come from.

    Two passes: the file must be known before the options, whose defaults it gives.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--env", "--config", "--resume", "--dialect"):
        first.add_argument(flag)
    first.add_argument("--num-envs", "--num_envs")
    first.add_argument("--run-dir", "--run_dir")
    known, _ = first.parse_known_args(argv)
    if known.env is not None:
        make_task(known.env)
        known.env = canonical_name(known.env)
    if known.resume is not None:
        if known.config or known.env or known.run_dir:
            raise ConfigError("--resume goes on with a run as it was; leave out --env, --config and --run-dir")
        name, why = str(RunFolder.of_run(Path(known.resume)).config), "resumed run"
    elif known.config is not None:
        name, why = known.config, "--config"
    elif known.env is not None:
        name, why = default_config(known.env)
        if ":" in known.env:
            raise ConfigError(
                f"--env {known.env} needs --config with its settings; --config cartpole_cpu would be a start"
            )
    elif {"-h", "--help"} & set(argv):
        name, why = "cartpole", "--help"
    else:
        raise ConfigError("say what to train: --env cartpole, --config FILE or --resume RUN_FOLDER")
    values = _read_in_dialect(known) if known.dialect is not None else read_config(name)
    values.setdefault("num_timesteps", 0)  # so that --num-timesteps can be the only place it is given
    values.setdefault("compile", torch.cuda.is_available())
    if known.env is not None:
        values["env"] = known.env
    default = TrainArguments(settings=UncheckedConfig(**values), config=known.config, dialect=known.dialect)
    arguments = tyro.cli(TrainArguments, args=argv, default=default, prog="python -m torch_ppo.train")
    settings = dataclasses.replace(arguments.settings, env=canonical_name(arguments.settings.env))
    arguments = dataclasses.replace(arguments, settings=settings)
    return arguments, f"{Path(name).stem if why != 'resumed run' else name} ({why})"


def _read_in_dialect(known: argparse.Namespace) -> dict[str, object]:
    """The settings of --config in the words of --dialect; prints what became of each.

    --num-envs counts before the conversion, because several libraries leave it to the command line.
    """
    if known.config is None:
        raise ConfigError(f"--dialect {known.dialect} says how to read a file; name the file with --config")
    num_envs = known.num_envs if known.num_envs is None else known.num_envs.replace("_", "")
    if num_envs is not None and not num_envs.isdigit():
        raise ConfigError(f"--num-envs is {known.num_envs}, but must be a number such as 4096")
    reading = read_dialect(known.config, known.dialect, num_envs=num_envs and int(num_envs))
    print(reading, flush=True)
    return reading.settings


def open_run(
    parsed: tuple[TrainArguments, str], *, is_exported: Callable[[Path, Path], bool]
) -> tuple[RunFolder, TrainingState, str]:
    """The run folder, which is this process's until it is closed, the state to train from, and lines to introduce it.

    is_exported:  whether a file is the policy of a checkpoint: (policy, checkpoint)

    Everything that can be wrong is found before the folder is made.
    """
    arguments, source = parsed
    opened = _new_run(arguments) if arguments.resume is None else _resumed_run(arguments, is_exported)
    folder, state, notes = opened
    state.broken_folder = folder.path / "broken"
    config = state.config
    start = f", from {state.env_steps:,} env steps" if state.training_steps else ""
    engine = {"warp": "MuJoCo Warp", "mujoco": "C MuJoCo"}[config.physics]
    introduction = (
        f"{Path(config.env).name}: {source}, seed {config.seed}, {engine} and PyTorch on {config.device}{start}\n"
        f"{folder.path}  (tensorboard --logdir {folder.path.parent})"
    )
    return folder, state, "\n".join([introduction, *notes])


def _new_run(arguments: TrainArguments) -> tuple[RunFolder, TrainingState, list[str]]:
    if not arguments.settings.num_timesteps:
        raise ConfigError(
            "num_timesteps, the env steps to train for, is 0 or not set; --num-timesteps 1000000 would do"
        )
    config = arguments.settings.checked()
    folder = RunFolder.for_new_run(arguments.run_dir, config)
    task = make_task(config.env)
    state = TrainingState(config, task)
    if config.save_checkpoint_path is not None:
        check_folder(Path(config.save_checkpoint_path), "--save-checkpoint-path")
    restore(state)
    # The run goes on from anywhere.
    paths = ("save_checkpoint_path", "restore_checkpoint_path")
    given = {name: path for name in paths if (path := getattr(config, name)) is not None}
    state.config = dataclasses.replace(state.config, **{name: os.path.abspath(path) for name, path in given.items()})
    if config.save_checkpoint_path is not None:
        make_folder(Path(config.save_checkpoint_path), "--save-checkpoint-path")
    try:
        folder.create(state.config)
        remember(folder.path, config.env, task)
    except BaseException:
        folder.close()
        raise
    return folder, state, []


def _resumed_run(
    arguments: TrainArguments, is_exported: Callable[[Path, Path], bool]
) -> tuple[RunFolder, TrainingState, list[str]]:
    """A run from its newest whole checkpoint, or the one that was named; from its beginning if there is none yet."""
    folder = RunFolder.of_run(arguments.resume)
    folder.take()
    try:
        return folder, *_resume(folder, arguments, is_exported)
    except BaseException:
        folder.close()
        raise


def _resume(
    folder: RunFolder, arguments: TrainArguments, is_exported: Callable[[Path, Path], bool]
) -> tuple[TrainingState, list[str]]:
    path, saved, notes = None, None, []
    if arguments.resume.is_file():
        path, saved = arguments.resume, load_checkpoint(arguments.resume)
    elif (newest := folder.load_newest()) is not None:
        path, saved, notes = newest
    if saved is None:
        config = arguments.settings.checked()
        notes = [f"note: {folder.path} has no checkpoint yet; the run begins at its beginning"]
    else:
        overrides = {name: getattr(arguments.settings, name) for name in RESUME_OVERRIDES}
        config = dataclasses.replace(config_of(saved), **overrides)
        _refuse_changes(arguments.settings, config, read_config(str(folder.config)))
    name, found = locate_task(folder.path, config.env)
    task = make_task(name)
    state = TrainingState(config, task)
    if saved is None:
        restore(state)
    else:
        try:
            state.load_checkpoint(saved)
        except (ValueError, RuntimeError, LookupError, TypeError) as error:
            raise CheckpointError(f"{path} does not fit its configuration: {error}") from None
        if state.training_steps >= state.config.num_training_steps:
            _refuse_complete(folder, state, is_exported)
            notes.append(f"note: {folder.path} is complete but for {folder.policy.name}")
    with disk_errors(folder.checkpoints):
        folder.checkpoints.mkdir(exist_ok=True)
    if saved is not None:
        folder.mend_best(saved)
    folder.write_config(state.config)
    return state, [*notes, *found, *remember(folder.path, config.env, task)]


def _refuse_complete(folder: RunFolder, state: TrainingState, is_exported: Callable[[Path, Path], bool]) -> None:
    """ConfigError if nothing at all is left to do. A kill may have come between the last checkpoint and the policy."""
    config, done = state.config, state.env_steps
    if state.training_steps > config.num_training_steps:
        raise ConfigError(
            f"{folder.path} is at {done:,} env steps already, more than --num-timesteps {config.num_timesteps}; "
            f"--num-timesteps {2 * done} would go on"
        )
    if is_exported(folder.policy, folder.checkpoint("best")):
        raise ConfigError(f"{folder.path} is complete at {done:,} env steps; --num-timesteps {2 * done} would go on")


def _refuse_changes(given: Config, config: Config, file: dict[str, object]) -> None:
    """ConfigError if an option given with --resume, or the run's config.toml, differs from what the run has."""
    for field in dataclasses.fields(Config):
        asked, own = getattr(given, field.name), getattr(config, field.name)
        if asked == own:
            continue
        flag = field.name.replace("_", "-")
        if asked == file.get(field.name, field.default):
            raise ConfigError(
                f"config.toml has been edited: {field.name} is {asked!r} there, and {own!r} in the checkpoint; put it "
                "back, or start a new run with --restore-checkpoint-path"
            )
        raise ConfigError(
            f"--{flag} cannot change in a resumed run (it has {own!r}); start a new run with --restore-checkpoint-path"
        )
