"""What cannot be read of a program's command line is one line, with a guess, in every program."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from torch_ppo import __main__
from torch_ppo.errors import ConfigError
from torch_ppo.settings.command_line import divided, read_command_line

NEEDED = {"completion": ["bash"], "dialects": ["a.toml"], "import_policy": ["a", "b"], "brax": ["export", "a", "b"]}


def said(monkeypatch, capsys, *words):
    """The line, without "error: ", with which the command ends."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/torch-ppo", *words])
    with pytest.raises(SystemExit) as end:
        __main__.main()
    out, errors = capsys.readouterr()
    assert end.value.code == 2 and out.removeprefix("torch_ppo 0.1.0: loading PyTorch and MuJoCo\n") == ""
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors
    return errors.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("program", __main__.PROGRAMS)
def test_unknown_options(program, monkeypatch, capsys):
    """Also one that looks like an option and is none, and a word too many."""
    words = [program, *NEEDED.get(program, ["cartpole"])]
    assert said(monkeypatch, capsys, *words, "--qwfp", "3").startswith("there is no option --qwfp; torch-ppo ")
    line = said(monkeypatch, capsys, *words, "-q")
    assert line.startswith(("there is no option -q", "what is -q?"))


GUESSES = [
    ("evaluate run --episode 3", "there is no option --episode; did you mean '--episodes'?"),
    ("export run --fromat onnx", "there is no option --fromat; did you mean '--format'?"),
    ("tasks --nwe a.xml", "there is no option --nwe; did you mean '--new'?"),
    ("seeds cartpole --sedes 3", "there is no option --sedes; did you mean '--seeds'?"),
    ("seeds cartpole --num-env 3", "there is no option --num-env; did you mean '--num-envs'?"),
    ("brax export run out --chekpoint last", "there is no option --chekpoint; did you mean '--checkpoint'?"),
    ("dialects a.yml --form sb3", "there is no option --form; did you mean '--from'?"),
    ("brax improt a b", "say which way: torch-ppo brax import CHECKPOINT OUT, or torch-ppo brax export RUN OUT"),
    ("evaluate", "RUN is missing: torch-ppo evaluate RUN; --help says more"),
    ("import_policy a.zip", "OUT is missing: torch-ppo import_policy CHECKPOINT OUT; --help says more"),
    ("plot", "RUNS is missing: torch-ppo plot RUNS ...; --help says more"),
    ("evaluate a b c", "what is b c? Options begin with --; torch-ppo evaluate --help has them all"),
    ("evaluate a --seed 1 2", "what is 2? Options begin with --; torch-ppo evaluate --help has them all"),
    ("evaluate a --episodes many", "episodes is 'many', but must be an int"),
    ("evaluate a --episodes", "--episodes needs a value"),
    ("play a --engine jax", "physics is 'jax', but must be one of 'auto', 'warp', 'mujoco'"),
    ("play a --web=maybe", "--web maybe is not understood; --web alone says yes, --no-web says no"),
    ("completion fish", "shell is 'fish', but must be one of 'bash', 'zsh'"),
    ("seeds cartpole --jobs some", "jobs is 'some', but must be an int or None"),
]


@pytest.mark.parametrize(("words", "line"), GUESSES, ids=[words for words, _ in GUESSES])
def test_mistakes_are_one_line(words, line, monkeypatch, capsys):
    assert said(monkeypatch, capsys, *words.split()) in (line, line.removesuffix(" or None"))


@pytest.mark.parametrize(("words", "line"), [pair for pair in GUESSES if "is missing: " in pair[1]])
def test_help_and_messages_have_the_same_words(words, line, monkeypatch, capsys):
    """`torch-ppo plot RUNS ...`, there and here."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/torch-ppo", words.split()[0], "--help"])
    with pytest.raises(SystemExit):
        __main__.main()
    program, usage = line.split("torch-ppo ")[1].split(";")[0].split(maxsplit=1)
    assert capsys.readouterr().out.splitlines()[0].endswith(f" {program} [-h] [OPTIONS] {usage}")


@dataclass(frozen=True)
class Wanted:
    """What a program is asked for."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    of: Annotated[Literal["best", "last"] | None, tyro.conf.arg(name="from")] = None
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    steps: int | None = 7
    shown: bool = True
    far: float = 0.5


READ = [
    ("a b", {"runs": (Path("a"), Path("b"))}),
    ("a --from LAST b", {"runs": (Path("a"), Path("b")), "of": "last"}),
    ("--no-shown a", {"runs": (Path("a"),), "shown": False}),
    ("--shown false a", {"runs": (Path("a"),), "shown": False}),
    ("a --steps none --far=-1e3 b", {"runs": (Path("a"), Path("b")), "steps": None, "far": -1000.0}),
    ("a --steps 1e3", {"runs": (Path("a"),), "steps": 1000}),
    ("a --names x=1,y=2 z --sizes 1,2", {"runs": (Path("a"),), "names": ("x=1,y=2", "z"), "sizes": (1, 2)}),
]


@pytest.mark.parametrize(("words", "found"), READ, ids=[words for words, _ in READ])
def test_read(words, found):
    assert read_command_line(Wanted, "plot", words.split()) == Wanted(**found)


def test_other_names_go_to_another_program():
    own, others = divided(Wanted, "cartpole --steps 3 --num-envs=4 5 --from last --seed 1".split())
    assert own == "--steps 3 --from last".split() and others == "cartpole --num-envs=4 5 --seed 1".split()


def test_unknown_value_of_a_choice():
    with pytest.raises(ConfigError, match="from is 'first', but must be one of 'best', 'last' or None"):
        read_command_line(Wanted, "plot", ["a", "--from", "first"])
