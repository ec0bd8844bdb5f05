"""What torch.compile could do otherwise on a CUDA device: what was decided by counting launches, measured.

    python -m tools.bench_choices --choices kept combo-kernels --num-envs 1024 --json choices.json

    kept                what training does
    combo-kernels       Inductor has kernels that do not depend on each other in one launch
    autotuned-products  Inductor chooses each matrix product by measuring, with what follows it in its kernel where that wins
    bias-sums           gradients of biases are sums of their own, not columns of the weights' products
    two-value-passes    the bootstrap value comes in a pass of its own: two products more for each layer, fewer rows

On the CPU training does without the last two anyway.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal
from unittest import mock

from torch import _inductor

from tools.bench import BenchArguments, lines, machine, measure_config, sized_config
from torch_ppo.errors import user_errors
from torch_ppo.formulas.networks import Dense
from torch_ppo.learning.collect import Collector
from torch_ppo.learning.update import Learner
from torch_ppo.running import training_state
from torch_ppo.running.accelerate import torch_left_as_it_was
from torch_ppo.settings.command_line import Count, Duration, Least, read_command_line
from torch_ppo.settings.files import read_settings


def biases_by_sums(learner: Learner) -> None:
    """Each bias has its gradient by a sum."""
    for module in learner.agent.modules():
        if isinstance(module, Dense):
            module.one_product = False


def bootstrap_alone(learner: Learner) -> None:
    """The bootstrap value comes in a pass of its own."""
    learner.one_value_pass = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """Settings of Inductor, and what is put back after `compile_parts`, before anything is compiled."""

    inductor: dict[str, object] = dataclasses.field(default_factory=dict)
    change: Callable[[Learner], None] = lambda learner: None


CHOICES = {
    "kept": Choice(),
    "combo-kernels": Choice({"combo_kernels": True}),
    "autotuned-products": Choice({"max_autotune_gemm": True}),
    "bias-sums": Choice(change=biases_by_sums),
    "two-value-passes": Choice(change=bootstrap_alone),
}


@dataclasses.dataclass(frozen=True)
class ChoiceArguments:
    """Measure what torch.compile could do otherwise."""

    choices: tuple[Literal["kept", "combo-kernels", "autotuned-products", "bias-sums", "two-value-passes"], ...] = (
        "kept",
        "combo-kernels",
        "bias-sums",
        "two-value-passes",
        "kept",
    )
    """What to measure, in this order."""
    config: str = "cartpole"
    """Configuration, by name or file."""
    num_envs: Annotated[int | None, Least(1)] = None
    """Instead of its own."""
    set: tuple[str, ...] = ()
    """Other settings, as in TOML."""
    windows: Count = 3
    """Timed windows of each measurement."""
    seconds: Duration = 2.0
    """Least duration of a window."""
    json: Path | None = None
    """File for the numbers."""


@contextlib.contextmanager
def chosen(choice: Choice) -> Iterator[None]:
    """Trainings that are made inside compile as chosen."""
    original = training_state.compile_parts

    def compile_parts(collector: Collector, learner: Learner, **options: bool) -> None:
        original(collector, learner, **options)
        choice.change(learner)

    with (
        _inductor.config.patch(choice.inductor),
        mock.patch.object(training_state, "compile_parts", compile_parts),
    ):
        yield


@user_errors()
def main() -> None:
    """Measures each choice, prints, and writes JSON."""
    arguments = read_command_line(ChoiceArguments, "tools.bench_choices")
    config = sized_config(
        arguments.config, arguments.num_envs, {"compile": True, **read_settings(arguments.set, "--set")}
    )
    timing = BenchArguments(windows=arguments.windows, seconds=arguments.seconds)
    report = {"machine": machine(), "results": []}
    for name in arguments.choices:
        with torch_left_as_it_was(), chosen(CHOICES[name]):
            result = measure_config(config, timing)
        print(*lines(f"{arguments.config}, {name}", result), sep="\n", flush=True)
        report["results"].append({"choice": name, **result})
        if arguments.json:  # what follows may take longer than there is time
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
