"""Cores that a process may use, on made-up files of Linux's control groups."""

import os

import pytest

from torch_ppo.running import threads
from torch_ppo.simulation import cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Writes the files of a machine of 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "OWN", tmp_path / "own")

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return write


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        ("0::/\n", {}, 64),
        ("0::/\n", {"cpu_DOT_max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu_DOT_max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu_DOT_max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu_DOT_max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu_DOT_max": "nonsense"}, 64),
        # The least of its own and of those above; a path of the machine's that a container does not have.
        ("0::/a/b\n", {"a__cpu_DOT_max": "300000 100000\n", "a__b__cpu_DOT_max": "max 100000\n"}, 3),
        ("0::/elsewhere\n", {"cpu_DOT_max": "400000 100000\n"}, 4),
        (
            "3:memory:/\n2:cpu,cpuacct:/a\n0::/\n",
            {"cpu__a__cpu_DOT_cfs_quota_us": "250000\n", "cpu__a__cpu_DOT_cfs_period_us": "100000\n"},
            3,
        ),
        ("1:cpu:/\n", {"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, 64),
    ],
)
def test_quotas(machine, own, files, found):
    machine(own, **files)
    assert cores.available_cores() == found


def test_torch_takes_no_more(machine, monkeypatch):
    machine("0::/\n", cpu_DOT_max="200000 100000\n")
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 64)
    assert threads.most_threads() == 2
