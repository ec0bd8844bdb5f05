"""The program, what a run says and keeps of findings, and other trainers' files."""

import json
import math
import subprocess
import sys
import time

import pytest
from torch.utils.tensorboard import SummaryWriter

from torch_ppo import doctor, train
from torch_ppo.diagnosis.conditions import jumps
from torch_ppo.diagnosis.course import Course, Point
from torch_ppo.diagnosis.events import event_files, read_events
from torch_ppo.diagnosis.trainers import TRAINERS, course_of, recognised
from torch_ppo.running.history import read_history

# Far too large a learning rate, and a discount that sees two steps ahead.
BROKEN = (
    "--env cartpole --num-timesteps 10240 --num-evals 3 --num-eval-envs 4 --num-envs 16 --unroll-length 16 "
    "--batch-size 16 --num-minibatches 4 --episode-length 64 --action-repeat 1 --learning-rate 0.1 --discounting 0.5 "
    "--max-grad-norm None --num-resets-per-eval 0 --config presets/cartpole_small"
).split()


def call(main, monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["program", *map(str, words)])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, err


def test_a_broken_run_is_told_once_kept_and_explained(tmp_path, monkeypatch, capsys):
    run = tmp_path / "my runs" / "first"
    status, out, _ = call(train.main, monkeypatch, capsys, *BROKEN, "--run-dir", run)
    assert status == 0
    told = [line for line in out.splitlines() if line.startswith("warning: KL spike: approx_kl is ")]
    assert len(told) == 1 and "learning_rate" in told[0]
    assert out.count("doctor") == 1 and f"doctor '{run}' explains" in out
    assert f"(tensorboard --logdir '{run.parent}')" in out
    kept = [row["doctor"] for row in read_history(run / "metrics.jsonl") if "doctor" in row]
    names = [name for found in kept for name in found]
    assert "KL spike" in names and len(names) == len(set(names))
    files = b"".join(path.read_bytes() for path in event_files(run))
    assert b"doctor/KL spike" in files
    status, out, _ = call(doctor.main, monkeypatch, capsys, run)
    assert status == 0 and "* KL spike: approx_kl is " in out and "try max_grad_norm = 1.0" in out
    assert "cartpole, 10,240 of 10,240 env steps; reward" in out


@pytest.mark.parametrize(("what", "message"), [("nowhere", "is not a folder"), ("", "has neither metrics.jsonl")])
def test_nothing_to_look_at(tmp_path, monkeypatch, capsys, what, message):
    status, _, err = call(doctor.main, monkeypatch, capsys, tmp_path / what)
    assert status == 2 and message in err


def test_a_folder_of_runs(tmp_path, monkeypatch, capsys):
    """Ours at any of two depths, and other trainers': the runs are named, and not looked at as if they were one."""
    for name in ("a", "b c", "seeds/seed0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "metrics.jsonl").touch()
        written(tmp_path / "runs" / name, lambda step: {"eval/episode_reward": 1.0})
    status, out, err = call(doctor.main, monkeypatch, capsys, tmp_path / "runs")
    named = f"{tmp_path}/runs/a '{tmp_path}/runs/b c' {tmp_path}/runs/seeds/seed0"
    said = f"error: {tmp_path}/runs is no run, but has 3 in it: python -m torch_ppo.doctor {named}\n"
    assert (status, out, err) == (2, "", said)
    for name in range(7):
        written(tmp_path / "theirs" / f"PPO_{name}", lambda step: {"rollout/ep_rew_mean": 1.0}, steps=2)
    status, _, err = call(doctor.main, monkeypatch, capsys, tmp_path / "theirs")
    assert status == 2 and f"has 7 in it: python -m torch_ppo.doctor {tmp_path}/theirs/PPO_0 " in err
    assert err.endswith(f"{tmp_path}/theirs/PPO_4 (and 2 more)\n")


def test_a_run_that_has_not_reported(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.toml").touch()
    status, _, err = call(doctor.main, monkeypatch, capsys, tmp_path)
    assert status == 2 and "is a run that has reported nothing" in err


def written(folder, tags, steps=60):
    """A TensorBoard folder as other trainers write them."""
    with SummaryWriter(str(folder)) as writer:
        for step in range(steps):
            for tag, value in tags(step).items():
                writer.add_scalar(tag, value, step)
    return folder


def collapsing(step):
    return 200.0 * step if step < 30 else 10.0


OTHERS = {
    "rsl_rl": lambda step: {
        "Train/mean_reward": collapsing(step),
        "Loss/value": 1.0 if step < 30 else 1e6,
        "Policy/mean_std": 1.0 - 0.01 * step,
    },
    "Stable-Baselines3": lambda step: {
        "rollout/ep_rew_mean": collapsing(step),
        "train/approx_kl": 0.01 if step < 30 else 3.0,
        "train/value_loss": 1.0,
        "train/std": 1.0 - 0.01 * step,
    },
    "CleanRL": lambda step: {
        "charts/episodic_return": collapsing(step),
        "losses/approx_kl": 0.01 if step < 30 else 3.0,
        "losses/entropy": 6 * (1.4189 + math.log(1.0 - 0.01 * step)),
    },
    "rl_games": lambda step: {"rewards/step": collapsing(step), "info/kl": 0.01 if step < 30 else 3.0},
}
WORDS = {
    "rsl_rl": ("exploding value loss", "iterations", "max_grad_norm"),
    "Stable-Baselines3": ("KL spike", "env steps", "n_epochs"),
    "CleanRL": ("KL spike", "env steps", "--update-epochs"),
    "rl_games": ("KL spike", "env steps", "mini_epochs"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_trainers_run(tmp_path, name, monkeypatch, capsys):
    status, out, _ = call(doctor.main, monkeypatch, capsys, written(tmp_path / "run", OTHERS[name]).parent)
    assert status == 0 and f"a run of {name}" in out
    assert all(word in out for word in (*WORDS[name], "* reward fell"))


def test_a_healthy_run_of_another_trainer(tmp_path):
    written(
        tmp_path,
        lambda step: {"rollout/ep_rew_mean": 10.0 * step, "train/approx_kl": 0.01, "train/std": 1.0 - 0.01 * step},
    )
    assert "nothing found" in doctor.report(tmp_path)


def test_std_follows_from_entropy():
    points = [Point(0, 6 * 1.4189385), Point(10, 6 * (1.4189385 + math.log(0.5)))]
    rows = course_of({"losses/entropy": points}, next(t for t in TRAINERS if t.name == "CleanRL"))
    assert [row["training/policy_dist_mean_std"] for row in rows] == pytest.approx([1.0, 0.5], rel=1e-4)


def test_long_series_are_averaged_and_their_peaks_kept():
    points = [Point(i, 1.0 + (i == 500)) for i in range(1000)]
    rows = course_of({"losses/value_loss": points}, next(t for t in TRAINERS if t.name == "CleanRL"))
    assert len(rows) == 50 and max(row["training/v_loss_max"] for row in rows) == 2.0
    assert sum(row["training/v_loss"] for row in rows) / 50 == pytest.approx(1.001, rel=1e-4)


def test_tags_of_nobody(tmp_path):
    assert recognised({"a", "b"}) is None
    with pytest.raises(doctor.DoctorError, match="no trainer that is known"):
        doctor.report(written(tmp_path, lambda step: {"mine/x": 1.0}))


def test_ours_from_events_alone(tmp_path, monkeypatch, capsys):
    """What a run wrote for TensorBoard reads as its metrics.jsonl does."""
    run = tmp_path / "run"
    call(train.main, monkeypatch, capsys, *BROKEN, "--run-dir", run)
    series = read_events(event_files(run))
    rows = read_history(run / "metrics.jsonl")
    assert [p.value for p in series["training/approx_kl"]] == pytest.approx(
        [row["training/approx_kl"] for row in rows if "training/approx_kl" in row]
    )
    (run / "metrics.jsonl").unlink()
    assert "* KL spike" in doctor.report(run)


def test_as_a_program(tmp_path):
    written(tmp_path, OTHERS["rl_games"])
    command = [sys.executable, "-m", "torch_ppo", "doctor", str(tmp_path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "KL spike" in result.stdout and result.stderr == ""


def test_a_run_that_was_resumed_does_not_repeat_itself():
    from torch_ppo.diagnosis.findings import Watch
    from torch_ppo.settings.config import Config

    config = Config(num_timesteps=1000)
    first = Watch([], config, math.inf)
    rows = [{"step": step, "training/approx_kl": 5.0} for step in (0, 500)]
    found = [first.look(row["step"], {"training/approx_kl": 5.0}) for row in rows]
    assert "KL spike" in {f.rule.name for f in found[1]}
    rows[1]["doctor"] = {f.rule.name: f.seen for f in found[1]} | {f.rule.name: f.seen for f in found[0]}
    history = json.loads(json.dumps(rows))
    assert Watch(history, config, math.inf).look(1000, {"training/approx_kl": 5.0}) == []


def test_a_jump_is_found_among_many_reports_at_once():
    """The median of all before, whatever their order, NaN left out; of a hundred thousand reports in seconds."""
    values = [300.0 if i % 2 else 1.0 for i in range(99_999)] + [math.nan, 1e6]
    rows = [{"step": i, "training/v_loss": value} for i, value in enumerate(values)]
    begin = time.monotonic()
    assert (
        jumps("training/v_loss", factor=100, at_least=300)(Course(rows))
        == "v_loss is 1,000,000 at 100,000 env steps, 1 before"
    )
    assert time.monotonic() - begin < 10
