"""Why a run fails: what its numbers say, what that means and what to change.

torch-ppo doctor runs/cartpole-...
torch-ppo doctor logs/rsl_rl/ant/2026-11-20_10-00-00

A run may be going on, stopped or finished. A folder of TensorBoard files will do, too, of rsl_rl, Stable-Baselines3,
CleanRL, rl_games or Brax.
"""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from torch_ppo.command import called, fitting, reader_may_leave
from torch_ppo.diagnosis.conditions import number
from torch_ppo.diagnosis.course import Course
from torch_ppo.diagnosis.events import event_files, read_events
from torch_ppo.diagnosis.findings import Finding, diagnose
from torch_ppo.diagnosis.rules import RULES
from torch_ppo.diagnosis.trainers import OURS, Trainer, course_of, recognised
from torch_ppo.envs import ENVS, make_task
from torch_ppo.errors import UserError, user_errors
from torch_ppo.running.history import read_history
from torch_ppo.settings.command_line import read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.settings.plan import doubts

MOST_NAMED = 5  # runs of a folder, where one of them is to be named


class DoctorError(UserError):
    """Nothing to look at."""


@dataclass(frozen=True)
class DoctorArguments:
    """Explain runs: what their numbers say, what that means, what to change."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS ...")]
    """Run folders, or folders of TensorBoard files of another trainer."""


def greatest_return(config: Config) -> float:
    """The most that an episode of a task of ours can give, inf where that has no limit or the task is not ours."""
    if config.env not in ENVS or not config.episode_length:
        return math.inf
    return make_task(config.env).reward_range[1] * config.episode_length


def open_course(folder: Path) -> tuple[Course, Trainer]:
    """What is in a folder; DoctorError if there is nothing that could be read."""
    if not folder.is_dir():
        raise DoctorError(f"{folder} is not a folder; a run's is such as runs/cartpole-20261120-101500-s0")
    history, settings = folder / "metrics.jsonl", folder / "config.toml"
    if history.exists() and settings.exists():
        config = load_config(str(settings))
        rows = [row for row in read_history(history) if any("/" in name and name[:8] != "episode/" for name in row)]
        return Course(rows, config, greatest_return(config)), OURS
    check_is_one_run(folder)
    series = read_events(event_files(folder))
    if not series:
        raise DoctorError(
            f"{folder} has neither metrics.jsonl nor TensorBoard's files; a run's folder, or one of such files, would do"
        )
    trainer = recognised(series)
    if trainer is None:
        shown = ", ".join(sorted(series)[:4])
        raise DoctorError(
            f"{folder} has tags of no trainer that is known here: {shown}; python -m torch_ppo.doctor --help"
        )
    return Course(course_of(series, trainer), unit=trainer.unit), trainer


def check_is_one_run(folder: Path) -> None:
    """DoctorError for a run that has not begun to report, and for a folder of several runs, whose names it gives."""
    if (folder / "config.toml").exists():
        if read_events(event_files(folder)):  # its metrics.jsonl is gone, but TensorBoard's files tell as much
            return
        raise DoctorError(
            f"{folder} is a run that has reported nothing, being at its start or of an imported policy; once training has "
            "reported it can be looked at"
        )
    found = {path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/metrics.jsonl")}
    if not found:  # of other trainers some have a folder of events in a run's folder, and some have more in those
        found = {path.parent for path in event_files(folder)}
        if folder in found or len(found) < 2:
            return
    named = sorted(found)
    shown = " ".join(shlex.quote(str(path)) for path in named[:MOST_NAMED])
    more = f" (and {len(named) - MOST_NAMED} more)" if len(named) > MOST_NAMED else ""
    raise DoctorError(f"{folder} is no run, but has {len(named)} in it: {called('doctor')} {shown}{more}")


def headline(folder: Path, course: Course, trainer: Trainer) -> str:
    """Whose run it is, how far it is, and its reward."""
    whose = course.config.env if course.config else f"a run of {trainer.name}"
    of_all = f" of {course.total_steps:,}" if course.config else ""
    rewards = course.rewards
    if not rewards:
        return f"{folder}: {whose}, {course.last_step:,}{of_all} {course.unit}, no reward yet"
    best = max(rewards, key=lambda p: p.value)
    reward = f"reward {number(rewards[-1].value)}, at best {number(best.value)} {course.at(best.step)}"
    return f"{folder}: {whose}, {course.last_step:,}{of_all} {course.unit}; {reward}"


def explain(finding: Finding, trainer: Trainer) -> str:
    """A finding in three lines."""
    return f"* {finding.rule.name}: {finding.seen}\n  {finding.rule.means}\n  try {finding.change(trainer.options)}"


def report(folder: Path) -> str:
    """All that is to be said of a run."""
    course, trainer = open_course(folder)
    if not course.rows:
        return f"{folder}: no report yet"
    lines = [headline(folder, course, trainer)]
    findings = diagnose(course)
    lines += [explain(finding, trainer) for finding in findings]
    if course.config:
        lines += [f"* the plan: {doubt}" for doubt in doubts(course.config)]
    if len(lines) == 1:
        lines.append(f"nothing found by {len(RULES)} rules")
    return "\n".join(lines)


def main() -> None:
    """The program `python -m torch_ppo.doctor`."""
    with reader_may_leave(), user_errors():
        arguments = read_command_line(DoctorArguments, "doctor")
        print(fitting("\n\n".join(report(folder) for folder in arguments.runs)))


if __name__ == "__main__":
    main()
