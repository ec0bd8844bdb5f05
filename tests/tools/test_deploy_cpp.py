"""The C++ program of docs/deploy.md, built against the installed torch, gives the live policy's actions."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_ppo
from torch_ppo.envs import make_task
from torch_ppo.export import export_policy, know
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SOURCE = Path(__file__).parents[2] / "tools" / "deploy_cpp"


@pytest.mark.slow  # torch's headers alone take a compiler a minute
@pytest.mark.skipif(not all(map(shutil.which, ("cmake", "c++"))), reason="needs cmake and a C++ compiler")
def test_libtorch(tmp_path):
    """Over a recorded episode."""
    config = Config(env="cartpole", num_timesteps=1, episode_length=100, run_evals=False, device="cpu", seed=1)
    checkpoint = tmp_path / "checkpoints" / "best.pt"
    save_checkpoint(TrainingState(config, make_task("cartpole")).checkpoint(), checkpoint)
    saved = load_checkpoint(checkpoint)
    agent = agent_from_checkpoint(saved)
    export_policy(agent, tmp_path / "policy.pt", know(saved, checkpoint, agent, "cartpole"))
    episode = torch_ppo.rollout(tmp_path)

    def run(*command, **options):
        return subprocess.run(command, check=True, capture_output=True, **options)

    build = tmp_path / "build"
    prefix = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    run("cmake", "-S", str(SOURCE), "-B", str(build), prefix, "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", str(build))
    observations = episode.observations[:, 0].numpy().astype("<f4").tobytes()
    program = str(build / "policy_libtorch")
    ran = run(program, str(tmp_path / "policy.pt"), "5", input=observations)
    found = np.frombuffer(ran.stdout, "<f4").reshape(-1, 1)
    np.testing.assert_allclose(found, episode.actions[:, 0].numpy(), atol=1e-5)
    contract, latency = ran.stderr.decode().splitlines()
    assert json.loads(contract)["task"]["name"] == "cartpole" and latency.startswith("median of 100 calls: ")
    with pytest.raises(subprocess.CalledProcessError) as wrong:
        run(program, str(tmp_path / "policy.pt"), "1", input=observations)
    assert b"the observation must be (..., 5) for this policy, but is [1, 1]" in wrong.value.stderr
