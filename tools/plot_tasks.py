"""Learning curves of several tasks, one small plot per task: eval/episode_reward over env steps.

    python -m tools.plot_tasks docs/results/tasks_cpu/*.jsonl --output docs/results/tasks_cpu.png

Files are named TASK_seedS.jsonl, or TASK_tried_WHAT_seedS.jsonl for settings that were not kept, which are dashed.
Needs matplotlib, which nothing else does.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import tyro
from matplotlib.axes import Axes

from tools.plot_curves import read_curve
from torch_ppo.errors import user_errors
from torch_ppo.settings.command_line import read_command_line

COLUMNS = 3


@dataclasses.dataclass(frozen=True)
class PlotTasksArguments:
    """Draw eval/episode_reward of the runs of several tasks."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """metrics.jsonl files, named TASK_seedS.jsonl or TASK_tried_WHAT_seedS.jsonl."""
    output: Path = Path("tasks.png")
    """Picture to write."""
    highest: float = 1000.0
    """Upper end of the reward axes; that of a task which earned more is its own."""


def name_parts(run: Path) -> tuple[str, str, bool]:
    """Task, label, and whether the settings were kept, from a file's name."""
    name, _, seed = run.stem.rpartition("_seed")
    task, tried, what = name.partition("_tried_")
    label = f"seed {seed}"
    return task, f"{what.replace('_', ' ')}, {label}" if tried else label, not tried


def draw_run(axes: Axes, run: Path, label: str, kept: bool) -> float:
    """Mean reward, and a band of one standard deviation over the episodes of an evaluation; returns the best mean."""
    steps, mean, std = read_curve(run)
    (line,) = axes.plot(steps, mean, label=label, linestyle="-" if kept else "--", linewidth=1.6 if kept else 1.0)
    if kept:
        low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
    return max(mean)


@user_errors()
def main() -> None:
    """The program `python -m tools.plot_tasks`."""
    arguments = read_command_line(PlotTasksArguments, "tools.plot_tasks")
    tasks: dict[str, list[tuple[Path, str, bool]]] = {}
    for run in sorted(arguments.runs):
        task, label, kept = name_parts(run)
        tasks.setdefault(task, []).append((run, label, kept))
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3.7 * columns, 2.7 * rows), layout="constrained", squeeze=False)
    for axes, (task, runs) in zip(grid.flat, tasks.items(), strict=False):
        best = max(draw_run(axes, run, label, kept) for run, label, kept in runs)
        axes.set(title=task, ylim=(0, arguments.highest if best <= arguments.highest else 1.2 * best), xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    for axes in list(grid.flat)[len(tasks) :]:
        axes.set_axis_off()
    figure.supxlabel("env steps (millions)")
    figure.supylabel("eval/episode_reward")
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
