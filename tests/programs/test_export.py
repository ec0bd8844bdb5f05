"""The exported policy is the live one, in a file that needs only torch, and nothing wrong is ever left in its place."""

import subprocess
import sys

import pytest
import torch

from tests.helpers.agents import AGENTS, make_trained_agent
from tests.helpers.toy import ToyTask
from torch_ppo import export
from torch_ppo.export import ExportError, check_export, export_policy
from torch_ppo.exporting.reading import format_of
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
each_agent = pytest.mark.parametrize("name", AGENTS)


def random_observation(agent, *batch):
    """(*batch, obs_dim), about where the normalizer's observations were."""
    size = agent.normalizer[agent.policy_obs_key].obs_dim
    return 3.0 * torch.rand(*batch, size, generator=torch.Generator().manual_seed(7))


@each_agent
@torch.no_grad()
def test_exported_equals_live(tmp_path, name):
    agent = make_trained_agent(name)
    difference = export_policy(agent, tmp_path / "policy.pt")
    assert 0.0 <= difference <= 1e-6
    exported = torch.jit.load(tmp_path / "policy.pt")
    for batch in [(), (1,), (7,), (2, 3), (4, 1, 5), (0,), (1000,)]:
        observation = random_observation(agent, *batch)
        live = agent.mode({agent.policy_obs_key: observation})
        found = exported(observation)
        assert found.shape == live.shape == (*batch, 2)
        torch.testing.assert_close(found, live, rtol=0.0, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt"]


def test_normalizer_is_inside(tmp_path):
    """Two agents that differ in the normalizer only differ in their exports."""
    agent = make_trained_agent("tanh_normal")
    observation = random_observation(agent, 10)
    export_policy(agent, tmp_path / "before.pt")
    agent.update_normalizer({"state": 10.0 + random_observation(agent, 100)})
    export_policy(agent, tmp_path / "after.pt")
    before, after = (
        torch.jit.load(tmp_path / "before.pt")(observation),
        torch.jit.load(tmp_path / "after.pt")(observation),
    )
    assert (before - after).abs().max() > 1e-2
    torch.testing.assert_close(after, agent.mode({"state": observation}), rtol=0.0, atol=1e-6)


def test_file_needs_only_torch(tmp_path):
    """Loaded in an isolated interpreter in an empty folder, where torch_ppo cannot be imported."""
    agent = make_trained_agent("asymmetric")
    observation = random_observation(agent, 6)
    export_policy(agent, tmp_path / "policy.pt")
    torch.save(observation, tmp_path / "observation.pt")
    (tmp_path / "empty").mkdir()
    code = """
import sys
sys.modules["torch_ppo"] = None
import torch
folder = sys.argv[1]
policy = torch.jit.load(f"{folder}/policy.pt")
torch.save(policy(torch.load(f"{folder}/observation.pt")), f"{folder}/action.pt")
ours = [name for name in sys.modules if name.split(".")[0] in ("torch_ppo", "mujoco", "warp", "envs")]
assert ours == ["torch_ppo"], ours
"""
    subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path)], cwd=tmp_path / "empty", check=True)
    action = torch.load(tmp_path / "action.pt")
    torch.testing.assert_close(action, agent.mode({"state": observation}), rtol=0.0, atol=1e-6)
    assert not action.requires_grad


# What is refused


def test_another_policy_is_refused(tmp_path):
    path = tmp_path / "policy.pt"
    export_policy(make_trained_agent("tanh_normal", seed=1), path)
    with pytest.raises(ExportError, match=r"policy\.pt: actions differ from the live policy by [\d.]+"):
        check_export(path, make_trained_agent("tanh_normal"))


def test_a_small_change_is_refused(tmp_path):
    """One weight of the first layer, by 1e-3."""
    agent = make_trained_agent("tanh_normal")
    export_policy(agent, tmp_path / "policy.pt")
    with torch.no_grad():
        agent.policy.trunk.layers[0].weight[0, 0] += 1e-3
    with pytest.raises(ExportError, match="differ"):
        check_export(tmp_path / "policy.pt", agent)


def test_not_a_number_is_refused(tmp_path):
    agent = make_trained_agent("tanh_normal")
    with torch.no_grad():
        agent.policy.trunk.layers[0].weight[0, 0] = torch.nan
    with pytest.raises(ExportError, match="nan"):
        export_policy(agent, tmp_path / "policy.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "policy.pt"
    export_policy(make_trained_agent("tanh_normal"), path)
    before = path.read_bytes()

    def tampered(agent, **options):
        return live_policy(make_trained_agent("tanh_normal", seed=1), **options)

    live_policy = export.deployed
    monkeypatch.setattr(export, "deployed", tampered)
    with pytest.raises(ExportError):
        export_policy(make_trained_agent("tanh_normal"), path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy.pt"]


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_off_file_is_refused(tmp_path, keep):
    path = tmp_path / "policy.pt"
    agent = make_trained_agent("tanh_normal")
    export_policy(agent, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ExportError, match=r"policy\.pt"):
        check_export(path, agent)


# The program


@pytest.fixture
def run_folder(tmp_path):
    """A run folder with an untrained last checkpoint and a best one of another seed."""
    for name, seed in {"last": 0, "best": 1}.items():
        config = Config(
            num_timesteps=1,
            seed=seed,
            policy_hidden_layer_sizes=(4,),
            value_hidden_layer_sizes=(4,),
            run_evals=False,
            device="cpu",
        )
        checkpoint = TrainingState(config, ToyTask()).checkpoint()
        save_checkpoint(checkpoint, tmp_path / "run" / "checkpoints" / f"{name}.pt")
    return tmp_path / "run"


def program(monkeypatch, *arguments):
    """Runs `python -m torch_ppo.export` in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["torch_ppo.export", *map(str, arguments)])
    try:
        export.main()
    except SystemExit as end:
        return end.code
    return 0


def test_all_without_one_package(run_folder, monkeypatch, capsys):
    """The other formats are written; the line says what is missing and why, and so does the exit status."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    status, out, errors = program(monkeypatch, run_folder, "--format", "all"), *capsys.readouterr()
    assert status == 2 and len(out.splitlines()) == 3 and all(", checked: " in line for line in out.splitlines())
    path = run_folder / "policy.onnx"
    said = f"error: no {path}: --format onnx needs the package onnxscript: pip install '.[onnx]'\n"
    assert errors.endswith(said)
    assert not path.exists() and all((run_folder / f"policy{end}").exists() for end in (".pt", ".pt2", ".safetensors"))


def test_program(run_folder, monkeypatch, capsys):
    observation = torch.ones(5)
    assert program(monkeypatch, run_folder) == 0
    assert "policy of best.pt at 0 env steps, checked" in capsys.readouterr().out
    best = torch.jit.load(run_folder / "policy.pt")(observation)
    assert program(monkeypatch, run_folder, "--checkpoint", "last", "--output", run_folder / "last_policy.pt") == 0
    last = torch.jit.load(run_folder / "last_policy.pt")(observation)
    assert not torch.equal(best, last)
    assert program(monkeypatch, run_folder / "checkpoints" / "best.pt") == 0
    assert torch.equal(torch.jit.load(run_folder / "checkpoints" / "policy.pt")(observation), best)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["own.py:Task"], "own.py:Task is a task, not a run folder or checkpoint; train --env own.py:Task makes a run"),
        (["cartpole"], "cartpole.safetensors is an exported policy already"),
        (["nowhere"], "no run folder or checkpoint nowhere"),
        (["."], "not a run folder"),
        (["run", "--checkpoint", "first"], "first.pt"),
        (["policy.pt"], "policy.pt is an exported policy (TorchScript), not a checkpoint; a run folder"),
        (["config.toml"], "config.toml is a configuration, not a checkpoint; a run folder"),
        (["damaged.pt"], "damaged.pt is not a whole checkpoint"),
        (["run", "--output", "run"], "run"),
        (["run", "--output", "damaged.pt/policy.pt"], "damaged.pt"),
    ],
)
def test_bad_arguments(run_folder, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(run_folder.parent)
    (run_folder.parent / "damaged.pt").write_bytes((run_folder / "checkpoints" / "best.pt").read_bytes()[:1000])
    (run_folder.parent / "config.toml").write_text("num_timesteps = 1\n")
    agent = agent_from_checkpoint(load_checkpoint(run_folder / "checkpoints" / "best.pt"))
    export_policy(agent, run_folder.parent / "policy.pt")
    before = sorted(run_folder.parent.rglob("*"))
    assert program(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert sorted(run_folder.parent.rglob("*")) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("normalize_observations", [True, False])
@pytest.mark.parametrize("shape", [(7, 1), (1,), (5, 1), (4,), (2, 6)])
def test_observations_of_another_size_are_refused(tmp_path, normalize_observations, shape):
    """Also of size 1, which a normalizer would broadcast."""
    config = Config(
        env="toy", num_timesteps=1, run_evals=False, device="cpu", normalize_observations=normalize_observations
    )
    agent = TrainingState(config, ToyTask()).agent
    export_policy(agent, tmp_path / "policy.pt")
    policy = torch.jit.load(str(tmp_path / "policy.pt"))
    assert policy(torch.zeros(3, 5)).shape == (3, 2)
    with pytest.raises(torch.jit.Error, match=r"the observation must be \(\.\.\., 5\) for this policy, but is \["):
        policy(torch.zeros(shape))


def test_the_format_is_that_of_the_ending(tmp_path):
    export_policy(make_trained_agent("tanh_normal", seed=1), tmp_path / "policy.safetensors")
    assert format_of(tmp_path / "policy.safetensors") == "safetensors" and (tmp_path / "policy.json").is_file()
