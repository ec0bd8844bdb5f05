"""Learning curves as pictures: lines over env steps, and the numbers of a run's diagnostics beside each other.

Works on numbers alone; where they come from is the caller's. matplotlib is an extra, imported when something is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch_ppo.errors import UserError, install, is_installed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours for the colour-blind, in an order whose greys differ, too; with dashes for more lines than colours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MOST_LINES = len(COLOURS) * len(DASHES)
DOTS = 25  # a line with more points than this has no dots on them
DPI = 100
FONT_SIZE = 13.0  # points: a page is 1,300 pixels wide, and is read at half of that
GUIDE = "#777777"
Columns = dict[str, tuple[list[int], list[float]]]  # every number of a history by name: (env steps, values)
FORMATS = (".png", ".svg")
SEVERAL_SEEDS = "interquartile mean over seeds, its 95 % bootstrap interval; thin: each seed"


class PlotError(UserError):
    """A picture of curves that cannot be made."""


@dataclass(frozen=True)
class Line:
    """One line of a picture.

    label:      what the legend says
    steps:      env steps
    values:     NaN and infinity leave a gap
    low, high:  ends of a band around it; None for no band
    thin:       lines of the same colour behind it, as (steps, values)
    """

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    thin: tuple[tuple[Sequence[int], Sequence[float]], ...] = ()


class OverSeeds(Protocol):
    """What several seeds came to at an evaluation; `running.seed_statistics.Spread` is it."""

    @property
    def interquartile_mean(self) -> float: ...

    @property
    def interval(self) -> tuple[float, float] | None: ...


def spread_line(
    label: str, by_step: Mapping[int, OverSeeds], thin: tuple[tuple[Sequence[int], Sequence[float]], ...]
) -> Line:
    """Interquartile means of several seeds by env steps, in a band that is their interval; the seeds are `thin`."""
    means = [at.interquartile_mean for at in by_step.values()]
    ends = [at.interval or (at.interquartile_mean, at.interquartile_mean) for at in by_step.values()]
    return Line(label, list(by_step), means, [low for low, _ in ends], [high for _, high in ends], thin)


@dataclass(frozen=True)
class Panel:
    """A small plot of a run's diagnostics.

    title:            what it is, with its unit
    metric:           its name in metrics.jsonl; a run that has not got it has no such panel
    band:             names of the ends of a band around it
    guides:           horizontal lines at values that mean something, see `GUIDES`
    log:              whether its axis is logarithmic, where the values are positive and far apart
    unless_constant:  whether there is no such panel where the number does not change
    """

    title: str
    metric: str
    band: tuple[str, str] | None = None
    guides: tuple[float, ...] = ()
    log: bool = False
    unless_constant: bool = False


PANELS = (
    Panel("successes (share of episodes)", "eval/success_rate"),
    Panel("KL of updates (nats)", "training/approx_kl", guides=(0.02,), log=True),
    Panel("clipped ratios (share)", "training/clip_fraction"),
    Panel("explained variance", "training/explained_variance", guides=(0.5, 1.0)),
    Panel("value loss", "training/v_loss", log=True),
    Panel("entropy of the policy (nats)", "training/entropy"),
    Panel(
        "policy's std (min, mean, max)",
        "training/policy_dist_mean_std",
        band=("training/policy_dist_min_std", "training/policy_dist_max_std"),
    ),
    Panel("norm of the gradient", "training/grad_norm", log=True),
    Panel("speed (env steps/s)", "training/sps"),
    Panel("episode length (env steps)", "eval/avg_episode_length", unless_constant=True),
    Panel("saturated actions (share)", "training/saturated_actions", unless_constant=True),
    Panel("std of value targets", "training/value_target_std", log=True),
    Panel("learning rate", "training/learning_rate", unless_constant=True),
)
GUIDES = (
    "dotted: a KL of 0.02, above which updates are large; an explained variance of 0.5, below which the value "
    "function helps little, and of 1, the best there is"
)
FAR = 100.0  # greatest over least value from which on an axis is logarithmic


def check_matplotlib() -> None:
    """PlotError with the line that installs it, if matplotlib is missing."""
    if not is_installed("matplotlib"):
        raise PlotError(f"pictures of curves need matplotlib, the extra plot: {install('plot')}")


def new_figure(width: float, height: float) -> "Figure":
    """A figure of so many inches, at `DPI` pixels each; no window, and no state that others see."""
    check_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes what the name ends in, .png or .svg; PlotError where that cannot be."""
    check_picture(path)
    try:
        # Without a date: the same numbers are the same file.
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise PlotError(f"{path} cannot be written: {error.strerror or error}") from None


def check_picture(path: Path, formats: Sequence[str] = FORMATS) -> None:
    """PlotError if no picture can be written to `path`; nothing is written."""
    if path.suffix not in formats:
        raise PlotError(f"{path} has to end in {', '.join(formats[:-1])} or {formats[-1]}")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
        raise PlotError(f"{path} {what}")


def step_unit(largest: float) -> tuple[float, str]:
    """What env steps are divided by on an axis that goes this far, and the axis' label."""
    if largest >= 1e6:
        return 1e6, "env steps (millions)"
    return (1e3, "env steps (thousands)") if largest >= 1e4 else (1.0, "env steps")


def style(number: int) -> dict[str, object]:
    """Colour and dashes of line `number`: no two of the first `MOST_LINES` are alike."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
    }


def draw_lines(axes: "Axes", lines: Sequence[Line | None], *, title: str = "", ylabel: str = "") -> None:
    """Draws all lines of a plot over env steps with their bands; a legend, where a line has a label.

    None in the place of a line leaves it out, and the others their looks.
    """
    from matplotlib.ticker import MaxNLocator

    axes.tick_params(labelsize=0.85 * FONT_SIZE)
    there = [(style(number), line) for number, line in enumerate(lines) if line is not None]
    unit, xlabel = step_unit(max((step for _, line in there for step in line.steps), default=0))
    for look, line in there:
        steps = [step / unit for step in line.steps]
        for some_steps, values in line.thin:
            axes.plot([step / unit for step in some_steps], values, alpha=0.35, linewidth=0.9, **look)
        if line.low is not None and line.high is not None:
            axes.fill_between(steps, line.low, line.high, color=look["color"], alpha=0.18, linewidth=0)
        dot = "o" if len(steps) <= DOTS else None
        axes.plot(steps, line.values, label=line.label, linewidth=2.2, marker=dot, markersize=4, **look)
    axes.set_xlabel(xlabel, fontsize=FONT_SIZE)
    axes.set_ylabel(ylabel, fontsize=FONT_SIZE)
    axes.set_title(title, fontsize=FONT_SIZE, loc="left")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if any(line.label for _, line in there):
        axes.legend(fontsize=0.85 * FONT_SIZE, framealpha=0.7)


def draw_panel(axes: "Axes", panel: Panel, columns: Columns) -> None:
    """Draws a panel of a run's numbers; drawn where `panels_of` says so."""
    from matplotlib.ticker import NullFormatter

    steps, values = columns[panel.metric]
    low, high = (columns.get(name, ([], [])) for name in panel.band or ("", ""))
    whole = low[0] == high[0] == steps
    line = Line("", steps, values, *((low[1], high[1]) if whole else ()))
    draw_lines(axes, [line], title=panel.title)
    finite = [value for value in values if math.isfinite(value)]
    if panel.log and finite and min(finite) > 0 and max(finite) / min(finite) > FAR:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif finite and 1e3 <= max(map(abs, finite)) < 1e6:
        axes.yaxis.set_major_formatter("{x:,.0f}")
    else:
        axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    low, high = axes.get_ylim()
    for guide in panel.guides:
        # A guide is no reason to squeeze what is far from it.
        if axes.get_yscale() == "log" or low - 0.5 * (high - low) <= guide <= high + 0.5 * (high - low):
            axes.axhline(guide, color=GUIDE, linestyle=(0, (2, 2)), linewidth=1.2, zorder=0)


def panels_of(columns: Columns) -> list[Panel]:
    """The panels for which a run has numbers."""
    there = [panel for panel in PANELS if panel.metric in columns]
    return [panel for panel in there if not panel.unless_constant or len(set(columns[panel.metric][1])) > 1]
