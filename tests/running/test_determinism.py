"""The same seed, the same bits: what `deterministic` sets, says, and comes to."""

import os
from types import SimpleNamespace

import pytest
import torch

import torch_ppo
from tests.helpers.graph_on_cpu import trace
from torch_ppo.envs import ENVS, make_task
from torch_ppo.errors import ConfigError
from torch_ppo.learning.train_step import learn, training_step
from torch_ppo.running import determinism
from torch_ppo.running.determinism import (
    CUBLAS_VARIABLE,
    allow_determinism_later,
    determinism_in_words,
    determinism_left_as_it_was,
    make_torch_deterministic,
)
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config
from torch_ppo.simulation.warp_engine import WarpPhysics

CUDA = pytest.mark.cuda
SETTINGS = {
    "num_timesteps": 10**6,
    "num_envs": 16,
    "num_evals": 2,
    "num_eval_envs": 4,
    "episode_length": 25,
    "unroll_length": 10,
    "batch_size": 8,
    "num_minibatches": 4,
    "normalize_observations": True,
    "policy_hidden_layer_sizes": (16,),
    "value_hidden_layer_sizes": (16,),
    "deterministic": True,
    "compile": False,
    "seed": 3,
}


@pytest.fixture(autouse=True)
def torch_as_it_was():
    with determinism_left_as_it_was():
        yield


def trained(task, steps=2, **settings):
    state = TrainingState(Config(env=task, **{**SETTINGS, "device": "cpu", **settings}), make_task(task))
    for _ in range(steps):
        training_step(state.collector, state.learner)
    reward = state.evaluator()["eval/episode_reward"] if state.evaluator else None
    saved = state.checkpoint()
    return state, [saved["agent"], saved["env"], saved["generators"], reward]


@pytest.mark.parametrize("engine", ["mujoco", "warp"])
def test_a_deterministic_run(engine, differences):
    """Both engines and both levels of capture; both envs' physics and torch are asked for it."""
    levels = ["none", "physics"] if engine == "warp" else ["none"]
    runs = [trained("quadruped_joystick", physics=engine, capture=level) for level in (*levels, levels[-1])]
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    for state, found in runs:
        assert differences(found, runs[0][1]) == []
        if engine == "warp":
            for env in (state.env, state.evaluator.env):
                assert env.physics._model.opt.deterministic == 7  # contacts, constraints, atomics
    plain, _ = trained("quadruped_joystick", physics=engine, deterministic=False, steps=0)
    assert engine == "mujoco" or plain.env.physics._model.opt.deterministic == 0


def test_a_call_leaves_torch_as_it_was():
    inside = []

    def look(step, metrics):
        inside.append(torch.are_deterministic_algorithms_enabled())

    settings = {**SETTINGS, "num_timesteps": 320, "device": "cpu"}
    torch_ppo.train("cartpole", progress_fn=look, **settings)
    assert inside == [True, True]
    assert not torch.are_deterministic_algorithms_enabled() and torch.utils.deterministic.fill_uninitialized_memory
    inside.clear()
    torch_ppo.train("cartpole", progress_fn=look, **{**settings, "deterministic": False})
    assert inside == [False, False]


def test_physics_that_has_stepped_stays_as_it_is():
    physics = WarpPhysics(make_task("cartpole").make_model(), 1, device=torch.device("cpu"), capture=False)
    physics.forward()
    with pytest.raises(RuntimeError, match="before the first step"):
        physics.make_deterministic()


def test_cublas(monkeypatch):
    monkeypatch.delenv(CUBLAS_VARIABLE, raising=False)
    with determinism_left_as_it_was():
        make_torch_deterministic(torch.device("cpu"))
        assert CUBLAS_VARIABLE not in os.environ
        make_torch_deterministic(torch.device("cuda"))
        assert os.environ[CUBLAS_VARIABLE] == ":4096:8"
    assert CUBLAS_VARIABLE not in os.environ
    monkeypatch.setenv(CUBLAS_VARIABLE, ":16:8")
    make_torch_deterministic(torch.device("cuda"))
    monkeypatch.setenv(CUBLAS_VARIABLE, ":0:0")
    with pytest.raises(ConfigError, match=r"needs CUBLAS_WORKSPACE_CONFIG = :4096:8 or :16:8 .* where it is ':0:0'"):
        make_torch_deterministic(torch.device("cuda"))


def test_cublas_began_otherwise(monkeypatch):
    """torch looks once in a process whether cuBLAS may be deterministic, and refuses products after."""

    def refuse(device):
        raise RuntimeError(
            "Deterministic behavior was enabled, but ... you must set ... CUBLAS_WORKSPACE_CONFIG=:4096:8"
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(determinism, "_product", refuse)
    with pytest.raises(
        ConfigError, match=r"comes too late: .*; CUBLAS_WORKSPACE_CONFIG=:4096:8 at its start would work"
    ):
        make_torch_deterministic(torch.device("cuda"))
    monkeypatch.delenv(CUBLAS_VARIABLE, raising=False)
    allow_determinism_later(torch.device("cpu"))
    assert CUBLAS_VARIABLE not in os.environ
    allow_determinism_later(torch.device("cuda"))
    assert os.environ[CUBLAS_VARIABLE] == ":4096:8"
    make_torch_deterministic(torch.device("cpu"))


@CUDA
def test_deterministic_after_a_training_that_was_not():
    trained("cartpole", steps=1, device="cuda", deterministic=False, run_evals=False)
    trained("cartpole", steps=1, device="cuda", run_evals=False)


@pytest.mark.parametrize(
    ("task", "engine", "device", "said"),
    [
        ("quadruped_joystick", "mujoco", "cpu", "no cost"),
        ("cartpole", "warp", "cpu", "up to a fifth of physics"),
        ("cartpole", "warp", "cuda", "has no contacts, so only its sums"),
        ("reacher_easy", "warp", "cuda", "has no contacts"),
        ("quadruped_joystick", "warp", "cuda", "contacts, constraint rows and sums over them"),
    ],
)
def test_what_is_promised(task, engine, device, said):
    task = make_task(task)
    env = SimpleNamespace(device=torch.device(device), task=task, physics=SimpleNamespace(model=task.make_model()))
    words = determinism_in_words(env, engine)
    assert words.startswith("deterministic: the same seed gives the same bits on this machine") and said in words


def test_it_is_said_at_the_start(caplog):
    with caplog.at_level("INFO", logger="torch_ppo"):
        trained("cartpole", steps=0, run_evals=False)
        assert "deterministic: the same seed gives the same bits" in caplog.text
        caplog.clear()
        trained("cartpole", steps=0, run_evals=False, deterministic=False)
        assert "deterministic" not in caplog.text


# torch refuses them on CUDA where `deterministic` is set (documentation of `torch.use_deterministic_algorithms`).
REFUSED = {"cumsum", "cumprod", "median", "nanmedian", "kthvalue", "histc", "bincount", "put_", "scatter_reduce"}


def operators(function):
    return {entry[0].removeprefix("aten.").split(".")[0] for entry in trace(function)}


@pytest.mark.parametrize(
    "task", [name if name == "walker_walk" else pytest.param(name, marks=pytest.mark.slow) for name in ENVS]
)
def test_no_task_needs_what_torch_refuses(task):
    """Not in a step nor in a reset, an update or an evaluation."""
    seeing = {"vision": True, "view_size": 8, "physics": "warp", "augment_pixels": True, "cnn_max_pool": True}
    settings = seeing if task.endswith("_vision") else {}
    if "joystick" in task:
        settings = {"value_obs_key": "privileged_state"}
    state, _ = trained(task, steps=0, run_evals=True, **settings)
    for function in (state.collector, lambda: learn(state.learner), state.env.reset, state.evaluator.run_episodes):
        found = operators(function)
        assert found & {"copy_", "mul"} and not found & REFUSED


def test_the_look_for_refused_operators_finds_one():
    assert operators(lambda: torch.ones(3).cumsum(0)) & REFUSED


@CUDA
@pytest.mark.parametrize("task", ["cartpole", "quadruped_joystick", "ant"])
@pytest.mark.parametrize("capture", ["physics", "unroll"])
def test_the_same_bits_on_cuda(task, capture, differences):
    first, second = (trained(task, steps=5, device="cuda", physics="warp", capture=capture, num_envs=1024, batch_size=512)
                     for _ in range(2))  # fmt: skip
    assert differences(first[1], second[1]) == []


@CUDA
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("task", ["cartpole", "quadruped_joystick", "ant"])
def test_the_same_bits_on_cuda_compiled(task, differences):
    first, second = (
        trained(task, steps=5, device="cuda", physics="warp", compile=True, num_envs=1024, batch_size=512)
        for _ in range(2)
    )
    assert differences(first[1], second[1]) == []
