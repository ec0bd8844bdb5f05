"""SIGKILL at any moment: what is gone on with ends as if nothing had happened, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torch_ppo.running.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
TIMES = ("sps", "walltime", "_time")


def checkpoint(path):
    """A checkpoint less the times in it."""
    saved = load_checkpoint(path)
    del saved["walltime"], saved["eval_walltime"], saved["interval"]["time"]
    return saved


def history(folder):
    """Every line of metrics.jsonl less the times in it."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.endswith(TIMES)} for line in lines]


def tensorboard_steps(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars("eval/episode_reward")]


def names(folder):
    """Files and folders, the numbers in TensorBoard's names left out."""
    return {path.name.rstrip("0123456789") for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
@pytest.mark.parametrize(
    ("num_chains", "seed"), [(4, 0), pytest.param(50, 1, marks=pytest.mark.slow)], ids=["four", "fifty"]
)
def test_killed_runs_end_the_same(tmp_path, differences, num_chains, seed):
    command = [sys.executable, "-m", "tests.helpers.kill_chains", str(tmp_path), str(num_chains), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    print(result.stdout)
    assert result.stdout.count("killed at") >= num_chains
    whole = tmp_path / "undisturbed"
    for number in range(num_chains):
        folder = tmp_path / f"chain{number}"
        for name in ("last", "best", "2880", "1920"):
            paths = (path / "checkpoints" / f"{name}.pt" for path in (folder, whole))
            assert differences(*map(checkpoint, paths)) == [], (folder, name)
        assert differences(history(folder), history(whole)) == [], folder
        assert tensorboard_steps(folder) == tensorboard_steps(whole) == [0, 960, 1920, 2880], folder
        observation = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
        actions = [torch.jit.load(path / "policy.pt")(observation) for path in (folder, whole)]
        assert torch.equal(*actions), folder
        # Nothing is left of what was half done.
        assert names(folder) == names(whole), folder
        assert names(folder / "checkpoints") == names(whole / "checkpoints"), folder
        assert (folder / "config.toml").read_text() == (whole / "config.toml").read_text()
