"""The table of docs/pretrained.md: plays 100 episodes with each policy that comes with the package.

    python -m tools.pretrained             # all, some minutes
    python -m tools.pretrained ant         # that row alone

How one is made: export its run with `--format safetensors --output torch_ppo/pretrained/TASK.safetensors`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from torch_ppo import evaluate
from torch_ppo.errors import UserError, did_you_mean, user_errors
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.running.pretrained import find_policy, pretrained_tasks
from torch_ppo.settings.command_line import read_command_line

PAGE = Path(__file__).parents[1] / "docs" / "pretrained.md"
HEAD = "| task | return, 100 episodes | length | trained for | evaluated in its run | hidden layers | size |\n|---|---|---|---|---|---|---|"


def row(task: str) -> str:
    """A policy's line of the table."""
    path = find_policy(Path(task))
    policy = NumpyPolicy(path)
    result = evaluate(task)
    success = "" if result.success is None else f", success {result.success_rate:.0%}"
    layers = [len(x) for name, x in policy.arrays.items() if re.fullmatch(r"trunk\.\d+\.bias", name)]
    hidden = layers if "mean_head.0.bias" in policy.arrays else layers[:-1]  # else the last one is the action's
    origin = policy.contract["origin"]
    reward = origin["evaluation_reward"]
    digits = 0 if abs(result.mean) >= 100 else 1
    in_its_run = "" if reward is None else f"{reward:,.{digits}f}"
    return (
        f"| `{task}` | {result.mean:,.{digits}f} ± {result.std:,.{digits}f}{success} | {result.lengths.float().mean():.0f} | "
        f"{origin['env_steps'] / 1e6:.1f}M env steps | {in_its_run} | {' and '.join(map(str, hidden))} | "
        f"{path.stat().st_size / 1000:.0f} kB |"
    )


@dataclass(frozen=True)
class PretrainedArguments:
    """Write the table of docs/pretrained.md anew."""

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Those whose row is measured; by default all."""


@user_errors()
def main() -> None:
    """The program `python -m tools.pretrained`."""
    tasks = read_command_line(PretrainedArguments, "tools.pretrained").tasks or pretrained_tasks()
    for task in tasks:
        if task not in pretrained_tasks():
            raise UserError(f"no policy comes along for {task!r}{did_you_mean(task, pretrained_tasks())}")
    before = PAGE.read_text()
    rows = {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` .*\|$", before, re.MULTILINE)}
    for task in tasks:
        rows[task] = row(task)
        print(rows[task])
    table = "\n".join([HEAD, *(rows[task] for task in pretrained_tasks() if task in rows)])
    after = re.sub(r"^\| task \|.*?(?=\n\n)", lambda _: table, before, count=1, flags=re.DOTALL | re.MULTILINE)
    PAGE.write_text(after)


if __name__ == "__main__":
    main()
