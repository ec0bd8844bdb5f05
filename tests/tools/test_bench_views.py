"""The comparison of renderers runs, and tells of each."""

import os
import subprocess
import sys

import pytest

from tests.helpers.opengl import has_opengl
from tools import bench_views

SMALL = ["--size", "8", "--num-envs", "2", "--rounds", "1"]


@pytest.mark.skipif(not has_opengl(), reason="no OpenGL here")
def test_all_renderers_are_compared():
    command = [sys.executable, "-m", "tools.bench_views", *SMALL, "--task", "reacher_vision"]
    done = subprocess.run(
        command, env={"MUJOCO_GL": "egl", **os.environ}, capture_output=True, text=True, check=True, timeout=300
    )
    first, *lines = [line for line in done.stdout.splitlines() if not line.startswith("Warp")]
    assert first == "reacher_vision, 2 worlds of 8 x 8, cpu" and len(lines) == 4
    assert all("pictures/s" in line for line in lines) and "1.00 of the time of rays" in lines[0]


def test_without_opengl_rays_are_left(monkeypatch, capsys):
    monkeypatch.setattr("torch_ppo.simulation.mujoco_views.gl_context", lambda width, height: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["bench_views", *SMALL])
    bench_views.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("without OpenGL") and len(lines) == 3
