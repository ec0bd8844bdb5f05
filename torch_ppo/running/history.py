"""A run's history, metrics.jsonl: one JSON object per report, and how to read it whatever became of it.

JSON has neither NaN nor infinity. Such a number is null, and "not_finite" says what it was:
{"step": 640, "eval/episode_reward": null, "not_finite": {"eval/episode_reward": "NaN"}}

"doctor" is what was found with this report, in words by the name of the rule (docs/doctor.md).
"""

import json
import math
import os
from pathlib import Path

from torch_ppo.running.disk import DiskError, disk_errors

NOT_FINITE = "not_finite"


def to_line(step: int, metrics: dict[str, float], more: dict[str, object] | None = None) -> bytes:
    """One report as a line; `more` is what JSON can have beside numbers."""
    odd = {name: json.dumps(value) for name, value in metrics.items() if not math.isfinite(value)}
    row = {"step": step, **{name: None if name in odd else value for name, value in metrics.items()}, **(more or {})}
    return json.dumps(row | ({NOT_FINITE: odd} if odd else {}), allow_nan=False).encode() + b"\n"


def _int(text: str) -> int:
    """OverflowError for one beyond all floats, which nobody could compute with."""
    value = int(text)
    float(value)
    return value


def from_line(line: bytes) -> dict[str, float] | None:
    """The report in a line, step included; None for a line that is torn or somebody else's."""
    try:
        row = json.loads(line, parse_int=_int)
        step = row["step"]
        row["step"] = int(step)
        numbers = {name: float(text) for name, text in row.pop(NOT_FINITE, {}).items()}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        return None
    known = isinstance(step, (int, float)) and not isinstance(step, bool)
    return row | numbers if known else None


def read_history(path: Path) -> list[dict[str, float]]:
    """All reports in a metrics.jsonl, oldest first; lines that are none are passed over. Empty if there is no file."""
    if not path.is_file():
        return []
    return [row for line in path.read_bytes().splitlines() if (row := from_line(line)) is not None]


def read_curve(path: Path) -> list[tuple[int, float]]:
    """(env steps, eval/episode_reward) of each evaluation in a metrics.jsonl."""
    curve = []
    for row in read_history(path):
        reward = row.get("eval/episode_reward")
        if isinstance(reward, (int, float)) and not isinstance(reward, bool):  # else somebody has edited the line
            curve.append((row["step"], float(reward)))
    return curve


def cut_history(path: Path, last_step: int) -> list[str]:
    """Takes off the reports after `last_step`, which are about to be made again, and a torn last line.

    What remains is not touched, so that a crash at any moment loses none of it. Returns what is to be said of the rest;
    DiskError if the file cannot be changed.
    """
    if not path.is_file():
        if path.exists():  # a pipe, say, which would be waited for
            raise DiskError(f"{path} is not a file")
        return []
    kept: list[bytes] = []
    foreign = 0
    with disk_errors(path):
        for line in path.read_bytes().splitlines(keepends=True):
            row = from_line(line)
            if row is None and not line.endswith(b"\n"):  # torn
                break
            if row is not None and row["step"] > last_step:
                break
            foreign += row is None
            kept.append(line)
        os.truncate(path, sum(map(len, kept)))
        if kept and not kept[-1].endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")
    lines = "a line that is" if foreign == 1 else f"{foreign} lines that are"
    return [f"note: {path} has {lines} no report; left as they are"] if foreign else []
