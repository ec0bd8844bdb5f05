"""Several runs beside each other: what they have reported, which are the same but for the seed, and what differs."""

import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch_ppo.errors import ConfigError
from torch_ppo.running.history import read_history
from torch_ppo.running.seed_statistics import Curve, compare_with
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import read_config

RETURN = "eval/episode_reward"
SAME = ("seed", "save_checkpoint_path")  # settings by which runs do not differ
MOST_IN_LABEL = 2  # settings, in so many characters:
LABEL_WIDTH = 40
MOST_WIDTH = 28  # characters of a value in a table

Columns = dict[str, tuple[list[int], list[float]]]


@dataclass(frozen=True, eq=False)
class Run:
    """What a run has left.

    folder:    of its metrics.jsonl
    settings:  of its config.toml; None if it has none
    columns:   every number of its history by name: (env steps, values)
    """

    folder: Path
    settings: dict[str, object] | None
    columns: Columns

    @property
    def curve(self) -> Curve:
        """(env steps, return) of each evaluation."""
        return list(zip(*self.columns.get(RETURN, ([], [])), strict=True))


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    runs: list[Run]


def read_columns(history: Sequence[dict[str, object]]) -> Columns:
    """Every number of a history by name: the env steps at which it was reported, and what it was."""
    columns: Columns = {}
    for row in history:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                steps, values = columns.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(float(value))
    return columns


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs that are meant; ConfigError where there is none."""
    files = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no run {path}")
        file = path / "metrics.jsonl" if path.is_dir() else path
        found = [file] if file.is_file() else sorted(path.rglob("metrics.jsonl"))
        if not found:
            raise ConfigError(
                f"{path} has no metrics.jsonl, nor has a folder in it: it is no run, or has reported nothing"
            )
        files += found
    runs = [read_run(file) for file in dict.fromkeys(files)]
    if not runs:
        raise ConfigError("name a run folder; runs/* would be all of a folder")
    return runs


def read_run(file: Path) -> Run:
    """The run of a metrics.jsonl; ConfigError if there is no report in it."""
    columns = read_columns(read_history(file))
    if not columns:
        raise ConfigError(f"{file} has no report of a run")
    config = file.with_name("config.toml")
    return Run(
        file if file.name != "metrics.jsonl" else file.parent,
        read_config(str(config)) if config.is_file() else None,
        columns,
    )


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs of the same settings but for the seed together, named by what differs between groups."""
    by_settings: dict[object, list[Run]] = {}
    for run in runs:
        same = run.settings and tuple(sorted((k, v) for k, v in run.settings.items() if k not in SAME))
        by_settings.setdefault(same or run, []).append(run)
    groups = list(by_settings.values())
    firsts = [members[0].folder for members in groups]
    above = [members[0].folder.parent if len(members) > 1 else members[0].folder for members in groups]
    names = short_names(above if len(set(above)) == len(above) else firsts)
    told = differences([members[0] for members in groups])
    labels = []
    for number, name in enumerate(names):
        label = ", ".join(f"{setting} {values[number]}" for setting, values in told.items())
        label = label if label and len(label) <= LABEL_WIDTH and len(told) <= MOST_IN_LABEL else name
        labels.append(label)
    if len(set(labels)) < len(labels):
        labels = names
    return [Group(label, members) for label, members in zip(labels, groups, strict=True)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """What tells paths apart: each without what all begin with."""
    whole = [path.resolve() for path in paths]
    above = os.path.commonpath([path.parent for path in whole])
    return [str(path.relative_to(above)).removesuffix(".jsonl") for path in whole]


def in_words(value: object) -> str:
    """A setting's value as a person would write it."""
    if isinstance(value, (tuple, list)):
        return " ".join(map(in_words, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def defaults() -> dict[str, object]:
    """Of every setting that has one."""
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(Config)
    }


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Settings that are not the same in all of these runs: the values in their order. The seed is not told."""
    if not all(run.settings is not None for run in runs):
        return {}
    filled = [defaults() | run.settings for run in runs]
    return {
        name: [in_words(settings[name]) for settings in filled]
        for name in filled[0]
        if name not in SAME and any(settings[name] != filled[0][name] for settings in filled)
    }


def not_default(settings: dict[str, object]) -> tuple[tuple[str, str, str], ...]:
    """(name, value, default) of the settings that are not the default, in words."""
    standard = defaults()
    told = {name: value for name, value in settings.items() if name not in SAME and value != standard[name]}
    return tuple((name, in_words(value), in_words(standard[name])) for name, value in told.items())


def table_of(groups: Sequence[Group]) -> list[list[str]]:
    """Best and last return of each group, and what differs in the settings: a column for each, named in the first row."""
    rows = [["", *(group.label for group in groups)]]
    rows.append(["best return", *(best_of(group) for group in groups)])
    rows.append(["last return", *(last_of(group) for group in groups)])
    if any(len(group.runs) > 1 for group in groups):
        rows.append(["seeds", *(str(len(group.runs)) for group in groups)])
    different = differences([group.runs[0] for group in groups])
    return [*rows, *([name, *values] for name, values in different.items())]


def text_table(groups: Sequence[Group], *, width: int | None = None, most: int | None = None) -> list[str]:
    """`table_of` as lines; turned, a row for each group, if it is wider than `width`. Without what does not fit."""
    rows = [[_shortened(cell) for cell in row] for row in table_of(groups)]
    lines, left_out = _aligned(rows), max(0, len(rows) - (most or len(rows)))
    if width is not None and max(map(len, lines)) > width:
        columns = [*zip(*rows, strict=True)]
        lines = _aligned(columns)
        while len(columns[0]) > 2 and max(map(len, lines)) > width:
            columns = [column[:-1] for column in columns]
            lines = _aligned(columns)
        left_out = len(rows) - len(columns[0])
    told = [f"and {left_out} more settings"] if left_out else []
    return [*lines[:most], *told]


def _shortened(cell: str) -> str:
    """A cell of at most `MOST_WIDTH` characters: of a path its end, which tells more, else the beginning."""
    if len(cell) <= MOST_WIDTH:
        return cell
    return f"..{cell[2 - MOST_WIDTH :]}" if os.sep in cell else f"{cell[: MOST_WIDTH - 2]}.."


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _over_runs(group: Group, pick: Callable[[list[float]], float]) -> str:
    finite = [[value for _, value in run.curve if math.isfinite(value)] for run in group.runs]
    values = [pick(curve) for curve in finite if curve]
    if not values:
        return "none"
    return f"{statistics.median(values):,.1f}" + (
        f" ({min(values):,.1f} to {max(values):,.1f})" if len(values) > 1 else ""
    )


def best_of(group: Group) -> str:
    """The highest return of an evaluation; of several seeds the median of theirs, with the least and the greatest."""
    return _over_runs(group, max)


def last_of(group: Group) -> str:
    """Likewise of the last evaluation."""
    return _over_runs(group, lambda values: values[-1])


def verdicts(groups: Sequence[Group]) -> list[str]:
    """Whether groups of several seeds do better or worse than the first, by the return of the last evaluation."""
    last = {
        group.label: [run.curve[-1][1] for run in group.runs if run.curve] for group in groups if len(group.runs) > 1
    }
    if len(last) < 2:
        return []
    first, *others = last
    found = compare_with(last[first], {name: last[name] for name in others})
    return [f"{name} against {first}, last return: {comparison}" for name, comparison in found.items()]
