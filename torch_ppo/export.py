"""Export: a policy as a file that needs no trainer, normalizer inside, checked against the live policy.

    python -m torch_ppo.export runs/cartpole-...                 # policy.pt, TorchScript
    python -m torch_ppo.export runs/cartpole-... --format all    # also ONNX, torch.export and safetensors
    python -m torch_ppo.export --show policy.onnx                # what is in a file

Each file carries its contract (exporting/contract.py); docs/deploy.md shows its use.
"""

import contextlib
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from torch_ppo.command import reader_may_leave
from torch_ppo.environments.sources import seen_and_done
from torch_ppo.errors import UserError, user_errors
from torch_ppo.exporting.checking import TOLERANCE, check, observations_to_try
from torch_ppo.exporting.contract import Known, check_contract, contract_text, make_contract
from torch_ppo.exporting.deployed import DeployedPolicy, deployed
from torch_ppo.exporting.errors import ExportError
from torch_ppo.exporting.reading import FORMATS, Act, contract_in, format_of, is_ours
from torch_ppo.formulas.categorical import per_action, scores
from torch_ppo.formulas.noise import GeneratorNoise
from torch_ppo.learning.agent import Agent
from torch_ppo.running.acting import make_env
from torch_ppo.running.checkpoint import agent_from_checkpoint, config_of, find_checkpoint, load_checkpoint
from torch_ppo.running.disk import TEMPORARY, DiskError, check_folder, write_atomically
from torch_ppo.running.environment import locate_task
from torch_ppo.running.fit import actions_in_words, actions_of
from torch_ppo.running.pretrained import find_policy
from torch_ppo.settings.command_line import read_command_line, refuse_idle
from torch_ppo.simulation.scaling import from_plain, to_plain
from torch_ppo.simulation.task import Task

Format = Literal["torchscript", "onnx", "pt2", "safetensors", "all"]
NUM_ENVS, STEPS_TO_SEE = 8, 64  # of the episodes on whose observations a file is checked


def know(checkpoint: dict[str, object], source: Path, agent: Agent, task: Task | str | None) -> Known:
    """What a checkpoint, read from `source`, and its task tell; the agent acts in a few episodes for it."""
    config, best = config_of(checkpoint), checkpoint.get("best")
    in_run = source.parent.name == "checkpoints"
    reward = best["reward"] if best and best["env_steps"] == checkpoint["env_steps"] else None
    origin = {
        "run": source.resolve().parent.parent.name if in_run else None,
        "checkpoint": source.name,
        "env_steps": checkpoint["env_steps"],
        "evaluation_reward": reward,
    }
    if task is None:
        return Known(config, origin, controls=checkpoint.get("controls"))
    rules = {"episode_length": config.episode_length, "action_repeat": config.action_repeat}
    env = make_env(task, NUM_ENVS, seed=config.seed, **rules, **seen_and_done(config))
    sizes = checkpoint["observation_sizes"]
    actions = checkpoint.get("choices") or checkpoint["action_dim"]
    if env.observation_sizes != sizes or actions_of(env) != actions:
        raise ExportError(
            f"{source} was not trained in this task: it has observations {sizes} and {actions_in_words(actions)}, "
            f"the task {env.observation_sizes} and {actions_in_words(actions_of(env))}"
        )
    controls = checkpoint.get("controls")
    model = None if env.physics is None else env.physics.model  # others' environments have none here
    if controls is None and model is not None and (scaling := env.scaling()) is not None:  # an older checkpoint
        controls = to_plain(scaling, model)
    seen = []
    with torch.no_grad():
        for _ in range(STEPS_TO_SEE):
            seen.append([env.observation[key].clone() for key in agent.policy_obs_keys])
            env.step(agent.mode(env.observation))
    return Known(config, origin, env.task, model, controls, tuple(map(torch.cat, zip(*seen, strict=True))))


def export_policy(
    agent: Agent,
    path: Path,
    known: Known | None = None,
    *,
    format: str | None = None,
    stochastic: bool = False,
    as_controls: bool = False,
) -> float:
    """Writes `agent`'s policy in a format, and checks it in that format's runtime; returns the largest difference found.

    format:       by default what the path's ending says, else TorchScript
    stochastic:   the policy takes noise as its second input, and samples with it
    as_controls:  its output is what the actuators get

    ExportError if it cannot be written, or differs; what was at `path` is then as it was.
    """
    known, format = known or Known(), format or format_by_ending(path)
    agent = agent.cpu() if next(agent.parameters()).device.type != "cpu" else agent
    if as_controls and known.controls is None:
        reason = (
            "not a scale and an offset"
            if known.task is not None
            else "not known: the task was not loaded, or does not say"
        )
        raise ExportError(f"--controls: what the task makes of an action is {reason}; the action can be exported")
    scaling = from_plain(known.controls) if as_controls else None
    policy = deployed(agent, stochastic=stochastic, scaling=scaling)
    contract = make_contract(agent, policy, known)
    content = FORMATS[format].to_bytes(policy, contract)
    unchecked = path.with_name(f".{secrets.token_hex(6)}{FORMATS[format].SUFFIX}{TEMPORARY}")
    try:
        write_atomically(unchecked, content)
        largest = check_file(unchecked, agent, policy, known.observations, format=format, shown=path)
        if format == "safetensors":
            description = json.dumps(FORMATS[format].read(unchecked)[1], indent=1) + "\n"
            write_atomically(path.with_suffix(".json"), description.encode())
        unchecked.replace(path)
    except (OSError, DiskError) as error:
        reason = f": {error.strerror}" if isinstance(error, OSError) else f" ({error})"
        raise ExportError(f"{path} cannot be written{reason}") from None
    finally:
        with contextlib.suppress(OSError):
            unchecked.unlink()
    return largest


def format_by_ending(path: Path) -> str:
    """The format that a file's ending belongs to, TorchScript for any other."""
    return next((name for name, module in FORMATS.items() if path.suffix == module.SUFFIX), "torchscript")


def check_file(
    path: Path,
    agent: Agent,
    policy: DeployedPolicy,
    observations: tuple[Tensor, ...] | None = None,
    *,
    format: str = "torchscript",
    shown: Path | None = None,
) -> float:
    """Largest difference between a file and the live policy; ExportError, about the path `shown`, if it is too large."""
    shown = shown or path
    try:
        act, _ = FORMATS[format].read(path)
    except ExportError as error:
        raise ExportError(str(error).replace(str(path), str(shown))) from None
    tried = observations_to_try(agent, observations)
    noise = None
    if policy.stochastic:
        noise = agent.distribution.draw(GeneratorNoise(torch.Generator().manual_seed(1)), len(tried[0]))

    def live(*inputs: Tensor) -> Tensor:
        seen = dict(zip(agent.policy_obs_keys, inputs, strict=False))
        noise = inputs[-1] if policy.stochastic else None
        if choices is not None:
            logits = agent.policy_params(seen)[0]
            return per_action(logits, choices) if noise is None else scores(logits, noise, choices)
        action = agent.mode(seen) if noise is None else agent.sample(seen, noise)
        return action if policy.controls is None else policy.controls(action)

    act, choices = _from_0(act, policy), agent.distribution.choices
    unit = 1.0 if policy.controls is None else policy.controls.scale.abs().clamp(min=1.0)
    try:
        return check(
            act, live, tried, noise, leading_axes=format in ("torchscript", "safetensors"), unit=unit, choices=choices
        )
    except (ExportError, RuntimeError, torch.jit.Error) as error:  # torch's own where the file sees another size
        raise ExportError(f"{shown}: {error}") from None


def _from_0(act: Act, policy: DeployedPolicy) -> Act:
    """A file's policy whose discrete actions count from 0, whatever the env calls the first choice."""
    if policy.controls is None or policy.distribution.choices is None:
        return act
    return lambda *inputs: act(*inputs) - policy.controls.offset.to(torch.int64)


def check_export(path: Path, agent: Agent) -> float:
    """Largest difference between a TorchScript file and the live policy; ExportError above `TOLERANCE`."""
    return check_file(path, agent, deployed(agent))


def is_exported(path: Path, checkpoint: Path) -> bool:
    """Whether a file is the whole policy of a checkpoint."""
    try:
        check_export(path, agent_from_checkpoint(load_checkpoint(checkpoint)))
    except (UserError, ValueError):
        return False
    return True


def export_of_run(checkpoint: Path, path: Path, task: Task | None) -> None:
    """What training writes at its end: a checkpoint's policy as TorchScript."""
    saved = load_checkpoint(checkpoint)
    agent = agent_from_checkpoint(saved)
    try:
        known = know(saved, checkpoint, agent, task)
    except UserError:  # a model that C MuJoCo does not have
        known = know(saved, checkpoint, agent, None)
    export_policy(agent, path, known)


def check_output(path: Path, source: Path, format: str, *, in_run: bool) -> None:
    """ExportError if a policy written there would replace something that is no export of ours, or no file.

    in_run: the path is that of a run's folder for its policy, where a damaged one may be replaced, too
    """
    suffix = FORMATS[format].SUFFIX
    works = f"policy{suffix} would work"
    if path.suffix != suffix and (
        format != "torchscript" or path.suffix in [other.SUFFIX for other in FORMATS.values()]
    ):
        raise ExportError(f"--output {path} does not end in {suffix}, as --format {format} does; {works}")
    check_folder(path.parent, "--output")
    for file in (path, path.with_suffix(".json")) if format == "safetensors" else (path,):
        if not file.exists():
            continue
        if file.samefile(source):
            raise ExportError(f"--output {file} is the checkpoint itself; {works}")
        if not file.is_file():
            raise ExportError(f"--output {file} is not a file; {works}")
        if not in_run and not is_ours(file):
            raise ExportError(f"--output {file} is there, and no exported policy; a new name would work")


def find_task(
    arguments: "ExportArguments", checkpoint: dict[str, object], folder: Path
) -> tuple[Task | str | None, str]:
    """The task that a policy acts in, or None and why it is not loaded."""
    if arguments.env is not None:
        return arguments.env, ""
    env = config_of(checkpoint).env
    if not env:
        return None, "the run's task is not known"
    try:
        place, notes = locate_task(folder, env, trusted=arguments.trust, remedy="--env {name}")
    except UserError as error:
        return None, str(error)
    for note in notes:
        print(note)
    return place, ""


def formats_and_outputs(arguments: "ExportArguments", folder: Path) -> list[tuple[str, Path]]:
    """Which formats to write, and where: beside each other, with the ending of each."""
    output, format = arguments.output, arguments.format
    if format is None:
        format = format_by_ending(output) if output else "torchscript"
    if format != "all":
        return [(format, output or folder / f"policy{FORMATS[format].SUFFIX}")]
    first = output or folder / "policy.pt"
    return [(name, first.with_suffix(module.SUFFIX)) for name, module in FORMATS.items()]


@dataclass(frozen=True)
class ExportArguments:
    """Write a run's policy as a file that needs no trainer, checked against the live policy; or show such a file."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN]")] = None
    """Run folder, or a checkpoint file."""
    checkpoint: str | None = None
    """Which checkpoint of the run folder: best (by default), last, or the env steps of one."""
    format: Format | None = None
    """torchscript (by default), onnx, pt2 (torch.export), safetensors with JSON, or all of them."""
    output: Path | None = None
    """File to write; policy.pt in the run folder by default, with the ending of the format."""
    stochastic: bool = False
    """Sample actions: the policy takes noise as its second input, standard normal or, of discrete actions, uniform."""
    controls: bool = False
    """Give what the actuators get (scale, offset and range applied) instead of the policy's action."""
    env: str | None = None
    """Task that the policy acts in; the run's by default."""
    trust: bool = False
    """Load the task that the run's folder names, where that is a file of a user's own."""
    show: Path | None = None
    """Print the contract of an exported file, as JSON, instead of writing one."""


def main() -> None:
    """The program `python -m torch_ppo.export`."""
    with reader_may_leave(), user_errors():
        arguments = read_command_line(ExportArguments, "export")
        if arguments.show is not None:
            if arguments.run is not None:
                raise ExportError(f"what is {arguments.run}? --show {arguments.show} shows one file, and writes none")
            refuse_idle(arguments, "checkpoint format output stochastic controls env trust", "with --show")
            shown = find_policy(arguments.show)
            print(contract_text(check_contract(contract_in(shown), shown)))
            return
        if arguments.run is None:
            raise ExportError("say what to export: a run folder or a checkpoint; or --show FILE")
        export_from(arguments)


def export_from(arguments: ExportArguments) -> None:
    """Writes what is asked for, and prints a line on each file. ExportError if one cannot be."""
    run = find_policy(arguments.run)
    if format_of(run) not in (None, "torchscript"):  # of which load_checkpoint tells
        raise ExportError(f"{run} is an exported policy already; its run's folder or checkpoint is needed")
    if not run.is_dir():
        refuse_idle(arguments, "checkpoint", f"of {run}, which is one checkpoint")
    if arguments.env is not None:
        refuse_idle(arguments, "trust", "with --env, which names the task")
    source = find_checkpoint(run, arguments.checkpoint or "best")
    checkpoint = load_checkpoint(source)
    folder = run if run.is_dir() else run.parent
    outputs = formats_and_outputs(arguments, folder)
    for format, output in outputs:
        check_output(output, source, format, in_run=arguments.output is None and run.is_dir())
    agent = agent_from_checkpoint(checkpoint)
    if arguments.format == "all" and agent.pixel_keys:
        outputs = [(format, output) for format, output in outputs if format != "safetensors"]
        print("note: no .safetensors, which has no convolutions, for a policy that sees pixels", file=sys.stderr)
    of_run = source.parent.parent if source.parent.name == "checkpoints" else folder
    task, why_not = find_task(arguments, checkpoint, of_run)
    known = know(checkpoint, source, agent, task)
    options = {"stochastic": arguments.stochastic, "as_controls": arguments.controls}
    missing = []
    for format, output in outputs:
        try:
            largest = export_policy(agent, output, known, format=format, **options)
        except ExportError as error:
            if len(outputs) == 1 or (known.controls is None and arguments.controls):  # of all formats the same
                raise
            missing.append(f"no {output}: {error}")
            continue
        print(
            f"{output}: policy of {source.name} at {checkpoint['env_steps']:,} env steps, checked: largest action difference "
            f"{largest:.1g} of {TOLERANCE:g} allowed"
        )
    if task is None:
        print(f"note: {why_not}; without its task the contract lacks names and units", file=sys.stderr)
    if missing:
        raise ExportError("; ".join(missing))


if __name__ == "__main__":
    main()
