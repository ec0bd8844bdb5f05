"""The programs that measure run to their last line: what they print is only looked at when somebody measures."""

import importlib
import json
import sys

import pytest

TINY = ["num_envs=4", "batch_size=4", "num_minibatches=2", "unroll_length=2", "num_updates_per_batch=1"]


def run(monkeypatch, capsys, module, *words):
    """What the program prints."""
    monkeypatch.setattr(sys, "argv", [module, *map(str, words)])
    importlib.import_module(module).main()
    return capsys.readouterr().out


def read(file):
    return json.loads(file.read_text())


@pytest.mark.parametrize("gae_per", ["minibatch", "batch"])
def test_bench(monkeypatch, capsys, tmp_path, gae_per):
    file = tmp_path / "bench.json"
    settings = [*TINY, f'gae_per="{gae_per}"']
    words = ["--config", "cartpole_cpu", "--windows", 2, "--seconds", 0.01, "--json", file, "--profile", tmp_path]
    printed = run(monkeypatch, capsys, "tools.bench", *words, "--set", *settings)
    assert "training runs at" in printed and len(list(tmp_path.glob("*.json"))) == 2
    (result,) = read(file)["results"]
    rates = {name: rate["median"] for name, rate in result["env_steps_per_second"].items()}
    assert rates.keys() == {"physics", "collect", "update", "training"} and min(rates.values()) > 0
    assert result["megabytes_per_sgd_step"] > 0 and result["gflop_per_sgd_step"] > 0


def test_bench_physics(monkeypatch, capsys, tmp_path):
    file = tmp_path / "physics.json"
    words = ["--env", "cartpole", "--num-envs", 4, "--rounds", 2, "--seconds", 0.01, "--json", file]
    assert "cartpole" in run(monkeypatch, capsys, "tools.bench_physics", *words) and read(file)


def test_compare_busy(monkeypatch, capsys, tmp_path):
    file = tmp_path / "busy.json"
    words = ["--torch-threads", 1, "--rounds", 1, "--seconds", 0.01, "--json", file, "--set", *TINY]
    assert "env steps/s idle" in run(monkeypatch, capsys, "tools.compare_busy", *words)
    (found,) = read(file)["runs"]
    assert found["ratio"] > 0 and len(found["busy"]) == 1
