"""The C++ programs of docs/deploy.md give the live policy's actions.

That of LibTorch is built against the installed torch, that of ONNX Runtime against the library in pip's wheel; its headers
are not in there: ONNXRUNTIME_INCLUDE_DIR=onnxruntime-linux-x64-1.22.0/include pytest tests/tools/test_deploy_cpp.py
"""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_ppo
from torch_ppo.envs import make_task
from torch_ppo.export import export_policy, know
from torch_ppo.exporting.reading import FORMATS
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SOURCE = Path(__file__).parents[2] / "tools" / "deploy_cpp"
HEADERS = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
needs_compiler = pytest.mark.skipif(
    not all(map(shutil.which, ("cmake", "c++"))), reason="needs cmake and a C++ compiler"
)


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, **options)


def exported(folder: Path, format: str) -> Path:
    """An untrained policy of the cart-pole as a file, beside its run."""
    config = Config(env="cartpole", num_timesteps=1, episode_length=100, run_evals=False, device="cpu", seed=1)
    checkpoint = folder / "checkpoints" / "best.pt"
    save_checkpoint(TrainingState(config, make_task("cartpole")).checkpoint(), checkpoint)
    saved = load_checkpoint(checkpoint)
    agent = agent_from_checkpoint(saved)
    path = folder / f"policy{FORMATS[format].SUFFIX}"
    export_policy(agent, path, know(saved, checkpoint, agent, "cartpole"), format=format)
    return path


def built(program: str, folder: Path, *options: str) -> str:
    """The program, and what CMake says of the other, which it leaves out."""
    told = run("cmake", "-S", str(SOURCE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *options)
    run("cmake", "--build", str(folder))
    assert b"left out: " in told.stdout and f"left out: {program}".encode() not in told.stdout
    return str(folder / program)


def check_program(program: str, policy: Path) -> None:
    """Over a recorded episode; and what it says of another size, and of half an observation."""
    episode = torch_ppo.rollout(policy.parent)
    observations = episode.observations[:, 0].numpy().astype("<f4").tobytes()
    ran = run(program, str(policy), "5", input=observations)
    found = np.frombuffer(ran.stdout, "<f4").reshape(-1, 1)
    np.testing.assert_allclose(found, episode.actions[:, 0].numpy(), atol=1e-5)
    contract, latency = ran.stderr.decode().splitlines()
    assert json.loads(contract)["task"]["name"] == "cartpole" and latency.startswith("median of 100 calls: ")
    for size, given, said in [
        ("1", observations, b"the observation must be (..., 5) for this policy, but is [1, 1]"),
        ("5", observations[:-4], b"the input ends within an observation"),
    ]:
        with pytest.raises(subprocess.CalledProcessError) as wrong:
            run(program, str(policy), size, input=given)
        *_, line = wrong.value.stderr.splitlines()
        assert said in line and b"Traceback" not in wrong.value.stderr


def index_of_largest(folder: Path) -> Path:
    """A policy whose action is an index, int64."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("ArgMax", ["observation"], ["action"], axis=1, keepdims=0)
    seen = onnx.helper.make_tensor_value_info("observation", onnx.TensorProto.FLOAT, ["batch", 3])
    done = onnx.helper.make_tensor_value_info("action", onnx.TensorProto.INT64, ["batch"])
    graph = onnx.helper.make_graph([node], "policy", [seen], [done])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "index.onnx")
    return folder / "index.onnx"


class IndexOfLargest(torch.nn.Module):
    """The same in TorchScript."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return observation.argmax(-1, keepdim=True)


@pytest.mark.slow  # torch's headers alone take a compiler a minute
@needs_compiler
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_libtorch(tmp_path):
    """Alone, where ONNX Runtime is not found."""
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    without = "-DONNXRUNTIME_LIBRARY=ONNXRUNTIME_LIBRARY-NOTFOUND"
    program = built("policy_libtorch", tmp_path / "build", prefix, without)
    check_program(program, exported(tmp_path, "torchscript"))
    torch.jit.save(torch.jit.script(IndexOfLargest()), tmp_path / "index.pt")
    ran = run(program, str(tmp_path / "index.pt"), "3", input=np.float32([[0, 2, 1], [3, 2, 1]]).tobytes())
    np.testing.assert_array_equal(np.frombuffer(ran.stdout, "<i8"), [1, 0])
    with pytest.raises(subprocess.CalledProcessError) as wrong:
        run(program, str(tmp_path / "none.pt"), "3")
    assert b"No such file" in wrong.value.stderr and wrong.value.stderr.count(b"\n") == 1


@pytest.mark.skipif(HEADERS is None, reason="ONNXRUNTIME_INCLUDE_DIR does not say where ONNX Runtime's headers are")
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime")
@needs_compiler
def test_onnxruntime(tmp_path):
    """Alone, against the library in the wheel, which has no link by the name that it calls itself."""
    capi = Path(importlib.util.find_spec("onnxruntime").origin).parent / "capi"
    (library,) = capi.glob("libonnxruntime.so.*")
    options = f"-DONNXRUNTIME_INCLUDE_DIR={HEADERS}", f"-DONNXRUNTIME_LIBRARY={library}"
    program = built("policy_onnxruntime", tmp_path / "build", *options)
    check_program(program, exported(tmp_path, "onnx"))
    observations = np.float32([[0, 2, 1], [3, 2, 1]])
    ran = run(program, str(index_of_largest(tmp_path)), "3", input=observations.tobytes())
    np.testing.assert_array_equal(np.frombuffer(ran.stdout, "<i8"), [1, 0])


@needs_compiler
def test_neither(tmp_path):
    """What to do, where there is nothing to build with."""
    without = "-DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON", "-DONNXRUNTIME_INCLUDE_DIR=", "-DONNXRUNTIME_LIBRARY="
    with pytest.raises(subprocess.CalledProcessError) as wrong:
        run("cmake", "-S", str(SOURCE), "-B", str(tmp_path), *without)
    assert b"nothing to build: neither LibTorch nor ONNX Runtime was found" in wrong.value.stderr
    assert b"-DCMAKE_PREFIX_PATH= says where" in wrong.value.stdout and b"-DONNXRUNTIME_ROOT=" in wrong.value.stdout
