"""What a run says and keeps of broken worlds, and why a loss is no longer a number."""

from pathlib import Path

import mujoco
import torch
from torch import Tensor

from torch_ppo.errors import UserError
from torch_ppo.running.checkpoint import DAMAGED, save_checkpoint
from torch_ppo.running.disk import DiskError
from torch_ppo.running.training_state import TrainingState

MAX_FILES = 10  # of a run

# What to look at, by the first word of the cause.
ADVICE = {
    "state": "look at the MJCF's timestep and integrator, actuator gains and control ranges, and contacts at the start",
    "observation": "look at what the task's observe divides by or takes a root or logarithm of",
    "reward": "look at what the task's reward divides by or takes a root or logarithm of",
    "metric": "look at what the task's reward divides by or takes a root or logarithm of",
}

# Beyond these something is wrong with the numbers that come in, not with learning.
HUGE_OBSERVATION, HUGE_REWARD = 1e5, 1e6


class BrokenCaseError(UserError):
    """A file that is not of a broken world."""


def joint_name(model: mujoco.MjModel, joint: int) -> str:
    """Its name, or its number where it has none."""
    return f'joint "{model.joint(joint).name}"' if model.joint(joint).name else f"joint {joint}"


def state_name(model: mujoco.MjModel, column: int) -> str:
    """What a column of qpos, qvel, act, ctrl, laid side by side, is called."""
    if column < model.nq:
        joint = max(j for j in range(model.njnt) if model.jnt_qposadr[j] <= column)
        return f"qpos of {joint_name(model, joint)}"
    column -= model.nq
    if column < model.nv:
        return f"qvel of {joint_name(model, int(model.dof_jntid[column]))}"
    column -= model.nv
    return f"act {column}" if column < model.na else f"ctrl {column - model.na}"


def worst(values: Tensor) -> int:
    """Place of the value `(n,)` that is inf or NaN, or else of the largest."""
    return int(values.abs().nan_to_num(torch.inf, posinf=torch.inf).argmax())


def describe(
    case: dict[str, object], causes: tuple[str, ...], model: mujoco.MjModel, frame_dims: dict[str, int]
) -> str:
    """The cause of a case of `Evidence.take`, with the joint or the column by name; of a stack the newest frame's."""
    cause = causes[case["cause"] - 1]
    kind = cause.split()[0]
    if kind == "state":
        values = case["state"][-1][: model.nq + model.nv]
        column = worst(values)
        return f"{state_name(model, column)} is {values[column].item():.3g}"
    if kind == "observation":
        key = cause.split('"')[1]
        if key in case["final_observation"]:  # else no network sees it, and it was not kept
            last, before = (case[when][key][-1][-frame_dims[key] :] for when in ("final_observation", "observation"))
            values = last if not last.isfinite().all() or before.isfinite().all() else before
            column = worst(values)
            return f"{cause}, column {column}, is {values[column].item()}"
    return f"{cause} is inf or NaN"


def keep_cases(state: TrainingState, collected: int) -> list[str]:
    """Takes the evidence since the last time, keeps files of it in the run's folder; a line about each case.

    collected:  env steps until now, those of a training step under way included

    A file is read with `torch.load(path, weights_only=True)`: the case as in `Evidence.take`, with seed, env, env_steps,
    what broke and the sizes of the parts of `state`; `python -m torch_ppo.play --broken FILE` shows it.
    """
    evidence, config = state.collector.evidence, state.config
    if evidence is None:  # the env keeps no states
        return []
    model = state.env.physics.model
    total_unrolls, folder, lines = int(evidence.num_unrolls), state.broken_folder, []
    frame_dims = {key: len(statistics.mean) for key, statistics in state.agent.normalizer.items()}
    each = config.num_envs * config.unroll_length * config.action_repeat
    for case in evidence.take():
        what = describe(case, state.env.broken.causes, model, frame_dims)
        env_steps = collected - (total_unrolls - case.pop("unroll")) * each
        lines.append(f"{what} in env {case['world']}, at most {each:,} env steps before {env_steps:,}")
        number = len(list(folder.glob("*.pt"))) if folder is not None else MAX_FILES
        if number < MAX_FILES:
            kept = {
                **case,
                "seed": config.seed,
                "env": config.env,
                "env_steps": env_steps,
                "what": what,
                "state_sizes": {"qpos": model.nq, "qvel": model.nv, "act": model.na, "ctrl": model.nu},
            }
            path = folder / f"{number}.pt"
            try:
                save_checkpoint(kept, path)
                lines[-1] += f"; python -m torch_ppo.play --broken {path} shows it"
            except DiskError as error:  # evidence is worth less than the run
                lines[-1] += f" ({error})"
    return lines


def load_case(path: Path) -> dict[str, object]:
    """A file that `keep_cases` wrote; BrokenCaseError if it is none. Runs no code."""
    try:
        case = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED:
        case = None
    if not isinstance(case, dict) or "state_sizes" not in case:
        raise BrokenCaseError(f"{path} is not a file of a broken world, such as RUN_FOLDER/broken/0.pt")
    return case


def too_many_broken(state: TrainingState, fraction: float, collected: int) -> str:
    """Why a run ends in which `fraction` of a training step's policy steps broke a world."""
    counts = state.devices.sum_(state.env.broken.counts.clone()).tolist()
    cause = state.env.broken.causes[counts.index(max(counts))]
    cases = keep_cases(state, collected)
    example = f"; for example, {cases[0]}" if cases else ""
    kind = cause.split()[0]
    advice = ADVICE[kind] if state.env.task is not None else f"look at what the {kind} of {state.env.name} is made of"
    return (
        f"{fraction:.1%} of the policy steps of a training step broke a world, more than max_broken_fraction = "
        f"{state.config.max_broken_fraction:g}: mostly its {cause}{example}; {advice}"
    )


def broken_lines(state: TrainingState) -> list[str]:
    """What to say at a report of worlds that broke since the last one, by cause."""
    counts, counts_before = state.env.broken.counts.tolist(), state.broken_before
    state.broken_before = counts
    lines = []
    for cause, before, now in zip(state.env.broken.causes, counts_before, counts, strict=True):
        if now > before:
            what = "its state left what physics can mean" if cause == "state" else f"its {cause} was inf or NaN"
            lines.append(
                f"worlds broke {now - before:,} times because {what} ({now:,} in all); nothing was learned from it"
            )
    return lines + keep_cases(state, state.env_steps) if lines else []


def why_not_a_number(state: TrainingState, peak_reward: float) -> str:
    """What is to be changed where the loss is inf or NaN: the observation or reward that is to blame, or settings.

    peak_reward:  largest |reward| of the training step
    """
    for key, statistics in state.agent.normalizer.items():
        size = torch.maximum(statistics.mean.abs(), statistics.std).nan_to_num(torch.inf, posinf=torch.inf)
        column = worst(size)
        if not size[column] < HUGE_OBSERVATION:
            return (
                f'column {column} of observation "{key}" is to blame: its mean over the run is '
                f"{statistics.mean[column].item():.3g} and its standard deviation {statistics.std[column].item():.3g}; "
                "scale it in the task, or normalize_observations = true with normalizer_clip = 10 would limit it"
            )
    if not peak_reward < HUGE_REWARD:
        return f"a reward of {peak_reward:.3g} is to blame; scale it in the task, or reward_clip = 10.0 would limit it"
    return "a smaller learning_rate, max_grad_norm = 1.0 or a smaller reward_scaling may help"
