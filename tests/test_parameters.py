"""No parameter is accepted and ignored: each one, changed alone, changes what a run computes or reports."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

import torch_ppo
from tests.helpers.brax_arguments import BRAX
from tests.helpers.toy import ToyTask
from tools import parameters_table
from torch_ppo.envs.cartpole import Cartpole
from torch_ppo.settings.config import Config
from torch_ppo.simulation.randomization import ModelFields

TINY = {
    "num_timesteps": 160,
    "num_evals": 3,
    "num_envs": 4,
    "num_eval_envs": 2,
    "episode_length": 7,
    "batch_size": 4,
    "num_minibatches": 2,
    "unroll_length": 5,
    "learning_rate": 1e-2,
    "policy_hidden_layer_sizes": (8,),
    "value_hidden_layer_sizes": (8,),
    "device": "cpu",
}
NORMAL = {"distribution_type": "normal"}
NORMALIZED = {"normalize_observations": True}
ADAPTIVE = {"learning_rate_schedule": "ADAPTIVE_KL"}
QUANTILES = {"use_distributional_critic": True, "clipping_epsilon_value": 0.01}

# The changed value of every parameter, and what else must be set for it to have something to act on.
CHANGED: dict[str, tuple[object, dict[str, object]]] = {
    "num_timesteps": (240, {}),
    "seed": (1, {}),
    "num_envs": (2, {}),
    "episode_length": (9, {}),
    "action_repeat": (2, {}),
    "num_resets_per_eval": (1, {}),
    "random_episode_phase": (True, {}),
    "auto_reset": ("random", {}),
    "history": (3, {}),
    "history_obs_keys": (("privileged_state",), {"history": 2}),
    "action_delay": ((1, 2), {}),
    "randomize": (True, {}),
    "randomize_eval": (False, {"randomize": True}),
    "unroll_length": (10, {}),
    "batch_size": (8, {}),
    "num_minibatches": (4, {}),
    "num_updates_per_batch": (3, {}),
    "minibatch_of": ("transitions", {"gae_per": "batch", "batch_size": 20}),
    "discounting": (0.5, {}),
    "gae_lambda": (0.5, {}),
    "gae": ("textbook", {}),
    "gae_per": ("batch", {}),
    "reward_scaling": (0.1, {}),
    "normalize_rewards": (True, {}),
    "reward_clip": (0.5, {}),
    "clipping_epsilon": (1e-3, {}),
    "clipping_epsilon_final": (1e-3, {}),
    "clipping_epsilon_value": (1e-3, {}),
    "entropy_cost": (1.0, {}),
    "entropy_cost_final": (1.0, {}),
    "vf_loss_coefficient": (5.0, {}),
    "normalize_advantage": (False, {}),
    "bootstrap_on_timeout": (True, {}),
    "bootstrap_on_truncation": (True, {"episode_length": 4}),
    "use_distributional_critic": (True, {"clipping_epsilon_value": 0.01}),
    "learning_rate": (1e-4, {}),
    "max_grad_norm": (1e-3, {}),
    "learning_rate_schedule": ("LINEAR", {}),
    "learning_rate_final_fraction": (0.9, {"learning_rate_schedule": "LINEAR"}),
    "learning_rate_warmup_timesteps": (80, {}),
    "target_kl": (1e-9, {}),
    "desired_kl": (1e-6, ADAPTIVE),
    "learning_rate_schedule_min_lr": (9e-3, {**ADAPTIVE, "desired_kl": 1e-9}),
    "learning_rate_schedule_max_lr": (1.0, {**ADAPTIVE, "desired_kl": 1e9}),
    "normalize_observations": (True, {}),
    # In exact arithmetic the two agree on one device; they round differently.
    "normalize_observations_mode": ("ema", NORMALIZED),
    "normalize_observations_std_eps": (1.0, NORMALIZED),
    "normalizer_clip": (0.5, NORMALIZED),
    "normalize_until_count": (50, {**NORMALIZED, "normalize_observations_mode": "ema"}),
    "policy_hidden_layer_sizes": ((9,), {}),
    "value_hidden_layer_sizes": ((9,), {}),
    "activation": ("tanh", {}),
    "layer_norm": (True, {}),
    "policy_obs_key": ("privileged_state", {}),
    "value_obs_key": ("privileged_state", {}),
    "distribution_type": ("normal", {}),
    "noise_std_type": ("log", NORMAL),
    "init_noise_std": (0.5, NORMAL),
    "state_dependent_std": (True, {**NORMAL, "noise_std_type": "log"}),
    "mean_clip_scale": (0.1, NORMAL),
    "policy_network_kernel_init_fn": ("orthogonal", {}),
    "value_network_kernel_init_fn": ("orthogonal", {}),
    "mean_kernel_init_fn": ("zeros", NORMAL),
    "output_kernel_init_fn": ("zeros", {}),
    "policy_network_kernel_init_scale": (0.5, {"policy_network_kernel_init_fn": "orthogonal"}),
    "value_network_kernel_init_scale": (0.5, {"value_network_kernel_init_fn": "orthogonal"}),
    "mean_kernel_init_scale": (0.5, {**NORMAL, "mean_kernel_init_fn": "orthogonal"}),
    "output_kernel_init_scale": (0.5, {"output_kernel_init_fn": "orthogonal"}),
    "num_quantiles": (8, QUANTILES),
    "num_evals": (2, {}),
    "num_eval_envs": (3, {}),
    "deterministic_eval": (True, {}),
    "run_evals": (False, {}),
    "log_training_metrics": (True, {}),
    "training_metrics_steps": (80, {"log_training_metrics": True}),
    "bf16": (True, {}),
}

# Those that do not change what a tiny run on this machine computes, and the test that shows what each does.
ELSEWHERE = {
    "env": "tests/envs/test_every_task.py::test_every_task_has_a_configuration",
    "save_checkpoint_path": "tests/programs/test_train.py::test_save_and_restore_checkpoint_path",
    "restore_checkpoint_path": "tests/programs/test_train.py::test_save_and_restore_checkpoint_path",
    "restore_value_fn": "tests/programs/test_train.py::test_restore_params",
    "max_state": "tests/running/test_broken_worlds.py::test_a_smaller_limit_of_the_state",
    "max_broken_fraction": "tests/running/test_broken_worlds.py::test_too_many_end_the_run",
    "device": "tests/running/test_program.py::test_no_cuda",
    "max_devices_per_host": "tests/running/test_devices.py::test_no_more_devices_than_allowed",
    "physics": "tests/envs/test_every_task.py::test_engines_agree",
    "capture": "tests/running/test_accelerate.py::test_every_level_of_capture_gives_the_same",
    "compile": "tests/running/test_accelerate.py::test_compiled_training_is_the_same_but_for_rounding",
    "matmul_precision": "tests/running/test_accelerate.py::test_high_precision_is_the_highest_on_the_cpu",
    "deterministic": "tests/running/test_determinism.py::test_a_deterministic_run",
    "torch_threads": "tests/test_parameters.py::test_torch_threads",
    "keep_checkpoints": "tests/running/test_checkpoint.py::test_the_newest_checkpoints_are_kept",
    **dict.fromkeys(
        "augment_pixels shared_encoder normalise_channels cnn_output_channels cnn_kernel_size cnn_stride cnn_padding "
        "cnn_activation cnn_max_pool cnn_global_pool cnn_kernel_init_fn cnn_kernel_init_scale".split(),
        "tests/learning/test_vision.py::test_every_option_changes_what_is_learned",
    ),
    "vision": "tests/learning/test_vision.py::test_without_vision_pixels_are_not_seen",
    "view_size": "tests/running/test_pixel_runs.py::test_view_size_is_what_policies_see",
    "pixel_encoder": "tests/learning/test_vision.py::test_resnet18_learns",
    "on_disk_error": "tests/running/test_full_disk.py::test_a_run_goes_on_when_there_is_space_again",
}


class Toy(ToyTask):
    """The toy with time-outs of its own, a second observation, and something to randomise."""

    def __init__(self) -> None:
        super().__init__(timeout=5, asymmetric=True)

    def make_physics(self, *args: object, **kwargs: object) -> object:
        physics = super().make_physics(*args, **kwargs)

        def set_model_fields(fields: ModelFields) -> None:
            physics.vector = fields["vector"]

        physics.set_model_fields = set_model_fields
        return physics

    def randomize(self, physics: object, generator: torch.Generator) -> ModelFields:
        return {"vector": 0.1 * torch.rand(physics.num_envs, 3, generator=generator)}


def outcome(**settings: object) -> list[object]:
    """Reports, networks, normalizer."""
    reports = []

    def progress(step: int, metrics: dict[str, float]) -> None:
        timeless = {name: value for name, value in metrics.items() if not name.endswith(("sps", "walltime", "_time"))}
        reports.append((step, timeless))

    _, params, _ = torch_ppo.train(Toy(), progress_fn=progress, **{**TINY, **settings})
    return [reports, *params]


def same(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_every_parameter_is_here():
    fields = {field.name for field in dataclasses.fields(Config)}
    assert CHANGED.keys() | ELSEWHERE.keys() == fields and not CHANGED.keys() & ELSEWHERE.keys()


def test_a_run_repeats_itself():
    assert same(outcome(), outcome())


@pytest.mark.parametrize("name", CHANGED)
def test_parameter_acts(name):
    value, others = CHANGED[name]
    default = TINY.get(name, Config.__dataclass_fields__[name].default)
    assert value != others.get(name, default)
    assert not same(outcome(**others), outcome(**others, **{name: value}))


def test_the_page_is_that_of_the_code():
    written = parameters_table.PAGE.read_text()
    assert written == parameters_table.page(BRAX), "python -m tools.parameters_table writes it anew"
    assert parameters_table.INTERACTIONS.keys() <= Config.__dataclass_fields__.keys()
    assert parameters_table.CALL_ARGUMENTS.keys() == parameters_table.train_arguments()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tests_elsewhere_exist(name):
    file, _, function = ELSEWHERE[name].partition("::")
    assert f"def {function}(" in (Path(__file__).parents[1] / file).read_text()


@pytest.mark.parametrize(
    ("settings", "threads"),
    [
        ({"torch_threads": 3}, 3),
        ({}, 1),
        ({"batch_size": 512, "unroll_length": 20, "policy_hidden_layer_sizes": (256, 256)}, 4),  # 8.4 GFLOP
        ({"batch_size": 4096, "unroll_length": 20, "policy_hidden_layer_sizes": (256, 256)}, 8),
    ],
)
def test_torch_threads(monkeypatch, settings, threads):
    """Those asked for; else by the size of an SGD step, and no more than there are."""
    seen = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr("torch_ppo.running.threads.available_cores", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    sizes = {"num_envs": settings.get("batch_size", 1), "num_minibatches": 1, "value_hidden_layer_sizes": (256, 256)}
    torch_ppo.train(Cartpole(), 0, device="cpu", run_evals=False, **{**sizes, **settings})
    assert seen[0] == threads
