"""Learning beside Brax, in one picture that is read at half its size: docs/images/beside_brax.png.

    python -m tools.plot_bands docs/results/bands_balance --output docs/images/beside_brax.png

Reads what `python -m tools.compare_brax` left: brax_*_seedS.jsonl and ours_seedS.jsonl. Needs matplotlib.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

from tools.bands import compare
from tools.plot_curves import read_curve
from torch_ppo.errors import UserError, user_errors
from torch_ppo.settings.command_line import read_command_line

# Blue and vermilion of Okabe and Ito, who chose them for the colour-blind; dashes tell the two apart in grey.
SIDES = {
    "Brax (JAX)": ("brax_*_seed*.jsonl", {"color": "#0072B2", "linestyle": (0, (4, 1.5))}),
    "torch_ppo": ("ours_seed*.jsonl", {"color": "#D55E00"}),
}


@dataclasses.dataclass(frozen=True)
class PlotBandsArguments:
    """Draw two trainers' learning curves: medians, and the middle half of the seeds."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the curves."""
    output: Path = Path("bands.png")
    """Picture to write."""
    task: str = "cart-pole balance"
    """What the title says."""


@user_errors()
def main() -> None:
    """The program `python -m tools.plot_bands`."""
    arguments = read_command_line(PlotBandsArguments, "tools.plot_bands")
    plt.rcParams["font.size"] = 13
    figure, axes = plt.subplots(figsize=(8, 4.4), layout="constrained")
    curves = []
    for who, (pattern, style) in SIDES.items():
        seeds = [read_curve(path)[:2] for path in sorted(arguments.folder.glob(pattern))]
        if not seeds:
            raise UserError(
                f"{arguments.folder} has no {pattern}; python -m tools.compare_brax --learning FOLDER writes them"
            )
        curves.append({seed: list(zip(*curve, strict=True)) for seed, curve in enumerate(seeds)})
        steps, rewards = seeds[0][0], np.array([reward for _, reward in seeds])
        low, median, high = np.percentile(rewards, [25, 50, 75], axis=0)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
        axes.plot(steps, median, linewidth=3, label=f"{who}, median of {len(seeds)} seeds", **style)
    p = compare(*curves)["area"]
    axes.set(
        title=f"{arguments.task}; permutation test of the mean over the run: p = {p:.2f}",
        xlabel="env steps (millions)",
        ylabel="reward of an episode (at most 1000)",
        xlim=(0, None),
        ylim=(0, 1050),
    )
    axes.title.set_fontsize("medium")
    axes.fill_between([], [], color="grey", alpha=0.3, linewidth=0, label="the middle half of the seeds")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
