"""CUDA kernels are made without a GPU, in a folder of their own."""

import pytest
import warp as wp

from tools import warp_kernels


@wp.kernel
def add_one(x: wp.array(dtype=float)):
    i = wp.tid()
    x[i] = x[i] + 1.0


def test_what_a_task_launches_is_found():
    found = warp_kernels.launched_modules("pendulum_swingup", deterministic=False)
    names = {module.name for module, _ in found}
    assert any("forward" in name for name in names) and any("smooth" in name for name in names)
    assert all(32 <= block_dim <= 1024 for _, block_dim in found)
    assert wp.launch.__name__ == "launch"  # put back


def test_a_kernel_is_compiled_for_each_size_of_block(tmp_path, monkeypatch):
    monkeypatch.setattr(wp.config, "kernel_cache_dir", str(tmp_path))
    module = add_one.module
    assert warp_kernels.compile_modules({(module, 256): None, (module, 128): None}, 90) == []
    assert len(list(tmp_path.rglob("*.sm90.cubin"))) == 2
    assert module.options["block_dim"] == 256


def test_what_does_not_compile_is_told(monkeypatch):
    def fails(module, **options):
        raise RuntimeError("no such architecture")

    monkeypatch.setattr(wp, "compile_aot_module", fails)
    (line,) = warp_kernels.compile_modules({(add_one.module, 256): None}, 1)
    assert line.endswith("no such architecture")


def test_a_failure_ends_the_program_with_a_status(tmp_path, monkeypatch):
    monkeypatch.setattr(warp_kernels, "launched_modules", lambda name, deterministic: {(add_one.module, 256): None})
    monkeypatch.setattr(warp_kernels, "compile_modules", lambda modules, arch: ["module: reason"])
    monkeypatch.setattr("sys.argv", ["warp_kernels", str(tmp_path / "new"), "--env", "cartpole"])
    monkeypatch.setattr(wp.config, "kernel_cache_dir", wp.config.kernel_cache_dir)
    with pytest.raises(SystemExit, match="module: reason"):
        warp_kernels.main()
