"""Two trainers' learning curves over several seeds: are they draws from the same distribution? A test and a picture."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from torch_ppo.running.seed_statistics import Curve, holm, permutation_p

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def compare(ours: dict[int, Curve], theirs: dict[int, Curve]) -> dict[str, object]:
    """Tests of curves by seed, at the env steps that all of them have.

    area:   p-value of the mean reward over the run, one number per seed
    steps:  p-value at each step, Holm-corrected over steps
    """
    steps = sorted(set.intersection(*({step for step, _ in curve} for curve in [*ours.values(), *theirs.values()])))
    if not steps:
        raise ValueError("the curves have no env steps in common")

    def rewards(curves: dict[int, Curve]) -> list[list[float]]:
        return [[dict(curve)[step] for step in steps] for curve in curves.values()]

    our_rows, their_rows = rewards(ours), rewards(theirs)
    by_step = [permutation_p([row[i] for row in our_rows], [row[i] for row in their_rows]) for i in range(len(steps))]
    return {
        "env_steps": steps,
        "seeds": {"ours": len(ours), "brax": len(theirs)},
        "mean_over_run": {
            "ours": [statistics.mean(row) for row in our_rows],
            "brax": [statistics.mean(row) for row in their_rows],
        },
        "area": permutation_p([statistics.mean(row) for row in our_rows], [statistics.mean(row) for row in their_rows]),
        "steps": dict(zip(steps, holm(by_step), strict=True)),
    }


def draw_bands(axes: "Axes", curves: dict[str, dict[int, Curve]]) -> None:
    """One band per trainer, from the lowest to the highest seed, its median, and every seed as a thin line."""
    for who, by_seed in curves.items():
        steps = sorted(set.intersection(*({step for step, _ in curve} for curve in by_seed.values())))
        millions = [step / 1e6 for step in steps]
        rewards = [[dict(curve)[step] for curve in by_seed.values()] for step in steps]
        median = [statistics.median(row) for row in rewards]
        (line,) = axes.plot(millions, median, label=f"{who}, median of {len(by_seed)} seeds", linewidth=2)
        colour = line.get_color()
        axes.fill_between(millions, list(map(min, rewards)), list(map(max, rewards)), alpha=0.15, color=colour, lw=0)
        for seed in zip(*rewards, strict=True):
            axes.plot(millions, seed, color=colour, alpha=0.3, linewidth=0.7)
    axes.grid(alpha=0.3)


def draw(panels: dict[str, dict[str, dict[int, Curve]]], path: Path) -> None:
    """A picture with the bands of each title, three in a row."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    size = (7, 4.2) if len(panels) == 1 else (4 * columns, 2.9 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        draw_bands(axes, curves)
        axes.set(title=title)
        axes.legend(fontsize="small")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("env steps (millions)")
    figure.supylabel("eval/episode_reward")
    figure.savefig(path, dpi=110)
    plt.close(figure)
