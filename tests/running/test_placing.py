"""Where runs of a study go: one at a time on each device, and jobs that save and come again when they must leave."""

import os
import signal
import threading
import time

import pytest
import torch

from torch_ppo.errors import ConfigError
from torch_ppo.running import placing
from torch_ppo.running.checkpoint import load_checkpoint
from torch_ppo.running.placing import Job, Run, device_names, make_executor, on_this_machine, slots


def runs(folder, count):
    return [Run("default", seed, folder / f"seed{seed}", ("--seed", str(seed))) for seed in range(count)]


class Pretended:
    """An attempt that has ended when it has been asked so many times."""

    active: list["Pretended"] = []  # noqa: RUF012
    seen: list[list[str]] = []  # noqa: RUF012
    asked_to_stop: list[int] = []  # noqa: RUF012

    def __init__(self, run, environment):
        self.run, self.place, self.left = run, environment["CUDA_VISIBLE_DEVICES"], 1 + 2 * run.seed % 3
        self.active.append(self)
        self.seen.append(sorted(x.place for x in self.active))

    @property
    def ended(self):
        self.left -= 1
        if self.left < 0 and self in self.active:
            self.active.remove(self)
        return self.left < 0

    def failure(self):
        return "error: seven" if self.run.seed == 7 else None


@pytest.fixture
def pretended(monkeypatch):
    for name in ("active", "seen", "asked_to_stop"):
        monkeypatch.setattr(Pretended, name, [])
    monkeypatch.setattr(placing, "Attempt", Pretended)
    monkeypatch.setattr(placing, "stop", lambda attempts: Pretended.asked_to_stop.extend(x.run.seed for x in attempts))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return Pretended


def test_one_run_on_each_device_at_a_time(tmp_path, pretended):
    places = [{"CUDA_VISIBLE_DEVICES": name} for name in "abc"]
    outcomes = dict(on_this_machine(runs(tmp_path, 9), places))
    assert len(outcomes) == 9 and [run.seed for run, failure in outcomes.items() if failure] == [7]
    assert len(pretended.seen) == 9 and ["a", "b", "c"] in pretended.seen
    assert all(len(set(places)) == len(places) for places in pretended.seen)
    assert pretended.asked_to_stop == []


def test_closed_early_it_stops_what_is_under_way(tmp_path, pretended):
    outcomes = on_this_machine(runs(tmp_path, 9), [{"CUDA_VISIBLE_DEVICES": name} for name in "ab"])
    first, _ = next(outcomes)
    outcomes.close()
    assert pretended.asked_to_stop == [1 - first.seed] and len(pretended.seen) == 2


def test_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert device_names(("0,2", "0")) == ("0", "2", "0")
    assert slots(("0", "2", "0"), 1) == [{"CUDA_VISIBLE_DEVICES": name} for name in "020"]
    assert slots(("cpu", "cpu"), 1) == slots((), 2) == [{}, {}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-5e, 7")  # as SLURM gives a job its part of a node
    assert [place["CUDA_VISIBLE_DEVICES"] for place in slots(("2", "1"), 1)] == ["7", "GPU-5e"]
    with pytest.raises(ConfigError, match="there is no GPU 3 here; 0,1,2 would work"):
        slots(("1", "3"), 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device here; cpu,cpu would work"):
        slots(("0",), 1)


@pytest.mark.parametrize(
    ("words", "jobs", "says"),
    [
        (["timeout_min"], None, "is not name=value; timeout_min=240 would work"),
        (["cluster=local", "timeout=3"], None, "timeout"),
        (["cluster=local", "timeout_min=long"], None, "expected type"),
        (["cluster=local", "slurm_partion=gpu"], None, "Unknown argument 'partion'"),
        (["cluster=pbs"], None, "is none of slurm, local"),
        (["cluster=local"], 2, "leave out --jobs"),
        ([], None, "there is no SLURM here"),
    ],
)
def test_parameters_that_submitit_has_not(tmp_path, monkeypatch, words, jobs, says):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=says):
        make_executor(tmp_path, words, on_gpus=False, jobs=jobs)


def test_a_gpu_for_each_job_unless_gpus_are_asked_for_otherwise(tmp_path):
    def parameters(*words, on_gpus=True):
        return make_executor(tmp_path, ["cluster=local", *words], on_gpus=on_gpus, jobs=None)._executor.parameters

    assert parameters()["gpus_per_node"] == 1 and parameters("gpus_per_node=2")["gpus_per_node"] == 2
    assert "gpus_per_node" not in parameters("slurm_gres=gpu:a100:1") | parameters(on_gpus=False)
    assert parameters("timeout_min=7")["timeout_min"] == 7


@pytest.mark.slow
def test_a_job_that_must_leave_saves_and_goes_on(tmp_path):
    """As submitit does it: a handler of SIGUSR2 calls `checkpoint`, and what that returns is called elsewhere."""
    options = "--config cartpole_cpu --num-envs 8 --batch-size 8 --num-minibatches 2 --episode-length 20 --device cpu"
    options += " --num-timesteps 4000 --num-evals 1 --num-eval-envs 2 --torch-threads 1 --seed 0"
    run = Run("default", 0, tmp_path / "seed0", (*options.split(),))
    job, submissions = Job(run), []

    def leave(number, frame):
        submissions.append(job.checkpoint())
        raise SystemExit

    def ask():
        while not (run.log.exists() and "tensorboard" in run.log.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, leave)
    thread = threading.Thread(target=ask)
    try:
        thread.start()
        with pytest.raises(SystemExit):
            job()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR2, before)
    saved = load_checkpoint(run.folder / "checkpoints" / "last.pt")["env_steps"]
    assert 0 < saved < 4000 and not run.finished
    (again,) = submissions
    assert again.function() is None and run.finished
    assert f"from {saved:,} env steps" in run.log.read_text()
