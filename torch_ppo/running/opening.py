"""Opening the run that the arguments ask for: a new one, or one to go on with. All that can be wrong is found here."""

import dataclasses
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from torch_ppo.environments.finding import source_of
from torch_ppo.environments.sources import Source
from torch_ppo.errors import ConfigError
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.running.checkpoint import CheckpointError, config_of, load_checkpoint, load_part, restore
from torch_ppo.running.disk import check_folder, disk_errors, make_folder
from torch_ppo.running.environment import check_trusted, locate_task, remember, what_changed
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.options import TrainArguments
from torch_ppo.running.restarts import note_run
from torch_ppo.running.resuming import changes, config_to_resume, refuse_changes
from torch_ppo.running.training_state import FIRST_OF_ONE, TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import read_config


def open_run(
    parsed: tuple[TrainArguments, str],
    *,
    is_exported: Callable[[Path, Path], bool],
    devices: Devices = ALONE,
    device: str | None = None,
) -> tuple[RunFolder, TrainingState, str]:
    """The run folder, which is this process's until it is closed, the state to train from, and lines to introduce it.

    is_exported:  whether a file is the policy of a checkpoint: (policy, checkpoint)
    devices:      those that learn together; only the first opens the folder, and tells the others where it is
    device:       this process's own, where it is not the configuration's

    Everything that can be wrong is found before the folder is made.
    """
    arguments, source = parsed
    here = Here(devices, device)
    if devices.rank:
        folder, state = _joining_run(arguments, here)
        return folder, state, ""
    opened = _new_run(arguments, here) if arguments.resume is None else _resumed_run(arguments, is_exported, here)
    folder, state, notes = opened
    devices.from_first(str(folder.path))
    state.broken_folder = folder.path / "broken"
    config = state.config
    start = f", from {state.env_steps:,} env steps" if state.training_steps else ""
    engine = {"warp": "MuJoCo Warp and ", "mujoco": "C MuJoCo and ", "auto": ""}[config.physics]
    introduction = (
        f"{Path(config.env).name}: {source}, seed {config.seed}, {engine}PyTorch on {config.device}{start}\n"
        f"{folder.path}  (tensorboard --logdir {shlex.quote(str(folder.path.parent))})"
    )
    return folder, state, "\n".join([introduction, *notes])


@dataclasses.dataclass(frozen=True)
class Here:
    """Where this process trains."""

    devices: Devices
    device: str | None

    def make_state(self, config: Config, source: Source) -> TrainingState:
        """The state of a run on this process's device."""
        if self.device is not None:
            config = dataclasses.replace(config, device=self.device)
        return TrainingState(config, source, devices=self.devices)


def _joining_run(arguments: TrainArguments, here: Here) -> tuple[RunFolder, TrainingState]:
    """The run that the first device opens, in another device's process. What can be wrong is found, and said, there."""
    devices, saved = here.devices, None
    if arguments.resume is None:
        config = arguments.settings.checked()
        state = here.make_state(config, source_of(config.env))
    else:
        path = devices.from_first()
        saved = load_checkpoint(Path(path)) if path else None
        config = (
            arguments.settings.checked() if saved is None else config_to_resume(arguments.settings, config_of(saved))
        )
        folder = RunFolder.of_run(arguments.resume)
        state = here.make_state(config, source_of(locate_task(folder.path, config.env, trusted=arguments.trust)[0]))
    if saved is None:
        restore(state)
    else:
        part = folder.part(saved["env_steps"], devices.rank, devices.count)
        continued = state.load_checkpoint(saved, load_part(part, saved["env_steps"]))
        devices.total(int(not continued))
    return RunFolder(Path(devices.from_first())), state


def _new_run(arguments: TrainArguments, here: Here) -> tuple[RunFolder, TrainingState, list[str]]:
    if not arguments.settings.num_timesteps:
        raise ConfigError(
            "num_timesteps, the env steps to train for, is 0 or not set; --num-timesteps 1000000 would do"
        )
    config = arguments.settings.checked()
    folder = RunFolder.for_new_run(arguments.run_dir, config)
    check_trusted(
        config.env, "the configuration", trusted=arguments.env_is_given or arguments.trust, remedy="--env {name}"
    )
    source = source_of(config.env)
    state = here.make_state(config, source)
    if config.save_checkpoint_path is not None:
        check_folder(Path(config.save_checkpoint_path), "--save-checkpoint-path")
    restore(state)
    state.config = _from_anywhere(state.config)
    if config.save_checkpoint_path is not None:
        make_folder(Path(config.save_checkpoint_path), "--save-checkpoint-path")
    try:
        folder.create(state.config)
        note_run(folder.path)
        remember(folder.path, config.env, source)
    except BaseException:
        folder.close()
        raise
    return folder, state, []


def _from_anywhere(config: Config) -> Config:
    """With whole paths: the run goes on from any folder."""
    paths = ("save_checkpoint_path", "restore_checkpoint_path")
    given = {name: path for name in paths if (path := getattr(config, name)) is not None}
    return dataclasses.replace(config, **{name: os.path.abspath(path) for name, path in given.items()})


def _resumed_run(
    arguments: TrainArguments, is_exported: Callable[[Path, Path], bool], here: Here
) -> tuple[RunFolder, TrainingState, list[str]]:
    """A run from its newest whole checkpoint, or the one that was named; from its beginning if there is none yet."""
    folder = RunFolder.of_run(arguments.resume)
    folder.take()
    try:
        return folder, *_resume(folder, arguments, is_exported, here)
    except BaseException:
        folder.close()
        raise


def _resume(
    folder: RunFolder, arguments: TrainArguments, is_exported: Callable[[Path, Path], bool], here: Here
) -> tuple[TrainingState, list[str]]:
    path, saved, notes, trusted = None, None, [], arguments.trust
    if arguments.resume.is_file():
        path, saved = arguments.resume, load_checkpoint(arguments.resume)
    elif (newest := folder.load_newest()) is not None:
        path, saved, notes = newest
    here.devices.from_first("" if path is None else str(path))
    if saved is None:
        config = arguments.settings.checked()
        notes = [f"note: {folder.path} has no checkpoint yet; the run begins at its beginning"]
    else:
        if "optimizer" not in saved:
            raise CheckpointError(
                f"{path} is of an imported policy, without optimizer and episodes, so that nothing can be resumed; "
                f"--config {folder.path} --restore-checkpoint-path {folder.path} trains on from it"
            )
        file = read_config(str(folder.config))
        config = config_to_resume(arguments.settings, config_of(saved))
        refuse_changes(arguments.settings, config, file)
        extra = config.save_checkpoint_path
        if extra is not None and extra != file.get(
            "save_checkpoint_path"
        ):  # by the command line: a wish, not the file's
            check_folder(Path(extra), "--save-checkpoint-path")
            config, trusted = _from_anywhere(config), True
        notes += changes(config, config_of(saved))
    _refuse_writing_elsewhere(folder, config, trusted=trusted)
    name, found = locate_task(folder.path, config.env, trusted=arguments.trust)
    source = source_of(name)
    state = here.make_state(config, source)
    if saved is None:
        restore(state)
    else:
        try:
            begun_anew = here.devices.total(int(not state.load_checkpoint(saved)))
            if begun_anew and state.env.state() is None:
                notes.append(
                    f"note: {state.env.name} cannot be checkpointed, so its episodes begin anew, and the run is not bit for "
                    "bit what it would have been; networks, optimizer and counters go on"
                )
            elif begun_anew:
                before = saved.get("devices", FIRST_OF_ONE)["count"]
                notes.append(
                    f"note: of {here.devices.count} devices {begun_anew} begin their episodes anew, with new random "
                    f"numbers (the checkpoint is of {before}); networks, optimizer and counters go on"
                )
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            changed = "".join(f" ({note.removeprefix('note: ')})" for note in what_changed(folder.path, source))
            raise CheckpointError(f"{path} does not fit: {error}{changed}") from None
        if state.training_steps >= state.config.num_training_steps and not state.report_is_due:
            _refuse_complete(folder, state, is_exported)
            notes.append(f"note: {folder.path} is complete but for {folder.policy.name}")
    with disk_errors(folder.checkpoints):
        folder.checkpoints.mkdir(exist_ok=True)
    if saved is not None and config.save_checkpoint_path is not None:
        make_folder(Path(config.save_checkpoint_path), "--save-checkpoint-path")
    if saved is not None:
        folder.mend_best(saved)
    folder.write_config(state.config)
    note_run(folder.path)
    return state, [*notes, *found, *remember(folder.path, config.env, source)]


def _refuse_writing_elsewhere(folder: RunFolder, config: Config, *, trusted: bool) -> None:
    """ConfigError if the run's own files would have checkpoints written outside of its folder, unasked."""
    path = config.save_checkpoint_path
    if path is not None and not trusted and not Path(path).resolve().is_relative_to(folder.path.resolve()):
        raise ConfigError(f"{folder.path} has its checkpoints written to {path} too, outside of it; --trust allows it")


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
