"""Single steps of `tools.gpu_check`, each in a process of its own; prints a line of JSON."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from tools.gpu_check import facts, few_steps


@dataclass(frozen=True)
class StepArguments:
    """Run one step."""

    step: Annotated[Literal["facts", "few"], tyro.conf.Positional]
    """facts about the machine, or a few training steps."""
    device: str = "cuda"
    """cuda or cpu."""
    capture: str = "none"
    """As in a configuration."""
    compile: bool = False
    """As in a configuration."""
    deterministic: bool = False
    """As in a configuration."""
    vision: bool = False
    """Of the few training steps: from pixels."""


def main() -> None:
    """The program."""
    a = tyro.cli(StepArguments)
    if a.step == "facts":
        found = facts(a.device)
    else:
        found = few_steps(a.device, a.capture, a.compile, a.deterministic, vision=a.vision)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
