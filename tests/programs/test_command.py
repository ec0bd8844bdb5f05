"""The command `torch-ppo`: its programs, versions, what ends early, and the shell's completion."""

import contextlib
import importlib
import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from torch_ppo import __main__, __version__, command, completion
from torch_ppo.envs import ENVS
from torch_ppo.errors import user_errors
from torch_ppo.running.pretrained import pretrained_tasks
from torch_ppo.settings.config import Config

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def run(*words, **options):
    """`python -m torch_ppo` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "torch_ppo", *words],
        check=False,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        **options,
    )


def in_process(monkeypatch, capsys, *words):
    """`torch-ppo` in this process: exit status, output, errors."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/torch-ppo", *words])
    status = 0
    try:
        __main__.main()
    except SystemExit as end:
        status = end.code
    return status, *capsys.readouterr()


def test_every_program_is_listed_and_there():
    result = run()
    assert result.returncode == 0 and result.stderr == ""
    for name, (module, about) in __main__.PROGRAMS.items():
        assert re.search(rf"^  {name} +{re.escape(about)}$", result.stdout, re.MULTILINE)
        assert callable(importlib.import_module(module).main)


def test_what_is_read_is_folded_below_its_own_column():
    plan = " training step  10 env steps: 4 unrolls of 20\nwarning: the run is longer than asked for"
    assert command.folded(plan, 100) == plan
    assert command.folded(plan, 32).split("\n") == [
        " training step  10 env steps: 4",
        "                unrolls of 20",
        "warning: the run is longer than",
        "  asked for",
    ]
    copied = "  torch-ppo train --resume 'a folder with a long name'"
    assert command.folded(copied, 32) == copied
    copied = "  try: python -m tools.size_buffers --env quadruped_joystick"
    assert command.folded(copied, 32) == copied
    for line in command.folded(__main__.overview("torch-ppo"), 60).split("\n"):
        assert len(line) <= 60 or "torch-ppo" in line


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["trian"]])
def test_quick_answers_import_nothing_heavy(words):
    """Nothing that takes time, of ours or of others."""
    code = f"import sys; sys.argv = ['torch-ppo', *{words!r}]; import torch_ppo.__main__ as front\n"
    code += "try: front.main()\nexcept SystemExit: pass\n"
    code += "print({'torch', 'numpy', 'mujoco', 'warp', 'tyro'} & set(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == "set()"


def test_versions(monkeypatch, capsys):
    status, out, errors = in_process(monkeypatch, capsys, "--version")
    assert (status, errors) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["torch_ppo", "python", "torch", "mujoco", "mujoco-warp", "warp-lang", "numpy"]
    assert out.startswith(f"torch_ppo {__version__}\n") and "not installed" not in out


NO_POLICY = (
    f"error: cheetah_run is a task, and no policy of it comes along; those of {', '.join(pretrained_tasks())} do, and a run "
    "folder or a file would work; --env cheetah_run --policy random plays without one\n"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "error: there is no program 'trian'; did you mean 'train'?\n"),
        (["--env", "cartpole"], "error: a program comes first: torch-ppo train --env cartpole\n"),
        (["play", "cheetah_run"], NO_POLICY),
        (["train", "cartpol"], "error: there is no env 'cartpol'; did you mean 'cartpole'?\n"),
    ],
)
def test_mistakes(words, message, monkeypatch, capsys):
    assert in_process(monkeypatch, capsys, *words) == (2, "", message)


@pytest.mark.parametrize("program", __main__.PROGRAMS)
def test_usage_names_the_program_as_it_was_called(program, monkeypatch, capsys):
    status, out, _ = in_process(monkeypatch, capsys, program, "--help")
    assert status == 0 and out.startswith(f"usage: torch-ppo {program} ")
    for argv0, name in [
        ("python -m torch_ppo tasks", "python -m torch_ppo play"),
        ("x.py", "python -m torch_ppo.play"),
    ]:
        monkeypatch.setattr(sys, "argv", [argv0])
        assert command.called("play") == name


@pytest.mark.parametrize(
    "words",
    [
        "tasks ant",
        "train --help",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("play --help", "dialects --help", "--help", "--version")),
    ],
)
def test_a_reader_that_leaves_gets_no_traceback(words):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "torch_ppo", *words.split()],
            check=False,
            env=ENVIRONMENT,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert "Traceback" not in result.stderr and "BrokenPipe" not in result.stderr, result.stderr
    assert result.returncode in (0, 141)


def test_notes_are_printed_only_by_programs(capsys):
    logger = logging.getLogger("torch_ppo")
    before, level = list(logger.handlers), logger.level
    try:
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logging.getLogger("torch_ppo.simulation.kernels").info("compiling")
        assert capsys.readouterr() == ("", "")
        command.print_notes()
        command.print_notes()
        logging.getLogger("torch_ppo.simulation.kernels").info("compiling")
        assert capsys.readouterr() == ("compiling\n", "")
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)


# Help


def test_help_of_train_has_sections_and_the_defaults_of_nobody(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = in_process(monkeypatch, capsys, "train", "--help")
    titles = re.findall(r"^\W*(\w[\w ,]*) options\b\W*$", out, re.MULTILINE)
    assert titles[:3] == ["Run", "Envs and episodes", "Collecting and minibatches"] and titles[-1] == "Machine"
    assert "torch-ppo train --env TASK --help shows those of a task" in out
    assert re.search(r"--num-envs INT[^-]*\(default: 1\)", out)
    assert re.search(r"--num-timesteps INT[^(]*\(required\)", out)


def test_help_of_train_has_the_defaults_of_a_task(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = in_process(monkeypatch, capsys, "train", "--config", "cartpole_cpu", "--help")
    assert "The defaults below are those of cartpole_cpu (--config)." in out
    assert re.search(r"--num-envs INT[^-]*\(default: 128\)", out)


# Completion


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """A function that completes a command line as bash does at its end: the words that it offers."""
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    script = tmp_path_factory.mktemp("completion") / "torch-ppo"
    result = run("completion", "bash")
    assert result.returncode == 0, result.stderr
    script.write_text(result.stdout)

    def complete(line):
        words = re.findall(r"=|[^\s=]+", line) + ([""] if line.endswith(" ") else [])
        code = f'source {script}; complete -p torch-ppo >&2; COMP_WORDS=("${{@}}"); COMP_CWORD={len(words) - 1}; '
        code += '_torch_ppo; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", code, "bash", *words], check=True, capture_output=True, text=True)
        assert done.stderr == "complete -o default -F _torch_ppo torch-ppo\n"
        return done.stdout.split()

    return complete


def test_completion(bash):
    assert bash("torch-ppo ") == [*__main__.PROGRAMS, "--help", "--version"]
    assert bash("torch-ppo tr") == ["train"]
    for line in ("torch-ppo train --env ", "torch-ppo train ", "torch-ppo tasks ant ", "torch-ppo play --env="):
        assert bash(line) == sorted(ENVS), line
    assert bash("torch-ppo train --env=cheet") == bash("torch-ppo train cheet") == ["cheetah_run"]
    assert bash("torch-ppo train --physics ") == ["auto", "warp", "mujoco"]
    assert bash("torch-ppo train --config cartpole_c") == ["cartpole_cpu"]
    assert bash("torch-ppo train --num-env") == ["--num-envs"]
    assert bash("torch-ppo dialects --from sk") == ["skrl"]
    assert bash("torch-ppo completion ") == ["bash", "zsh"]
    for line in ("torch-ppo play ", "torch-ppo train --resume ", "torch-ppo train --num-envs "):
        assert bash(line) == [], line  # files, by -o default


def test_completion_has_every_setting(bash):
    offered = bash("torch-ppo train --")
    for field in fields(Config):
        assert f"--{field.name.replace('_', '-')}" in offered
    assert set(offered) < set(bash("torch-ppo seeds --")) and "--vary" in bash("torch-ppo seeds --")


def test_zsh_gets_the_same_script_behind_its_own_head(monkeypatch):
    monkeypatch.setattr(completion, "help_of", lambda program: "--only")
    assert (
        completion.script("zsh").partition("_torch_ppo()")[2] == completion.script("bash").partition("_torch_ppo()")[2]
    )
    assert "bashcompinit" in completion.script("zsh")


SLOW_IMPORT = """
import pathlib, time
pathlib.Path(__file__).with_name("importing").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:  # as libraries in C make of it
    raise ImportError("initialization failed")
"""


@pytest.mark.parametrize("front", [["-m", "torch_ppo.{}"], ["-m", "torch_ppo", "{}"], ["torch-ppo", "{}"]])
@pytest.mark.parametrize("name", ["train", "play", "evaluate", "seeds", "tasks", "export"])
def test_ctrl_c_while_libraries_are_imported(name, front, tmp_path):
    """A line and status 130, whatever a half-imported library makes of it."""
    (tmp_path / "torch.py").write_text(SLOW_IMPORT)
    (tmp_path / "torch-ppo").write_text("from torch_ppo.__main__ import main\nmain()\n")
    words = [word.format(name) for word in front]
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so do its children
    process = subprocess.Popen(
        [sys.executable, *words, "run"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "importing").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    first = f"torch_ppo {__version__}: loading PyTorch and MuJoCo\n" if name == "train" else ""
    assert (process.returncode, output.decode()) == (130, first)
    assert errors == b"\nstopped before anything was begun\n"


def test_a_library_leaves_ctrl_c_alone(tmp_path):
    """A program of somebody else's that imports us, whatever it is called by."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import torch_ppo\n")
    code = "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    (tmp_path / "theirs" / "__main__.py").write_text(code)
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-m", "theirs"], check=True, env=environment)


def test_ctrl_c_later_is_one_line_too(capsys, monkeypatch):
    with pytest.raises(SystemExit, match="130"), user_errors():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.parametrize("words", [[name, "--help"] for name in __main__.PROGRAMS] + [["completion", "bash"]])
def test_a_program_leaves_its_caller_ctrl_c_and_its_words(words, monkeypatch, capsys):
    """Whoever calls `torch_ppo.__main__.main` goes on afterwards."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status, output, _ = in_process(monkeypatch, capsys, *words)
    assert status == 0 and output
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.argv == ["/usr/bin/torch-ppo", *words]


def test_ctrl_c_while_a_completion_is_made_is_one_line(monkeypatch, capsys):
    def interrupted(shell):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(completion, "script", interrupted)
    assert in_process(monkeypatch, capsys, "completion", "bash") == (130, "", "\nstopped\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: not enough memory, fewer envs or smaller networks may fit: \n"),
        (
            RuntimeError("can't allocate memory: 64 bytes\nmore"),
            "error: not enough memory, fewer envs or smaller networks may fit: can't allocate memory: 64 bytes\n",
        ),
    ],
)
def test_too_little_memory_is_one_line(error, line, capsys):
    with pytest.raises(SystemExit, match="2"), user_errors():
        raise error
    assert capsys.readouterr().err == line


def test_other_errors_of_the_runtime_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a bug"), user_errors():
        raise RuntimeError("a bug")


def test_a_current_folder_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    status, _, errors = in_process(monkeypatch, capsys, "train", "--config", "cartpole_cpu", "--num-timesteps", "1")
    assert (status, errors) == (2, "error: the current folder has been deleted; cd to one that is there\n")
    monkeypatch.undo()


@pytest.mark.parametrize("choice", ["nope", "osmesa"])
def test_an_opengl_that_mujoco_cannot_be_imported_with(choice):
    """Without a traceback, in whichever way a program is called."""
    environment = {**ENVIRONMENT, "MUJOCO_GL": choice}
    probe = subprocess.run([sys.executable, "-c", "import mujoco"], check=False, env=environment, capture_output=True)
    if probe.returncode == 0:
        pytest.skip(f"{choice} is there")
    for program in (["-m", "torch_ppo.tasks", "cartpole"], ["-m", "torch_ppo", "play", "walker_walk"]):
        result = subprocess.run(
            [sys.executable, *program], check=False, env=environment, capture_output=True, text=True
        )
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"error: MUJOCO_GL is {choice!r}, with which MuJoCo cannot be imported (")
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--version"], ["tasks"], ["completion", "bash"], ["train", "--help"]])
def test_output_that_is_closed_or_ascii(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/torch-ppo", *words])
    written = io.BytesIO()
    for stdout in (None, io.TextIOWrapper(written, encoding="ascii")):
        monkeypatch.setattr(sys, "stdout", stdout)
        with contextlib.suppress(SystemExit):
            __main__.main()
    assert len(written.getvalue()) > 40


def test_a_character_that_the_output_lacks(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with command.reader_may_leave():
        print("9.9 ± 0.1")
    assert written.getvalue() == b"9.9 ? 0.1\n"
