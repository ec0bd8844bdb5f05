"""Import: another trainer's policy becomes a run of ours, to play, export, evaluate and train on.

    python -m torch_ppo.import_policy model_1500.pt runs/theirs --config agent.yaml --dialect rsl_rl --env my_robot.py:Walk
    python -m torch_ppo.import_policy ppo_ant.zip runs/theirs --normalizer vecnormalize.pkl --trust
    python -m torch_ppo.import_policy checkpoints/000050000000 runs/theirs        # Brax; needs the extra brax
    python -m torch_ppo.import_policy walker_walk runs/walker --env walker_walk   # a policy that comes along

What was made is compared with the original's own layers. docs/import.md has the formats.
"""

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from torch_ppo.command import called, print_notes, reader_may_leave
from torch_ppo.dialects import propose_dialect, read_dialect
from torch_ppo.environments.finding import canonical, runs_own_code, source_of
from torch_ppo.errors import ConfigError, user_errors
from torch_ppo.importing.imported import TOLERANCE, ForeignError, Imported, agent_of, check_agent, checkpoint_of
from torch_ppo.importing.reading import Given, read
from torch_ppo.running.acting import make_env
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.environment import remember
from torch_ppo.running.fit import actions_of, task_misfit
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.pretrained import find_policy
from torch_ppo.running.program import default_config, without_borrowed
from torch_ppo.settings.checks import without_idle
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import config_names, read_config


@dataclass(frozen=True)
class ImportArguments:
    """Make a run folder of another trainer's checkpoint, checked against the original's layers."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    """Brax: a folder of Orbax, or a pickle of save_params. RSL-RL: model_*.pt. SB3: a .zip. CleanRL: a state dict.
    Ours: an exported .safetensors, or the name of a task whose policy comes along."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Run folder to make."""
    trainer: Annotated[Literal["brax", "rsl_rl", "sb3", "cleanrl", "torch_ppo"] | None, tyro.conf.arg(name="from")] = (
        None
    )
    """Whose it is; by default as its content says."""
    env: str | None = None
    """Task that it acts in."""
    config: str | None = None
    """Settings to train on with: a shipped name, a file, a run folder; by default those of the task, where it is one of
    ours. What the checkpoint decides counts before them."""
    dialect: str | None = None
    """Whose words --config is in, for example rsl_rl; by default ours."""
    num_envs: int | None = None
    """Of --config, where it does not say, as RSL-RL's."""
    activation: str | None = None
    """Of the hidden layers, where the checkpoint does not say: swish (Brax), elu (RSL-RL), tanh (SB3, CleanRL) by default."""
    normalizer: Path | None = None
    """Statistics of the observation that the checkpoint lacks: VecNormalize's pickle, or an .npz with mean, var, count."""
    trust: bool = False
    """Read pickles. Arrays are rebuilt; other code in them is not run."""


def settings_given(arguments: ImportArguments) -> dict[str, object]:
    """The settings of --config, or else of the task, by field."""
    if arguments.num_envs is not None and arguments.dialect is None:
        raise ConfigError("--num-envs is for a --config in another --dialect that does not say; train takes its own")
    if arguments.config is None:
        if arguments.dialect is not None:
            raise ConfigError(f"--dialect {arguments.dialect} says how to read a file; name the file with --config")
        own = _configuration_of(canonical(arguments.env or ""))
        return {} if own is None else read_config(own[0])
    if arguments.dialect is not None:
        reading = read_dialect(arguments.config, arguments.dialect, num_envs=arguments.num_envs)
        print(reading, file=sys.stderr)
        return dict(reading.settings)
    if (proposal := propose_dialect(arguments.config)) is not None:
        raise ConfigError(proposal)
    return read_config(arguments.config)


def _configuration_of(env: str) -> tuple[str, str] | None:
    """What training a task of ours would begin with on this machine, and why; None for other envs."""
    return default_config(env) if env in config_names() else None


def config_of_import(imported: Imported, given: Mapping[str, object], env: str) -> Config:
    """The configuration of the new run: what is given, and before it what the checkpoint decides."""
    values = {"num_timesteps": max(1, imported.env_steps), **given, **imported.settings, "env": env}
    values |= {"restore_checkpoint_path": None, "save_checkpoint_path": None}
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    return Config(**without_idle(values, defaults))  # what was given may be of other networks


SEEN = ("action_repeat", "history", "history_obs_keys", "vision")  # what an env has to know of a policy's


def fit_task(imported: Imported, given: Mapping[str, object], env: str) -> tuple[dict[str, int], dict | None]:
    """The observations of the task, by key, and what it makes of actions; ForeignError where the policy does not fit it."""
    decided = {"distribution_type": Config.distribution_type, **given, **imported.settings}
    seen = {name: decided[name] for name in SEEN if name in decided}
    live = make_env(env, 1, **seen)
    sizes, theirs = live.observation_sizes, imported.observation_sizes
    (only,) = sizes if len(sizes) == 1 else (None,)
    if len(theirs) == 1 and only is not None:  # of one there is no choice, whatever it is called
        theirs = {only: next(iter(theirs.values()))}
    missing = {key: size for key, size in theirs.items() if sizes.get(key) != size}
    if missing or actions_of(live) != imported.action_dim:
        misfit = task_misfit((theirs, imported.action_dim), (sizes, actions_of(live)), Path(env).name)
        raise ForeignError(f"it does not fit: {'; '.join(misfit)}")
    controls = live.controls()
    if (
        live.task is None
        and decided["distribution_type"] == "normal"
        and controls is not None
        and not _as_it_is(controls)
    ):
        low, high = controls["lower"], controls["upper"]
        raise ForeignError(
            f"its actions are those of {env} itself, from {low} to {high}, but policies here act there from -1 to 1; "
            "a wrapper that rescales actions, as gymnasium.wrappers.RescaleAction, before its training would make them so"
        )
    return sizes, controls


def _as_it_is(controls: Mapping[str, list]) -> bool:
    """Whether an action reaches what it acts on as it is."""
    return all(x == 0 for x in controls["offset"]) and all(x == 1 for x in controls["scale"])


def import_policy(arguments: ImportArguments, *, trainer: str | None = None) -> None:
    """Writes the run folder, and prints what was found. ForeignError where the checkpoint has no counterpart.

    trainer:  whose it is, where the arguments do not say
    """
    given = settings_given(arguments)
    env = canonical(arguments.env or str(given.get("env", "")))
    if arguments.env is not None and arguments.config is not None:
        without_borrowed(given, env, arguments.config)
    if runs_own_code(env) and arguments.env is None:
        raise ConfigError(
            f"{arguments.config} names a task of its own, {env}, whose code would run; --env {env} allows it"
        )
    source = source_of(env) if env else None
    said = Given(given, arguments.activation, arguments.normalizer, arguments.trust)
    trainer, imported = read(find_policy(arguments.checkpoint), arguments.trainer or trainer, said)
    # First of all: settings of a task that it does not fit would be refused for reasons of their own.
    fit = fit_task(imported, given, env) if env else None
    config = config_of_import(imported, given, env)
    agent = agent_of(imported, config)
    largest = check_agent(agent, imported)
    checkpoint = checkpoint_of(imported, config, agent)
    checkpoint["imported"] = {"from": trainer, "file": arguments.checkpoint.name}
    if fit is not None:
        checkpoint["observation_sizes"], checkpoint["controls"] = fit
        if len(imported.observation_sizes) == 1 and (key := next(iter(checkpoint["observation_sizes"]))) != "state":
            checkpoint["agent"] = {
                name.replace("normalizer.state.", f"normalizer.{key}."): x for name, x in checkpoint["agent"].items()
            }
    folder = RunFolder.for_new_run(arguments.out, config, "OUT")
    folder.create(config)
    try:
        save_checkpoint(checkpoint, folder.checkpoints / "best.pt", folder.checkpoints / "last.pt")
        if source is not None:
            remember(folder.path, env, source)
    finally:
        folder.close()
    for note in imported.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.config is None and (own := _configuration_of(env)) is not None:
        print(f"note: its settings to train on are those of {own[0]} ({own[1]})", file=sys.stderr)
    seen = ", ".join(f"{key} {size}" for key, size in imported.observation_sizes.items())
    print(
        f"{arguments.out}: policy of {trainer}, {seen} -> {imported.action_dim}, checked: largest difference from its own "
        f"layers {largest:.1g} of {TOLERANCE:g} allowed"
    )
    task_option = "" if env else " --env TASK"
    out = shlex.quote(str(arguments.out))
    print(
        f"to train on: {called('train')} --config {out} --restore-checkpoint-path {out}{task_option} --num-timesteps N"
    )


def main() -> None:
    """The program `python -m torch_ppo.import_policy`."""
    with reader_may_leave(), user_errors():
        print_notes()
        import_policy(read_command_line(ImportArguments, "import_policy"))


if __name__ == "__main__":
    main()
