"""A policy that sees pictures, as its user meets it: train, the pictures in TensorBoard, play, export, resume, evaluate."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import torch_ppo.evaluate
import torch_ppo.export
import torch_ppo.play
import torch_ppo.train

# 4 training steps of 160 env steps; views of 12 x 12.
TINY = (
    "--config cartpole_balance_vision --num-timesteps 640 --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 "
    "--num-updates-per-batch 1 --episode-length 17 --num-eval-envs 2 --num-evals 3 --policy-hidden-layer-sizes 8 "
    "--value-hidden-layer-sizes 8 --view-size 12 --cnn-output-channels 4 4 --device cpu --run-dir run"
).split()
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def run_program(monkeypatch, module, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    try:
        module.main()
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert run_program(monkeypatch, sys.modules["torch_ppo.train"], *TINY) == 0
    return folder / "run"


def test_what_it_sees_is_in_tensorboard(run_folder):
    """At every report."""
    events = EventAccumulator(str(run_folder), size_guidance={"images": 0}).Reload()
    pictures = events.Images("seen")
    assert [picture.step for picture in pictures] == [0, 320, 640]
    assert all(picture.width == 3 * (10 * 12 + 2) - 2 for picture in pictures)
    assert len({picture.encoded_image_string for picture in pictures}) == 3


def test_play_shows_what_it_sees(run_folder, monkeypatch, capsys):
    monkeypatch.chdir(run_folder.parent)
    size = ["--width", 64, "--height", 48, "--steps", 3, "--video"]
    for options, width in ([], 64), (["--view"], 64 + 48):
        assert run_program(monkeypatch, sys.modules["torch_ppo.play"], "run", *options, *size, "a.gif") == 0
        with Image.open("a.gif") as video:
            assert video.size == (width, 48)
    assert "return" in capsys.readouterr().out
    assert run_program(monkeypatch, sys.modules["torch_ppo.play"], "--env", "cartpole", "--policy", "zero", "--view",
                       *size, "b.gif") == 2  # fmt: skip
    assert "--view shows the pictures that the policy sees" in capsys.readouterr().err
    assert run_program(monkeypatch, sys.modules["torch_ppo.play"], "run", "--view", "--web") == 2


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
def test_its_export_acts_alike(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder.parent)
    assert run_program(monkeypatch, sys.modules["torch_ppo.export"], "run") == 0
    policy, contract = torch.jit.load("run/policy.pt"), torch_ppo.load_policy("run/policy.pt").contract
    assert contract["pixels"][0]["height"] == 12
    live, exported = torch_ppo.load_policy("run"), torch_ppo.load_policy("run/policy.pt")
    env = torch_ppo.make_env("cartpole_balance_vision", 4, view_size=12, history=3)
    for _ in range(5):
        action = live(env.observation)
        torch.testing.assert_close(exported(env.observation), action, rtol=0, atol=1e-5)
        torch.testing.assert_close(policy(env.observation["pixels/view_0"]), action, rtol=0, atol=1e-5)
        env.step(action)


def test_it_is_evaluated_in_its_own_size(run_folder):
    result = torch_ppo.evaluate(str(run_folder), num_envs=3)
    assert len(result.returns) >= 3 and result.returns.isfinite().all() and (result.lengths <= 17).all()


def test_a_run_that_was_stopped_goes_on(run_folder, tmp_path, monkeypatch, differences):
    """From its first checkpoint it becomes what it has become."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "again")
    half = next(Path("again/checkpoints").glob("*320.pt"))
    for later in ("last.pt", "best.pt"):
        Path("again/checkpoints", later).unlink()
    assert run_program(monkeypatch, sys.modules["torch_ppo.train"], "--resume", half) == 0
    found, expected = (
        torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (Path("again"), run_folder)
    )
    for name in ("agent", "optimizer", "env", "generators"):
        assert differences(found[name], expected[name]) == [], name
