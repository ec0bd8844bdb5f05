"""The same task with several seeds, and with some settings varied: one table, one picture.

python -m torch_ppo.seeds --env cartpole --seeds 0 1 2 --vary learning_rate=1e-2 learning_rate=1e-6

Every run is a process of its own, `python -m torch_ppo.train`, with a run folder of its own: here, one for each of
`--devices` at a time, or through `--launcher submitit` as jobs of a SLURM array (docs/scaling.md). The same command again
goes on where it was interrupted, however that was, and repeats nothing that is done. Exit status 2 if any run failed.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch_ppo.command import reader_may_leave
from torch_ppo.envs import canonical_name
from torch_ppo.errors import ConfigError, did_you_mean, user_errors
from torch_ppo.running.disk import make_folder, write_atomically
from torch_ppo.running.history import read_curve
from torch_ppo.running.options import kinds
from torch_ppo.running.placing import (
    Outcome,
    Run,
    device_names,
    make_executor,
    on_this_machine,
    slots,
    through_submitit,
)
from torch_ppo.running.program import default_config, parse_arguments
from torch_ppo.running.seed_statistics import compare_with, spread, spread_by_step
from torch_ppo.running.signals import all_interrupt
from torch_ppo.settings.command_line import Seeds, divided, read_command_line
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config
from torch_ppo.settings.spellings import respell
from torch_ppo.showing.curves import SEVERAL_SEEDS, PlotError, draw_lines, new_figure, save_figure, spread_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class SeedsArguments:
    """Train with several seeds and variants. All other options are those of torch_ppo.train."""

    seeds: Seeds = (0, 1, 2)
    """Seeds of the runs of each variant."""
    vary: tuple[str, ...] = ()
    """Variants beside the settings as they are: name=value, or several settings at once as name=value,name=value."""
    out: Path = Path("runs/seeds")
    """Folder for the run folders, the table and the picture."""
    devices: tuple[str, ...] = ()
    """Devices of this machine to train on, one run on each at a time: 0,1,2 for GPUs, or cpu,cpu."""
    jobs: int | None = None
    """Runs at the same time: without --devices, 1; with --launcher submitit as many as the cluster lets run."""
    launcher: Literal["here", "submitit"] = "here"
    """Who starts the runs: this program, on this machine, or SLURM, through the package submitit (docs/scaling.md)."""
    submitit: tuple[str, ...] = ()
    """Parameters of submitit.AutoExecutor as name=value, such as slurm_partition=gpu timeout_min=240 cpus_per_task=8."""
    title: str = ""
    """Title of the picture."""

    @property
    def on(self) -> Literal["cpu", "cuda"] | None:
        """What the runs are placed on, whatever the machine that this is called on has; None for its own choice."""
        names = device_names(self.devices)
        if not names and self.launcher == "here":
            return None
        return "cpu" if "cpu" in names else "cuda"

    def check_places(self) -> None:
        """ConfigError for options on where runs go that do not fit together."""
        names = device_names(self.devices)
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError("--jobs is 1 or more")
        if self.launcher == "submitit":
            if names not in ((), ("cpu",)):
                raise ConfigError(
                    "--launcher submitit has SLURM choose the GPUs; leave out --devices, or --devices cpu for nodes without"
                )
        elif self.submitit:
            raise ConfigError("--submitit has parameters for --launcher submitit, which is not given")
        elif names and self.jobs is not None:
            raise ConfigError(
                "--devices has one run on each at a time; leave out --jobs, or name a device twice for two runs on it"
            )


def variant_options(variant: str) -> tuple[str, ...]:
    """Command-line options of `name=value,...`; ConfigError for what is not one of the settings."""
    options = []
    for part in variant.split(","):
        name, separator, value = part.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not separator or not value:
            name, _, values = variant.partition("=")
            several = values.split(",") if name and values and "=" not in values else []
            each = " ".join(f"{name}={value}" for value in several if value)
            raise ConfigError(f"--vary {variant} is not name=value; {each or 'learning_rate=1e-3'} would work")
        if name not in Config.__dataclass_fields__:
            raise ConfigError(
                f"--vary {variant}: there is no {name!r}{did_you_mean(name, Config.__dataclass_fields__)}"
            )
        if name == "seed":
            raise ConfigError("--vary cannot vary the seed; --seeds 0 1 2 would work")
        flag = name.replace("_", "-")
        if value.lower() in ("true", "false"):
            options.append(f"--{'no-' if value.lower() == 'false' else ''}{flag}")
        else:
            options += [f"--{flag}", *value.split()]
    return tuple(options)


def plan(arguments: SeedsArguments, options: list[str]) -> list[Run]:
    """All runs, seed by seed. Whatever can be wrong with the settings is found here."""
    options = respell(options, kinds() | typing.get_type_hints(SeedsArguments))
    for flag in ("--seed", "--run-dir", "--resume"):
        if flag in options:
            raise ConfigError(f"{flag} is set for each run; leave it out")
    if not arguments.seeds:
        raise ConfigError("--seeds needs one seed or more")
    arguments.check_places()
    variants = {DEFAULT: (), **{variant: variant_options(variant) for variant in arguments.vary}}
    if arguments.on is not None:
        if "--device" in (*options, *(word for own in variants.values() for word in own)):
            raise ConfigError("--device is set for each run by --devices or --launcher; leave it out")
        options = [*placed(arguments.on, options), *options]
    settings = {}
    for variant, own in variants.items():
        parsed, _ = parse_arguments([*options, *own])
        settings[variant] = parsed.settings.checked()
    runs = [
        Run(
            variant,
            seed,
            arguments.out / re.sub(r"[^\w.=,-]", "_", variant) / f"seed{seed}",
            (*options, *own, "--seed", str(seed)),
        )
        for seed in arguments.seeds
        for variant, own in variants.items()
    ]
    for run in runs:
        refuse_other_settings(run, dataclasses.replace(settings[run.variant], seed=run.seed))
    return runs


def placed(on: Literal["cpu", "cuda"], options: list[str]) -> list[str]:
    """Options by which a run has the settings for where it is placed, also if this machine would suggest others."""
    first = ["--device", on]
    if "--env" in options and "--config" not in options and ":" not in (env := options[options.index("--env") + 1]):
        first += ["--config", default_config(canonical_name(env), cuda=on == "cuda")[0]]
    return first


# What a run's config.toml has filled in, where it was left open, and what does not change its results.
FILLED_IN = ("device", "physics", "capture", "episode_length", "save_checkpoint_path", "restore_checkpoint_path")
NOT_RESULTS = ("compile", "keep_checkpoints", "on_disk_error")  # compiled or not, it is the same up to rounding


def refuse_other_settings(run: Run, wanted: Config) -> None:
    """ConfigError if the run's folder is there already and was made with other settings than are wanted now."""
    file = run.folder / "config.toml"
    if not file.exists():
        return
    found = load_config(str(file))
    for field in dataclasses.fields(Config):
        name, now, then = field.name, getattr(wanted, field.name), getattr(found, field.name)
        left_open = name in FILLED_IN and now in (None, "auto", field.default)
        if _place(name, now) != _place(name, then) and not left_open and name not in NOT_RESULTS:
            raise ConfigError(
                f"{run.folder} is of other settings: {name} is {then!r} there, not {now!r}; --out names another folder"
            )


def _place(name: str, value: object) -> object:
    """A setting to compare: one that is a path, or has one in it, by where that is, from whatever folder it was given."""
    if name == "env" and isinstance(value, str) and ".py:" in value:
        path, _, attribute = value.rpartition(":")
        return os.path.realpath(os.path.expanduser(path)), attribute
    if name == "device" and isinstance(value, str):
        return value.partition(":")[0]  # another GPU will do
    return os.path.realpath(value) if name.endswith("_path") and isinstance(value, str) else value


def summarise(runs: list[Run], failures: dict[Run, str]) -> dict[str, dict[str, object]]:
    """Per variant: the curve of every seed, and over seeds the spread of the last reward, of the best, and of each evaluation.

    "against default" is whether the last reward of another variant differs from that of the settings as they are.
    """
    summary: dict[str, dict[str, object]] = {}
    last: dict[str, list[float]] = {}
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        curves = {run.seed: curve for run in own if (curve := read_curve(run.folder / "metrics.jsonl"))}
        last[variant] = [curve[-1][1] for curve in curves.values()]
        summary[variant] = {
            "curves": curves,
            "failures": {run.seed: failures[run] for run in own if run in failures},
            "last": spread(last[variant]),
            "best": spread([best_reward(curve) for curve in curves.values()]),
            "evaluations": spread_by_step(list(curves.values())),
            "against default": None,
        }
    others = {variant: rewards for variant, rewards in last.items() if variant != DEFAULT}
    for variant, comparison in compare_with(last.get(DEFAULT, []), others).items():
        summary[variant]["against default"] = comparison
    return summary


def best_reward(curve: list[tuple[int, float]]) -> float:
    """The highest reward of a curve: that of policy.pt."""
    return max((reward for _, reward in curve if math.isfinite(reward)), default=math.nan)


def without_nan(nest: object) -> object:
    """A nest of dicts and sequences with null for NaN and infinity, which JSON has not; dataclasses become dicts."""
    if dataclasses.is_dataclass(nest):
        nest = dataclasses.asdict(nest)
    if isinstance(nest, dict):
        return {name: without_nan(value) for name, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [without_nan(value) for value in nest]
    return None if isinstance(nest, float) and not math.isfinite(nest) else nest


def table(summary: dict[str, dict[str, object]]) -> str:
    """The last and the best eval/episode_reward of each variant, and whether it differs from the settings as they are."""
    head = ["last eval/episode_reward:", "median", "IQM", "[95 %]", "min .. max", "best: median", "seeds"]
    rows = [head]
    for variant, found in summary.items():
        last, best = found["last"], found["best"]
        if last is None:
            rows.append([variant, *["none"] * 5, "0"])
            continue
        interval = "" if last.interval is None else "[{:.1f}, {:.1f}]".format(*last.interval)
        ends = f"{last.lowest:.1f} .. {last.highest:.1f}"
        numbers = [f"{x:.1f}" for x in (last.median, last.interquartile_mean, best.median)]
        rows.append([variant, *numbers[:2], interval, ends, numbers[2], str(last.seeds)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for variant, found in summary.items():
        if comparison := found["against default"]:
            lines.append(f"{variant} against {DEFAULT}, last: {comparison}")
        lines += [f"{variant}, seed {seed}: {reason}" for seed, reason in found["failures"].items()]
    return "\n".join(lines)


def draw(summary: dict[str, dict[str, object]], title: str) -> "Figure":
    """Interquartile mean over seeds of each variant, with its interval, and every seed as a thin line."""
    figure = new_figure(9, 5)
    axes = figure.subplots()
    lines = []
    for variant, found in summary.items():
        failed = f" ({len(found['failures'])} failed)" if found["failures"] else ""
        thin = tuple(tuple(zip(*curve, strict=True)) for curve in found["curves"].values())
        lines.append(spread_line(f"{variant}{failed}", found["evaluations"], thin))
    draw_lines(axes, lines, title=title or SEVERAL_SEEDS, ylabel="return of an episode")
    return figure


def start(arguments: SeedsArguments, runs: Sequence[Run]) -> Iterator[Outcome]:
    """Where the runs are trained, ready to yield each as it ends. ConfigError if it cannot be there."""
    if arguments.launcher == "here":
        return on_this_machine(runs, slots(device_names(arguments.devices), arguments.jobs or 1))
    on_gpus = arguments.on == "cuda"
    executor = make_executor(arguments.out / "submitit", arguments.submitit, on_gpus=on_gpus, jobs=arguments.jobs)
    return through_submitit(runs, executor)


def said_as_they_end(outcomes: Iterator[Outcome], total: int) -> dict[Run, str]:
    """Prints a line on each run when it has ended. Returns what went wrong, by run."""
    failures: dict[Run, str] = {}
    for number, (run, failure) in enumerate(outcomes, 1):
        if failure is not None:
            failures[run] = failure
        curve = read_curve(run.folder / "metrics.jsonl")
        reached = f"reward {curve[-1][1]:.1f}, best {best_reward(curve):.1f}" if curve else "no evaluation"
        print(f"{number}/{total}  {run.folder}  {failure or reached}", flush=True)
    return failures


def main() -> None:
    """The program `python -m torch_ppo.seeds`."""
    with reader_may_leave(), user_errors():
        own, options = divided(SeedsArguments, sys.argv[1:])
        arguments = read_command_line(SeedsArguments, "seeds", own)
        runs = plan(arguments, options)
        missing = [run for run in runs if not run.finished]
        make_folder(arguments.out, "--out")
        outcomes = itertools.chain(((run, None) for run in runs if run.finished), ended := start(arguments, missing))
    with user_errors():
        try:
            with all_interrupt(), contextlib.closing(ended):
                failures = said_as_they_end(outcomes, len(runs))
        except KeyboardInterrupt as interrupt:
            print("stopped; the same command goes on")
            sys.exit(128 + (interrupt.args or (signal.SIGINT,))[0])
    summary = summarise(runs, failures)
    print(table(summary))
    with user_errors():
        text = json.dumps(without_nan(summary), indent=1, allow_nan=False)
        write_atomically(arguments.out / "summary.json", f"{text}\n".encode())
    picture = arguments.out / "curves.png"
    try:
        save_figure(draw(summary, arguments.title), picture)
        print(picture)
    except PlotError as error:
        print(f"no picture: {error}")
    sys.exit(2 if failures else 0)


if __name__ == "__main__":
    main()
