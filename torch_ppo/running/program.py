"""The arguments of a training run: the command line over a configuration over the defaults."""

import argparse
import dataclasses
import logging
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from torch_ppo.command import called, reader_may_leave
from torch_ppo.dialects import propose_dialect, read_dialect
from torch_ppo.environments.finding import canonical, library_of, source_of
from torch_ppo.envs import ENVS, canonical_name
from torch_ppo.errors import ConfigError
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.options import ProgramOptions, TrainArguments, UncheckedConfig, kinds, read_options
from torch_ppo.running.resolved import OF_OURS
from torch_ppo.running.trackers import check_tracker
from torch_ppo.settings.checks import without_idle
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import config_names, preset_names, read_config
from torch_ppo.settings.spellings import respell

log = logging.getLogger(__name__)

FEWEST_ENVS_ON_GPU = 512


def default_config(env: str, *, cuda: bool | None = None) -> tuple[str, str]:
    """The configuration for a task on this machine, and why, for the first line of output.

    cuda:  whether it is for a GPU; None for whether this machine has one
    """
    cpu = f"{env}_cpu"
    if not (torch.cuda.is_available() if cuda is None else cuda) and cpu in config_names():
        return cpu, f"no CUDA device; --config {env} for the GPU settings"
    return env, "the task's own"


def is_for_gpu(name: str, num_envs: int) -> bool:
    """Whether a shipped configuration is meant for a GPU: it steps more envs at once than a few cores are quick with."""
    return name in (*config_names(), *preset_names()) and num_envs >= FEWEST_ENVS_ON_GPU


def parse_arguments(words: Sequence[str]) -> tuple[TrainArguments, str]:
    """Arguments with command line over file over defaults, and a line on where the settings come from.

    Two passes: the file must be known before the options, whose defaults it gives.
    """
    if words and not words[0].startswith("-"):
        _check_first_word(words[0])
    words = respell(words, kinds())
    given = _program_options(words)
    asks_for_help = bool({"-h", "--help"} & set(words))
    if given.env is not None:
        source_of(given.env)
        given.env = canonical(given.env)
    name, why = _source(given, asks_for_help)
    about = ABOUT
    if name is None:
        own = _settings_of(given)
        values = own or {}
        whose = f"{given.env}'s own" if own else "Brax's"
        about += f"\n\nThe defaults below are {whose}; {called('train')} --env TASK --help shows those of a task."
    else:
        values = _read(name, given)
        about += f"\n\nThe defaults below are those of {name} ({why})."
        values.setdefault("num_timesteps", 0)  # so that --num-timesteps can be the only place it is given
    values.setdefault("compile", torch.cuda.is_available())
    if given.env is not None:
        _tell_borrowed_action_repeat(values, given)
        without_borrowed(values, given.env, given.config, keep=("episode_length",) if given.episode_length else ())
        values["env"] = given.env
    program = ProgramOptions(config=given.config, dialect=given.dialect)
    with reader_may_leave():  # --help is often read by head
        arguments = read_options(words, values, program, prog=called("train"), about=about)
    if arguments.video_every is not None and arguments.video_every < 1:
        raise ConfigError(
            f"--video-every is {arguments.video_every}, but must be 1 or greater: a clip at every so many reports"
        )
    if arguments.video_every is not None and library_of(arguments.settings.env) is not None:
        raise ConfigError(
            f"--video-every makes clips of our own simulation, which {arguments.settings.env} is not in; leave it out"
        )
    if arguments.tracker not in (None, "off"):
        check_tracker(arguments.tracker)
    settings = dataclasses.replace(arguments.settings, env=canonical(arguments.settings.env))
    if name is not None:
        settings = _without_idle_of_file(settings, values, words, Path(name).stem)
    arguments = dataclasses.replace(arguments, settings=settings, env_is_given=given.env is not None)
    if given.resume is not None:
        return arguments, f"{name} ({why})"
    if name is None:
        return arguments, why
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not torch.cuda.is_available())
    meant = ", meant for a GPU" if on_cpu and is_for_gpu(name, values.get("num_envs", 1)) else ""
    return arguments, f"{Path(name).stem} ({why}{meant})"


ABOUT = "Train a task with PPO. Settings come from a configuration; options override it."


def _program_options(words: Sequence[str]) -> argparse.Namespace:
    """What must be known before the other options."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in (
        "--env",
        "--config",
        "--resume",
        "--dialect",
        "--num-envs",
        "--run-dir",
        "--episode-length",
        "--action-repeat",
    ):
        first.add_argument(flag)
    return first.parse_known_args(words)[0]


def _check_first_word(word: str) -> None:
    """ConfigError if a first word without an option is not a task, but something that has an option."""
    if canonical_name(word) in ENVS or ":" in word:
        return
    if len(word) > 255:  # no name of a file or task, which the system would refuse to look for
        raise ConfigError(f"what is {word[:40]}...? Options begin with --, such as --num-envs 64")
    if Path(word).is_dir():
        raise ConfigError(f"{word} is a folder; --resume {word} goes on with its run, --config {word} repeats it")
    if word in (*config_names(), *preset_names()) or Path(word).is_file():
        raise ConfigError(f"{word} is a configuration, not a task; --config {word} would work")


def _source(given: argparse.Namespace, asks_for_help: bool) -> tuple[str | None, str]:
    """The configuration that the defaults come from, and why; None for none, where only --help is asked for."""
    if given.resume is not None:
        if given.config or given.env or given.run_dir:
            raise ConfigError("--resume goes on with a run as it was; leave out --env, --config and --run-dir")
        return str(RunFolder.of_run(Path(given.resume)).config), "resumed run"
    if given.config is not None:
        return given.config, "--config"
    if given.env is not None:
        if _settings_of(given) is not None:
            return None, "the environment's own settings"
        if ":" in given.env and not asks_for_help:
            raise ConfigError(f"--env {given.env} needs --config with its settings{_where_settings_may_be(given.env)}")
        return (None, "") if ":" in given.env else default_config(given.env)
    if asks_for_help:
        return None, ""
    raise ConfigError("say what to train: --env cartpole, --config FILE or --resume RUN_FOLDER")


def _where_settings_may_be(env: str) -> str:
    """What is known of a configuration for an environment that has none: a file beside its own, or how to write one."""
    place = env.rpartition(":")[0]
    beside = Path(place).with_suffix(".toml")
    if place.endswith(".py") and beside.is_file():
        return f"; beside it lies {shlex.quote(str(beside))}"
    words = (
        "a TOML file with num_timesteps, num_envs and others (docs/tasks.md has one), or with --dialect one in another "
        "library's words"
    )
    if library_of(env) == "gym" and source_of(env).discrete:
        return f"; --config presets/gym_discrete would be a start, or {words}"
    return f": {words}"


def _settings_of(given: argparse.Namespace) -> dict[str, object] | None:
    """The settings that the environment of --env brings along; None for none, or where a run or a file has its own."""
    if given.env is None or library_of(given.env) is None:
        return None
    settings = getattr(source_of(given.env), "settings", None)
    return None if settings is None else settings(int(given.num_envs) if given.num_envs else None)


def _read(name: str, given: argparse.Namespace) -> dict[str, object]:
    """The settings of a configuration, in whatever words it is."""
    if given.dialect is not None:
        return _read_in_dialect(given)
    proposal = propose_dialect(name)
    if proposal is not None:
        raise ConfigError(proposal)
    return read_config(name)


def without_borrowed(values: dict[str, object], env: str, config: str | None, *, keep: Collection[str] = ()) -> None:
    """Leaves out of `values` what a configuration of another task says of that task alone, and says so.

    config:  what it is called
    keep:    those that the command line has itself
    """
    if "episode_length" not in keep:
        _keep_own_time_limit(values, env, config)
    _leave_out_settings_of_ours(values, env, config)


def _keep_own_time_limit(values: dict[str, object], env: str, config: str | None) -> None:
    """A configuration that is borrowed from another task does not bring that task's episode_length."""
    theirs = values.get("episode_length")
    if theirs is None or canonical(str(values.get("env", ""))) in ("", env):
        return
    del values["episode_length"]
    own = source_of(env).episode_length
    if own not in (None, theirs):
        log.info(
            f"note: episode_length is {own:,}, the task's own; {config} has {theirs:,} for {values['env']}, and "
            f"--episode-length {theirs} would choose that"
        )


def _tell_borrowed_action_repeat(values: dict[str, object], given: argparse.Namespace) -> None:
    """A configuration that is borrowed from another task brings its action_repeat, which is seldom meant: a line."""
    repeat = values.get("action_repeat", 1)
    if repeat == 1 or given.action_repeat or canonical(str(values.get("env", ""))) in ("", given.env):
        return
    if source_of(given.env).repeats:
        log.info(
            f"note: action_repeat is {repeat}, as {given.config} has it for {values['env']}: each action is held for "
            f"{repeat} env steps, and --action-repeat 1 would not do so"
        )


def _leave_out_settings_of_ours(values: dict[str, object], env: str, config: str | None) -> None:
    """A configuration that is borrowed from a task of ours does not bring what acts in our simulation alone."""
    source = source_of(env)
    if source.simulated:
        return
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    idle = (*OF_OURS, *(() if source.repeats else ("action_repeat",)))
    left = [name for name in idle if values.get(name, defaults[name]) != defaults[name]]
    for name in left:
        del values[name]
    if left:
        log.info(f"note: {', '.join(left)} of {config} would have no effect in {env}; left out")


def _without_idle_of_file(
    settings: UncheckedConfig, of_file: dict[str, object], words: Sequence[str], file: str
) -> UncheckedConfig:
    """Settings of a configuration that only an option of the command line leaves idle are left out, and a line says so.

    Those that the command line has itself, or that lie idle in the file alone, are refused later.
    """
    given = {word.removeprefix("--").removeprefix("no-").replace("-", "_") for word in words if word.startswith("--")}
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    alone = without_idle(of_file, defaults)
    values = {name: getattr(settings, name) for name in defaults}
    active = without_idle(values, defaults, keep=given)
    left = [name for name in values if active[name] != values[name] and alone[name] == values[name]]
    if not left:
        return settings
    log.info(f"note: {', '.join(left)} of {file} would have no effect with the options given; left out")
    return dataclasses.replace(settings, **{name: active[name] for name in left})


def _read_in_dialect(given: argparse.Namespace) -> dict[str, object]:
    """The settings of --config in the words of --dialect; prints what became of each.

    --num-envs counts before the conversion, because several libraries leave it to the command line.
    """
    if given.config is None:
        raise ConfigError(f"--dialect {given.dialect} says how to read a file; name the file with --config")
    num_envs = None if given.num_envs is None else int(given.num_envs)
    reading = read_dialect(given.config, given.dialect, num_envs=num_envs)
    print(reading, flush=True)
    return reading.settings
