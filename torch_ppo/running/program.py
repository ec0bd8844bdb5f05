"""The arguments of a training run, and opening the run that they ask for."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from torch_ppo.dialects import read_dialect
from torch_ppo.envs import canonical_name, make_task
from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import CheckpointError, find_checkpoint, load_checkpoint, restore
from torch_ppo.running.disk import check_folder
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
    """Run folder to go on with, from its last checkpoint, with its configuration."""
    run_dir: Path | None = None
    """Folder of the run; runs/ENV-DATE-sSEED by default."""


# With --resume these may still be given; everything else is the run's own.
RESUME_OVERRIDES = ("num_timesteps",)


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
        folder = Path(known.resume)
        find_checkpoint(folder)
        name, why = str(folder / "config.toml"), "resumed run"
        if not folder.is_dir() or not Path(name).is_file():
            raise CheckpointError(f"{folder} is not a run folder: it has no config.toml")
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


def open_run(parsed: tuple[TrainArguments, str]) -> tuple[RunFolder, TrainingState, str]:
    """The run folder, the state to train from, and a few lines to introduce the run.

    Everything that can be wrong is found before the folder is made.
    """
    arguments, source = parsed
    if arguments.resume is not None:
        folder = RunFolder(arguments.resume)
        path = folder.checkpoint("last")
        saved = load_checkpoint(path)
        overrides = {name: getattr(arguments.settings, name) for name in RESUME_OVERRIDES}
        config = Config(**{**saved["config"], **overrides})
        _refuse_changes(arguments.settings, config)
        state = TrainingState(config, make_task(config.env))
        try:
            state.load_checkpoint(saved)
        except (ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"{path} does not fit its configuration: {error}") from None
        if state.training_steps >= config.num_training_steps:
            raise ConfigError(
                f"{arguments.resume} is complete at {state.env_steps:,} env steps; --num-timesteps "
                f"{2 * config.num_timesteps} would go on"
            )
        folder.write_config(state.config)
    else:
        config = arguments.settings.checked()
        folder = RunFolder.for_new_run(arguments.run_dir, config)
        state = TrainingState(config, make_task(config.env))
        if config.save_checkpoint_path is not None:
            check_folder(Path(config.save_checkpoint_path), "--save-checkpoint-path")
        restore(state)
        folder.create(state.config)
    state.broken_folder = folder.path / "broken"
    config = state.config
    start = f", from {state.env_steps:,} env steps" if state.training_steps else ""
    engine = {"warp": "MuJoCo Warp", "mujoco": "C MuJoCo"}[config.physics]
    introduction = (
        f"{config.env}: {source}, seed {config.seed}, {engine} and PyTorch on {config.device}{start}\n"
        f"{folder.path}  (tensorboard --logdir {folder.path.parent})"
    )
    return folder, state, introduction


def _refuse_changes(given: Config, config: Config) -> None:
    """ConfigError if an option given with --resume differs from the run's own setting."""
    for field in dataclasses.fields(Config):
        if getattr(given, field.name) != getattr(config, field.name):
            flag = field.name.replace("_", "-")
            raise ConfigError(
                f"--{flag} cannot change in a resumed run (it has {getattr(config, field.name)!r}); start a new run "
                f"with --restore-checkpoint-path"
            )
