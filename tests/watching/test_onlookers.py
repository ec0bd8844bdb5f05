"""Clips and trackers of a training as its user meets them: what comes of them, and that none can harm the training."""

import io
import json
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import torch_ppo.train
from torch_ppo.errors import ConfigError
from torch_ppo.running import program as program_module
from torch_ppo.running import trackers
from torch_ppo.running.folder import RunFolder
from torch_ppo.running.program import parse_arguments
from torch_ppo.watching import clips as clips_module
from torch_ppo.watching.clip import make_clip
from torch_ppo.watching.clips import Clips, environment_beside
from torch_ppo.watching.onlookers import Wanted

# 4 training steps of 160 env steps, reports at 0, 160, ..., 640.
TINY = (
    "--config cartpole --num-timesteps 640 --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 "
    "--num-updates-per-batch 1 --episode-length 20 --num-eval-envs 2 --num-evals 5 --policy-hidden-layer-sizes 8 "
    "--value-hidden-layer-sizes 8 --device cpu"
).split()

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")


@pytest.fixture
def program(monkeypatch, capsys, tmp_path):
    """A function that runs the program in this process and an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
        status = 0
        try:
            torch_ppo.train.main()
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def gif():
    frames = [Image.fromarray(np.full((16, 24, 3), 80 * i, dtype=np.uint8)) for i in range(3)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=80)
    return content.getvalue()


@pytest.fixture
def maker(monkeypatch, tmp_path):
    """Instead of the process that makes a clip, a shell script: gets checkpoint and file as $3 and $4."""
    (tmp_path / "a.gif").write_bytes(gif())

    def make(script):
        path = tmp_path / "maker"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(clips_module.sys, "executable", str(path))

    return make


COPY = 'test -s "$3" && cp {folder}/a.gif "$4"'


# Clips


def test_clips_of_a_training(program, maker, tmp_path):
    """At every second report and the last, in files, and as animated images in TensorBoard."""
    maker(COPY.format(folder=tmp_path))
    status, out, errors = program(*TINY, "--run-dir", "run", "--video-every", 3, "--keep-checkpoints", 1)
    assert (status, errors) == (0, "") and "no clip" not in out
    videos = sorted(path.name for path in (tmp_path / "run" / "videos").iterdir())
    assert videos[-1] == "640.gif" and set(videos) <= {"480.gif", "640.gif"}  # a newer one may replace one that waits
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0}).Reload()
    shown = {event.step: event for event in events.Images("policy")}
    assert {f"{step}.gif" for step in shown} == set(videos)
    assert shown[640].encoded_image_string == gif() and (shown[640].width, shown[640].height) == (24, 16)
    hidden = [path for path in (tmp_path / "run").rglob(".*")]
    assert hidden == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo 'error: no picture' >&2; exit 2", "no picture"), ("exit 7", "status 7"), ("kill -9 $$", "status -9")],
)
def test_a_maker_that_dies(program, maker, tmp_path, script, reason):
    maker(script)
    status, out, errors = program(*TINY, "--run-dir", "run", "--video-every", 1)
    assert (status, errors) == (0, "") and (tmp_path / "run" / "policy.pt").is_file()
    (line,) = [line for line in out.splitlines() if "no clip" in line]
    assert line.startswith("warning: no clip of the policy at ") and line.endswith(reason)


def test_a_maker_that_is_not_there(program, monkeypatch, tmp_path):
    monkeypatch.setattr(clips_module.sys, "executable", str(tmp_path / "nothing"))
    status, out, _ = program(*TINY, "--run-dir", "run", "--video-every", 1)
    assert status == 0 and out.count("no clip of the policy") == 1 and "No such file" in out


def test_a_maker_that_hangs(maker, tmp_path, monkeypatch):
    """Nobody waits for it while training goes on; the end waits a bounded time, and nothing is left."""
    maker(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(b"1")
    said, published = [], []
    clips = Clips(RunFolder(tmp_path), said.append, lambda *clip: published.append(clip))
    before = time.monotonic()
    for steps in (10, 20, 30):
        clips.ask(steps, checkpoint)
        clips.look()
    assert time.monotonic() - before < 2.0 and said == []
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    clips.finish(patience=0.2)
    assert time.monotonic() - before < 20.0 and published == []
    assert said == ["warning: no clip of the policy at 10 env steps: it was not ready 0 s after the end"]
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert not list(tmp_path.glob(".*"))
    # One that takes too long makes room for the next while training goes on.
    monkeypatch.setattr(clips_module, "MOST_SECONDS", 0.0)
    clips.ask(40, checkpoint)
    maker(COPY.format(folder=tmp_path))
    clips.ask(50, checkpoint)
    monkeypatch.setattr(clips_module, "MOST_SECONDS", 60.0)
    clips.finish()
    assert [steps for steps, _ in published] == [50]


def test_a_signal_ends_the_waiting(maker, tmp_path):
    maker("exec sleep 60")
    (tmp_path / "last.pt").write_bytes(b"1")
    clips = Clips(RunFolder(tmp_path), lambda text: None, lambda *clip: None)
    clips.ask(10, tmp_path / "last.pt")
    before = time.monotonic()
    clips.finish(lambda: True)
    assert time.monotonic() - before < 10.0


def test_a_clip_shows_the_checkpoint(program, tmp_path):
    """Some seconds of the policy, made from the checkpoint alone."""
    assert program(*TINY, "--run-dir", "run", "--num-evals", 0)[0] == 0
    kept = tmp_path / "run" / "checkpoints" / ".a.tmp"
    kept.write_bytes((tmp_path / "run" / "checkpoints" / "last.pt").read_bytes())
    make_clip(kept, tmp_path / "clip.gif", trust=True)
    with Image.open(tmp_path / "clip.gif") as clip:
        assert clip.size == (256, 192) and clip.n_frames > 20 and clip.info["duration"] == 80
        first = np.asarray(clip.convert("RGB"), dtype=int)
        clip.seek(clip.n_frames - 1)
        assert np.abs(np.asarray(clip.convert("RGB"), dtype=int) - first).max() > 50  # something moves


def test_the_process_beside_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    environment = environment_beside()
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & environment.keys()
    assert (
        environment["CUDA_VISIBLE_DEVICES"] == ""
        and Path(environment["PYTHONPATH"].split(":")[0], "torch_ppo").is_dir()
    )


@pytest.mark.parametrize("value", [0, -1])
def test_a_number_that_is_none(program, tmp_path, value):
    status, _, errors = program(*TINY, "--video-every", value)
    assert status == 2 and errors.startswith(f"error: --video-every is {value}, but must be 1 or greater")
    assert not list(tmp_path.iterdir())


def test_no_clips_of_others_environments():
    """There is no model to draw, which would be said only after the training."""
    pytest.importorskip("gymnasium")
    words = "--env gym:Pendulum-v1 --config cartpole_cpu --video-every 1".split()
    with pytest.raises(ConfigError, match="our own simulation, which gym:Pendulum-v1 is not in; leave it out"):
        parse_arguments(words)


# Trackers


class Fake:
    """Keeps what it is given."""

    made: ClassVar[list] = []

    def __init__(self, folder, settings, known):
        self.id, self.settings, self.known, self.calls = known or "one", settings, known, []
        self.made.append(self)

    def log(self, step, metrics):
        self.calls.append((step, metrics))

    def clip(self, step, file):
        self.calls.append((step, file.name))

    def files(self, files):
        self.calls.append([file.name for file in files])

    def finish(self, complete):
        self.calls.append(complete)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Fake)
    monkeypatch.setattr(program_module, "check_tracker", lambda name: None)
    monkeypatch.setattr(Fake, "made", [])
    monkeypatch.setattr("torch_ppo.watching.onlookers.Onlookers._report", lambda self: [Path("report.html")])
    return Fake


def test_a_tracked_training(program, fake, maker, tmp_path):
    """Settings, reports, clips, the page; a resumed run goes on with the same tracked one, unless that is ended."""
    maker(COPY.format(folder=tmp_path))
    assert program(*TINY, "--run-dir", "run", "--tracker", "mlflow", "--video-every", 4)[0] == 0
    (first,) = fake.made
    assert first.known is None and first.settings["env"] == "cartpole" and first.settings["num_timesteps"] == 640
    history = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    sent = [call for call in first.calls if isinstance(call, tuple) and isinstance(call[1], dict)]
    assert [step for step, _ in sent] == [row["step"] for row in history]
    assert sent[-1][1]["eval/episode_reward"] == history[-1]["eval/episode_reward"]
    assert first.calls[-3:] == [(640, "640.gif"), ["report.html"], True]
    kept = json.loads((tmp_path / "run" / "watching.json").read_text())
    assert kept == {"video_every": 4, "tracker": "mlflow", "tracked_run": "one"}

    assert program("--resume", "run", "--num-timesteps", 960)[0] == 0
    assert fake.made[1].known == "one" and fake.made[1].calls[-1] is True
    assert (tmp_path / "run" / "videos" / "1280.gif").is_file() or list((tmp_path / "run" / "videos").glob("9*.gif"))
    assert program("--resume", "run", "--num-timesteps", 2000, "--tracker", "off")[0] == 0
    assert len(fake.made) == 2


def test_a_tracker_that_fails(program, fake, monkeypatch, tmp_path):
    def fail(self, step, metrics):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr(Fake, "log", fail)
    status, out, errors = program(*TINY, "--run-dir", "run", "--tracker", "mlflow")
    assert (status, errors) == (0, "") and (tmp_path / "run" / "policy.pt").is_file()
    (line,) = [line for line in out.splitlines() if "tracker" in line]
    assert line == (
        "warning: tracker mlflow: ConnectionError: the server is gone; nothing more is sent to it; training goes on"
    )


def test_no_package(program, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, errors = program(*TINY, "--tracker", "wandb")
    assert status == 2
    assert errors.startswith("error: --tracker wandb needs the package wandb, the extra wandb: pip install '")
    assert errors.endswith("[wandb]'\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"tracker": "evil"}', '{"video_every": -1}', '{"video_every": true}', '{"x": 1}', "[" * 99999],
)
def test_somebody_elses_file(tmp_path, content):
    """A folder from elsewhere makes nothing of it."""
    (tmp_path / "watching.json").write_text(content)
    assert Wanted.of(tmp_path, None, None) == Wanted()
    assert Wanted.of(tmp_path, 2, "wandb") == Wanted(2, "wandb")


def test_another_tracker_is_another_run(tmp_path):
    Wanted(3, "wandb", "abc").write(tmp_path)
    assert Wanted.of(tmp_path, None, None) == Wanted(3, "wandb", "abc")
    assert Wanted.of(tmp_path, 5, "mlflow") == Wanted(5, "mlflow")
    assert Wanted.of(tmp_path, None, "off") == Wanted(3)
