"""Reports reach the trackers' own packages, offline; and whatever a tracker does, the training goes on."""

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torch_ppo.errors import ConfigError
from torch_ppo.running.trackers import Mlflow, Tracking, Trackio, Wandb, check_tracker

SETTINGS = {"env": "cartpole", "learning_rate": 1e-3, "hidden": (8, 8), "seed": 3}
FIRST, SECOND = {"eval/episode_reward": 1.5, "training/approx_kl": 0.01}, {"eval/episode_reward": 7.0}


@pytest.fixture
def clip(tmp_path):
    frames = [Image.fromarray(np.full((16, 24, 3), 80 * i, dtype=np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=80)
    return tmp_path / "clip.gif"


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "report.html").write_text("<p>page</p>")
    return tmp_path / "run"


def track(tracker, folder, clip):
    """A run that is stopped after a report and gone on with; what the tracker knows it by."""
    first = tracker(folder, SETTINGS, None)
    first.log(0, FIRST)
    first.clip(0, clip)
    first.finish(False)
    second = tracker(folder, SETTINGS, first.id)
    assert second.id == first.id
    second.log(160, {**SECOND, "training/v_loss": float("nan")})
    second.files([folder.parent / "report.html"])
    second.finish(True)
    return first.id


@pytest.mark.filterwarnings("ignore")  # theirs, about Pydantic and others
def test_mlflow(run_folder, clip, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{run_folder.parent}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    run = track(Mlflow, run_folder, clip)
    client = mlflow.MlflowClient()
    found = client.get_run(run)
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    assert found.data.params == {"env": "cartpole", "learning_rate": "0.001", "hidden": "(8, 8)", "seed": "3"}
    history = client.get_metric_history(run, "eval/episode_reward")
    assert [(point.step, point.value) for point in history] == [(0, 1.5), (160, 7.0)]
    (runs,) = [client.search_runs([client.get_experiment_by_name("mine").experiment_id])]
    assert len(runs) == 1
    assert {file.path for file in client.list_artifacts(run)} == {"videos", "report.html"}
    assert [file.path for file in client.list_artifacts(run, "videos")] == ["videos/clip.gif"]


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(run_folder, clip, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run = track(Wandb, run_folder, clip)
    folders = sorted((run_folder / "wandb").glob(f"offline-run-*-{run}"))
    assert len(folders) == 2 or len(list(folders[0].glob("*.wandb"))) >= 1  # of one id; `wandb sync` joins them
    content = b"".join(path.read_bytes() for folder in folders for path in folder.glob("*.wandb"))
    for word in (b"eval/episode_reward", b"env_steps", b"learning_rate", b"mine"):
        assert word in content, word
    assert list((run_folder / "wandb").rglob("*.gif"))


@pytest.mark.filterwarnings("ignore")
def test_wandb_without_a_key_does_not_ask(run_folder, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(run_folder))
    monkeypatch.setenv("NETRC", str(run_folder / "none"))
    with pytest.raises(Exception, match="WANDB_MODE=offline"):
        Wandb(run_folder, SETTINGS, None)


@pytest.mark.filterwarnings("ignore")
def test_trackio(run_folder, clip, monkeypatch):
    trackio = pytest.importorskip("trackio", minversion="0.43")
    from trackio import utils
    from trackio.sqlite_storage import SQLiteStorage

    for module in [module for name, module in sys.modules.items() if name.startswith("trackio")]:
        if hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", run_folder.parent / "trackio")
        if hasattr(module, "MEDIA_DIR"):
            monkeypatch.setattr(module, "MEDIA_DIR", run_folder.parent / "trackio" / "media")
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    run = track(Trackio, run_folder, clip)
    assert trackio and utils
    assert SQLiteStorage.get_runs("mine") == [run]
    logs = SQLiteStorage.get_logs("mine", run)
    rewards = [(row["step"], row["eval/episode_reward"]) for row in logs if "eval/episode_reward" in row]
    assert rewards == [(0, 1.5), (160, 7.0)]
    assert any("policy" in row for row in logs)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--tracker mlflow needs the package mlflow, the extra mlflow: pip install"):
        check_tracker("mlflow")


def test_a_folder_that_a_package_has_left_behind_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"--tracker left_behind needs the package left_behind"):
        check_tracker("left_behind")


# Whatever a tracker does


class Fake:
    """Keeps what it is given; `log` does what it is told first."""

    def __init__(self, before=lambda: None):
        self.id, self.before, self.calls = "7", before, []

    def log(self, step, metrics):
        self.before()
        self.calls.append((step, metrics))

    def clip(self, step, file):
        self.calls.append((step, file))

    def files(self, files):
        self.calls.append(files)

    def finish(self, complete):
        self.calls.append(complete)


def never():
    return False


def test_everything_is_sent_in_order():
    fake, known = Fake(), []
    tracking = Tracking(lambda: fake, known.append)
    metrics = dict(FIRST)
    tracking.log(0, metrics)
    metrics.clear()  # what is logged is what it was
    tracking.clip(0, Path("a.gif"))
    tracking.files([Path("b")])
    tracking.finish(True, 10.0, never)
    assert fake.calls == [(0, FIRST), (0, Path("a.gif")), [Path("b")], True] and known == ["7"]
    assert tracking.problem() is None


@pytest.mark.parametrize("error", [OSError("no route\nto host"), SystemExit(3), ValueError()])
def test_a_failure_is_said_once_and_ends_it(error):
    def fail():
        raise error

    fake = Fake(fail)
    tracking = Tracking(lambda: fake, lambda run: None)
    for step in range(3):
        tracking.log(step, FIRST)
    tracking.finish(True, 10.0, never)
    problem = tracking.problem()
    assert problem.startswith(type(error).__name__) and "\n" not in problem and tracking.problem() is None
    assert fake.calls == []


def test_one_that_cannot_begin():
    def make():
        raise RuntimeError("not logged in")

    tracking = Tracking(make, lambda run: None)
    tracking.finish(False, 10.0, never)
    assert tracking.problem() == "RuntimeError: not logged in; nothing more is sent to it"


def test_one_that_hangs_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr("torch_ppo.running.trackers.MOST_WAITING", 10)
    hang = threading.Event()
    tracking = Tracking(lambda: Fake(hang.wait), lambda run: None)
    before = time.monotonic()
    for step in range(100):
        tracking.log(step, FIRST)
    assert time.monotonic() - before < 1.0
    assert "too slow: 10 calls wait" in tracking.problem()
    tracking.finish(True, 0.3, never)
    assert "not all was sent" in tracking.problem()
    tracking.finish(True, 60.0, lambda: True)  # a signal came
    assert time.monotonic() - before < 10.0
    hang.set()
