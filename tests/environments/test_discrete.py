"""Discrete actions: a user's own envs and Gymnasium's, through training, evaluation, resume and what is told."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_ppo
from tests.helpers.choosing import Choosing, make_env
from torch_ppo.environments.completed import completed
from torch_ppo.errors import ConfigError, UserError
from torch_ppo.exporting.reading import contract_in
from torch_ppo.learning.train_step import training_step
from torch_ppo.running.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from torch_ppo.running.loop import BrokenWorldsError, report
from torch_ppo.running.training_state import TrainingState
from torch_ppo.settings.config import Config

CPU = torch.device("cpu")
SMALL = {
    "num_envs": 8, "num_eval_envs": 8, "batch_size": 8, "num_minibatches": 4, "unroll_length": 8,
    "policy_hidden_layer_sizes": (16,), "value_hidden_layer_sizes": (16,), "learning_rate": 3e-3, "entropy_cost": 1e-3,
    "device": "cpu",
}  # fmt: skip


def make_state(environment=make_env, **settings):
    return TrainingState(Config(num_timesteps=2048, **{**SMALL, **settings}), environment)


def train(state, steps):
    for _ in range(steps):
        metrics = training_step(state.collector, state.learner)
        state.collector.diagnostics.look_at_updates(metrics)
        state.interval_sums += metrics.mean(0)
        state.interval_steps += 1
        state.add_time(1.0)
        state.training_steps += 1
    return state


def test_learns_to_choose_in_seconds():
    """Two choices at once, of three and of two, from 5 of 12 to nearly always."""
    reports = []
    torch_ppo.train(
        make_env, 12_000, num_evals=2, deterministic_eval=True, num_updates_per_batch=8,
        progress_fn=lambda step, metrics: reports.append(metrics), **SMALL,
    )  # fmt: skip
    before, after = (report["eval/episode_reward"] / 8 for report in (reports[0], reports[-1]))
    assert before < 0.7 and after > 0.95
    last = reports[-1]
    assert not [name for name in last if "policy_dist" in name or "saturated" in name]
    assert 0.0 < last["training/entropy"] < math.log(6)


@pytest.mark.parametrize("schedule", ["NONE", "ADAPTIVE_KL"])
def test_what_is_collected(schedule):
    """Indices as they were given to the env, their probabilities, and logits of the policy that acted."""
    state = make_state(learning_rate_schedule=schedule)
    state.collector()
    batch, env = state.batch, state.env.env
    given = torch.stack(env.given[-state.config.unroll_length * state.config.num_unrolls_per_env :])
    given = given.view(-1, state.config.unroll_length, 8, 2).transpose(0, 1).reshape(state.config.unroll_length, -1, 2)
    assert batch.raw_action.dtype == torch.int64 and torch.equal(batch.raw_action, given)
    (logits,) = batch.policy_params
    assert logits.shape[-1] == 5
    expected = sum(
        part.log_softmax(-1).gather(-1, action[..., None])[..., 0]
        for part, action in zip(logits.split((3, 2), -1), batch.raw_action.unbind(-1), strict=True)
    )
    torch.testing.assert_close(batch.log_prob, expected)
    rate = state.learner.learning_rate.item()
    state.learner.update()
    assert (state.learner.learning_rate.item() != rate) == (schedule == "ADAPTIVE_KL")
    assert state.learner.metrics.isfinite().all()


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, differences):
    whole, half = train(make_state(), 4), train(make_state(), 2)
    save_checkpoint(half.checkpoint(), tmp_path / "half.pt")
    resumed = make_state()
    assert resumed.load_checkpoint(load_checkpoint(tmp_path / "half.pt"))
    train(resumed, 2)
    ours, theirs = ({**state.checkpoint(), "walltime": 0, "eval_walltime": 0} for state in (whole, resumed))
    assert not differences(ours, theirs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_is_the_same_but_for_rounding():
    plain, compiled = (make_state(compile=x) for x in (False, True))
    for state in (plain, compiled):
        train(state, 1)
    assert torch.equal(plain.batch.raw_action, compiled.batch.raw_action)
    torch.testing.assert_close(compiled.learner.metrics, plain.learner.metrics, rtol=1e-3, atol=1e-4)


def test_a_program_s_run_from_begin_to_end(tmp_path):
    """Trained, resumed, evaluated in both ways, exported; the doctor has nothing to say of standard deviations."""
    (tmp_path / "own.py").write_text((Path(__file__).parents[1] / "helpers/choosing.py").read_text())
    settings = {**SMALL, "device": "cpu", "num_evals": 2}
    lines = [f"{name} = {json.dumps(list(x) if isinstance(x, tuple) else x)}" for name, x in settings.items()]
    (tmp_path / "small.toml").write_text("num_timesteps = 4096\n" + "\n".join(lines))

    def run(*words):
        program = subprocess.run(
            [sys.executable, "-m", "torch_ppo", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert program.returncode == 0, program.stderr
        return program.stdout + program.stderr

    run("train", "--env", "own.py:make_env", "--config", "small.toml", "--run-dir", "run")
    assert 'distribution_type = "categorical"' in (tmp_path / "run/config.toml").read_text()
    run("train", "--resume", "run", "--num-timesteps", "8192", "--trust")
    mode, sampled = (
        torch_ppo.evaluate(tmp_path / "run", Choosing(16), episodes=16, deterministic=x).mean for x in (True, False)
    )
    assert mode > sampled > 4.0
    found = run("doctor", "run")
    assert "exploration" not in found and "limits" not in found
    shown = contract_in(tmp_path / "run/policy.pt")
    assert shown["action"]["discrete"] == {"choices": [3, 2], "start": None}
    assert shown["output"] == {"name": "action", "shape": ["batch", 2], "type": "int64"}


def choose(observation):
    """What is shown."""
    return torch.stack([observation[:, :3].argmax(1), observation[:, 3:].argmax(1)], 1)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (choose, None),
        (lambda x: choose(x).float(), None),
        (lambda x: choose(x).numpy(), None),
        (
            lambda x: torch.full((4, 2), 2),
            r"an action of its is 2, but must be an index from 0 of 2 discrete actions \(3, 2 choices\)",
        ),
        (lambda x: choose(x) + 0.5, "an action of its is"),
        (lambda x: choose(x)[:, 0], r"its actions are \(4,\), but must be \(4, 2\)"),
    ],
)
def test_policies_of_ones_own(policy, words):
    if words is None:
        assert torch_ppo.evaluate(policy, Choosing(4), episodes=4).returns.tolist() == [8.0] * 4
        return
    with pytest.raises(UserError, match=words):
        torch_ppo.evaluate(policy, Choosing(4), episodes=4)


def test_one_choice_may_be_without_an_axis():
    result = torch_ppo.evaluate(lambda x: x.argmax(1), Choosing(4, choices=(3,)), episodes=4)
    assert result.returns.tolist() == [8.0] * 4


@pytest.mark.parametrize(
    "choices", [3, (3,), (3, 0), (3, True), (3, True, 2), (3, 2.5), ("a", "b"), (), {3: "a", 2: "b"}, {2, 3}]
)
def test_choices_that_cannot_be(choices):
    env = Choosing(2)
    env.choices = choices
    with pytest.raises(
        ConfigError, match=r"Choosing.choices is .*, but must be as many ints, 1 or greater, as action_dim = 2"
    ):
        completed(env, device=CPU)


def test_more_choices_than_a_network_can_have():
    with pytest.raises(
        ConfigError, match=r"Choosing.choices has 1,000,000,000,002 choices, but 100,000 at most can be had"
    ):
        completed(Choosing(2, choices=(10**12, 2)), device=CPU)


class Unsound(Choosing):
    def step(self, action):
        super().step(action)
        self.observation[0] = math.nan


def test_of_an_environment_that_breaks_no_task_is_spoken_of():
    with pytest.raises(
        BrokenWorldsError, match=r'its observation "state"; look at what the observation of Unsound is made of'
    ):
        torch_ppo.train(Unsound(8), 2048, run_evals=False, **SMALL)


@pytest.mark.parametrize(
    ("environment", "settings", "words"),
    [
        (
            make_env,
            {"distribution_type": "normal"},
            "'normal' is of real numbers, but Choosing takes discrete actions; leave",
        ),
        ("cartpole", {"distribution_type": "categorical"}, "is of discrete actions, but Cartpole takes real numbers"),
        (
            make_env,
            {"init_noise_std": 0.5},
            "init_noise_std = 0.5 has no effect .* 'normal' where actions are real numbers, or leave init_noise_std out",
        ),
        (
            make_env,
            {"distribution_type": "categorical", "noise_std_type": "log"},
            "has no effect with .* 'categorical'",
        ),
        (make_env, {"distribution_type": "categoric"}, "did you mean 'categorical'"),
        (make_env, {"action_delay": 2}, "action_delay = 2 has no effect"),
    ],
)
def test_settings_that_cannot_be(environment, settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        torch_ppo.train(environment, 64, **{**SMALL, **settings})
    assert "\n" not in str(error.value)


def test_what_another_run_saved_does_not_fit(tmp_path):
    """Another number of choices, and real numbers."""
    saved = make_state(lambda num_envs, seed: Choosing(num_envs, seed, (3, 2))).checkpoint()
    other = make_state(lambda num_envs, seed: Choosing(num_envs, seed, (2, 3)))
    words = r"it has 2 discrete actions \(3, 2 choices\), but make_env takes 2 discrete actions \(2, 3 choices\)"
    with pytest.raises(ValueError, match=words.replace("make_env", "Choosing")):
        other.load_checkpoint(saved)
    damaged = {**saved, "choices": None}
    save_checkpoint(damaged, tmp_path / "damaged.pt")
    with pytest.raises(CheckpointError, match="its distribution_type and choices do not agree"):
        load_checkpoint(tmp_path / "damaged.pt")
    real = make_state("cartpole").checkpoint()
    save_checkpoint(real, tmp_path / "real.pt")
    with pytest.raises(
        CheckpointError, match=r"does not fit: it has 1 action, but .* takes 2 discrete actions \(3, 2 c"
    ):
        torch_ppo.train(make_env, 64, restore_checkpoint_path=str(tmp_path / "real.pt"), **SMALL)
    save_checkpoint(saved, tmp_path / "saved.pt")  # as many logits, which mean something else
    with pytest.raises(CheckpointError, match=words.replace("make_env", "Choosing")):
        restored = {**SMALL, "restore_checkpoint_path": str(tmp_path / "saved.pt")}
        torch_ppo.train(lambda num_envs, seed: Choosing(num_envs, seed, (2, 3)), 64, **restored)


def test_extras_of_make_policy():
    make_policy, params, _ = torch_ppo.train(make_env, 256, run_evals=False, **SMALL)
    observation = torch.eye(5)
    generator = torch.Generator().manual_seed(1)
    action, extras = make_policy(params)(observation, generator)
    assert set(extras) == {"log_prob", "raw_action", "logits"} and extras["logits"].shape == (5, 5)
    assert action.dtype == torch.int64 and action.shape == (5, 2)
    mode, _ = make_policy(params, deterministic=True)(observation)
    parts = extras["logits"].split((3, 2), -1)
    assert torch.equal(mode, torch.stack([part.argmax(-1) for part in parts], -1))


def test_a_network_factory_of_ones_own():
    """Its third number is that of logits, of which its policy gives a tensor."""
    asked = []

    class Policy(torch.nn.Linear):
        pass

    def factory(policy_obs_dim, value_obs_dim, num_logits):
        asked.append((policy_obs_dim, value_obs_dim, num_logits))
        return Policy(policy_obs_dim, num_logits), torch.nn.Linear(value_obs_dim, 1)

    settings = {name: x for name, x in SMALL.items() if "hidden" not in name}
    torch_ppo.train(make_env, 256, run_evals=False, network_factory=factory, **settings)
    assert asked == [(5, 5, 5)]


@pytest.mark.parametrize(
    "settings",
    [
        {"normalize_observations": True, "normalize_rewards": True, "reward_clip": 5.0},
        {"use_distributional_critic": True, "clipping_epsilon_value": 1.0, "num_quantiles": 4},
        {"minibatch_of": "transitions", "gae_per": "batch", "batch_size": 64},
        {"bootstrap_on_truncation": True, "target_kl": 0.02, "log_training_metrics": True},
        {"output_kernel_init_fn": "orthogonal", "output_kernel_init_scale": 0.01, "layer_norm": True},
        {"learning_rate_schedule": "ADAPTIVE_KL", "desired_kl": 0.02, "gae": "textbook"},
        {"clipping_epsilon_final": 0.1, "entropy_cost_final": 0.0, "max_grad_norm": 0.5, "bf16": True},
    ],
    ids=lambda x: next(iter(x)),
)
def test_goes_with_every_option(settings):
    state = train(make_state(**settings), 2)
    metrics, _ = report(state)
    assert all(math.isfinite(x) for x in metrics.values() if isinstance(x, float))
    if settings.get("output_kernel_init_scale"):
        fresh = make_state(**settings).agent.policy.logits_head.weight
        np.testing.assert_allclose(torch.linalg.svdvals(fresh).detach().numpy(), 0.01, rtol=1e-4)


def test_the_configuration_says_categorical():
    state = make_state()
    assert state.config.distribution_type == "categorical"
    assert Config(**dataclasses.asdict(state.config)) == state.config
