"""A policy in plain C MuJoCo, by its contract alone, does what it does in the trainer's envs."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import torch_ppo
from torch_ppo import evaluate as program
from torch_ppo.envs import make_task
from torch_ppo.export import export_policy, know
from torch_ppo.exporting.errors import ExportError
from torch_ppo.exporting.reading import FORMATS, read
from torch_ppo.exporting.sim_to_sim import Perturbation, Player, parse_perturbations, perturbations, perturbed_model
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

CASES = {
    "cartpole": {"action_repeat": 2, "episode_length": 60},
    "quadruped_joystick": {"history": 2, "action_delay": (0, 2), "episode_length": 20},
    "reacher_easy": {"episode_length": 30},
}


def make_run(folder, env, **settings):
    """A run folder with an untrained policy in cart-pole or another task, and its file."""
    settings = {**CASES.get(env, {}), **settings}
    config = Config(
        env=env, num_timesteps=1, policy_hidden_layer_sizes=(8,), run_evals=False, device="cpu", seed=1, **settings
    )
    path = folder / "checkpoints" / "best.pt"
    save_checkpoint(TrainingState(config, make_task(env)).checkpoint(), path)
    saved = load_checkpoint(path)
    agent = agent_from_checkpoint(saved)
    export_policy(agent, folder / "policy.safetensors", know(saved, path, agent, env), format="safetensors")
    return folder / "policy.safetensors"


@pytest.mark.parametrize("env", CASES)
def test_agrees_with_the_trainers_evaluation(tmp_path, env):
    """Within two standard errors of the difference, by 40 episodes; the length is the same."""
    path = make_run(tmp_path, env)
    alone = torch_ppo.evaluate(path, physics="mujoco", episodes=40, seed=5)
    trainers = torch_ppo.evaluate(tmp_path, episodes=100)
    assert alone.env == trainers.env == env
    assert abs(alone.mean - trainers.mean) < 2 * np.hypot(alone.standard_error, trainers.standard_error)
    assert alone.lengths.float().mean().item() == pytest.approx(trainers.lengths.float().mean().item(), rel=0.1)
    assert alone.metrics.keys() == trainers.metrics.keys()
    for name, values in alone.metrics.items():
        spread = np.hypot(values.std().item() / 40**0.5, trainers.metrics[name].std().item() / 10)
        assert abs(values.mean() - trainers.metrics[name].mean()) <= 4 * spread + 1e-6, name


def test_a_run_and_its_file_are_the_same(tmp_path):
    path = make_run(tmp_path, "cartpole")
    of_run, of_file = (torch_ppo.evaluate(x, physics="mujoco", episodes=3) for x in (tmp_path, path))
    torch.testing.assert_close(of_run.returns, of_file.returns, rtol=1e-4, atol=1e-4)


def test_needs_nothing_of_the_trainer(tmp_path):
    path = make_run(tmp_path, "cartpole")
    code = f"""
import sys
from pathlib import Path
from torch_ppo.envs import make_task
from torch_ppo.exporting.numpy_policy import NumpyPolicy
from torch_ppo.exporting.reading import read
from torch_ppo.exporting.sim_to_sim import Perturbation, Player
act, contract = read(Path({str(path)!r}))
player = Player(act, contract, make_task("cartpole"), seed=0, episode_length=5, perturbation=Perturbation())
assert player.episode().length == 6  # whole actions
trainer = ("torch_ppo.simulation.env", "torch_ppo.running", "torch_ppo.learning.collect", "torch_ppo.simulation.mujoco_engine")
found = [name for name in sys.modules if name in trainer]
assert not [name for name in found if name != "torch_ppo.simulation.mujoco_engine"], found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_perturbations_are_what_they_say():
    task = make_task("cartpole")
    model, nominal = task.make_model(), task.make_model()
    perturbed_model(model, Perturbation(friction=0.5, mass=1.2))
    np.testing.assert_allclose(model.geom_friction[:, 0], 0.5 * nominal.geom_friction[:, 0])
    np.testing.assert_allclose(model.geom_friction[:, 1:], nominal.geom_friction[:, 1:])
    np.testing.assert_allclose(model.body_mass, 1.2 * nominal.body_mass)
    np.testing.assert_allclose(model.body_subtreemass, 1.2 * nominal.body_subtreemass)


def test_what_is_tried():
    assert parse_perturbations("friction=0.5..1.5,delay=0..2,noise=0.05") == {
        "friction": [0.5, 0.75, 1.0, 1.25, 1.5],
        "delay": [0, 1, 2],
        "noise": [0.05],
    }
    tries = dict(perturbations("mass=0.8..1.2,noise=0.05"))
    assert tries["as trained"] == Perturbation() and tries["mass 0.8"] == Perturbation(mass=0.8)
    assert tries["mass 1.2, noise 0.05"] == Perturbation(mass=1.2, noise=0.05)
    assert len(tries) == 1 + 5 + 1 + 2


@pytest.mark.parametrize("perturbation", [Perturbation(delay=3), Perturbation(noise=3.0), Perturbation(mass=3.0)])
def test_perturbations_act(tmp_path, perturbation):
    path = make_run(tmp_path, "cartpole")
    options = {"episodes": 2, "seed": 0, "deterministic": True, "checkpoint": "best", "episode_length": None}
    before = program.sim_to_sim(path, None, **options)
    after = program.sim_to_sim(path, None, perturbation=perturbation, **options)
    same = program.sim_to_sim(path, None, perturbation=Perturbation(delay=0, mass=1.0), **options)
    assert torch.equal(same.returns, before.returns)  # from the same start states
    assert (before.returns - after.returns).abs().min() > 1e-4


def run_program(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["torch_ppo.evaluate", *map(str, arguments)])
    try:
        program.main()
    except SystemExit as end:
        return end.code
    return 0


def test_table(tmp_path, monkeypatch, capsys):
    path = make_run(tmp_path, "cartpole")
    assert run_program(monkeypatch, path, "--perturb", "mass=0.5..1.5,delay=0..1", "--episodes", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["as trained", "mass 0.5", "mass 0.75"]
    assert len(lines) == 1 + 1 + 5 + 2 + 4 and lines[1].endswith("100%")


def test_a_task_of_its_own(tmp_path, monkeypatch, capsys):
    """It is loaded with --env or --trust and only then, from a run's folder as well; a table begins when there is a line for it."""
    file = tmp_path / "my bot" / "mine.py"
    file.parent.mkdir()
    file.write_text("from torch_ppo.envs.cartpole import Cartpole\n\n\nclass Mine(Cartpole):\n    pass\n")
    make_run(tmp_path / "run", f"{file}:Mine", episode_length=20)
    for asked in (["--perturb", "mass=1"], ["--physics", "mujoco"], []):
        assert run_program(monkeypatch, tmp_path / "run", "--episodes", 1, *asked) == 2
        out, error = capsys.readouterr()
        assert out == "" and error.endswith("; --trust allows it\n")
        assert run_program(monkeypatch, tmp_path / "run", "--episodes", 1, "--env", f"{file}:Mine", *asked) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--perturb", "wind=1"], "--perturb 'wind=1' is not one of friction, mass, delay and noise"),
        (["--perturb", "mass=0..1"], "--perturb mass is '0..1', but must be a number or a range"),
        (["--perturb", "mass=2..1"], "--perturb mass is '2..1'"),
        (["--perturb", "noise=nan"], "--perturb noise is 'nan'"),
        (["--perturb", "delay=0.5"], "--perturb delay is '0.5', but must be whole env steps"),
        (["--perturb", "mass=1", "--num-envs", "4"], "--perturb plays in one world"),
        (["--physics", "mujoco", "--stochastic"], "policy.safetensors is not stochastic"),
        (["--physics", "mujoco", "--env", "pendulum_swingup"], "the policy does not fit the task, which observes"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, words):
    assert run_program(monkeypatch, make_run(tmp_path, "cartpole"), "--episodes", 1, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error


def test_controls_cannot_be_played(tmp_path):
    path = make_run(tmp_path, "cartpole")
    checkpoint = tmp_path / "checkpoints" / "best.pt"
    saved = load_checkpoint(checkpoint)
    agent = agent_from_checkpoint(saved)
    known = know(saved, checkpoint, agent, "cartpole")
    export_policy(agent, path, known, format="safetensors", as_controls=True)
    for physics in ("mujoco", "auto"):
        with pytest.raises((ExportError, torch_ppo.UserError), match="controls"):
            torch_ppo.evaluate(path, "cartpole", physics=physics, episodes=1)


@pytest.mark.parametrize(("control_dt", "words"), [(1e-9, "is not a multiple"), (1e9, r"must be less than 2\*\*31")])
def test_a_contracts_time_between_actions_has_to_be_timesteps(tmp_path, control_dt, words):
    act, contract = read(make_run(tmp_path, "cartpole"))
    contract["control_dt"] = control_dt
    options = {"seed": 0, "episode_length": 2, "perturbation": Perturbation()}
    with pytest.raises(torch_ppo.UserError, match=words):
        Player(act, contract, make_task("cartpole"), **options).episode()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda contract: contract.update(action_repeat=10**9),
            "is shorter than one policy step of action_repeat = 10",
        ),
        (lambda contract: contract["action"].update(discrete={"choices": [3]}), "its actions are discrete"),
    ],
)
def test_a_contract_that_cannot_be_played(tmp_path, edit, words):
    act, contract = read(make_run(tmp_path, "cartpole"))
    edit(contract)
    with pytest.raises(ExportError, match=words):
        Player(act, contract, make_task("cartpole"), seed=0, episode_length=None, perturbation=Perturbation())


def test_what_arrives_after_the_episode_is_not_waited_for(tmp_path):
    """However long the delay is: the robot gets zeros to the end."""
    act, contract = read(make_run(tmp_path, "cartpole"))
    returns = []
    for delay in (60, 10**12):
        contract["trained_with_action_delay"] = delay
        player = Player(act, contract, make_task("cartpole"), seed=0, episode_length=None, perturbation=Perturbation())
        returns.append(player.episode().reward)
    assert returns[0] == returns[1]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_played(tmp_path, format):
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="ONNX is an optional extra")
    first = make_run(tmp_path, "cartpole")
    checkpoint = tmp_path / "checkpoints" / "best.pt"
    saved = load_checkpoint(checkpoint)
    agent = agent_from_checkpoint(saved)
    path = tmp_path / f"other{FORMATS[format].SUFFIX}"
    export_policy(agent, path, know(saved, checkpoint, agent, "cartpole"), format=format)
    expected = torch_ppo.evaluate(first, physics="mujoco", episodes=2)
    found = torch_ppo.evaluate(path, physics="mujoco", episodes=2)
    torch.testing.assert_close(found.returns, expected.returns, rtol=1e-4, atol=1e-4)
