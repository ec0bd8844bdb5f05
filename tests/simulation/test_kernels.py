"""Saying so while MuJoCo Warp compiles."""

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
