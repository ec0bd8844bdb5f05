"""Ours in another library's words: which of our settings were used, and the texts that come out."""

import dataclasses
import json
import math
import re

from torch_ppo.dialects.reading import Account, shown
from torch_ppo.settings.config import Config

# Where and how to compute and what to log: not part of what a run learns.
MACHINE = (
    "env run_evals log_training_metrics training_metrics_steps save_checkpoint_path restore_checkpoint_path "
    "restore_value_fn device physics capture compile matmul_precision bf16 deterministic torch_threads"
).split()
# Evaluations do not touch what is learned, except by the rounding of the run.
EVALUATION = "num_evals num_eval_envs deterministic_eval randomize_eval".split()


class Writing(Account):
    """Takes our settings one by one; those that nobody took and that say something have no counterpart."""

    def __init__(self, title: str, config: Config) -> None:
        super().__init__(title)
        self.config = config
        self.used: set[str] = set()

    def take(self, name: str) -> object:
        """One of our settings."""
        self.used.add(name)
        return getattr(self.config, name)

    def expect(self, **fixed: object) -> None:
        """Settings that the other library cannot choose: it has these values."""
        for name, there in fixed.items():
            here = self.take(name)
            if here != there:
                self.differs.append(f"{name} = {shown(here)} here; as if {shown(there)} there")

    def rename(self, names: dict[str, str]) -> dict[str, object]:
        """Settings of the same meaning and unit: their name -> our name."""
        values = {theirs: self.take(ours) for theirs, ours in names.items()}
        self.converted += [f"{ours} = {shown(values[theirs])} -> {theirs}" for theirs, ours in names.items()]
        return values

    def finish(self) -> None:
        """Lists what has no counterpart."""
        for field in dataclasses.fields(self.config):
            value = getattr(self.config, field.name)
            if field.name not in {*self.used, *MACHINE, *EVALUATION} and value != field.default:
                self.without.append(f"{field.name} = {shown(value)}")


def _number(value: float) -> str:
    """A float that YAML 1.1 reads as one: 1e-05 needs a point, infinity a point too."""
    return ".inf" if value == math.inf else re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))


def _yaml_value(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml_value(item) for item in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w.]*", value) and value not in ("None", "null"):
        return value
    return json.dumps(value)


def to_yaml(values: dict[str, object], indent: str = "") -> str:
    """Nested sections as YAML."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{key}:\n{to_yaml(value, indent + '  ')}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            items = [to_yaml(item, indent + "    ") for item in value]
            lines += [f"{indent}{key}:\n", *(f"{indent}  - {item.lstrip()}" for item in items)]
        else:
            lines.append(f"{indent}{key}: {_yaml_value(value)}\n")
    return "".join(lines)


def to_python(values: dict[str, object], name: str, indent: str = "") -> str:
    """`name = dict(...)`."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            inner = to_python(value, key, indent + "    ").strip().replace(" = ", "=", 1)
            lines.append(f"{indent}    {inner},\n")
        elif isinstance(value, int) and not isinstance(value, bool):
            lines.append(f"{indent}    {key}={value:_},\n")
        else:
            lines.append(f"{indent}    {key}={value!r},\n")
    return f"{indent}{name} = dict(\n{''.join(lines)}{indent})\n"


def to_flags(values: dict[str, object]) -> str:
    """Options of a command line; what is None is left out."""
    lines = []
    for key, value in values.items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            lines.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            lines.append(f"--{flag} {value}")
    return " \\\n".join(lines) + "\n"
