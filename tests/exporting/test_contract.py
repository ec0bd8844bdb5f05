"""The contract says what a task does with an action and what an observation is, found by asking the task."""

import hashlib
import json
import sys

import pytest
import torch

import torch_ppo
from tests.helpers.toy import ToyTask
from torch_ppo import export, make_env
from torch_ppo.envs import ENVS, make_task
from torch_ppo.exporting.contract import check_contract
from torch_ppo.exporting.errors import ExportError
from torch_ppo.exporting.reading import FORMATS, contract_in
from torch_ppo.exporting.torchscript import quiet_torchscript
from torch_ppo.running.checkpoint import agent_from_checkpoint, load_checkpoint, save_checkpoint
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.task import TaskError, observation_parts

SMALL = {"policy_hidden_layer_sizes": (4,), "value_hidden_layer_sizes": (4,), "run_evals": False, "device": "cpu"}


def saved(folder, task, **settings):
    """The checkpoint of an untrained run."""
    state = TrainingState(Config(num_timesteps=1, **SMALL, **settings), task)
    save_checkpoint(state.checkpoint(), folder / "checkpoints" / "best.pt")
    return folder / "checkpoints" / "best.pt"


def contract_of(folder, task, **settings):
    """What stands in the file that training writes."""
    export.export_of_run(saved(folder, task, **settings), folder / "policy.pt", task)
    return contract_in(folder / "policy.pt")


def test_quadruped(tmp_path):
    """Against the numbers in its file: targets of position servos, half a radian around the default pose."""
    contract = contract_of(tmp_path, make_task("quadruped_joystick"), env="quadruped_joystick", action_repeat=2)
    actuators = contract["action"]["actuators"]
    assert [actuator["joint"] for actuator in actuators[:3]] == [
        "front_right_abduction",
        "front_right_hip",
        "front_right_knee",
    ]
    assert {actuator["scale"] for actuator in actuators} == {0.5}
    assert [actuator["default_pose"] for actuator in actuators] == pytest.approx([0.1, 0.9, -1.8, -0.1, 0.9, -1.8] * 2)
    assert contract["seconds_per_action"] == pytest.approx(0.04) and contract["control_dt"] == 0.02
    parts = contract["observation"]["parts"]
    assert sum(part["size"] for part in parts) == contract["observation"]["size"] == 48
    assert parts[3] == {
        "name": "joint angles from the default pose, in the order of the actions",
        "start": 9,
        "size": 12,
        "unit": "rad",
    }
    assert contract["joints"][1] == {"name": "front_right_abduction", "kind": "hinge", "qpos": 7, "qvel": 6}
    digest = hashlib.sha256(make_task("quadruped_joystick").mjcf.read_bytes()).hexdigest()
    assert contract["task"]["mjcf_sha256"] == digest and contract["task"]["name"] == "quadruped_joystick"
    assert contract["origin"] == {
        "run": tmp_path.name,
        "checkpoint": "best.pt",
        "env_steps": 0,
        "evaluation_reward": None,
    }
    json.dumps(contract, allow_nan=False)


@pytest.mark.parametrize("name", ENVS)
def test_every_task_names_its_observation(name):
    sizes = make_env(name, 1).observation_sizes
    if all(isinstance(size, tuple) for size in sizes.values()):  # pictures alone have nothing to name
        assert name.endswith("_vision")
        return
    parts = observation_parts(make_task(name), "state", sizes["state"])
    assert parts and all(part["name"] and part["unit"] and part["size"] > 0 for part in parts)


def test_names_of_another_size_are_refused():
    task = make_task("cartpole")
    task.observation_names = (("position", 2, "m"),)
    with pytest.raises(
        TaskError, match=r"Cartpole\.observation_names has 2 numbers for 'state', but observe returns 5"
    ):
        observation_parts(task, "state", 5)


def test_a_task_without_names_or_actuators(tmp_path):
    contract = contract_of(tmp_path, ToyTask(), env="toy")
    assert contract["observation"]["parts"] is None and contract["action"]["actuators"] is None


# The program


def program(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["torch_ppo.export", *map(str, arguments)])
    try:
        export.main()
    except SystemExit as end:
        return end.code
    return 0


def test_all_formats_and_show(tmp_path, monkeypatch, capsys):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="ONNX is an optional extra")
    saved(tmp_path, make_task("cartpole"), env="cartpole", action_repeat=2)
    assert program(monkeypatch, tmp_path, "--format", "all", "--controls") == 0
    assert capsys.readouterr().out.count("checked: largest action difference") == 4
    shown = {}
    for module in FORMATS.values():
        assert program(monkeypatch, "--show", tmp_path / f"policy{module.SUFFIX}") == 0
        shown[module.SUFFIX] = json.loads(capsys.readouterr().out)
    network = shown[".safetensors"].pop("network")
    assert network["controls"] and all(contract == shown[".pt"] for contract in shown.values())
    assert program(monkeypatch, "--show", tmp_path / "policy.json") == 0
    assert json.loads(capsys.readouterr().out) == {**shown[".pt"], "network": network}
    assert shown[".pt"]["action"]["output_is"] == "what the actuators get"
    assert program(monkeypatch, tmp_path, "--format", "all") == 0  # again: what is replaced is ours


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to export"),
        (["run", "--output", "run/checkpoints/best.pt"], "best.pt is the checkpoint itself; policy.pt would work"),
        (["run", "--output", "/dev/null"], "/dev/null is not a file; policy.pt would work"),
        (["run", "--output", "notes.pt"], "notes.pt is there, and no exported policy; a new name would work"),
        (["run", "--output", "run/config.toml"], "config.toml is there, and no exported policy"),
        (["run", "--output", "link.pt"], "link.pt is the checkpoint itself"),
        (["run", "--output", "new.pt", "--format", "onnx"], "new.pt does not end in .onnx, as --format onnx does"),
        (["run", "--output", "notes.safetensors"], "notes.json is there, and no exported policy"),
        (["run", "--output", "missing/new.pt"], "missing/new.pt cannot be written"),
        (["--show", "run/checkpoints/best.pt"], "best.pt is not an exported policy; formats: torchscript, onnx"),
        (["--show", "notes.pt"], "notes.pt is not an exported policy"),
        (["--show", "notes.json"], "notes.json is no policy of torch_ppo"),
        (["--show", "missing.pt"], "there is no file missing.pt"),
        (["own.pt2"], "own.pt2 is an exported policy already"),
        (
            ["run/checkpoints/best.pt", "--controls", "--env", "ball_in_cup_catch"],
            "best.pt was not trained in this task",
        ),
        (["run", "--env", "cartpol"], "did you mean 'cartpole'"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, words):
    saved(tmp_path / "run", make_task("cartpole"), env="cartpole")
    (tmp_path / "run" / "config.toml").write_text('env = "cartpole"\nnum_timesteps = 1\n')
    (tmp_path / "notes.pt").write_text("mine")
    (tmp_path / "notes.json").write_text('{"mine": true}')
    (tmp_path / "own.pt2").write_text("mine")
    (tmp_path / "link.pt").symlink_to(tmp_path / "run" / "checkpoints" / "best.pt")
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert program(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_task_of_ones_own_is_loaded_only_if_asked(tmp_path, monkeypatch, capsys):
    source = tmp_path / "own.py"
    source.write_text("from torch_ppo.envs.cartpole import Cartpole\n\n\nclass Own(Cartpole):\n    pass\n")
    env = f"{source}:Own"
    saved(tmp_path / "run", make_task(env), env=env)
    assert program(monkeypatch, tmp_path / "run") == 0
    assert "--env" in capsys.readouterr().err
    contract = contract_in(tmp_path / "run" / "policy.pt")
    (slide,) = contract["action"]["actuators"]
    assert slide["scale"] == 1.0 and "joint" not in slide and contract["task"]["name"] == "own.py:Own"
    assert contract["observation"]["parts"] is None
    assert program(monkeypatch, tmp_path / "run", "--controls", "--trust") == 0
    contract = contract_in(tmp_path / "run" / "policy.pt")
    assert contract["action"]["actuators"][0]["joint"] == "slider" and len(contract["observation"]["parts"]) == 5


def test_an_older_file_has_no_contract_and_may_be_replaced(tmp_path, monkeypatch, capsys):
    """As version 0.1.0 wrote it."""
    checkpoint = saved(tmp_path, make_task("cartpole"), env="cartpole")
    agent = agent_from_checkpoint(load_checkpoint(checkpoint))

    class DeterministicPolicy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.agent = agent

        def forward(self, observation):
            return self.agent.mode({"state": observation})

    DeterministicPolicy.__module__ = "torch_ppo.export"
    with quiet_torchscript(), torch.no_grad():
        torch.jit.trace(DeterministicPolicy().eval(), torch.zeros(2, 5)).save(str(tmp_path / "old.pt"))
    assert program(monkeypatch, "--show", tmp_path / "old.pt") == 2
    assert "old.pt has no contract: an older version" in capsys.readouterr().err
    assert program(monkeypatch, tmp_path, "--output", tmp_path / "old.pt") == 0
    assert contract_in(tmp_path / "old.pt")["task"]["name"] == "cartpole"


@pytest.mark.parametrize("change", [{"format": 99}, {"kind": "another"}])
def test_contracts_of_others(tmp_path, change):
    contract = contract_of(tmp_path, make_task("cartpole"), env="cartpole")
    assert check_contract(contract, tmp_path) is contract
    with pytest.raises(ExportError, match=r"format 99, this version reads 1|is no policy of torch_ppo"):
        check_contract({**contract, **change}, tmp_path)


def test_a_stack_of_observations(tmp_path):
    """The file takes the last three, the names are those of one."""
    contract = contract_of(tmp_path, make_task("cartpole"), env="cartpole", history=3, action_delay=2)
    assert (contract["observation"]["size"], contract["observation"]["history"]) == (15, 3)
    assert [part["size"] for part in contract["observation"]["parts"]] == [1, 1, 1, 1, 1]
    assert len(contract["observation"]["mean"]) == 15 and contract["trained_with_action_delay"] == 2


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("action.actuators", [0]),
        ("action.actuators", [{"name": "slide", "scale": 1.0, "offset": 0.0, "control_range": [-1.0, {}]}]),
        ("action.actuators", [{"name": "slide", "scale": 1.0, "offset": 0.0, "control_range": [1.0]}]),
        ("action.actuators", [{"name": "slide", "scale": "1", "offset": 0.0, "control_range": None}]),
        ("action.actuators", [{"name": "slide", "scale": 1.0, "offset": 0.0}]),
        ("action.actuators", [{"name": None, "scale": None}]),
        ("action.discrete.choices", [2, 0]),
        ("action.discrete.choices", [2.5]),
        ("action.size", 0),
        ("action.size", True),
        ("observation.size", -1),
        ("observation.history", 0),
        ("observation.std", [1.0, None]),
        ("action_repeat", 0),
        ("control_dt", 0.0),
        ("trained_with_action_delay", [2, 1]),
        ("trained_with_action_delay", []),
        ("task.episode_length", 0),
        ("pixels", [{"key": "pixels/front", "height": 8, "width": 8}]),
        ("pixels", {"key": "pixels/front"}),
        ("origin.env_steps", "many"),
    ],
)
def test_damaged_parts_are_named(tmp_path, part, value):
    contract = contract_of(tmp_path, make_task("cartpole"), env="cartpole")
    where, names = contract, part.split(".")
    for name in names[:-1]:
        where[name] = dict(where.get(name) or {})
        where = where[name]
    where[names[-1]] = value
    with pytest.raises(ExportError, match=f"has a contract without {part}: it is damaged; export its run again"):
        check_contract(contract, tmp_path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("observation.history", 2),
        ("observation.std", [1.0, 1.0]),
        ("action.actuators", [{"name": "slide", "scale": None}, {"name": "hinge", "scale": None}]),
        ("action.discrete.choices", [2, 2]),
    ],
)
def test_parts_that_do_not_go_with_the_sizes_are_named(tmp_path, part, value):
    contract = contract_of(tmp_path, make_task("cartpole"), env="cartpole")
    where, *inner, name = part.split(".")
    contract[where] |= {inner[0]: {name: value}} if inner else {name: value}
    with pytest.raises(ExportError, match=f"has a contract whose {part} does not go with its sizes"):
        check_contract(contract, tmp_path)


def torchscript_of(does, contract, folder):
    with quiet_torchscript():
        torch.jit.save(torch.jit.script(does), str(folder / "policy.pt"), _extra_files={"contract.json": contract})
    return folder / "policy.pt"


@pytest.mark.parametrize("text", [b"{not json", b" ", b"\xff\xfe{", b"[" * 100_000])
def test_a_contract_that_is_no_json_is_damage(tmp_path, text):
    path = torchscript_of(torch.nn.Linear(5, 1), text, tmp_path)
    with pytest.raises(ExportError, match=r"policy\.pt is not a whole exported policy"):
        contract_in(path)


class _Nan(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :1] * float("nan")


class _Two(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[..., :1], x


@pytest.mark.parametrize("does", [_Nan(), _Two(), torch.nn.Linear(6, 1), torch.nn.Linear(5, 2)])
@pytest.mark.parametrize("physics", ["auto", "mujoco"])
def test_a_file_that_does_not_do_what_its_contract_says(tmp_path, does, physics):
    contract = contract_of(tmp_path, make_task("cartpole"), env="cartpole")
    path = torchscript_of(does, json.dumps(contract), tmp_path)
    with pytest.raises(ExportError, match=r"of \(1, 5\) it does not make 1 finite numbers"):
        torch_ppo.evaluate(path, physics=physics, episodes=1)
