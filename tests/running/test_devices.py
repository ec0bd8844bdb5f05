"""Several devices, as processes joined by Gloo: what they agree on, what they share, and what happens to one of them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.two_devices import exchange, learn_share, make_state, statistics_of, together, train_some
from torch_ppo.errors import ConfigError
from torch_ppo.formulas.running_statistics import RunningStatistics
from torch_ppo.learning.devices import ALONE, Devices
from torch_ppo.learning.update import METRICS
from torch_ppo.running.accelerate import record_graphs
from torch_ppo.running.checkpoint import load_checkpoint
from torch_ppo.running.generators import make_generators
from torch_ppo.settings.config import Config

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_exchange(tmp_path, count):
    ranks = torch.arange(1.0, count + 1)
    for found in together(tmp_path, count, exchange):
        assert found["sum"].tolist() == [ranks.sum(), 10 * ranks.sum()]
        assert found["mean"].tolist() == [ranks.mean(), 10 * ranks.mean()]
        torch.testing.assert_close(found["gathered"], torch.stack([ranks, 10 * ranks], 1))
        assert found["any"] == [True, False]
        assert found["total"] == sum(range(5, 5 + count))
        assert found["text"] == "runs/größe" and found["no_text"] == ""


def test_alone_nothing_is_exchanged():
    x = torch.ones(2)
    assert ALONE.sum_(x) is x and ALONE.gathered(x) is x and ALONE.from_first("a") == "a"
    assert ALONE.any(True) and not ALONE.any(False) and ALONE.total(3) == 3


# Learning


CHOOSING = str(Path(__file__).parents[1] / "helpers" / "choosing.py") + ":make_env"


@pytest.mark.parametrize(
    ("count", "environment"),
    [(2, {}), (2, {"environment": CHOOSING, "episode_length": 8}), pytest.param(4, {}, marks=pytest.mark.slow)],
    ids=["toy", "discrete", "four"],
)
def test_networks_agree_and_envs_differ(tmp_path, count, environment):
    """With everything on that follows a number of the batch; with discrete actions, too."""
    settings = {
        "learning_rate_schedule": "ADAPTIVE_KL",
        "desired_kl": 1e-3,
        "target_kl": 0.5,
        "normalize_rewards": True,
        "normalizer_clip": 5.0,
        "max_grad_norm": 0.5,
    }
    first, *others = together(tmp_path, count, train_some, training_steps=3, **environment, **settings)
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            for name in ("learning_rate", "metrics"):
                assert torch.equal(ours[name], theirs[name])
            for name, x in ours["agent"].items():
                assert torch.equal(x, theirs["agent"][name]), name
            assert not torch.equal(ours["reward"], theirs["reward"])
    assert not torch.equal(
        first[0]["agent"]["policy.trunk.layers.0.weight"], first[2]["agent"]["policy.trunk.layers.0.weight"]
    )
    assert first[0]["learning_rate"] != 1e-2


@pytest.mark.parametrize("mode", ["welford", pytest.param("ema", marks=pytest.mark.slow)])
def test_halves_of_the_minibatches_make_the_whole(tmp_path, mode):
    """The same data, noise and order, with half of every minibatch on each of two devices, against one device.

    Advantages are not normalised, for that is each device's own affair. "ema" averages the variances of devices, so its
    whole is one whose halves have the same observations.
    """
    settings = {"normalize_advantage": False, "max_grad_norm": 0.5, "normalize_observations_mode": mode}
    whole = make_state(**settings)
    whole.collector()
    batch = whole.batch
    if mode == "ema":
        half = batch.observation["state"].shape[1] // 2
        batch.observation["state"][:, half:] = batch.observation["state"][:, :half]
    names = ("raw_action", "log_prob", "reward", "truncation", "termination")
    recorded = {name: getattr(batch, name).clone() for name in names}
    recorded |= {name: x.clone() for name, x in zip(("loc", "scale"), batch.policy_params, strict=True)}
    recorded["observation"] = batch.observation["state"].clone()
    recorded["bootstrap_observation"] = batch.bootstrap_observation["state"].clone()

    generator = torch.Generator().manual_seed(0)
    share, passes, minibatches = 16, 3, 4
    orders = [[torch.randperm(share, generator=generator) for _ in range(passes)] for _ in range(2)]
    noise = [[torch.randn(minibatches, 5, 4, 2, generator=generator) for _ in range(passes)] for _ in range(2)]
    both = [
        torch.cat([order.view(minibatches, -1) + share * rank for rank, order in enumerate(pair)], 1).flatten()
        for pair in zip(*orders, strict=True)
    ]
    of_one = {"normals": [[torch.cat(pair, 2) for pair in zip(*noise, strict=True)]], "permutations": [both]}
    expected = learn_share(ALONE, recorded, of_one, **settings)
    parts = together(
        tmp_path, 2, learn_share, batch=recorded, noise={"normals": noise, "permutations": orders}, **settings
    )
    for part in parts:
        for name in expected:
            if name == "metrics":  # others are largest, smallest and variances, which are each device's own
                columns = [METRICS.index(name) for name in ("total_loss", "v_loss", "kl_mean", "entropy", "grad_norm")]
                torch.testing.assert_close(
                    part[name][:, columns], expected[name][:, columns], rtol=1e-4, atol=1e-6, msg=name
                )
                continue
            torch.testing.assert_close(part[name], expected[name], rtol=2e-5, atol=2e-6, msg=name)
    assert (expected["flat"] - whole.learner.flat).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["welford", pytest.param("ema", marks=pytest.mark.slow)])
def test_statistics_are_those_of_all(tmp_path, mode):
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(64, 3, generator=generator) * 3 + 1 for _ in range(4)]
    first, second = together(tmp_path, 2, statistics_of, batches=batches, mode=mode)
    for name in first:
        assert torch.equal(first[name], second[name])
    assert first["count"] == 256
    if mode == "welford":
        alone = RunningStatistics(3, mode=mode, std_eps=1e-6)
        for batch in batches:
            alone.update(batch)
        for name in ("mean", "std"):
            torch.testing.assert_close(first[name], getattr(alone, name), rtol=1e-5, atol=1e-5)
        return
    mean, variance, count = torch.zeros(3), torch.zeros(3), 0  # Brax's formula with averaged moments, by hand
    for batch in batches:
        count += 64
        halves = batch.chunk(2)
        batch_mean = sum(half.mean(0) for half in halves) / 2
        batch_variance = sum(half.var(0, correction=0) for half in halves) / 2
        before, mean = mean, mean + 64 / count * (batch_mean - mean)
        variance = variance + 64 / count * (batch_variance - variance + (batch_mean - before) * (batch_mean - mean))
    torch.testing.assert_close(first["mean"], mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first["summed_variance"], variance, rtol=1e-5, atol=1e-6)


def test_what_does_not_divide_is_refused():
    devices = Devices(0, 3)
    with pytest.raises(ConfigError, match=r"num_envs = 16 is not divisible by the 3 devices; 15 or 18 would be"):
        devices.share(Config(num_timesteps=1, num_envs=16, batch_size=8, num_minibatches=2))
    shared = Devices(1, 4).share(Config(num_timesteps=1, num_envs=16, batch_size=8, num_minibatches=4))
    assert (shared.num_envs, shared.batch_size, shared.num_eval_envs) == (4, 2, 32)


def test_one_seed_tree():
    """The first device has the numbers of a run on one; networks start alike; everything else differs."""
    cpu = torch.device("cpu")
    alone, first, second = make_generators(7, cpu), make_generators(7, cpu, 0), make_generators(7, cpu, 1)
    again = make_generators(7, cpu, 1, begun_at=12)
    for name in alone:
        draws = [torch.rand(4, generator=x[name]).tolist() for x in (alone, first, second, again)]
        assert draws[0] == draws[1]
        assert len({tuple(draw) for draw in draws}) == (1 if name == "init" else 3)


@pytest.mark.parametrize("devices", [ALONE, Devices(0, 2)], ids=["alone", "two"])
def test_an_exchange_that_cannot_be_recorded_is_said(monkeypatch, caplog, devices):
    """Then SGD steps are launched one by one, while unrolls are recorded; on one device a failure is an error."""

    def record(function, *_, **__):
        if function.__name__ == "sgd_pass":
            raise RuntimeError("no NCCL in graphs here")
        return lambda: "recorded"

    monkeypatch.setattr("torch_ppo.simulation.capture.capture_cuda", record)
    state = make_state()
    state.learner.devices = devices
    before = state.learner.sgd_pass
    arguments = (state.collector, state.learner, None, state.generators, state.device)
    if devices.alone:
        with pytest.raises(RuntimeError, match="no NCCL"):
            record_graphs(*arguments)
        return
    record_graphs(*arguments)
    assert state.learner.sgd_pass == before and state.collector.unroll() == "recorded"
    assert "no NCCL in graphs here" in caplog.text


# Programs

SETTINGS = (
    "--env cartpole --device cpu --num-envs 8 --batch-size 8 --num-minibatches 2 --unroll-length 10 --num-evals 2 "
    "--num-eval-envs 4 --num-resets-per-eval 0 --episode-length 100 --num-updates-per-batch 2 --action-repeat 1 "
    "--policy-hidden-layer-sizes 8 --value-hidden-layer-sizes 8 --torch-threads 1"
).split()


def start(folder, *arguments, processes=2, max_restarts=0):
    """`torchrun ... -m torch_ppo.train`, started in `folder`."""
    root = Path(__file__).parents[2]
    environment = {name: x for name, x in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher += ["--max-restarts", str(max_restarts)]
    command = [*launcher, "-m", "torch_ppo.train", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder, *arguments, processes=2):
    """Its exit status and output."""
    process = start(folder, *arguments, processes=processes)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run of 1,600 env steps on two devices: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    status, output = run(folder, *SETTINGS, "--num-timesteps", 1600, "--run-dir", folder / "run")
    assert status == 0, output
    return folder / "run", output


def test_a_run_on_two_devices(uninterrupted):
    folder, output = uninterrupted
    assert len(re.findall(r"1,600 steps 100.0%", output)) == 1  # one of them speaks
    assert (folder / "policy.pt").is_file() and len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    saved = load_checkpoint(folder / "checkpoints" / "last.pt")
    assert saved["devices"] == {"rank": 0, "count": 2}
    assert saved["config"]["num_envs"] == 8 and len(saved["env"]["observation"]["state"]) == 4
    assert [path.name for path in (folder / "checkpoints" / "devices").iterdir()] == ["1600-1of2.pt"]


def test_resumed_on_two_devices_it_is_the_same_run(uninterrupted, tmp_path, differences):
    status, output = run(tmp_path, *SETTINGS, "--num-timesteps", 800, "--run-dir", "run")
    assert status == 0, output
    status, output = run(tmp_path, "--resume", "run", "--num-timesteps", 1600)
    assert status == 0 and "anew" not in output, output
    whole, resumed = (
        load_checkpoint(folder / "checkpoints" / "last.pt") for folder in (uninterrupted[0], tmp_path / "run")
    )
    for name in ("agent", "optimizer", "env", "generators", "learner"):
        found = differences(whole[name], resumed[name])
        assert [path for path in found if "eval" not in path] == [], name
    parts = (
        torch.load(folder / "checkpoints" / "devices" / "1600-1of2.pt", weights_only=True)
        for folder in (uninterrupted[0], tmp_path / "run")
    )
    assert [path for path in differences(*parts) if "eval" not in path] == []


@pytest.mark.slow
def test_resumed_on_one_device_it_says_what_changes(uninterrupted, tmp_path):
    """Networks, optimizer and counters go on; episodes begin anew."""
    import shutil

    shutil.copytree(uninterrupted[0], tmp_path / "run")
    status, output = run(tmp_path, "--resume", "run", "--num-timesteps", 3200, processes=1)
    assert status == 0, output
    assert "of 1 devices 1 begin their episodes anew" in output and "checkpoint is of 2" in output
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["env_steps"] == 3200


@pytest.mark.slow
def test_no_more_devices_than_allowed(tmp_path):
    status, output = run(tmp_path, *SETTINGS, "--num-timesteps", 400, "--run-dir", "run", "--max-devices-per-host", 1)
    assert status == 0, output
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["devices"] == {"rank": 0, "count": 1}


def test_a_mistake_is_said_once(tmp_path):
    status, output = run(tmp_path, *SETTINGS, "--num-timesteps", 400, "--num-envs", 1, "--run-dir", "run")
    assert status != 0
    assert output.count("num_envs = 1 is not divisible by the 2 devices; 2 would be") == 1
    assert not (tmp_path / "run").exists()


OF_ONE = """
import os

from torch_ppo import UserError
from torch_ppo.envs.cartpole import Cartpole


class Task(Cartpole):
    def start(self, physics, memory, generator):
        super().start(physics, memory, generator)
        if os.environ["RANK"] == os.environ["FAILS"]:
            raise FAILURE("this device has no ground")
"""


@pytest.mark.parametrize(
    ("rank", "failure", "said"),
    [
        ("0", "ValueError", "\nerror: Task raises ValueError: this device has no ground"),
        ("1", "UserError", "\ndevice 1:\nerror: this device has no ground\n"),
    ],
)
def test_a_mistake_of_one_device_is_said(tmp_path, monkeypatch, rank, failure, said):
    """Before the others notice that it has ended, for then the launcher ends it."""
    monkeypatch.setenv("FAILS", rank)
    (tmp_path / "task.py").write_text(OF_ONE.replace("FAILURE", failure))
    task = ("--config", "cartpole_cpu", *SETTINGS, "--env", "task.py:Task", "--num-timesteps", 800, "--run-dir", "run")
    status, output = run(tmp_path, *task)
    assert status != 0 and said in output, output


def workers(launcher):
    """Process ids of the trainings that a launcher has started, the first device's first."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher:
                environment = (folder / "environ").read_bytes().split(b"\0")
                rank = next(int(x[5:]) for x in environment if x.startswith(b"RANK="))
                found[rank] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def running(tmp_path):
    """A long run on two devices that has just reported, and the process ids of its devices."""
    process = start(tmp_path, *SETTINGS, "--num-timesteps", 10**8, "--num-evals", 50_001, "--run-dir", "run")
    for _ in range(600):
        if (tmp_path / "run" / "checkpoints" / "last.pt").exists():
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    return process, workers(process.pid)


def ended(process, within):
    """What it still printed; it ends within so many seconds."""
    try:
        return process.communicate(timeout=within)[0]
    finally:
        for worker in workers(process.pid):
            with contextlib.suppress(OSError):
                os.kill(worker, signal.SIGKILL)
        process.kill()


@pytest.mark.parametrize(
    ("victim", "number"), [(1, signal.SIGKILL), pytest.param(1, signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_a_device_that_dies_or_stalls_stops_the_others(tmp_path, victim, number):
    process, devices = running(tmp_path)
    os.kill(devices[victim], number)
    started = time.perf_counter()
    output = ended(process, 120)
    assert time.perf_counter() - started < 100  # 50 s of patience, and 30 until the launcher kills what is stopped
    assert process.returncode != 0
    assert output.count("another one has ended or has not answered in time") == 1, output
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert saved["env_steps"] > 0


@pytest.mark.slow
def test_asked_to_stop_at_the_launcher_they_save_once(tmp_path):
    process, devices = running(tmp_path)
    for worker in devices:  # as a terminal does, to all of its processes
        os.kill(worker, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    output = ended(process, 60)
    assert len(re.findall(r"stopped at [\d,]+ env steps; go on with", output)) == 1, output
    assert "stopped at once" not in output
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    part = tmp_path / "run" / "checkpoints" / "devices" / f"{saved['env_steps']}-1of2.pt"
    assert part.is_file()


@pytest.mark.parametrize(
    ("victim", "arguments"),
    [(0, ()), (1, ("--run-dir", "runs/mine"))],
)
@pytest.mark.slow
def test_after_a_restart_the_run_goes_on_by_itself(tmp_path, victim, arguments):
    process = start(tmp_path, *SETTINGS, "--num-timesteps", 48_000, "--num-evals", 31, *arguments, max_restarts=1)
    for _ in range(600):
        if list((tmp_path / "runs").glob("*/checkpoints/last.pt")):
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    os.kill(workers(process.pid)[victim], signal.SIGKILL)
    output = ended(process, 240)
    assert process.returncode == 0, output
    (run,) = (tmp_path / "runs").iterdir()
    assert output.count(f"note: started again by torchrun; goes on with {run}\n") == 1, output
    assert re.search(r", from [1-9][\d,]* env steps\n", output) and "anew" not in output, output
    assert load_checkpoint(run / "checkpoints" / "last.pt")["env_steps"] == 48_000
    assert (run / "policy.pt").is_file()
