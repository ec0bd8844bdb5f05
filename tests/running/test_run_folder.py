"""A run's folder: whose it is, what it goes on from, the task that is in it, and output that fails."""

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import torch_ppo.train
from tests.helpers.toy import ToyTask
from torch_ppo import evaluate, export, play
from torch_ppo.environments.finding import source_of
from torch_ppo.envs import canonical_name, make_task
from torch_ppo.errors import ConfigError
from torch_ppo.running.disk import DiskError
from torch_ppo.running.environment import locate_task, remember, what_changed
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.history import cut_history, read_curve, read_history
from torch_ppo.running.loop import report
from torch_ppo.running.signals import StopRequest
from torch_ppo.running.tensorboard import constant_metrics
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.settings.files import load_config, to_toml

ROOT = Path(__file__).parents[2]
TINY = (
    "--config cartpole --num-timesteps 640 --num-evals 3 --num-envs 8 --batch-size 8 --num-minibatches 2 "
    "--unroll-length 10 --num-updates-per-batch 1 --episode-length 20 --num-eval-envs 2 --policy-hidden-layer-sizes 8 "
    "--value-hidden-layer-sizes 8 --device cpu --torch-threads 1"
).split()
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")


def program(main, monkeypatch, capsys, *arguments):
    """Runs a program in this process: exit status, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.fixture
def train(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: program(torch_ppo.train.main, monkeypatch, capsys, *arguments)


# Whose it is, and what it goes on from


@pytest.mark.parametrize("target", ["link", "nowhere"], ids=["to itself", "to nowhere"])
def test_a_run_dir_that_is_a_link_to_no_folder(train, tmp_path, target):
    (tmp_path / "link").symlink_to(target)
    status, _, errors = train(*TINY, "--run-dir", "link")
    assert status == 2 and errors.startswith("error: --run-dir link cannot be written: ") and errors.count("\n") == 1
    assert os.listdir(tmp_path) == ["link"]


def test_one_process_a_folder(train, tmp_path):
    assert train(*TINY, "--run-dir", "run")[0] == 0
    handle = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    status, _, errors = train("--resume", "run", "--num-timesteps", 2000)
    os.close(handle)
    assert (status, errors) == (2, "error: another process is at work in run; it must end first\n")
    assert train("--resume", "run", "--num-timesteps", 2000)[0] == 0  # a lock dies with its holder


def test_killed_before_the_first_checkpoint_or_the_policy(train, tmp_path):
    assert train(*TINY, "--run-dir", "run")[0] == 0
    run, whole = Path("run"), read_curve(Path("run/metrics.jsonl"))
    (run / "policy.pt").unlink()
    status, out, _ = train("--resume", "run")
    assert status == 0 and "run is complete but for policy.pt" in out and (run / "policy.pt").exists()
    status, _, errors = train("--resume", "run")
    assert status == 2 and "run is complete at 640 env steps; --num-timesteps 1280 would go on" in errors
    status, _, errors = train("--resume", "run", "--num-timesteps", 100)
    assert status == 2 and "at 640 env steps already, more than --num-timesteps 100; --num-timesteps 1280" in errors
    shutil.copy(run / "metrics.jsonl", run / "policy.pt")  # an export that did not end well
    assert train("--resume", "run")[0] == 0

    shutil.rmtree(run / "checkpoints")
    (run / "policy.pt").unlink()
    status, out, errors = train("--resume", "run")
    assert (status, errors) == (0, "") and "has no checkpoint yet; the run begins at its beginning" in out
    assert read_curve(run / "metrics.jsonl") == whole

    Path("begun").mkdir()
    Path("begun/.0123456789ab.tmp").touch()  # a kill before config.toml
    assert train(*TINY, "--run-dir", "begun")[0] == 0 and not list(Path("begun").glob(".*"))
    status, _, errors = train(*TINY, "--run-dir", "begun")
    assert status == 2 and "--resume begun would go on with that run" in errors


def test_resume_takes_another_checkpoint(train, differences):
    assert train(*TINY, "--run-dir", "run")[0] == 0
    whole = read_curve(Path("run/metrics.jsonl"))
    Path("run/checkpoints/last.pt").write_bytes(b"torn")
    Path("run/checkpoints/640.pt").unlink()
    Path("run/policy.pt").unlink()
    shutil.copytree("run", "named")
    status, out, errors = train("--resume", "run")
    assert (status, errors) == (
        0,
        "",
    ) and "last.pt is not a whole checkpoint; 320.pt, at 320 env steps, is taken" in out
    status, out, errors = train("--resume", "named/checkpoints/320.pt")
    assert (status, errors) == (0, "") and "from 320 env steps" in out
    for name in ("run", "named"):
        assert read_curve(Path(name) / "metrics.jsonl") == whole


def test_an_edited_file_is_told_from_an_option(train):
    assert train(*TINY, "--run-dir", "run")[0] == 0
    config = Path("run/config.toml")
    before = config.read_text()
    config.write_text(before.replace("discounting = 0.97", ""))
    status, _, errors = train("--resume", "run", "--num-timesteps", 2000)
    assert status == 2 and "config.toml has been edited: discounting is 0.9 there, and 0.97" in errors
    config.write_text(before.replace("learning_rate = 0.001", "learning_rate = 0.002"))
    status, out, _ = train("--resume", "run", "--num-timesteps", 2000)
    assert status == 0 and "note: learning_rate is 0.002 from here on; it was 0.001" in out


def learning_rates(run):
    return [
        line["training/learning_rate"]
        for line in read_history(Path(run) / "metrics.jsonl")
        if "training/learning_rate" in line
    ]


def test_what_may_change_when_resumed(train):
    """A note on each, its effect from there on, and the configuration of the run from then on."""
    assert train(*TINY, "--run-dir", "run")[0] == 0
    assert learning_rates("run") == pytest.approx([1e-3, 1e-3])
    changes = (
        "--learning-rate 5e-4 --entropy-cost 0.5 --num-evals 5 --num-eval-envs 3 --save-checkpoint-path extra".split()
    )
    status, out, errors = train("--resume", "run", "--num-timesteps", 1280, *changes)
    assert (status, errors) == (0, "")
    for name, now, was in (("learning_rate", 0.0005, 0.001), ("num_evals", 5, 3), ("num_eval_envs", 3, 2)):
        assert f"note: {name} is {now!r} from here on; it was {was!r}" in out
    assert "note: num_timesteps" not in out
    assert learning_rates("run") == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4])
    assert sorted(path.name for path in Path("extra").iterdir()) == ["000000000960.pt", "000000001280.pt"]
    config = load_config("run")
    assert (config.learning_rate, config.num_evals, config.entropy_cost) == (5e-4, 5, 0.5)
    assert config.save_checkpoint_path == str(Path("extra").resolve())
    status, out, _ = train("--resume", "run", "--num-timesteps", 1600, "--trust")
    assert status == 0 and "from here on" not in out  # these are the run's own now
    assert learning_rates("run")[-1] == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        (
            [],
            ["--learning-rate-schedule", "LINEAR"],
            [0.4375e-3, 0.1875e-3],
        ),  # as if it had been there from the beginning
        (["--learning-rate-schedule", "LINEAR"], ["--learning-rate-schedule", "NONE"], [1e-3, 1e-3]),
        (["--learning-rate-schedule", "LINEAR"], [], [0.4375e-3, 0.1875e-3]),
        (["--learning-rate-warmup-timesteps", "600"], ["--learning-rate-warmup-timesteps", "0"], [1e-3, 1e-3]),
    ],
)
def test_schedules_when_resumed(train, before, change, expected):
    """The learning rate is that of the new schedule at the step where the run is."""
    assert train(*TINY, "--num-evals", "5", *before, "--run-dir", "run")[0] == 0
    assert train("--resume", "run/checkpoints/320.pt", *change)[0] == 0
    assert learning_rates("run")[-2:] == pytest.approx(expected)


def test_two_runs_of_one_second(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *arguments: "20260101-000000")
    config = Config(env="cartpole", num_timesteps=1)
    folders = [RunFolder.for_new_run(None, config) for _ in range(3)]
    for folder in folders:
        folder.create(config)
        folder.close()
    assert [folder.path.name.removeprefix("cartpole-20260101-000000-s0") for folder in folders] == ["", "-2", "-3"]


@pytest.mark.parametrize("text", ["😀", 'q"\\\x7f\t\x01', "é"])
def test_any_character_survives_in_the_configuration(tmp_path, text):
    config = Config(env=text, num_timesteps=1)
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    assert load_config(str(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    "text",
    [
        "5",
        '{"task": 5}',
        '{"task": {}}',
        '{"task": {"base": 5, "root": "x"}}',
        '{"starts": 5}',
        "[" * 20_000,
        '{"task": {"base": "a"}}',
    ],
)
def test_an_edited_environment_costs_nothing(tmp_path, text):
    (tmp_path / "environment.json").write_text(text)
    assert locate_task(tmp_path, f"{tmp_path}/mine.py:Mine", trusted=True) == (f"{tmp_path}/mine.py:Mine", [])
    remember(tmp_path, "cartpole", source_of("cartpole"))
    assert len(json.loads((tmp_path / "environment.json").read_text())["starts"]) == 1


def test_a_run_dir_that_is_not_utf_8_is_refused_before_training(train, tmp_path):
    status, _, errors = train(*TINY, "--run-dir", "a\udcffb")
    assert (status, errors) == (2, "error: --run-dir is 'a\\udcffb', but must be UTF-8\n")
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_not_waited_for(tmp_path):
    """Reading one that nobody writes to would never end."""
    for name in ("environment.json", "metrics.jsonl"):
        os.mkfifo(tmp_path / name)
    assert locate_task(tmp_path, "cartpole", trusted=True) == ("cartpole", [])
    assert read_history(tmp_path / "metrics.jsonl") == []
    with pytest.raises(DiskError, match=r"metrics\.jsonl is not a file"):
        cut_history(tmp_path / "metrics.jsonl", 0)


@pytest.mark.parametrize("setting", ["env", "save_checkpoint_path"])
@pytest.mark.parametrize("text", ["\udcff", "a\0b"])
def test_what_no_file_can_hold_is_refused(setting, text):
    with pytest.raises(ConfigError, match=f"{setting} is"):
        Config(**{"num_timesteps": 1, setting: text})


@pytest.mark.parametrize("option", ["--config", "--resume", "--run-dir", "--env", "--save-checkpoint-path"])
def test_a_path_of_300_characters_is_one_line(train, option):
    path = "x" * 300 + (".py:A" if option == "--env" else "")
    arguments = [option, path] if option in ("--config", "--resume") else [*TINY, option, path]
    status, _, errors = train(*arguments)
    assert status == 2 and errors.count("\n") == 1 and ("too long" in errors or "no configuration" in errors), errors


def test_export_replaces_no_checkpoint(train, monkeypatch, capsys):
    assert train(*TINY, "--run-dir", "run")[0] == 0
    last = Path("run/checkpoints/last.pt")
    content = last.read_bytes()
    for output, words in ((last, "is the checkpoint itself"), ("/dev/null", "is not a file")):
        status, _, errors = program(export.main, monkeypatch, capsys, last, "--output", output)
        assert status == 2 and words in errors
    assert last.read_bytes() == content and Path("/dev/null").is_char_device()


def test_nan_is_never_the_best():
    state = TrainingState(Config(num_timesteps=1, device="cpu"), ToyTask())
    found = []
    for reward in (math.nan, 1.0, math.nan, math.inf, 0.5, 2.0):
        state.evaluator = lambda reward=reward: {"eval/episode_reward": reward}
        state.interval_steps, state.interval_time = 1, 1.0
        found.append(report(state)[1])
    assert found == [False, True, False, False, False, True]
    state.best = {"reward": math.nan, "env_steps": 0}  # from an older version
    state.interval_steps, state.interval_time = 1, 1.0
    assert report(state)[1]


# Its task

TASK = """
from torch_ppo.envs.cartpole import Cartpole
from constants import LENGTH
from pathlib import Path
class Mine(Cartpole):
    mjcf = Path(__file__).parent / "models" / "mine.xml"
    episode_length = LENGTH
"""


@pytest.fixture
def project(tmp_path):
    """A task of one's own, its neighbour, its model and what that includes, in a git repository."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "mine.py").write_text(TASK)
    (folder / "constants.py").write_text("LENGTH = 30\n")
    (folder / "unused.py").write_text("")
    original = (ROOT / "envs" / "assets" / "cartpole.xml").read_text()
    (folder / "models" / "mine.xml").write_text(
        original.replace("<mujoco", "<mujoco", 1).replace("</mujoco>", '<include file="more.xml"/></mujoco>')
    )
    (folder / "models" / "more.xml").write_text(
        '<mujocoinclude><worldbody><geom size="0.1" pos="9 9 9" contype="0" conaffinity="0"/></worldbody></mujocoinclude>'
    )
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "mine.py"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    (folder / "mine.py").write_text(TASK + "# changed\n")
    yield folder
    for name in ("mine", "constants"):
        sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if str(tmp_path) not in path]


def forget(project):
    """As a new process would begin."""
    for name in ("mine", "constants"):
        sys.modules.pop(name, None)
    sys.path[:] = [path for path in sys.path if str(project.parent) not in path]


@pytest.mark.filterwarnings("default")
def test_a_folder_is_enough(train, project, tmp_path, monkeypatch, capsys):
    """The task by a relative path; then from elsewhere, after a change, and without the original."""
    monkeypatch.chdir(project)
    status, out, errors = train(*TINY, "--env", "mine.py:Mine", "--run-dir", "../run")
    assert (status, errors) == (0, "") and out.startswith("mine.py:Mine: ")
    run = tmp_path / "run"
    assert load_config(str(run / "config.toml")).env == f"{project}/mine.py:Mine"
    record = json.loads((run / "environment.json").read_text())
    assert set(record["task"]["files"]) == {"mine.py", "constants.py", "models/mine.xml", "models/more.xml"}
    for name in record["task"]["files"]:
        assert (run / "task" / name).read_bytes() == (project / name).read_bytes()
    (start,) = record["starts"]
    assert start["versions"].keys() == {
        "python", "torch_ppo", "torch", "mujoco", "mujoco-warp", "warp-lang", "numpy"
    }  # fmt: skip
    assert len(record["git"]["commit"]) == 40 and "+# changed" in (run / "git.diff").read_text()

    def resumed(steps):
        forget(project)
        return train("--resume", "run", "--num-timesteps", steps, "--trust")

    def played():
        forget(project)
        return program(
            play.main,
            monkeypatch,
            capsys,
            "run",
            "--steps",
            2,
            "--video",
            "v.png",
            "--width",
            32,
            "--height",
            32,
            "--trust",
        )

    monkeypatch.chdir(tmp_path)
    status, out, errors = resumed(1000)
    assert (status, errors) == (0, "") and "note: " not in out
    status, out, _ = played()
    assert status == 0 and "note: " not in out
    (project / "models" / "more.xml").write_text(
        '<mujocoinclude><worldbody><geom size="0.1" pos="9 9 8" contype="0" conaffinity="0"/></worldbody></mujocoinclude>'
    )
    for status, out, _ in (resumed(2000), played()):
        assert status == 0 and out.count("note: more.xml changed since the run began") == 1
    project.rename(tmp_path / "away")
    for status, out, _ in (resumed(3000), played()):
        assert status == 0 and "is gone; the copy in run/task is used" in out
    status, _, errors = program(evaluate.main, monkeypatch, capsys, "run", "--episodes", 2, "--trust")
    assert status == 0 and errors.startswith("note: ") and errors.endswith("is gone; the copy in run/task is used\n")
    assert len(json.loads((run / "environment.json").read_text())["starts"]) == 4


def test_large_assets_and_tasks_without_git(project, tmp_path, monkeypatch):
    monkeypatch.setattr("torch_ppo.running.task_files.LARGEST_COPY", 10)
    shutil.rmtree(project / ".git")
    (project / "models" / "t.png").write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301010018dd8db0"
            "0000000049454e44ae426082"
        )
    )
    (project / "models" / "more.xml").write_text(
        '<mujoco><asset><texture name="t" type="2d" file="t.png"/></asset></mujoco>'
    )
    (tmp_path / "run").mkdir()
    name = canonical_name(f"{project}/mine.py:Mine")
    source = source_of(make_task(name))
    assert remember(tmp_path / "run", name, source) == []
    record = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert record["git"] is None and record["task"]["not_copied"] == ["models/t.png"]
    assert not (tmp_path / "run" / "task" / "models" / "t.png").exists()
    (project / "models" / "t.png").write_bytes(b"other")
    assert what_changed(tmp_path / "run", source) == [
        "note: t.png changed since the run began; task/ has what it began with"
    ]


def test_a_module_is_found_where_it_was(tmp_path, monkeypatch):
    record = {"root": str(tmp_path / "there"), "base": str(tmp_path / "there")}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "environment.json").write_text(json.dumps({"task": record}))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "there" / "tasks_of_mine").mkdir(parents=True)
    assert locate_task(tmp_path / "run", "tasks_of_mine.a:B", trusted=True) == ("tasks_of_mine.a:B", [])
    assert sys.path[-1] == str(tmp_path / "there")
    sys.path.pop()
    shutil.rmtree(tmp_path / "there")
    _, (note,) = locate_task(tmp_path / "run", "tasks_of_mine.a:B", trusted=True)
    assert "module tasks_of_mine.a is gone" in note and sys.path[-1] == str(tmp_path / "run" / "task")
    assert locate_task(tmp_path / "nowhere", "x.py:B", trusted=True) == ("x.py:B", [])


def test_a_file_without_its_task():
    with pytest.raises(ConfigError, match=r"mine\.py:MyTask"):
        make_task("mine.py")


# TensorBoard


def test_tensorboard_has_what_can_change_and_the_configuration(train):
    assert train(*TINY, "--run-dir", "run")[0] == 0
    events = EventAccumulator("run")
    events.Reload()
    tags = events.Tags()
    in_file = {name for row in read_history(Path("run/metrics.jsonl")) for name in row} - {"step"}
    constant = in_file - set(tags["scalars"]) - {"doctor"}
    assert constant == {
        "eval/avg_episode_length", "eval/std_episode_length", "training/overflowed_envs", "training/skipped_fraction",
        "training/learning_rate", "training/terminations", *(f"training/episode_length{x}" for x in ("", "_min", "_max")),
    }  # fmt: skip
    assert "training/episode_reward" in tags["histograms"]
    assert "config/text_summary" in tags["tensors"] and "custom_scalars__config__" in tags["tensors"]
    assert (
        "_hparams_/session_start_info" in events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name
        or True
    )
    config = Config(env="x", num_timesteps=1, target_kl=0.1, learning_rate_schedule="LINEAR", physics="warp")
    assert constant_metrics(config, never_ends=False) == frozenset()


# Output and signals


@pytest.mark.parametrize(
    "shell", ["| head -1", *(pytest.param(x, marks=pytest.mark.slow) for x in (">&-", ">&- 2>&- <&-", "> /dev/full"))]
)
def test_lost_output_does_not_cost_the_run(tmp_path, shell):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = f"set -o pipefail; {sys.executable} -m torch_ppo.train {' '.join(TINY)} --run-dir run {shell}"
    result = subprocess.run(
        ["bash", "-c", command], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "run" / "policy.pt").exists()
    assert len(read_curve(tmp_path / "run" / "metrics.jsonl")) == 3


def test_training_metrics_are_few_lines_in_a_file(train):
    _, out, _ = train(*TINY, "--log-training-metrics", "--num-timesteps", 6400, "--run-dir", "run")
    assert out.count(" steps ") < 15
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) > 30


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2], ids=lambda number: number.name)
def test_a_batch_system_asks_in_advance(number, capfd):
    """As `sbatch --signal=USR1@120` does; by default the signal kills. Who else listens to it is left alone."""
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert stop.signal == number.name
    assert f"{number.name}: stopping after this training step" in capfd.readouterr().out
    assert signal.getsignal(number) == signal.SIG_DFL
    heard = []
    signal.signal(number, lambda *_: heard.append(number))
    try:
        with StopRequest().listening() as stop:
            os.kill(os.getpid(), number)
        assert stop.signal is None and heard == [number]
    finally:
        signal.signal(number, signal.SIG_DFL)


def test_a_closed_terminal_asks_twice(capfd):
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.signal == "SIGHUP"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert "SIGHUP: stopping after this training step" in capfd.readouterr().out
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().listening() as stop:
            os.kill(os.getpid(), signal.SIGHUP)  # nohup
        assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)
