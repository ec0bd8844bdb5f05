"""What is remembered in the launcher's store from one attempt of a training to the next."""

import concurrent.futures
import datetime
import time

import pytest
import torch

from torch_ppo.errors import ConfigError
from torch_ppo.learning.devices import DeviceLost
from torch_ppo.running import joining
from torch_ppo.running.restarts import launcher_store, note_run, store_of_this_attempt, words_after_restarts
from torch_ppo.settings.config import Config

WORDS = ["--env", "cartpole", "--num-envs", "8"]

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")


@pytest.fixture
def launcher(monkeypatch):
    """The store of a launcher, and what a process that it starts has in its environment."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    return store


def test_a_restart_goes_on_with_the_run_that_was_begun(tmp_path, monkeypatch, launcher):
    """Whatever the count of restarts is: on another host than the one that failed it is 0."""
    assert words_after_restarts(WORDS) == WORDS  # the first attempt came to nothing
    monkeypatch.chdir(tmp_path)
    (tmp_path / "größe").mkdir()
    note_run(tmp_path.relative_to(tmp_path) / "größe")
    assert words_after_restarts(WORDS) == ["--resume", str(tmp_path / "größe"), "--trust"]


def test_without_torchrun_nothing_is_remembered(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    note_run(tmp_path)
    assert words_after_restarts(WORDS) == WORDS


def test_the_processes_of_an_attempt_find_each_other_and_nobody_before(launcher):
    """In whatever order they come, and although attempts before have left their names, one of them unfinished."""

    patience = datetime.timedelta(seconds=20)

    def join(rank, attempt):
        store = store_of_this_attempt(launcher_store(), rank, 3, patience)
        seen = store.check(["attempt/0"])
        store.set(f"attempt/{rank}", str(attempt))
        store.wait([f"attempt/{other}" for other in range(3)], patience)
        return [store.get(f"attempt/{other}").decode() for other in range(3)], seen and rank == 0

    def meet(ranks, attempt):
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            begun = []
            for rank in ranks:
                begun.append(pool.submit(join, rank, attempt))
                time.sleep(0.2)
            return [future.result() for future in begun]

    for attempt, ranks in enumerate(((0, 1, 2), (2, 1, 0), (1, 0, 2))):
        assert meet(ranks, attempt) == [([str(attempt)] * 3, False)] * 3
    launcher.set("torch_ppo/first", "killed")
    assert meet((2, 1, 0), 3) == [(["3"] * 3, False)] * 3


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_never_comes_is_one_line(monkeypatch, launcher, rank):
    monkeypatch.setattr(joining, "PATIENCE_AT_START", datetime.timedelta(seconds=1))
    for name, value in (("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", 2), ("WORLD_SIZE", 2), ("RANK", rank)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(joining, "_share_cores", lambda local, processes: None)
    with pytest.raises(DeviceLost, match=f"device {rank} of 2 stops: not all of the others came"):
        joining.joined(Config(num_timesteps=1, device="cpu")).__enter__()


def test_a_run_on_several_gpus_can_be_resumed_on_them(monkeypatch):
    """Its config.toml has the first one's device."""
    for name, value in (("LOCAL_RANK", 1), ("LOCAL_WORLD_SIZE", 2), ("WORLD_SIZE", 4), ("RANK", 3)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("auto", "cuda", "cuda:0"):
        assert joining._own_part(device, None) == ("cuda:1", 3, 4)
    with pytest.raises(ConfigError, match="cuda would give each its own"):
        joining._own_part("cuda:1", None)
