"""Finding tasks: ours by any of their names, and a user's own."""

import subprocess
import sys

import pytest

from torch_ppo.envs import ALIASES, ENVS, make_task
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.errors import ConfigError
from torch_ppo.running.program import parse_arguments

OWN = """
from torch_ppo.envs.cartpole import Cartpole
from neighbour import LENGTH

class Mine(Cartpole):
    episode_length = LENGTH

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with a task, and its neighbour."""
    (tmp_path / "mine_of_tests.py").write_text(OWN)
    (tmp_path / "neighbour.py").write_text("LENGTH = 77")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "mine_of_tests.py"
    for name in ("mine_of_tests", "neighbour"):
        sys.modules.pop(name, None)


def test_aliases_name_tasks_that_exist():
    assert set(ALIASES.values()) <= set(ENVS)
    assert isinstance(make_task("CartpoleBalance"), Cartpole) and isinstance(make_task("cartpole/swingup"), Cartpole)


def test_an_alias_finds_the_configuration():
    arguments, _ = parse_arguments(["--env", "cartpole/swingup"])
    assert arguments.settings.env == "cartpole_swingup"
    assert arguments.settings == parse_arguments(["--env", "cartpole_swingup"])[0].settings


def test_own_task_from_a_file(own):
    task = make_task(f"{own}:Mine")
    assert task.episode_length == 77 and type(make_task(f"{own}:Mine")) is type(task)


def test_own_task_from_a_module(own, monkeypatch):
    monkeypatch.syspath_prepend(str(own.parent))
    assert make_task("mine_of_tests:Mine").episode_length == 77


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}/nothing.py:Mine", "there is no file"),
        ("{file}:Yours", "has no Yours"),
        ("{file}:number", "number is not a torch_ppo.Task"),
        ("no_such_package.tasks:Mine", "there is no module no_such_package"),
        ("CartpolBalance", "there is no env"),
    ],
)
def test_what_is_wrong_is_said(own, name, message):
    with pytest.raises(ConfigError, match=message):
        make_task(name.format(file=own, folder=own.parent))


def test_a_broken_import_inside_a_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_of_tests.py").write_text("import no_such_thing_anywhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_anywhere"):
        make_task("broken_of_tests:Mine")


def test_own_task_needs_a_configuration(own):
    with pytest.raises(ConfigError, match="needs --config"):
        parse_arguments(["--env", f"{own}:Mine"])
    arguments, _ = parse_arguments(["--env", f"{own}:Mine", "--config", "cartpole_cpu"])
    assert arguments.settings.env == f"{own}:Mine"


def test_list_of_tasks():
    lines = subprocess.run(
        [sys.executable, "-m", "torch_ppo.tasks"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted(ENVS)
    (cartpole,) = (line for line in lines if line.startswith("cartpole "))
    assert cartpole.split() == (
        "cartpole 5 1 0.01 s 1,000 gpu, cpu 998 of 1000 after 1.6M cartpole/balance, CartpoleBalance".split()
    )
