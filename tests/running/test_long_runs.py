"""Runs of more than 2^31 env steps: every counter of them, in files and after a resume."""

import json
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import torch_ppo.train
from torch_ppo.running.checkpoint import load_checkpoint, save_checkpoint
from torch_ppo.settings.files import load_config, to_toml

TINY = (
    "--config cartpole --num-timesteps 640 --num-evals 3 --num-envs 8 --batch-size 8 --num-minibatches 2 "
    "--unroll-length 10 --num-updates-per-batch 1 --episode-length 20 --num-eval-envs 2 --policy-hidden-layer-sizes 8 "
    "--value-hidden-layer-sizes 8 --device cpu --torch-threads 1 --log-training-metrics --learning-rate-schedule LINEAR "
    "--normalize-observations"
).split()
EACH = 160  # env steps of a training step
TOTAL = 2**33
TOTAL_STEPS = 53_687_092  # training steps of it, in two epochs
DONE = TOTAL_STEPS - 4
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")


def train(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    torch_ppo.train.main()


def test_a_run_at_the_end_of_eight_billion_env_steps(tmp_path, monkeypatch):
    """Its last four training steps, and all that is written about them."""
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, *TINY, "--run-dir", "run")
    run = tmp_path / "run"
    config = load_config(str(run), num_timesteps=TOTAL, num_evals=3)
    assert config.num_training_steps == TOTAL_STEPS and config.env_step_per_training_step == EACH
    for path in (run / "metrics.jsonl", *run.glob("events*"), *(run / "checkpoints").iterdir(), run / "policy.pt"):
        saved = load_checkpoint(path) if path.name == "last.pt" else None
        path.unlink()
        if saved is None:
            continue
        saved["training_steps"], saved["env_steps"] = DONE, DONE * EACH
        saved["config"] |= {"num_timesteps": TOTAL}
        saved["learner"]["sgd_steps"].fill_(DONE * 2)
        saved["agent"]["normalizer.state.count"].fill_(DONE * EACH)
        saved["episode_metrics"] |= {"num_steps": DONE * EACH, "last_report": DONE * EACH}
        last = saved
    save_checkpoint(last, run / "checkpoints" / "last.pt")
    (run / "config.toml").write_text(to_toml(config))

    train(monkeypatch, "--resume", "run")

    end = TOTAL_STEPS * EACH
    steps = [DONE * EACH + EACH * number for number in range(1, 5)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sorted({line["step"] for line in lines}) == steps and steps[-1] == end > 2**32
    assert all(line["episode/length"] == 20 for line in lines if "episode/length" in line)
    events = EventAccumulator(str(run))
    events.Reload()
    assert [event.step for event in events.Scalars("eval/episode_reward")] == [end]
    checkpoint = load_checkpoint(run / "checkpoints" / f"{end}.pt")
    assert (checkpoint["env_steps"], checkpoint["training_steps"]) == (end, TOTAL_STEPS)
    assert checkpoint["agent"]["normalizer.state.count"].item() == end
    assert checkpoint["learner"]["sgd_steps"].item() == 2 * TOTAL_STEPS
    # The linear schedule is at its last SGD step but not below: float32 holds 1 - 1e-8 as 1.
    rate = checkpoint["optimizer"]["param_groups"][0]["lr"]
    assert 0.0 <= float(rate) <= 1e-6 * config.learning_rate
    assert torch.isfinite(checkpoint["agent"]["normalizer.state.mean"]).all()
    assert (run / "policy.pt").is_file()
