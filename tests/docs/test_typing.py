"""What editors and type checkers know of the library, and that they find nothing wrong in what the pages show."""

import dataclasses
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torch_ppo
from tools import train_stub
from torch_ppo.settings.config import Config

ROOT = Path(__file__).parents[2]

WRONG = """
import torch_ppo

torch_ppo.train("cartpole", 1000, num_env=3)
torch_ppo.train("cartpole", 1000, learning_rate="1e-3")
torch_ppo.train("cartpole", 1000, gae="brx")
torch_ppo.evaluate("runs/x", episodes="3")
torch_ppo.rollout("runs/x").frames
"""


def checker(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def snippets(tmp_path_factory):
    """The examples of docs/api.md as one file, each of the README as one, and a file with five mistakes."""
    folder = tmp_path_factory.mktemp("snippets")

    def examples(page):
        return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)

    (folder / "api.py").write_text("\n".join(examples("docs/api.md")))
    for i, code in enumerate(examples("README.md")):
        (folder / f"readme_{i}.py").write_text(code)
    (folder / "wrong.py").write_text(WRONG)
    return folder


def run(folder, *command):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", *command]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def assert_only_what_is_wrong(files, found):
    """`found` has (file name, line) of each error; all and only the lines of `WRONG` are among them."""
    lines = {("wrong.py", n) for n, line in enumerate(WRONG.splitlines(), start=1) if line.startswith("torch_ppo.")}
    assert len(files) >= 4 and set(found) == lines, found


@pytest.mark.slow  # half a minute; pyright's takes five seconds
@checker("mypy")
def test_mypy(snippets):
    # Of torch_ppo the types are used, and nothing in it is reported.
    output = run(snippets, "mypy", "--follow-imports=silent", ".")
    found = [(name, int(line)) for name, line in re.findall(r"^([\w.]+):(\d+): error:", output, re.MULTILINE)]
    assert_only_what_is_wrong([*snippets.glob("*.py")], found)


@checker("basedpyright")
def test_pyright(snippets):
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (snippets / "pyrightconfig.json").write_text(json.dumps(settings))
    output = json.loads(run(snippets, "basedpyright", "--outputjson", "--pythonpath", sys.executable))
    errors = [error for error in output["generalDiagnostics"] if error["severity"] == "error"]
    found = [(Path(error["file"]).name, error["range"]["start"]["line"] + 1) for error in errors]
    assert_only_what_is_wrong([*snippets.glob("*.py")], found)


def test_stub_is_made_from_the_code():
    """`python -m tools.train_stub` writes it."""
    assert train_stub.STUB.read_text() == train_stub.stub()


@pytest.mark.parametrize("call", [torch_ppo.train, torch_ppo.train.train], ids=["module", "function"])
def test_help_and_notebooks_know_every_field(call):
    parameters = inspect.signature(call).parameters
    assert [*parameters][:2] == ["environment", "num_timesteps"] and "settings" not in parameters
    for field in dataclasses.fields(Config):
        if field.name != "num_timesteps":
            parameter = parameters[field.name]
            assert (parameter.default, parameter.annotation) == (field.default, field.type), field.name
            assert parameter.kind is parameter.KEYWORD_ONLY


def test_calls_that_are_programs_have_their_signatures():
    assert "episodes" in inspect.signature(torch_ppo.evaluate).parameters
    assert callable(torch_ppo.evaluate) and torch_ppo.evaluate.main
