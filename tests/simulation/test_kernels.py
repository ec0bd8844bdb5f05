"""Warp's start, and saying so while MuJoCo Warp compiles."""

import os
import subprocess
import sys
import time

import pytest

from torch_ppo.simulation import kernels


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of Warp's, of which nothing has been said yet."""
    monkeypatch.setattr(kernels.wp.config, "kernel_cache_dir", str(tmp_path))
    monkeypatch.setattr(kernels, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(kernels, "_said", set())
    return tmp_path


@pytest.mark.parametrize(("compiles", "said"), [(True, 1), (False, 0)])
def test_said_once_and_only_where_something_is_compiled(cache, caplog, compiles, said):
    caplog.set_level("INFO", "torch_ppo")
    for name in ("first", "second"):
        with kernels.compiling_is_said():
            if compiles:
                (cache / name).mkdir()
            time.sleep(0.1)
    words = [record.getMessage() for record in caplog.records]
    assert words == ["compiling MuJoCo Warp's kernels for this kind of model, once; half a minute to three"] * said


def test_no_folder_for_kernels(tmp_path):
    """As where the home cannot be written: what it is about, and a remedy, in one line. A process's first start."""
    (tmp_path / "file").touch()
    code = "from torch_ppo.errors import user_errors\nwith user_errors(): import torch_ppo.simulation.warp_engine"
    environment = {**os.environ, "WARP_CACHE_PATH": str(tmp_path / "file" / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith("error: MuJoCo Warp has no folder for the kernels that it compiles: ")
    assert result.stderr.endswith("WARP_CACHE_PATH=FOLDER in the environment names another\n")


def test_warp_starts_without_a_word_where_there_is_no_cuda():
    """In a process of its own, whose first start it is; also one whose errors are closed."""
    code = "import sys, os; {}from torch_ppo.simulation import warp_engine; print('started')"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    for before in ("", "os.close(2); "):
        command = [sys.executable, "-c", code.format(before)]
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert (result.returncode, result.stdout, result.stderr) == (0, "started\n", "")


def test_other_errors_are_not_hidden(capfd):
    with kernels._errors_without(kernels.NO_CUDA):
        os.write(2, b"Warp CUDA warning: no driver\nWarp error: something else\n")
        os.write(2, b"Warp CUDA error: nor this\nwithout an end")
    assert capfd.readouterr().err == "Warp error: something else\nwithout an end"
