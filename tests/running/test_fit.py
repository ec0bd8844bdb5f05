"""Saved networks and a task that has changed since: one line in plain words, whichever way they are met."""

import copy
import re
import sys
from pathlib import Path

import pytest
import torch

import torch_ppo
from torch_ppo import export, play
from torch_ppo import train as training
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.errors import UserError
from torch_ppo.running.fit import network_misfit

TINY = (
    "--config cartpole_cpu --device cpu --num-timesteps 160 --num-evals 2 --num-envs 4 --num-eval-envs 2 --batch-size 4 --num-minibatches 2 "
    "--unroll-length 5 --action-repeat 1 --episode-length 20 --policy-hidden-layer-sizes 8 6 --value-hidden-layer-sizes 7"
).split()
TASK = """
import torch
from torch_ppo.envs.cartpole import Cartpole

class Mine(Cartpole):
    def action_dim(self, physics):
        return {actions}

    def apply(self, physics, memory, action):
        physics.ctrl.copy_(action.sum(1, keepdim=True))

    def observe(self, physics, memory):
        seen = super().observe(physics, memory)
        return {observation}
"""
AS_IT_WAS = {"actions": 1, "observation": "seen"}
OBSERVATION = "it observes state 5, but {name} gives state 7"
CHANGES = {
    "observation": ({"observation": "torch.cat([seen, physics.qpos], 1)"}, (OBSERVATION,)),
    "keys": (
        {"observation": '{"state": seen, "privileged_state": physics.qpos}'},
        ("it observes state 5, but {name} gives state 5, privileged_state 2",),
    ),
    "another key": ({"observation": '{"pose": seen}'}, ("it observes state 5, but {name} gives pose 5",)),
    "actions": ({"actions": 2}, ("it has 1 action, but {name} takes 2",)),
    "both": (
        {"actions": 2, "observation": "torch.cat([seen, physics.qpos], 1)"},
        (OBSERVATION, "it has 1 action, but {name} takes 2"),
    ),
}


def program(monkeypatch, module, *words):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
    try:
        module.main()
    except SystemExit as stopped:
        return stopped.code or 0
    return 0


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a task in a file, anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(**changes):
        sys.modules.pop("mine_that_changes", None)
        Path("mine_that_changes.py").write_text(TASK.format(**{**AS_IT_WAS, **changes}))
        return "mine_that_changes.py:Mine"

    yield write
    sys.modules.pop("mine_that_changes", None)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_task(mine, monkeypatch, capsys, change):
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # the file changes within a second
    try:
        env = ("--env", mine())
        assert program(monkeypatch, training, *env, *TINY, "--run-dir", "run") == 0
        capsys.readouterr()
        changes, expected = CHANGES[change]
        mine(**changes)
        refused = {
            "restored": (training, *env, *TINY, "--run-dir", "new", "--restore-checkpoint-path", "run"),
            "resumed": (training, "--resume", "run", "--trust", "--num-timesteps", "320"),
            "played": (play, "run", *env, "--steps", "3", "--video", "a.gif"),
        }
        if change == "keys":  # both networks see the key that they saw, as ever
            del refused["restored"]
        for how, words in refused.items():
            assert program(monkeypatch, *words) == 2, how
            error = capsys.readouterr().err
            assert error.startswith("error: run") and error.count("\n") == 1, error
            for part in expected:
                assert part.format(name="mine_that_changes.py:Mine") in error, (how, error)
            assert ("mine_that_changes.py changed since the run began" in error) == (how == "resumed")
            assert "size mismatch" not in error and not Path("new").exists() and not Path("a.gif").exists()
            mine(**changes)
        # Taking away needs no task.
        assert program(monkeypatch, export, "run") == 0
        if "key" not in change:  # a policy sees one key; the other does not matter to it
            with pytest.raises(UserError, match=re.escape(expected[0].format(name="mine_that_changes.py:Mine"))):
                torch_ppo.evaluate("run", env[1], episodes=2)
    finally:
        sys.dont_write_bytecode = before


SMALL = {
    "num_envs": 4, "batch_size": 4, "num_minibatches": 2, "unroll_length": 5, "num_eval_envs": 2, "episode_length": 20,
    "num_timesteps": 0, "device": "cpu",
}  # fmt: skip
LAYERS = {"policy_hidden_layer_sizes": (8, 6), "value_hidden_layer_sizes": (7,)}
NETWORKS = [
    (
        {"policy_hidden_layer_sizes": (16,)},
        "its policy has the layers [8, 6], but policy_hidden_layer_sizes is [16]; policy_hidden_layer_sizes = [8, 6] would fit",
    ),
    (
        {"value_hidden_layer_sizes": (7, 7)},
        (
            "its value network has the layers [7], but value_hidden_layer_sizes is [7, 7]; value_hidden_layer_sizes = [7] would "
            "fit, or restore_value_fn = false would leave it out"
        ),
    ),
    ({"distribution_type": "normal"}, "its networks are made otherwise: policy."),
    ({"use_distributional_critic": True}, "value.trunk.layers.2.weight is (1, 7) in it and (32, 7) here"),
    (
        {"layer_norm": True},
        "its networks are made otherwise: policy.trunk.layers.2.weight is (6, 8) in it and (8,) here",
    ),
]


@pytest.fixture(scope="module")
def donor():
    return torch_ppo.train(Cartpole(), network_factory=LAYERS, **SMALL)[1]


@pytest.mark.parametrize(("change", "words"), NETWORKS)
def test_other_networks(donor, change, words):
    with pytest.raises(UserError) as said:
        factory = {**LAYERS, **change}
        torch_ppo.train(Cartpole(), restore_params=donor, network_factory=factory, clipping_epsilon_value=1.0, **SMALL)
    message = str(said.value)
    assert message.startswith("restore_params does not fit: ") and words in message and "\n" not in message


def test_the_value_network_may_be_another_where_it_stays(donor):
    factory = {**LAYERS, "value_hidden_layer_sizes": (5,)}
    settings = {"restore_params": donor, "restore_value_fn": False, "network_factory": factory, **SMALL}
    _, restored, _ = torch_ppo.train(Cartpole(), **settings)
    for name, value in donor[1].items():
        assert torch.equal(restored[1][name], value)
    with pytest.raises(UserError, match=r"its policy has the layers \[8, 6\]"):
        torch_ppo.train(Cartpole(), **{**settings, "network_factory": {"policy_hidden_layer_sizes": (8,)}})


def test_what_is_no_tensor(donor):
    parts = copy.deepcopy(donor)
    name = next(iter(parts[1]))
    parts[1][name] = parts[1][name].numpy()
    with pytest.raises(
        UserError, match=rf"restore_params has a ndarray as policy.{re.escape(name)}, but must have tensors"
    ):
        torch_ppo.train(Cartpole(), restore_params=parts, network_factory=LAYERS, **SMALL)


def test_networks_of_another_library_have_no_known_layers():
    there, here = {"policy.one.weight": torch.zeros(3, 2)}, {"policy.trunk.layers.0.weight": torch.zeros(2, 2)}
    assert network_misfit(there, there, "t") is None
    assert "network_factory" in network_misfit(there, here, "t")
