"""Learning curves of runs in one picture: eval/episode_reward over env steps.

    python -m tools.plot_curves docs/results/cartpole_guide/*.jsonl --output docs/results/cartpole_guide.png

Needs matplotlib, which nothing else does.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import tyro

from torch_ppo.errors import UserError, user_errors
from torch_ppo.running.history import read_history
from torch_ppo.settings.command_line import read_command_line


@dataclasses.dataclass(frozen=True)
class PlotArguments:
    """Draw eval/episode_reward of several runs."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """metrics.jsonl files or run folders."""
    output: Path = Path("curves.png")
    """Picture to write."""
    title: str = ""
    """Title of the picture."""
    level: float | None = None
    """A horizontal line at this reward."""


def read_curve(run: Path) -> tuple[list[float], list[float], list[float]]:
    """Env steps in millions, mean reward, and its standard deviation, of a run's evaluations."""
    path = run / "metrics.jsonl" if run.is_dir() else run
    rows = [row for row in read_history(path) if "eval/episode_reward" in row]
    if not rows:
        raise UserError(f"{path} has no evaluations: a run's folder, or its metrics.jsonl, would have")
    return (
        [row["step"] / 1e6 for row in rows],
        [row["eval/episode_reward"] for row in rows],
        [row["eval/episode_reward_std"] for row in rows],
    )


@user_errors()
def main() -> None:
    """The program `python -m tools.plot_curves`."""
    arguments = read_command_line(PlotArguments, "tools.plot_curves")
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for run in arguments.runs:
        steps, mean, std = read_curve(run)
        (line,) = axes.plot(steps, mean, label=run.stem, marker=".")
        low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, alpha=0.12, color=line.get_color(), linewidth=0)
    if arguments.level is not None:
        axes.axhline(arguments.level, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="env steps (millions)", ylabel="eval/episode_reward", title=arguments.title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
