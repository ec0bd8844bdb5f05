"""That a choice changes what is compiled, and nothing for those who do not choose."""

import json
import sys

import pytest
from torch import _inductor

from tools import bench_choices
from tools.bench_choices import CHOICES, chosen
from torch_ppo.envs import make_task
from torch_ppo.formulas.networks import Dense
from torch_ppo.running import training_state
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

SMALL = {"num_envs": 8, "batch_size": 8, "num_minibatches": 1, "unroll_length": 2, "num_updates_per_batch": 1}


def compiled_for_cuda():
    """Of a training whose parts have been chosen for few launches: one value pass, one product, Inductor's settings."""
    config = Config(env="cartpole", num_timesteps=10**4, device="cpu", run_evals=False, **SMALL)
    state = TrainingState(config, make_task("cartpole"))
    training_state.compile_parts(state.collector, state.learner, few_launches=True)
    products = {module.one_product for module in state.agent.modules() if isinstance(module, Dense)}
    inductor = _inductor.config.combo_kernels, _inductor.config.max_autotune_gemm
    return state.learner.one_value_pass, products, inductor


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kept", (True, {True}, (False, False))),
        ("combo-kernels", (True, {True}, (True, False))),
        ("autotuned-products", (True, {True}, (False, True))),
        ("bias-sums", (True, {False}, (False, False))),
        ("two-value-passes", (False, {True}, (False, False))),
    ],
)
def test_choices(name, expected):
    with chosen(CHOICES[name]):
        assert compiled_for_cuda() == expected
    assert compiled_for_cuda() == (True, {True}, (False, False))


def test_the_program_measures_what_is_asked_for(monkeypatch, tmp_path, capsys):
    """Without compiling, which takes minutes; the step of `tools.gpu_check` does."""
    file = tmp_path / "choices.json"
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    options = ["--choices", "kept", "bias-sums", "--windows", "1", "--seconds", "0.01", "--json", str(file)]
    arguments = [*options, "--set", *settings, "compile=false", 'device="cpu"']
    monkeypatch.setattr(sys, "argv", ["bench_choices", *arguments])
    bench_choices.main()
    results = json.loads(file.read_text())["results"]
    assert [result["choice"] for result in results] == ["kept", "bias-sums"]
    assert all(result["env_steps_per_second"]["training"]["median"] > 0 for result in results)
    assert "cartpole, bias-sums" in capsys.readouterr().out
