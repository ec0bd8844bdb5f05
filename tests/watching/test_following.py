"""A policy that is watched while it is trained: each new checkpoint is played, a damaged one passed over."""

import sys
import threading
import time

import pytest
from PIL import Image

from torch_ppo import play
from torch_ppo.envs import make_task
from torch_ppo.errors import ConfigError
from torch_ppo.running.checkpoint import save_checkpoint
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.saved_policy import load_policy
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import to_toml
from torch_ppo.watching import following as module
from torch_ppo.watching.following import Following, checkpoint_names

CONFIG = Config(
    env="pendulum_swingup",
    num_timesteps=1,
    episode_length=12,
    policy_hidden_layer_sizes=(4,),
    value_hidden_layer_sizes=(4,),
    run_evals=False,
    device="cpu",
)


@pytest.fixture(scope="module")
def state():
    return TrainingState(CONFIG, make_task(CONFIG.env))


@pytest.fixture
def run_folder(tmp_path, state, monkeypatch):
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.chdir(tmp_path)
    state.training_steps = 1
    save_checkpoint(state.checkpoint(), tmp_path / "run" / "checkpoints" / "last.pt")
    (tmp_path / "run" / "config.toml").write_text(to_toml(state.config))
    return tmp_path / "run"


def write(state, folder, steps):
    state.training_steps = steps
    save_checkpoint(state.checkpoint(), folder / "checkpoints" / "last.pt")


def newer(following):
    time.sleep(0.02)
    return following.newer()


def test_newer_checkpoints(run_folder, state):
    following = Following(run_folder, load_policy)
    assert newer(following) is None
    write(state, run_folder, 2)
    assert newer(following).env_steps == state.env_steps
    assert newer(following) is None
    last = run_folder / "checkpoints" / "last.pt"
    last.write_bytes(b"PK torn")
    assert newer(following) is None
    last.unlink()
    assert newer(following) is None
    write(state, run_folder, 3)
    assert newer(following).env_steps == state.env_steps


def test_names_of_checkpoints(run_folder):
    for name in ("best", "160", "1280", "320", ".a", "clip"):
        (run_folder / "checkpoints" / f"{name}.pt").touch()
    assert checkpoint_names(run_folder) == ["best", "last", "1280", "320", "160"]


def test_a_folder_in_use_is_seen_and_left_alone(run_folder):
    """Looking takes nobody's place, whenever it happens."""
    holder, other = RunFolder(run_folder), RunFolder(run_folder)
    assert not other.is_taken
    holder.take()
    assert other.is_taken and other.is_taken
    with pytest.raises(ConfigError, match="another process is at work"):
        other.take()
    holder.close()
    assert not other.is_taken
    stop = threading.Event()

    def look():
        while not stop.is_set():
            assert other.is_taken in (True, False)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50):
        holder.take()
        holder.close()
    stop.set()
    thread.join()
    assert not RunFolder(run_folder / "nowhere").is_taken


def program(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["torch_ppo.play", *map(str, arguments)])
    try:
        play.main()
    except SystemExit as end:
        return end.code
    return 0


def test_a_file_is_written_anew_for_each_checkpoint(run_folder, state, monkeypatch, capsys):
    """Until the run is not trained any more; what was written last is played, too."""
    training = RunFolder(run_folder)
    training.take()
    played = []

    def record(given, arguments, path):
        played.append(given.policy.env_steps)
        if len(played) == 1:
            write(state, run_folder, 5)
        elif len(played) == 2:
            write(state, run_folder, 9)
            training.close()

    monkeypatch.setattr("torch_ppo.watching.recording.record", record)
    assert program(monkeypatch, "--follow", "run", "--video", "a.gif") == 0
    each = CONFIG.env_step_per_training_step
    assert played == [each, 5 * each, 9 * each]
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"checkpoint at {5 * each:,} env steps",
        f"checkpoint at {9 * each:,} env steps",
        "run is not being trained any more",
    ]


def test_a_real_file(run_folder, monkeypatch, capsys):
    """Of a run that is over: once."""
    arguments = ("--follow", "run", "--video", "a.gif", "--width", 32, "--height", 24, "--steps", 8)
    assert program(monkeypatch, *arguments) == 0
    with Image.open("a.gif") as video:
        assert video.size == (32, 24)
    assert "not being trained any more" in capsys.readouterr().out


def test_it_waits_for_the_first_checkpoint(run_folder, state, monkeypatch, capsys):
    training, last = RunFolder(run_folder), run_folder / "checkpoints" / "last.pt"
    training.take()
    content = last.read_bytes()
    last.unlink()

    def begin():
        time.sleep(0.2)
        last.write_bytes(content)
        training.close()

    thread = threading.Thread(target=begin)
    thread.start()
    monkeypatch.setattr("torch_ppo.watching.recording.record", lambda *arguments: None)
    assert program(monkeypatch, "run", "--follow", "--video", "a.gif") == 0
    thread.join()
    assert capsys.readouterr().out.startswith("waiting for the first checkpoint of run\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--follow", "say what to play"),
        ("--follow run/checkpoints/last.pt", "--follow needs the folder of a run"),
        ("--follow nowhere", "no nowhere yet"),
        ("run --checkpoint 7", "run has no 7.pt; there are last"),
        ("run --web --video a.gif", "give one of them"),
    ],
)
def test_mistakes(run_folder, monkeypatch, capsys, arguments, words):
    assert program(monkeypatch, *arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_any_checkpoint_by_its_env_steps(run_folder, state, monkeypatch, capsys):
    write(state, run_folder, 4)
    (run_folder / "checkpoints" / "last.pt").rename(run_folder / "checkpoints" / f"{state.env_steps}.pt")
    played = []
    monkeypatch.setattr(play, "record", lambda given, arguments, path: played.append(given.policy.env_steps))
    assert program(monkeypatch, "run", "--checkpoint", state.env_steps, "--video", "a.gif") == 0
    assert played == [state.env_steps]
