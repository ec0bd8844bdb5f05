"""Nobody's file runs code unasked: a task of its own that a file names is loaded only where the caller has asked for it."""

import sys
from pathlib import Path

import pytest
import torch

import torch_ppo
from torch_ppo import play
from torch_ppo import train as train_module
from torch_ppo.envs import make_task
from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import load_checkpoint, save_checkpoint
from torch_ppo.watching.arguments import PlayArguments
from torch_ppo.watching.player import make_player

TINY = (
    "--num-timesteps 40 --num-envs 2 --batch-size 2 --num-minibatches 2 --unroll-length 5 --num-eval-envs 2 --num-evals 2 "
    "--policy-hidden-layer-sizes 4 --value-hidden-layer-sizes 4 --device cpu"
).split()

TASK = """
from pathlib import Path

from torch_ppo.envs.cartpole import Cartpole

Path(__file__).with_name("it_ran").touch()


class Mine(Cartpole):
    episode_length = 20


def function():
    Path(__file__).with_name("it_was_called").touch()
    return Mine()
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """A program in this process, in a folder with a task: its exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "of_trust.py").write_text(TASK)

    def called(main, *words):
        sys.modules.pop("of_trust", None)
        (tmp_path / "it_ran").unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["torch_ppo", *map(str, words)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return called


def train(call, *words):
    return call(sys.modules["torch_ppo.train"].main, *words)


@pytest.fixture
def run(call, tmp_path):
    """The folder of a run of that task, which was asked for."""
    status, _, errors = train(call, *TINY, "--env", "of_trust.py:Mine", "--config", "cartpole_cpu", "--run-dir", "run")
    assert (status, errors) == (0, "") and (tmp_path / "it_ran").exists()
    return tmp_path / "run"


def test_a_run_folder(call, run, tmp_path):
    words = ("--resume", "run", "--num-timesteps", 80)
    for main, asked in ((train_module.main, words), (play.main, ("run", "--steps", 1, "--video", "v.png"))):
        status, _, errors = call(main, *asked)
        assert status == 2 and "names a task of its own" in errors and "--trust allows it" in errors
        assert errors.count("\n") == 1 and not (tmp_path / "it_ran").exists()
        assert call(main, *asked, "--trust")[0] == 0 and (tmp_path / "it_ran").exists()
    sys.modules.pop("of_trust", None)
    (tmp_path / "it_ran").unlink()
    with pytest.raises(ConfigError, match=r'names a task of its own, .*; env=".*of_trust.py:Mine" allows it'):
        torch_ppo.evaluate("run", episodes=2)
    assert not (tmp_path / "it_ran").exists()
    assert torch_ppo.evaluate("run", env="of_trust.py:Mine", episodes=2).returns.shape == (2,)
    assert torch_ppo.rollout("run", steps=1, trust=True).rewards.shape == (1, 1)


def test_evaluate_the_program(call, run, tmp_path):
    """It is said in the words of the program, also with --perturb."""
    for more in ((), ("--physics", "mujoco"), ("--perturb", "friction=1")):
        words = ("run", "--episodes", 1, *more)
        status, _, errors = call(sys.modules["torch_ppo.evaluate"].main, *words)
        assert status == 2 and "names a task of its own" in errors and errors.endswith("; --trust allows it\n")
        status, out, errors = call(sys.modules["torch_ppo.evaluate"].main, *words, "--trust")
        assert ((status, errors) == (0, "") and "Mine" in out) or more[:1] == ("--perturb",)
    status, _, errors = call(sys.modules["torch_ppo.evaluate"].main, "run", "--env", "cartpole", "--trust")
    assert status == 2 and "--trust has no effect with --env, which names the task" in errors


def test_the_runs_own_episodes_where_its_task_is_named(call, tmp_path):
    """As without, also where its file lies elsewhere by now; another task has its own."""
    words = ("--env", "of_trust.py:Mine", "--config", "cartpole_cpu", "--run-dir", "run", "--episode-length", 10)
    assert train(call, *TINY, *words)[0] == 0
    (tmp_path / "moved").mkdir()
    (tmp_path / "of_trust.py").rename(tmp_path / "moved" / "of_trust.py")
    sys.modules.pop("of_trust", None)
    lengths = {
        env: torch_ppo.evaluate("run", env=env, episodes=1).lengths.tolist()
        for env in ("moved/of_trust.py:Mine", "cartpole_sparse")
    }
    assert lengths == {"moved/of_trust.py:Mine": [10], "cartpole_sparse": [1000]}
    for env, (length,) in lengths.items():
        assert make_player(PlayArguments(run=Path("run"), env=env)).env.episode_length == length


def test_checkpoints_outside_of_the_folder(call, tmp_path):
    """Those that a run's own files ask for; the ones that whoever started it asked for are written."""
    words = (
        *TINY,
        "--env",
        "cartpole",
        "--episode-length",
        20,
        "--save-checkpoint-path",
        "elsewhere",
        "--run-dir",
        "run",
    )
    assert train(call, *words)[0] == 0
    written = sorted((tmp_path / "elsewhere").iterdir())
    assert written
    on = ("--resume", "run", "--num-timesteps", 80)
    status, _, errors = train(call, *on)
    assert status == 2 and f"written to {tmp_path / 'elsewhere'} too, outside of it; --trust allows it" in errors
    assert errors.count("\n") == 1 and sorted((tmp_path / "elsewhere").iterdir()) == written
    status, _, errors = train(call, "--resume", "run/policy.pt", "--num-timesteps", 80)
    assert status == 2 and "run/policy.pt is in a run folder, but no checkpoint; --resume run would work" in errors
    assert train(call, *on, "--trust")[0] == 0 and len(list((tmp_path / "elsewhere").iterdir())) > len(written)


def test_only_tasks_are_suggested(call, tmp_path):
    with pytest.raises(ConfigError, match=r"of_trust.py has no nope; known: Cartpole, Mine$"):
        make_task(f"{tmp_path}/of_trust.py:nope")
    (tmp_path / "empty_of_tasks.py").write_text("import math\nfrom torch_ppo import Task\n")
    with pytest.raises(ConfigError, match=r"empty_of_tasks.py has no Mine, nor any other torch_ppo.Task$"):
        make_task(f"{tmp_path}/empty_of_tasks.py:Mine")


def test_a_checkpoint_that_names_a_module(call, run, tmp_path):
    """A function of another module is not even called."""
    saved = load_checkpoint(run / "checkpoints" / "last.pt")
    saved["config"]["env"] = "os:abort"
    save_checkpoint(saved, tmp_path / "evil.pt")
    status, _, errors = call(play.main, "evil.pt", "--steps", 1, "--video", "v.png")
    assert status == 2 and "os:abort, whose code would run" in errors
    status, _, errors = call(play.main, "evil.pt", "--steps", 1, "--video", "v.png", "--trust")
    assert status == 2 and "abort is not a torch_ppo.Task" in errors


def test_a_configuration(call, run, tmp_path):
    status, _, errors = train(call, "--config", "run/config.toml", "--run-dir", "again")
    assert status == 2 and "the configuration names a task of its own" in errors and "--env " in errors
    assert not (tmp_path / "it_ran").exists() and not (tmp_path / "again").exists()
    assert train(call, "--config", "run/config.toml", "--env", "of_trust.py:Mine", "--run-dir", "again")[0] == 0


def test_only_tasks_are_called(call, tmp_path):
    status, _, errors = train(call, "--env", "of_trust.py:function", "--config", "cartpole_cpu")
    assert status == 2 and "function() does not take num_envs" in errors and not (tmp_path / "it_was_called").exists()
    (tmp_path / "needs.py").write_text(TASK + "\nclass Needs(Mine):\n    def __init__(self, height):\n        pass\n")
    with pytest.raises(ConfigError, match=r"Needs\(\) cannot be made: .*missing 1 required positional argument"):
        make_task(f"{tmp_path}/needs.py:Needs")


def test_reading_a_checkpoint_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("it_ran").touch, ())

    torch.save({"agent": Evil(), "config": {}, "format": 3}, tmp_path / "evil.pt")
    with pytest.raises(torch_ppo.UserError, match="is not a whole checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "it_ran").exists()
