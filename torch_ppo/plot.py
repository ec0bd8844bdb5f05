"""Plot: a run on one page, or the learning curves of several with what differs in their settings.

    python -m torch_ppo.plot runs/cartpole-...
    python -m torch_ppo.plot runs/seeds --output comparison.png comparison.html
    python -m torch_ppo.plot runs/a runs/b --metrics eval/episode_reward training/approx_kl --output curves.svg

A run is a run folder, or a metrics.jsonl; of any other folder all runs below it are meant.
"""

import html
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from torch_ppo.command import print_notes, reader_may_leave
from torch_ppo.diagnosis.findings import diagnose
from torch_ppo.diagnosis.rules import RULES
from torch_ppo.doctor import open_course
from torch_ppo.errors import ConfigError, UserError, did_you_mean, user_errors
from torch_ppo.running.comparing import (
    RETURN,
    Group,
    Run,
    find_runs,
    grouped,
    not_default,
    table_of,
    text_table,
    verdicts,
)
from torch_ppo.running.disk import write_atomically
from torch_ppo.running.seed_statistics import spread_by_step
from torch_ppo.settings.command_line import read_command_line, refuse_idle
from torch_ppo.settings.plan import doubts
from torch_ppo.showing.curves import (
    FONT_SIZE,
    FORMATS,
    MOST_LINES,
    SEVERAL_SEEDS,
    Line,
    check_matplotlib,
    check_picture,
    draw_lines,
    new_figure,
    save_figure,
    spread_line,
)
from torch_ppo.showing.report import (
    LINE_HEIGHT,
    Report,
    draw_report,
    page_html,
    report_html,
    svg_image,
    table_html,
    write_lines,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a report has as its curve, the first that there is.
LABELS = {RETURN: "return of an episode", "training/episode_reward": "return of an episode in training"}
FRAME_STEPS = 200  # of an episode of the policy, the last of which is shown
MOST_IN_PLOT = 6  # lines with a band each, and a legend within the plot
MOST_ROWS = 30  # of a table in a picture
TEXT_WIDTH = 100  # characters of a line under a picture


@dataclass(frozen=True)
class PlotArguments:
    """Draw a run on one page, or the learning curves of several runs."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS ...")]
    """Run folders, or metrics.jsonl files; of another folder all runs below it."""
    output: tuple[Path, ...] = ()
    """Files to write: .png, .svg or .html. By default report.png and report.html in the run's folder, or of several runs
    comparison.png here."""
    metrics: tuple[str, ...] = (RETURN,)
    """What to draw of several runs, by the names in metrics.jsonl; a plot each."""
    curves: bool = False
    """Of one run, too, only the curves."""
    frame: bool = True
    """Show the policy in the report; its task is simulated for some seconds."""
    trust: bool = False
    """For that, run the code of a task of its own that the run's folder names."""
    title: str = ""
    """Title of the picture."""


def line_of(group: Group, metric: str) -> Line | None:
    """One run with the standard deviation over episodes, or the interquartile mean of several with its interval."""
    there = [run.columns for run in group.runs if metric in run.columns]
    members = [columns[metric] for columns in there]
    if not members:
        return None
    if len(members) == 1:
        steps, values = members[0]
        spread_steps, spreads = there[0].get(f"{metric}_std", ([], []))
        if spread_steps != steps:
            return Line(group.label, steps, values)
        low, high = ([v + sign * s for v, s in zip(values, spreads, strict=True)] for sign in (-1, 1))
        return Line(group.label, steps, values, low, high)
    return spread_line(
        group.label, spread_by_step([list(zip(*member, strict=True)) for member in members]), tuple(members)
    )


def check_metrics(metrics: Sequence[str], runs: Sequence[Run]) -> None:
    """ConfigError for a metric that no run has."""
    known = {name for run in runs for name in run.columns}
    for name in metrics:
        if name not in known:
            raise ConfigError(f"--metrics {name}: no run has it{did_you_mean(name, known)}")


def legend_note(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """What lines and bands are, in a line."""
    if len(groups) > MOST_IN_PLOT:
        return "several seeds: interquartile mean; bands are left out of so many lines"
    several = any(len(group.runs) > 1 for group in groups)
    single = any(len(group.runs) == 1 for group in groups)
    parts = [f"{SEVERAL_SEEDS}; returns: median (min to max)"] * several
    parts += ["one run: mean and standard deviation over the episodes of an evaluation"] * (
        single and RETURN in metrics
    )
    return "; ".join(parts)


def draw_comparison(groups: Sequence[Group], metrics: Sequence[str], title: str, texts: Sequence[str]) -> "Figure":
    """A plot for each metric, one above the other, and lines of text under them."""
    plots = 4.2 if len(metrics) == 1 else 3.2 * len(metrics)
    if len(groups) > MOST_IN_PLOT:
        plots = max(plots, 0.25 * len(groups) + 1.0)
    below = (len(texts) + 1.5) * LINE_HEIGHT if texts else 0.01
    figure = new_figure(9, plots + below)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
    above, under = figure.subfigures(2, 1, height_ratios=[plots, below])
    for axes, metric in zip(above.subplots(len(metrics), 1, squeeze=False).flat, metrics, strict=True):
        lines = [line_of(group, metric) for group in groups]
        if len(lines) > MOST_IN_PLOT:
            lines = [line and replace(line, low=None, high=None, thin=()) for line in lines]
        draw_lines(axes, lines, ylabel=LABELS.get(metric, metric))
    if len(groups) > MOST_IN_PLOT:  # a longer legend would hide the lines
        for number, axes in enumerate(above.axes):
            legend = axes.get_legend()
            legend.set(visible=number == 0, in_layout=number == 0)
            legend.set_loc("upper left")
            legend.set_bbox_to_anchor((1.01, 1.0))
    above.axes[0].set_title(title, fontsize=FONT_SIZE, loc="left")
    write_lines(under, 0.02, texts, size=10, family="monospace")
    return figure


def make_report(run: Run, arguments: PlotArguments) -> Report:
    """The page of a run."""
    settings = run.settings or {}
    metric = next((name for name in LABELS if name in run.columns), RETURN)
    curve = [
        (step, value) for step, value in zip(*run.columns.get(metric, ([], [])), strict=True) if math.isfinite(value)
    ]
    if not curve:
        raise ConfigError(f"{run.folder} has reported no return yet; --curves --metrics NAME would draw what it has")
    line = line_of(Group("", [run]), metric)
    best_step, best = max(curve, key=lambda point: point[1])
    seconds = max((values[-1] for name, (_, values) in run.columns.items() if name.endswith("/walltime")), default=None)
    frames, note = (), ""
    if arguments.frame:
        frames, note = frames_of(run, arguments.trust)
    return Report(
        title=arguments.title
        or f"{Path(str(settings.get('env', 'run'))).name}, seed {settings.get('seed', 'unknown')}",
        summary=(
            str(run.folder),
            f"best return {best:,.1f} at {best_step:,} env steps; last {curve[-1][1]:,.1f} at {curve[-1][0]:,}"
            + ("" if seconds is None else f"; {seconds:,.0f} s of training and evaluation"),
        ),
        curve=line,
        ylabel=LABELS[metric],
        band="" if line.low is None else "mean and standard deviation over the episodes of an evaluation",
        columns=run.columns,
        settings=not_default(settings),
        findings=findings_of(run),
        frames=frames,
        note=note,
    )


def findings_of(run: Run) -> tuple[str, ...]:
    """What torch_ppo.doctor finds wrong with a run, a paragraph each; a line if that is nothing."""
    if not run.settings:
        return ("not looked for: there is no config.toml",)
    course, _ = open_course(run.folder)
    found = [f"{finding.rule.name}: {finding.seen}. Try {finding.change()}." for finding in diagnose(course)]
    found += [f"the plan: {doubt}" for doubt in doubts(course.config)]
    return tuple(found) or (f"nothing found by the {len(RULES)} rules of torch_ppo.doctor",)


def frames_of(run: Run, trust: bool) -> tuple[tuple[tuple[np.ndarray, str], ...], str]:
    """Two pictures of the best policy, at the start of an episode and some seconds later; else why there are none."""
    # Imported here, because a simulation takes seconds to import.
    from torch_ppo.episodes import rollout
    from torch_ppo.pictures import render
    from torch_ppo.running.environment import UntrustedError

    env = str(run.settings["env"]) if run.settings and run.settings.get("env") else ""
    if not env or not (run.folder / "checkpoints").is_dir():
        return (), "no picture of the policy: there are no checkpoints"
    try:
        taken = rollout(run.folder, steps=FRAME_STEPS, trust=trust)
        last = int(taken.first_episode.sum()) - 1
        rows = [0, last]
        shown = ("qpos", "qvel", "time", "mocap_pos", "mocap_quat", "markers")
        there = {name: value[rows] for name in shown if (value := getattr(taken, name)) is not None}
        frames = render(replace(taken, **there), frames_per_second=1 / taken.seconds_per_step)
    except UntrustedError as error:
        return (), f"no picture of the policy: {error.said_with('--trust')}"
    except UserError as error:
        return (), f"no picture of the policy: {error}"
    captions = ("best policy, at the start", f"after {last * taken.seconds_per_step:.1f} s")
    return tuple(zip(frames.pictures, captions, strict=True)), ""


def comparison_html(groups: Sequence[Group], arguments: PlotArguments) -> str:
    """Curves and tables of several runs as one file."""
    table = table_of(groups)
    # A row for each run, or, where that would be wider, for each setting.
    head, *rows = table if len(table) > len(groups) + 1 else zip(*table, strict=True)
    figure = draw_comparison(groups, arguments.metrics, "", ())
    title = arguments.title or "Runs compared"
    parts = [f"<h1>{html.escape(title)}</h1>", svg_image(figure, ", ".join(arguments.metrics))]
    parts += [f"<p>{html.escape(line)}</p>" for line in (legend_note(groups, arguments.metrics), *verdicts(groups))]
    return page_html(title, [*parts, table_html(head, rows)])


def outputs(arguments: PlotArguments, runs: Sequence[Run], report: bool) -> tuple[Path, ...]:
    """Files to write; PlotError, before anything is drawn, where one cannot be."""
    paths = arguments.output or (Path("comparison.png" if len(runs) > 1 else "curves.png"),)
    if report and not arguments.output:
        paths = (runs[0].folder / "report.png", runs[0].folder / "report.html")
    for path in paths:
        check_picture(path, (*FORMATS, ".html"))
    return paths


def write(paths: Sequence[Path], draw: "Callable[[], Figure]", page: Callable[[], str]) -> None:
    """Writes pictures and pages, and says where they are."""
    for path in paths:
        if path.suffix == ".html":
            write_atomically(path, page().encode())
        else:
            save_figure(draw(), path)
        print(path)


def main() -> None:
    """The program `python -m torch_ppo.plot`."""
    print_notes()
    with reader_may_leave(), user_errors():
        arguments = read_command_line(PlotArguments, "plot")
        check_matplotlib()
        runs = find_runs(arguments.runs)
        report = len(runs) == 1 and not arguments.curves
        if not report:
            refuse_idle(arguments, "frame trust", "on curves; it is for the report of one run")
        elif not arguments.frame:
            refuse_idle(arguments, "trust", "with --no-frame, which shows no policy")
        paths = outputs(arguments, runs, report)
        if report:
            if arguments.metrics != (RETURN,):
                raise ConfigError("--metrics is for curves, and a report has its own; --curves would draw them")
            page = make_report(runs[0], arguments)
            write(paths, lambda: draw_report(page), lambda: report_html(page))
            return
        check_metrics(arguments.metrics, runs)
        groups = grouped(runs)
        if len(groups) > MOST_LINES:
            raise ConfigError(f"{len(groups)} curves cannot be told apart, {MOST_LINES} can; name fewer runs")
        table, said = text_table(groups), verdicts(groups)
        print("\n".join([*table, *said]))
        notes = [legend_note(groups, arguments.metrics), *said]
        wrapped = [line for note in notes for line in textwrap.wrap(note, TEXT_WIDTH, subsequent_indent="  ")]
        under = [*text_table(groups, width=TEXT_WIDTH, most=MOST_ROWS), "", *wrapped]
        write(
            paths,
            lambda: draw_comparison(groups, arguments.metrics, arguments.title, under),
            lambda: comparison_html(groups, arguments),
        )


if __name__ == "__main__":
    main()
