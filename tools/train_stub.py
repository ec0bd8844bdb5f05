"""Writes torch_ppo/train.pyi: what editors and type checkers know of `torch_ppo.train`, with every field of `Config`.

    python -m tools.train_stub

A test holds the file against this.
"""

import ast
import inspect
from pathlib import Path

from torch_ppo.settings import config as config_module
from torch_ppo.settings.config import Config
from torch_ppo.train import train

STUB = Path(__file__).parents[1] / "torch_ppo" / "train.pyi"

# What else others use of the module is of no known type here.
HEAD = '''"""Made by `python -m tools.train_stub` from train.py and the fields of Config; do not edit."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from torch_ppo.environments.contract import Environment
from torch_ppo.errors import UserError
from torch_ppo.learning.factory import NetworkFactory
from torch_ppo.learning.policy import MakePolicy, Params
from torch_ppo.simulation.env import RandomizationFn
from torch_ppo.simulation.task import Task

Metrics: TypeAlias = dict[str, float]

class DivergedError(UserError): ...

def main() -> None: ...
def __getattr__(name: str) -> Any: ...
'''


def call_parameters() -> list[str]:
    """Parameters of the call itself, as in the source; a default that is no plain value as `...`."""
    (function,) = (node for node in ast.parse(inspect.getsource(train)).body if isinstance(node, ast.FunctionDef))
    arguments = function.args
    texts = [f"{argument.arg}: {ast.unparse(argument.annotation)}" for argument in arguments.args]
    texts.append("*")
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = ast.unparse(default) if isinstance(default, ast.Constant) else "..."
        texts.append(f"{argument.arg}: {ast.unparse(argument.annotation)} = {value}")
    return texts


def field_parameters() -> list[str]:
    """The fields of `Config`, as in the source, less what the call has itself."""
    body = ast.parse(inspect.getsource(config_module)).body
    (config,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == Config.__name__)
    fields = [node for node in config.body if isinstance(node, ast.AnnAssign) and node.value is not None]
    return [f"{node.target.id}: {ast.unparse(node.annotation)} = {ast.unparse(node.value)}" for node in fields]


def stub() -> str:
    """The whole file."""
    parameters = "".join(f"    {text},\n".replace("'", '"') for text in [*call_parameters(), *field_parameters()])
    doc = "".join(f"    {line}\n" if line else "\n" for line in f'"""{inspect.getdoc(train)}\n"""'.splitlines())
    return f"{HEAD}def train(\n{parameters}) -> tuple[MakePolicy, Params, Metrics]:\n{doc}"


def main() -> None:
    """The program `python -m tools.train_stub`."""
    STUB.write_text(stub())
    print(STUB)


if __name__ == "__main__":
    main()
