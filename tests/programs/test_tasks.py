"""Finding tasks: ours by any of their names, and a user's own."""

import re
import subprocess
import sys

import pytest

from torch_ppo import tasks
from torch_ppo.envs import ALIASES, ENVS, make_task
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.errors import ConfigError
from torch_ppo.running.program import parse_arguments
from torch_ppo.settings.files import config_names

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
        (":Mine", "'' is no module; package.module:MyTask or path/to/file.py:MyTask would work"),
        (".near:Mine", "'.near' is no module"),
        ("..:Mine", "'..' is no module"),
        ("a..b:Mine", "'a..b' is no module"),
        ("/:Mine", "'/' is no module"),
        ("CartpolBalance", "there is no env"),
        ("{file}", "must also name the task in it; {file}:Mine would work"),
        ("arm.xml", "a model, but must be a task; python -m torch_ppo.tasks --new arm.xml writes a first one for it"),
    ],
)
def test_what_is_wrong_is_said(own, name, message):
    with pytest.raises(ConfigError, match=message.replace("{file}", re.escape(str(own)))):
        make_task(name.format(file=own, folder=own.parent))


def test_a_file_that_is_not_python_is_said_and_read_anew(tmp_path):
    file = tmp_path / "torn_of_tests.py"
    file.write_text("from torch_ppo.envs.cartpole import Cartpole\n\nclass Mine(Cartpole:\n    pass\n")
    with pytest.raises(ConfigError, match=r"torn_of_tests.py:3 is not Python: invalid syntax"):
        make_task(f"{file}:Mine")
    file.write_text("from torch_ppo.envs.cartpole import Cartpole\nraise KeyError\n")
    for _ in range(2):  # not half of it the second time
        with pytest.raises(KeyError):
            make_task(f"{file}:Mine")
    file.write_text("from torch_ppo.envs.cartpole import Cartpole\n\nclass Mine(Cartpole):\n    pass\n")
    assert type(make_task(f"{file}:Mine")).__name__ == "Mine"


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


def test_a_borrowed_configuration_leaves_the_time_limit_to_the_task(own, caplog):
    """And says so, with what would choose the other."""
    caplog.set_level("INFO", "torch_ppo")
    borrowed = ["--env", f"{own}:Mine", "--config", "cartpole_cpu"]
    assert parse_arguments(borrowed)[0].settings.episode_length is None
    repeat, note = (record.getMessage() for record in caplog.records)
    assert repeat.startswith("note: action_repeat is 2, as cartpole_cpu has it for cartpole: each action is held for 2")
    assert note.startswith("note: episode_length is 77, the task's own; cartpole_cpu has 1,000 for cartpole")
    caplog.clear()
    borrowed += ["--action-repeat", "2"]
    assert parse_arguments([*borrowed, "--episode-length", "1000"])[0].settings.episode_length == 1000
    assert parse_arguments(["--env", "CartpoleBalance", "--config", "cartpole_cpu"])[0].settings.episode_length == 1000
    # Nothing to say where both agree.
    agreeing = ["--env", "cheetah_run", "--config", "cartpole_cpu", "--action-repeat", "1"]
    assert parse_arguments(agreeing)[0].settings.episode_length is None
    assert not caplog.records


def test_list_of_tasks():
    lines = subprocess.run(
        [sys.executable, "-m", "torch_ppo.tasks"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted(ENVS)
    (cartpole,) = (line for line in lines if line.startswith("cartpole "))
    assert cartpole.split()[:6] == ["cartpole", "5", "1", "0.01", "s", "1,000"]
    assert re.search(r"  gpu, cpu +998 of 1000 after 1.6M +cartpole/balance, CartpoleBalance$", cartpole)
    (humanoid,) = (line for line in lines if line.startswith("humanoid_run "))
    assert re.search(r"  gpu +humanoid/run, HumanoidRun$", humanoid)


@pytest.mark.parametrize("words", [["cheetah/run", "ant"], ["--env", "cheetah/run", "ant"]])
def test_some_of_the_tasks(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tasks", *words])
    tasks.main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["task", "cheetah_run", "ant"]


@pytest.mark.parametrize("name", [name for name in config_names() if name.endswith("_cpu")])
def test_a_configuration_for_the_cpu_says_how_far_it_came(name):
    assert tasks.trained(name.removesuffix("_cpu"))


MIXED = """
from torch_ppo.envs.cartpole import Cartpole

class Mean(Cartpole):
    def observe(self, physics, memory):
        return super().observe(physics, memory) - physics.qpos.mean()

class Row(Cartpole):
    def observe(self, physics, memory):
        return super().observe(physics, memory).reshape(1, -1)
"""


def test_a_task_that_mixes_up_envs_is_told(tmp_path, monkeypatch, capsys):
    """By a warning, where shapes do not show it, as they do with several envs."""
    (tmp_path / "mixed.py").write_text(MIXED)
    monkeypatch.setattr(sys, "argv", ["tasks", f"{tmp_path}/mixed.py:Mean"])
    tasks.main()
    out, errors = capsys.readouterr()
    assert "mixed.py:Mean" in out and errors.startswith(
        "warning: Mean.observe: what env 1 gets changes with the state of"
    )
    monkeypatch.setattr(sys, "argv", ["tasks", f"{tmp_path}/mixed.py:Row"])
    with pytest.raises(SystemExit, match="2"):
        tasks.main()
    assert "observation 'state' as float32 (1, 15), but float (3, 15) is expected" in capsys.readouterr().err


ROWS = [
    ("task", "observation", "action", "step", "limit", "also called"),
    ("a" * 20, "b " * 15 + "c", "1", "2", "3", "d" * 30),
]


def test_no_word_of_a_narrow_table_is_broken():
    lines = tasks.table([ROWS[0], ("a" * 23, "state 48, privileged_state 121", "12", "0.02 s", "1", "e")], 60)
    assert max(map(len, lines)) <= 60 and "privileged_state" in "".join(lines)


def test_a_table_that_fits_the_terminal():
    whole = tasks.table(ROWS)
    assert len(whole) == 2 and "also called" in whole[0] and whole[1].endswith("d" * 30)
    assert tasks.table(ROWS, 200) == whole
    for width in (100, 80, 60, 50, 40):
        lines = tasks.table(ROWS, width)
        assert max(map(len, lines)) <= width and "d" * 30 not in "".join(lines)
        assert " ".join(lines).endswith("also called: in a wider terminal, or through | cat")
        assert sum(line.count("b") for line in lines[1:-1]) == 15
